"""Why nothing starts under a name, or did not: all that the lock and the record tell."""

import os
import time

from singlerun.errors import StateDirError
from singlerun.ownership import holder, judge
from singlerun.queue import wakeup
from singlerun.store.history import Filter
from singlerun.store.run import REFUSED, SKIPPED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock.claims import Claim
    from singlerun.ownership.judge import Living, Verdict
    from singlerun.paths import StateDir
    from singlerun.store.queue import Job
    from singlerun.store.run import Pause, Run
    from singlerun.store.sqlite_queue import SqliteQueue

RECENT = 5
"""Runs that are shown."""
LATELY_DAYS = 7
"""How far back refusals are counted."""
MOST_REFUSALS = 1000
"""Refusals that are counted at most."""
MOST_SIMILAR = 200
LOG_TAIL = 16_384
"""Bytes at the end of the workers' log among which the latest message is looked for."""


class Diagnosis:
    """What is known of a name; an object without a state directory knows nothing.

    Attributes:
        holders: the runs that hold the lock, and their processes.
        claim: a claim on its lock file whose owner cannot be seen from here.
        usual_ns: how long the first holder usually takes.
        zombies: runs whose wrapper and command are dead, not closed yet.
        waiting: the runs in line, each with its place.
        jobs: the first jobs of its queue; queued and delayed: how many there are.
        blockers: the jobs that the first ones follow, by id.
        has_worker: whether its queue has a worker.
        worker_message: the worker's latest message.
        recent: the latest runs, newest first.
        refusals: the refusals of the last ``lately_days``, newest first.
        similar: names that begin alike, of an unknown name.
    """

    lately_days = LATELY_DAYS

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.now_ns = time.time_ns()
        self.holders: Living = []
        self.claim: Claim | None = None
        self.usual_ns: int | None = None
        self.zombies: list[Run] = []
        self.waiting: list[tuple[Run, int | None]] = []
        self.pause: Pause | None = None
        self.jobs: list[Job] = []
        self.queued = self.delayed = 0
        self.blockers: dict[int, Job] = {}
        self.has_worker = True
        self.worker_message = b""
        self.recent: list[Verdict] = []
        self.latest_success: Run | None = None
        self.refusals: list[Run] = []
        self.similar: list[bytes] = []

    @property
    def is_known(self) -> bool:
        """Whether there is anything about this name."""
        return bool(self.recent or self.holders or self.pause or self.jobs or self.claim)


def diagnose(name: bytes, state: "StateDir | None", store: "SqliteQueue | None") -> Diagnosis:
    """Find out what holds a name, or keeps it from starting, and what became of its latest runs."""
    found = Diagnosis(name)
    if state is None:
        return found
    found.holders = holder.of_name(name, state, store)
    if not all(pids for _, pids in found.holders):
        found.claim = holder.unseen([state.soft_path(name)])
    if store is None:
        return found
    _look_at_runs(found, state, store)
    _look_at_queue(found, state, store)
    found.pause = store.pause_of((name,))
    found.latest_success = store.latest_success(name)
    since_ns = found.now_ns - LATELY_DAYS * 86_400 * 10**9
    refused = Filter((name,), states={REFUSED, SKIPPED}, since_ns=since_ns)
    found.refusals = store.search(refused).more(MOST_REFUSALS)
    if not found.is_known:
        found.similar = store.similar_names(name, limit=MOST_SIMILAR)
    return found


def _look_at_runs(found: Diagnosis, state: "StateDir", store: "SqliteQueue") -> None:
    still = store.open_runs((found.name,))
    for seen in judge.look_at(store, still):
        if seen.state == judge.ZOMBIE:
            found.zombies.append(seen.run)
        elif seen.state == WAITING and not _is_between_tries(found, seen.run):
            found.waiting.append((seen.run, holder.place_of(seen.run, state)))
    found.waiting.sort(key=lambda each: (each[1] or 2**31, each[0].id or 0))
    run = next((run for run, _ in found.holders if run is not None), None)
    if run is not None:
        found.usual_ns = store.usual_ns(found.name, run.argv)
    found.recent = judge.look_at(store, store.runs(found.name, limit=RECENT))


def _is_between_tries(found: Diagnosis, run: "Run") -> bool:
    """Return whether a run that waits for its next try is the holder; make it known as that."""
    for number, (known, pids) in enumerate(found.holders):
        if known is None and run.wrapper_pid in pids:
            found.holders[number] = run, pids
            return True
    return False


def _look_at_queue(found: Diagnosis, state: "StateDir", store: "SqliteQueue") -> None:
    found.queued, found.delayed = store.count_pending(found.name)
    if not found.queued and not found.delayed:
        return
    found.jobs = store.jobs(found.name, limit=RECENT)
    for job in found.jobs:
        if job.is_blocked and job.after_id is not None:
            blocker = store.find_job(job.after_id)
            if blocker is not None:
                found.blockers[job.after_id] = blocker
    try:
        found.has_worker = wakeup.has_worker(state, found.name)
    except StateDirError as error:
        found.has_worker, found.worker_message = False, os.fsencode(str(error))
        return
    if not found.has_worker:
        found.worker_message = _latest_message(state, found.name)


def _latest_message(state: "StateDir", name: bytes) -> bytes:
    """Return the latest line of the workers' log that names this queue."""
    try:
        with open(os.path.join(state.path, wakeup.LOG), "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL))
            lines = log.read().splitlines()
    except OSError:
        return b""
    mark = b"queue " + name + b":"
    return next((line for line in reversed(lines) if mark in line), b"")
