"""Why a run ended as it did, or was not started: one short phrase."""

from singlerun.duration import brief
from singlerun.render.text import cut, shown
from singlerun.store.run import FAILED, LOST, REFUSED, SKIPPED, STOPPED, TIMED_OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.store.run import Run

DIED = "died without recording an exit status"
"""The reason of a lost run: neither its wrapper nor its command is left."""
_HELD = "held by "
_PAUSED = "paused by "


def reason(run: "Run") -> str:
    """Return why a run is in its state, safe to show; empty where the state says it all."""
    detail = shown(run.detail or "")
    if run.state in {REFUSED, SKIPPED}:
        return _refused(run, detail)
    if run.state == FAILED:
        return detail or _ended(run)
    if run.state == TIMED_OUT:
        after = "" if run.elapsed_ns is None else f" after {brief(run.elapsed_ns / 1e9)}"
        return f"timed out{after}"
    if run.state == STOPPED:
        return _stopped(run, detail)
    if run.state == LOST:
        return detail or DIED
    if run.ended_ns is None and detail:
        return f"being {detail}"  # the note of the process that signalled it
    return detail


def signal_name(number: int) -> str:
    """Return the name of a signal."""
    import signal  # noqa: PLC0415 - 3 ms, for people only

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _refused(run: "Run", detail: str) -> str:
    if detail.startswith(_HELD):
        return _holder(detail)
    if detail.startswith(_PAUSED):
        return detail.partition(" until ")[0]
    for name in run.names:  # as earlier versions recorded it
        is_paused = f"{cut(shown(name), 100)} is paused"
        if detail.startswith(is_paused):
            by = detail[len(is_paused) :].partition(" by user ")[2].partition(";")[0]
            return _PAUSED + by
    return detail


def _holder(detail: str) -> str:
    """Return the holder alone, without its user and its times."""
    head, is_unseen, _ = detail.partition(", which cannot be checked from here")
    if is_unseen:
        return head
    who, with_user, _ = detail.rpartition(", user ")
    if not with_user:
        who = detail.rpartition(", since ")[0]
    return who or detail


def _ended(run: "Run") -> str:
    if run.signal is not None:
        return f"killed by {signal_name(run.signal)}"
    return "" if run.exit_code is None else f"exit status {run.exit_code}"


def _stopped(run: "Run", detail: str) -> str:
    if run.started_ns is None and run.signal is not None:
        return f"{detail or 'stopped before it started'}, by {signal_name(run.signal)}"
    if detail:
        return detail
    return _ended(run).replace("killed by", "stopped by")
