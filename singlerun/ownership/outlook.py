"""What is to be expected of open runs and pending jobs: when they end, and when they start.

All of it is a guess by how long the same took before, and none where that is unknown or exceeded.
"""

import time

from singlerun.ownership.judge import ORPHAN, ZOMBIE
from singlerun.store.run import RUNNING, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from singlerun.ownership.judge import Verdict
    from singlerun.store.queue import Job
    from singlerun.store.run import Run
    from singlerun.store.sqlite_queue import SqliteQueue

SAMPLE = 20
"""Latest successful runs whose median is the usual duration."""
OVERLONG, OVERLONG_NS = 2, 10 * 10**9
"""A run takes far too long if it exceeds so many times its usual duration by so much."""


class Seen:
    """An open run, and what is known and expected of it.

    Times are nanoseconds since the epoch; what is unknown, or does not apply, is None.

    Attributes:
        run, state, pids: as in its Verdict.
        place: in its waiting line, the front being 1.
        usual_ns: how long it usually takes.
        ends_ns, starts_ns: when it is expected to end, and to start.
        taken: how many of its slots are taken.
        held_by: what holds the lock that it waits for.
        last_sign_ns: when a zombie is last known to have lived.
        job: the job that it is a try of.
    """

    def __init__(self, verdict: "Verdict") -> None:
        self.run, self.state, self.pids = verdict.run, verdict.state, verdict.pids
        self.place: int | None = None
        self.usual_ns: int | None = None
        self.ends_ns: int | None = None
        self.starts_ns: int | None = None
        self.taken: int | None = None
        self.held_by: Seen | None = None
        self.last_sign_ns: int | None = None
        self.job: Job | None = None

    @property
    def elapsed_ns(self) -> int | None:
        """How long it has been running or waiting, or a zombie is known to have run."""
        run = self.run
        if run.elapsed_ns is not None or run.ended_ns is not None:
            return run.elapsed_ns
        end = self.last_sign_ns if self.state == ZOMBIE else time.time_ns()
        return None if end is None else max(0, end - (run.started_ns or run.asked_ns))

    @property
    def is_overlong(self) -> bool:
        """Whether it takes far longer than usual."""
        return self.state in {RUNNING, ORPHAN} and is_overlong(self.elapsed_ns, self.usual_ns)


def is_overlong(elapsed_ns: int | None, usual_ns: int | None, times: float = OVERLONG) -> bool:
    """Return whether a run takes far longer than usual: by default more than OVERLONG times."""
    if elapsed_ns is None or usual_ns is None:
        return False
    return elapsed_ns > times * usual_ns + OVERLONG_NS


class Outlook:
    """What is expected, by the durations in one store; each name's are read once."""

    def __init__(self, store: "SqliteQueue") -> None:
        self._store = store
        self._durations: dict[bytes, list[tuple[tuple[bytes, ...], int]]] = {}

    def usual_ns(self, name: bytes, argv: tuple[bytes, ...]) -> int | None:
        """Return how long a command usually takes under a name, or else any command there."""
        if name not in self._durations:
            self._durations[name] = self._store.durations(name)
        found = self._durations[name]
        same = [length for command, length in found if command == argv]
        lengths = sorted((same or [length for _, length in found])[:SAMPLE])
        return lengths[len(lengths) // 2] if lengths else None

    def look(
        self, verdicts: "Sequence[Verdict]", places: "Mapping[int | None, int | None]"
    ) -> list[Seen]:
        """Return what is expected of runs; ``places`` are those of waiting ones, by their ids."""
        found = [Seen(verdict) for verdict in verdicts]
        holding = [seen for seen in found if seen.state in {RUNNING, ORPHAN}]
        waiting = [seen for seen in found if seen.state == WAITING]
        for seen in (*holding, *waiting):
            run = seen.run
            seen.usual_ns = self.usual_ns(run.names[0], run.argv)
            seen.place = places.get(run.id)
        for seen in holding:
            seen.ends_ns = self._end_of(seen, seen.run.started_ns)
            if seen.run.slots is not None:
                seen.taken = sum(_share_a_lock(seen.run, other.run) for other in holding)
        before = [*holding, *(seen for seen in waiting if seen.place is None)]
        for seen in sorted(waiting, key=lambda each: each.place or 0):
            if seen.place is not None:
                self._expect(seen, before)
                before.append(seen)
        return found

    def _expect(self, seen: Seen, before: "Iterable[Seen]") -> None:
        """Set when a waiting run starts and ends, which waits for all that stand before it."""
        blocking = [other for other in before if _share_a_lock(seen.run, other.run)]
        seen.held_by = blocking[0] if blocking else None
        if seen.run.shared and seen.run.slots is None:  # readers run side by side
            blocking = [other for other in blocking if not other.run.shared]
        needed = len(blocking)
        if seen.run.slots is not None:
            needed = max(0, len(blocking) - seen.run.slots + 1)
        ends = sorted(other.ends_ns for other in blocking if other.ends_ns is not None)
        if len(ends) >= needed:
            seen.starts_ns = ends[needed - 1] if needed else time.time_ns()
            seen.ends_ns = self._end_of(seen, seen.starts_ns)

    def _end_of(self, seen: Seen, start_ns: int | None) -> int | None:
        """Return when a run is expected to end; None once it takes longer than usual."""
        if start_ns is None or seen.usual_ns is None:
            return None
        end = start_ns + seen.usual_ns
        return end if end > time.time_ns() else None

    def starts_of(self, jobs: "Iterable[Job]", runs: "Iterable[Seen]") -> "dict[int | None, int]":
        """Return when queued jobs are expected to start, by their ids.

        ``jobs`` are the first of each queue, in order; ``runs`` are all that are open.
        """
        free: dict[bytes, int | None] = {}
        starts: dict[int | None, int] = {}
        open_runs = list(runs)
        for job in jobs:
            if job.place is None:
                continue
            if job.name not in free:
                free[job.name] = _free_at(job.name, open_runs)
            start = free[job.name]
            usual = self.usual_ns(job.name, job.argv)
            if start is not None:
                starts[job.id] = start
                free[job.name] = None if usual is None else start + usual
        return starts


def _free_at(name: bytes, runs: "Iterable[Seen]") -> int | None:
    """Return when a name is expected to be free of all that hold it and wait for it."""
    ends = [
        seen.ends_ns for seen in runs if name in seen.run.names and seen.state in {RUNNING, WAITING}
    ]
    if None in ends:
        return None
    return max((end for end in ends if end is not None), default=time.time_ns())


def _share_a_lock(one: "Run", other: "Run") -> bool:
    if one.lock_file is not None or other.lock_file is not None:
        return one.lock_file == other.lock_file
    return bool({*one.names} & {*other.names})
