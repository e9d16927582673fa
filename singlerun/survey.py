"""How names stand: what became of them, what is open, queued and expected. For check and metrics.

Many names are looked at together: the open runs, pauses and queues are read once for all of them,
and of the runs that have ended the record keeps sums (store/tallies.py).
"""

import os
import time

from singlerun.errors import StateDirError
from singlerun.ownership import judge
from singlerun.ownership.outlook import Outlook, is_overlong
from singlerun.queue import wakeup
from singlerun.store.database import FILE
from singlerun.store.queue import DELAYED, FAILED, QUEUED
from singlerun.store.run import RUNNING, WAITING
from singlerun.store.tallies import Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from singlerun.config.settings import Settings
    from singlerun.ownership.outlook import Seen
    from singlerun.paths import StateDir
    from singlerun.store.run import Pause
    from singlerun.store.sqlite_queue import SqliteQueue

OVERLONG = 3.0
"""Times its usual duration that a run may take where ``overlong`` is not set."""
COUNTED = (QUEUED, DELAYED, FAILED)
"""The states of jobs that are counted."""


class Watched:
    """A name, and how it stands. Times are nanoseconds since the epoch.

    Attributes:
        now_ns: when it was looked at.
        standing: what became of its runs that have ended.
        runs: its open runs, oldest first.
        jobs: how many of its jobs are in each of COUNTED.
        has_worker: whether its queue has a worker; True where it needs none, or that was not asked.
        expect: seconds within which a success is expected; None if none is.
        warn: seconds after which a warning is due that there was no success; or None.
        overlong: times its usual duration that a run may take.
        max_queued, max_refused: jobs that may be queued, and refusals in a row; or None.
    """

    def __init__(self, name: bytes, now_ns: int, watch: "Mapping[str, Any]") -> None:
        self.name, self.now_ns = name, now_ns
        self.standing = Standing()
        self.runs: list[Seen] = []
        self.pause: Pause | None = None
        self.jobs = dict.fromkeys(COUNTED, 0)
        self.has_worker = True
        self.expect: float | None = watch.get("expect")
        self.warn: float | None = watch.get("warn")
        self.overlong: float = watch.get("overlong", OVERLONG)
        self.max_queued: int | None = watch.get("max_queued")
        self.max_refused: int | None = watch.get("max_refused")

    @property
    def is_known(self) -> bool:
        """Whether there is anything about this name."""
        return bool(self.standing.used_ns or self.runs or self.pause or any(self.jobs.values()))

    @property
    def running(self) -> "list[Seen]":
        """The runs whose command runs, or is about to be tried again."""
        return [seen for seen in self.runs if seen.state == RUNNING or _is_between_tries(seen)]

    @property
    def waiting(self) -> "list[Seen]":
        """The runs that wait for the lock."""
        return [seen for seen in self.runs if seen.state == WAITING and not _is_between_tries(seen)]

    @property
    def orphans(self) -> "list[Seen]":
        """The runs whose wrapper is dead, while their command lives."""
        return [seen for seen in self.runs if seen.state == judge.ORPHAN]

    @property
    def zombies(self) -> "list[Seen]":
        """The runs of which nothing lives, and whose end is not recorded."""
        return [seen for seen in self.runs if seen.state == judge.ZOMBIE]

    @property
    def overlong_runs(self) -> "list[Seen]":
        """The runs that take far longer than usual."""
        return [
            seen
            for seen in (*self.running, *self.orphans)
            if is_overlong(seen.elapsed_ns, seen.usual_ns, self.overlong)
        ]

    @property
    def age(self) -> float | None:
        """Seconds since the latest success; None if there was none."""
        if self.standing.succeeded_ns is None:
            return None
        return max(0, self.now_ns - self.standing.succeeded_ns) / 1e9

    @property
    def is_overdue(self) -> bool:
        """Whether a success is expected, and the latest is too long ago, or there was none."""
        return self.expect is not None and (self.age is None or self.age > self.expect)

    @property
    def is_late(self) -> bool:
        """Whether a warning is due that there was no success."""
        return self.warn is not None and (self.age is None or self.age > self.warn)


class Survey:
    """How names stand.

    Attributes:
        watched: a name each, in the order that they were asked for, else of their latest use.
        left_out: how many names there are besides.
        since_ns: since when runs are counted, in nanoseconds since the epoch; 0 if none is.
    """

    def __init__(self, watched: list[Watched], left_out: int = 0, since_ns: int = 0) -> None:
        self.watched, self.left_out, self.since_ns = watched, left_out, since_ns


class Surveyor:
    """Finds out how names stand in a state directory.

    ``watch`` are values that count for all names, rather than those of the settings. Each method
    raises RecordError if the record can't be read.
    """

    def __init__(
        self, state: "StateDir | None", store: "SqliteQueue | None", settings: "Settings",
        watch: "Mapping[str, Any] | None" = None,
    ) -> None:  # fmt: skip
        self._state, self._store, self._settings = state, store, settings
        self._watch = watch or {}
        self._now_ns = time.time_ns()
        self._counts: dict[bytes, dict[str, int]] | None = None

    def of(self, names: "Sequence[bytes]") -> Survey:
        """Return how these names stand."""
        if self._store is not None:
            self._store.tally()
        return self._look(names)

    def of_all(self, limit: int, *, used_since_ns: int = 0) -> Survey:
        """Return how all names stand, at most so many.

        Those with settings of their own come first, then those with something open, queued or
        paused, then those that were used last; of these only those used since then.
        """
        names = dict.fromkeys(self._settings.names())
        count = 0
        if self._store is not None:
            self._store.tally()
            names |= dict.fromkeys(self._with_something_open(self._store))
            latest, count = self._store.latest_names(limit, used_since_ns)
            others = self._store.standings(names.keys() - {*latest})
            count += sum(each.used_ns <= used_since_ns for each in others.values())
            names |= dict.fromkeys(latest)
        found = self._look([*names][:limit])
        found.left_out = max(count, len(names)) - len(found.watched)
        return found

    def find_workers(self, found: Survey) -> None:
        """Find out whether the queues of these names have workers, where those have to do."""
        if self._state is None or self._store is None:
            return
        for each in found.watched:
            busy = any(seen.run.job_id is not None for seen in each.running)
            if busy or each.pause is not None or not (each.jobs[QUEUED] or each.jobs[DELAYED]):
                continue
            if self._store.look(each.name) is None:  # all of them follow jobs of other queues
                continue
            try:
                each.has_worker = wakeup.has_worker(self._state, each.name)
            except StateDirError:  # nor can a worker be started then
                each.has_worker = False

    def _with_something_open(self, store: "SqliteQueue") -> "Iterator[bytes]":
        """Yield the names that are held, waited for, paused, or have jobs to do."""
        for run in store.open_runs():
            yield from run.names
        for pause in store.pauses():
            yield pause.name
        for name, counts in self._jobs(store).items():
            if counts[QUEUED] or counts[DELAYED]:
                yield name

    def _jobs(self, store: "SqliteQueue") -> dict[bytes, dict[str, int]]:
        """Return how many jobs of each name there are; they are counted only once."""
        if self._counts is None:
            self._counts = store.job_counts(COUNTED)
        return self._counts

    def _look(self, names: "Sequence[bytes]") -> Survey:
        watched = {
            name: Watched(name, self._now_ns, {**self._settings.watch(name), **self._watch})
            for name in names
        }
        if self._store is None:
            return Survey([*watched.values()])
        for name, standing in self._store.standings(watched).items():
            watched[name].standing = standing
        for pause in self._store.pauses():
            if pause.name in watched:
                watched[pause.name].pause = pause
        for name, counts in self._jobs(self._store).items():
            if name in watched:
                watched[name].jobs = counts
        for seen in self._open_runs(self._store, watched):
            for name in {*seen.run.names} & watched.keys():
                watched[name].runs.append(seen)
        return Survey([*watched.values()], since_ns=self._store.tallied_since_ns())

    def _open_runs(self, store: "SqliteQueue", names: "Iterable[bytes]") -> "list[Seen]":
        wanted = {*names}
        runs = [run for run in store.open_runs() if wanted & {*run.names}]
        # One may have ended since it was listed.
        verdicts = [each for each in judge.look_at(store, runs) if each.run.ended_ns is None]
        return Outlook(store).look(verdicts, {})


def _is_between_tries(seen: "Seen") -> bool:
    """Return whether a run holds the lock and waits for its next try."""
    return seen.state == WAITING and seen.run.not_before_ns is not None


def record_bytes(state: "StateDir | None") -> int:
    """Return the size of the database, with its log."""
    size = 0
    for ending in (b"", b"-wal") if state is not None else ():
        assert state is not None
        try:
            size += os.stat(os.path.join(state.path, FILE + ending)).st_size
        except FileNotFoundError:
            pass
    return size
