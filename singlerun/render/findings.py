"""What is wrong with a name, how bad that is, and what to type next."""

from singlerun.duration import brief, exactly
from singlerun.render.causes import (
    MOST_SHOWN,
    Cause,
    of_orphan,
    of_pause,
    of_zombie,
    operand,
    passed,
)
from singlerun.render.reason import DIED, signal_name
from singlerun.store.queue import DELAYED, QUEUED
from singlerun.store.run import FAILED, LOST, STOPPED, TIMED_OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.survey import Watched

OK, WARNING, CRITICAL, UNKNOWN = "ok", "warning", "critical", "unknown"
EXIT_STATUS = {OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3}
"""Of a plugin for Nagios and its kin."""
ORDER = (OK, UNKNOWN, WARNING, CRITICAL)
"""The worst comes last: what is not known must not hide what is known to be wrong."""


class Finding:
    """Something that is wrong with a name: ``status`` is how bad it is, ``cause`` what it is."""

    __slots__ = ("cause", "status")

    def __init__(self, status: str, cause: Cause) -> None:
        self.status, self.cause = status, cause


def worst(statuses: "list[str]") -> str:
    """Return the worst of some statuses."""
    return max(statuses, key=ORDER.index, default=OK)


def findings(found: "Watched") -> "list[Finding]":
    """Return what is wrong with a name, the worst first."""
    listed = [Finding(status, cause) for status, cause in _find(found)]
    return sorted(listed, key=lambda each: -ORDER.index(each.status))


def _find(found: "Watched") -> "Iterator[tuple[str, Cause]]":
    name = operand(found.name)
    if not found.is_known and found.expect is None:
        text = "nothing has run, waited or been queued under it"
        yield UNKNOWN, Cause("unknown", text, "to see which names have run", "history")
        return
    if found.is_overdue or found.is_late:
        limit = found.expect if found.is_overdue else found.warn
        expected = f"a success is expected every {exactly(limit or 0)}"
        text = f"it has not succeeded yet, and {expected}"
        if found.standing.succeeded_ns is not None:
            text = f"its last success was {passed(found.standing.succeeded_ns)} ago, and {expected}"
        status, kind = (CRITICAL, "overdue") if found.is_overdue else (WARNING, "late")
        yield status, Cause(kind, text, "to see why", "why", *name)
    if found.standing.state in {FAILED, TIMED_OUT, LOST, STOPPED}:
        text = f"its last run {_ended(found)}, {passed(found.standing.ended_ns or 0)} ago"
        status = WARNING if found.standing.state == STOPPED or found.expect else CRITICAL
        yield status, Cause("failed", text, "to see its runs", "history", *name)
    yield from _running(found)
    yield from _queue(found)
    if found.max_refused is not None and found.standing.refused > found.max_refused:
        text = f"{found.standing.refused} runs in a row were refused"
        yield WARNING, Cause("refused", text, "to see why", "why", *name)
    if found.pause is not None:
        yield WARNING, of_pause(found.pause)


def _ended(found: "Watched") -> str:
    """Say how the latest run of a name ended."""
    latest = found.standing
    if latest.state == LOST:
        return DIED
    how = {TIMED_OUT: "timed out", STOPPED: "was stopped"}.get(latest.state or "", "failed")
    if latest.state == FAILED and latest.signal is not None:
        return f"was killed by {signal_name(latest.signal)}"
    if latest.state == FAILED and latest.exit_code is not None:
        return f"failed with exit status {latest.exit_code}"
    return how


def _running(found: "Watched") -> "Iterator[tuple[str, Cause]]":
    for seen in found.overlong_runs[:MOST_SHOWN]:
        taken, usual = (seen.elapsed_ns or 0) / 1e9, (seen.usual_ns or 0) / 1e9
        text = f"run {seen.run.id} has been running for {brief(taken)}, and usually takes"
        cause = Cause("overlong", f"{text} {brief(usual)}", "to stop it", "stop", str(seen.run.id))
        yield WARNING, cause
    for seen in found.orphans[:MOST_SHOWN]:
        yield WARNING, of_orphan(seen.run, seen.pids[0], found.name)
    for seen in found.zombies[:MOST_SHOWN]:
        yield WARNING, of_zombie(seen.run, found.name)


def _queue(found: "Watched") -> "Iterator[tuple[str, Cause]]":
    count, delayed = found.jobs[QUEUED], found.jobs[DELAYED]
    if not found.has_worker:
        what = f"{_jobs(count)} ready" if count else f"{_jobs(delayed)} delayed"
        text = f"{what} in its queue, which has no worker"
        yield CRITICAL, Cause("worker", text, "to start one", "reap", *operand(found.name))
    if found.max_queued is not None and count > found.max_queued:
        text = f"{_jobs(count)} ready in its queue, and at most {found.max_queued} should be"
        yield WARNING, Cause("queue", text, "to see them", "queue", *operand(found.name))


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"
