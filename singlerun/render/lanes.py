"""Runs as lanes, one for each name: what ran, waited or was refused when."""

import time

from singlerun.duration import brief
from singlerun.ownership.judge import ORPHAN, ZOMBIE
from singlerun.render.reason import DIED, reason
from singlerun.render.refusal import user_name
from singlerun.render.text import command, cut, shown
from singlerun.store.run import (
    FAILED,
    LOST,
    REFUSED,
    RUNNING,
    SKIPPED,
    STOPPED,
    SUCCEEDED,
    TIMED_OUT,
    WAITING,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from singlerun.ownership.judge import Verdict
    from singlerun.store.run import Pause, Run

PAUSED = "paused"
KINDS = (PAUSED, WAITING, SUCCEEDED, RUNNING, STOPPED, REFUSED, FAILED)
"""What is drawn, the more telling ones last: those are drawn over the others."""
_KIND_OF = {
    SUCCEEDED: SUCCEEDED, FAILED: FAILED, TIMED_OUT: FAILED, LOST: FAILED, ZOMBIE: FAILED,
    STOPPED: STOPPED, RUNNING: RUNNING, ORPHAN: RUNNING, REFUSED: REFUSED, SKIPPED: REFUSED,
    WAITING: WAITING,
}  # fmt: skip
LONGEST_COMMAND = 120


class Mark:
    """Something in a lane, from ``begin_ns`` to ``end_ns``.

    Attributes:
        kind: one of KINDS.
        title: what it is, in lines.
        count: how many were joined, because no picture shows them apart.
    """

    __slots__ = ("begin_ns", "count", "end_ns", "kind", "title")

    def __init__(self, kind: str, begin_ns: int, end_ns: int, title: str) -> None:
        self.kind, self.begin_ns, self.end_ns = kind, begin_ns, max(begin_ns, end_ns)
        self.title, self.count = title, 1


class Lane:
    """One name in a period.

    Attributes:
        runs: with their states, oldest first.
        marks: in the order in which they are drawn.
    """

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.runs: list[Verdict] = []
        self.pauses: list[Pause] = []
        self.marks: list[Mark] = []

    def summary(self) -> str:
        """Return how many ran, and how many of them did not go well."""
        kinds = [_KIND_OF.get(seen.state, FAILED) for seen in self.runs]
        started = sum(seen.run.started_ns is not None for seen in self.runs)
        parts = ["1 run" if started == 1 else f"{started} runs"] if self.runs else ["paused"]
        troubles = [(kinds.count(kind), kind) for kind in (FAILED, STOPPED, REFUSED)]
        return ", ".join(parts + [f"{count} {kind}" for count, kind in troubles if count])


def lanes(
    runs: "Iterable[Verdict]", pauses: "Iterable[Pause]", now_ns: int, grain_ns: int,
    name: bytes | None = None,
) -> list[Lane]:  # fmt: skip
    """Return the lanes by name; marks less than ``grain_ns`` apart are joined."""
    found: dict[bytes, Lane] = {}
    for seen in runs:
        for each in seen.run.names if name is None else (name,):
            found.setdefault(each, Lane(each)).runs.append(seen)
    for pause in pauses:
        found.setdefault(pause.name, Lane(pause.name)).pauses.append(pause)
    for lane in found.values():
        marks = [_of_pause(pause, now_ns) for pause in lane.pauses]
        for seen in lane.runs:
            marks += _of_run(seen, now_ns)
        lane.marks = _joined(marks, grain_ns)
    return [found[each] for each in sorted(found)]


def describe(seen: "Verdict") -> str:
    """Return what is to be told of a run, in lines."""
    run = seen.run
    lines = [f"run {run.id}: {seen.state}"]
    if why := (DIED if seen.state == ZOMBIE else reason(run)):
        lines.append(why)
    if run.started_ns is not None and run.started_ns - run.asked_ns >= 10**9:
        lines.append(f"waited {brief((run.started_ns - run.asked_ns) / 1e9)}")
    lines += [times(run), cut(command(run.argv), LONGEST_COMMAND)]
    return "\n".join(lines)


def times(run: "Run") -> str:
    """Return when a run began and ended, and how long it took."""
    if run.started_ns is None:
        return at(run.asked_ns)
    if run.ended_ns is None:
        return f"since {at(run.started_ns)}"
    took_ns = run.ended_ns - run.started_ns if run.elapsed_ns is None else run.elapsed_ns
    took = "" if run.state == LOST else f" ({brief(took_ns / 1e9)})"
    return f"{at(run.started_ns)} to {at(run.ended_ns)}{took}"


def at(time_ns: int) -> str:
    """Return a local time with its date."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 10**9))


def _of_run(seen: "Verdict", now_ns: int) -> list[Mark]:
    run, title = seen.run, describe(seen)
    kind = _KIND_OF.get(seen.state, FAILED)
    end_ns = now_ns if run.ended_ns is None else run.ended_ns
    if run.started_ns is None:
        waits = Mark(WAITING, run.asked_ns, end_ns, title)
        over = Mark(kind, end_ns, end_ns, title)
        return [waits] if kind == WAITING else [waits, over]
    waited = Mark(WAITING, run.asked_ns, run.started_ns, title)
    return [waited, Mark(kind, run.started_ns, end_ns, title)]


def _of_pause(pause: "Pause", now_ns: int) -> Mark:
    until = "" if pause.until_ns is None else f" to {at(pause.until_ns)}"
    title = f"paused by user {shown(user_name(pause.uid))}\n{at(pause.since_ns)}{until}"
    end_ns = now_ns if pause.until_ns is None else pause.until_ns
    return Mark(PAUSED, pause.since_ns, end_ns, title)


def _joined(marks: list[Mark], grain_ns: int) -> list[Mark]:
    """Join marks of a kind that no picture shows apart; drop waits that it cannot show."""
    latest: dict[str, Mark] = {}
    kept = []
    for mark in sorted(marks, key=lambda mark: mark.begin_ns):
        is_short = mark.end_ns - mark.begin_ns < grain_ns
        if mark.kind == WAITING and is_short:
            continue
        before = latest.get(mark.kind)
        is_near = before is not None and mark.begin_ns - before.end_ns < grain_ns
        # What is long enough to be seen by itself stays by itself.
        if before is not None and is_near and (is_short or before.count > 1):
            before.count += 1
            before.end_ns = max(before.end_ns, mark.end_ns)
            before.title = (
                f"{before.count} {mark.kind}\n{at(before.begin_ns)} to {at(before.end_ns)}"
            )
            continue
        latest[mark.kind] = mark
        kept.append(mark)
    return sorted(kept, key=lambda mark: KINDS.index(mark.kind))


# -- the axis ---------------------------------------------------------------------------------

_STEPS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000,
)  # fmt: skip


def ticks(since_ns: int, until_ns: int, most: int) -> "Sequence[tuple[int, str]]":
    """Return at most so many round local times in a period, each with its label."""
    begin, end = since_ns // 10**9, until_ns // 10**9
    step = next((step for step in _STEPS if (end - begin) / step <= max(most, 1)), _STEPS[-1])
    offset = time.localtime(begin).tm_gmtoff
    first = -(-(begin + offset) // step) * step - offset
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86_400 else "%d %b"
    found = []
    for moment in range(first, end + 1, step):
        then = time.localtime(moment)
        is_midnight = form == "%H:%M" and (then.tm_hour, then.tm_min) == (0, 0)
        found.append((moment * 10**9, time.strftime("%d %b" if is_midnight else form, then)))
    return found[:most]
