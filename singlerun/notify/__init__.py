"""STUB until notifications are there: nothing is told."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.config.settings import Settings
    from singlerun.event import Event
    from singlerun.paths import StateDir


def tell(settings: "Settings", event: "Event", state: "StateDir | None") -> None:
    """Tell people or servers of an event."""
