"""Notifications: what is news is written to a spool, and a process of its own delivers it.

    teller    which events a run makes, by its rules; writes them to the spool
    spool     a file for each event and target; survives a crash, a power loss, and the reader's end
    wakeup    makes sure that a sender exists
    sender    delivers what is in the spool, in order for each target, until it is empty
    delivery  one try: mail, http, chat

The run that has news pays for a small file and, if there is no sender, the start of a process. No
server is asked before that run's lock is free.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.event import Event
    from singlerun.notify.teller import Settings
    from singlerun.paths import StateDir


def tell(settings: "Settings", event: "Event", state: "StateDir") -> None:
    """Tell of an event that is no run's own, by the rules of the configuration.

    Whatever waits in the spool is tried again. What can't be told is a warning.
    """
    from singlerun.notify import teller  # noqa: PLC0415 - a caller may only want to wake the sender

    each = teller.of_spec(state, (), *settings.of_events(event.name))
    each.tell(event)
    each.wake()
