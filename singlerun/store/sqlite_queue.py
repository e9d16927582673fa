"""The queues' verbs in SQL.

What changes a queue is committed durably: what was accepted is there after a power loss, and what
was claimed before one is not claimed again.

The sync of a claim would be a quarter of what a short job costs, and it must come before the start.
So while a short job runs, the next one is announced: that is synced, and the claim need not be. A
job that was announced in another boot may have started in it; that is all that is known of it.
"""

import os
import time

from singlerun.process.identity import here
from singlerun.store import followers
from singlerun.store.job_rows import SELECT_JOBS, insert_jobs
from singlerun.store.periods import SqlitePeriods, keep_pause
from singlerun.store.queue import (
    RUNNING,
    Context,
    FullError,
    Job,
    NotAnnouncedError,
    QueueStore,
    ReplacedError,
)
from singlerun.store.run import REFUSED, Run
from singlerun.store.sqlite import find_pause, finish_in, start_in, update
from singlerun.store.sqlite_listing import SqliteListing
from singlerun.store.tallies import SqliteTallies

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from singlerun.process.identity import Owner
    from singlerun.store.run import Change, Ending

    Claimed = tuple[Job | None, frozenset[bytes]]

_NEXT = "WHERE name = ? AND state = 'queued' ORDER BY priority DESC, position, id LIMIT 1"
_PENDING = "SELECT id FROM jobs WHERE name = ? AND state IN ('queued', 'delayed')"


class SqliteQueue(SqlitePeriods, SqliteTallies, SqliteListing, QueueStore):
    """The run-log and the queues in the state directory."""

    def enqueue(
        self, jobs: "Sequence[Job]", context: Context, *, unique: bool, limit: int | None
    ) -> list[int]:
        def enqueue(database: "sqlite3.Connection") -> list[int]:
            name = jobs[0].name
            pending = {number for (number,) in database.execute(_PENDING, (name,))}
            replaced = pending if unique else set()
            if both := replaced & {job.after_id for job in jobs}:
                raise ReplacedError(both.pop())
            if limit is not None and len(pending) - len(replaced) + len(jobs) > limit:
                raise FullError(len(pending))
            first = insert_jobs(database, jobs, context)
            for job_id in sorted(replaced):
                followers.cancel(database, job_id, f"replaced by job {first}")
            return list(range(first, first + len(jobs)))

        return self._do(enqueue, durable=True)

    def look(self, name: bytes) -> float | None:
        def look(database: "sqlite3.Connection") -> float | None:
            now = time.time_ns()
            pause = find_pause(database, (name,))
            if pause is not None:
                return None if pause.until_ns is None else (pause.until_ns - now) / 1e9
            ready = "SELECT 1 FROM jobs WHERE name = ? AND state = 'queued' LIMIT 1"
            if database.execute(ready, (name,)).fetchone():
                return 0.0
            # A row by itself, for the index: min() with more conditions would read them all.
            delayed = (
                "SELECT not_before_ns FROM jobs WHERE name = ? AND state = 'delayed'"
                " AND blocked = 0 ORDER BY not_before_ns LIMIT 1"
            )
            row = database.execute(delayed, (name,)).fetchone()
            return None if row is None else max(0.0, ((row[0] or 0) - now) / 1e9)

        return self._do(look)

    def claim(self, name: bytes, worker: "Owner") -> Job | None:
        return self._do(lambda database: self._claim(database, name, worker), durable=True)

    def announce(self, name: bytes) -> int | None:
        boot_id = here().boot_id

        def announce(database: "sqlite3.Connection") -> int | None:
            row = database.execute(f"{SELECT_JOBS} {_NEXT}", (name,)).fetchone()
            if row is not None:
                database.execute("UPDATE jobs SET announced = ? WHERE id = ?", (boot_id, row[0]))
            return None if row is None else int(row[0])

        return self._do(announce, durable=True) if boot_id else None

    def retract(self, job_id: int) -> None:
        change = "UPDATE jobs SET announced = NULL WHERE id = ?"
        self._do(lambda database: database.execute(change, (job_id,)), durable=True)

    def finish(self, job: Job, ending: "Ending") -> frozenset[bytes]:
        run = _run_of(job)

        def finish(database: "sqlite3.Connection") -> "tuple[Change, frozenset[bytes]]":
            return _finish_job(database, run, ending)

        change, names = self._do(finish, durable=True)
        run.apply(change)
        return names

    def finish_and_claim(self, job: Job, ending: "Ending", worker: "Owner") -> "Claimed":
        return self._finish_and_claim(job, ending, worker, None)

    def finish_and_claim_announced(
        self, job: Job, ending: "Ending", worker: "Owner", announced: int
    ) -> "Claimed":
        return self._finish_and_claim(job, ending, worker, announced)

    def _finish_and_claim(
        self, job: Job, ending: "Ending", worker: "Owner", announced: int | None
    ) -> "Claimed":
        run = _run_of(job)

        def finish(database: "sqlite3.Connection") -> "tuple[Change, Claimed]":
            change, names = _finish_job(database, run, ending)
            following = self._claim(database, job.name, worker)
            if announced is not None and (following is None or following.id != announced):
                raise NotAnnouncedError
            return change, (following, names)

        change, claimed = self._do(finish, durable=announced is None)
        run.apply(change)
        return claimed

    def _claim(self, database: "sqlite3.Connection", name: bytes, worker: "Owner") -> Job | None:
        job = self._next(database, name)
        if job is None:
            return None
        assert job.context is not None
        run = Run(
            names=(name,), argv=job.argv, wrapper=worker, uid=os.getuid(), asked_ns=job.added_ns,
            cwd=job.context.cwd, job_id=job.id, parent_id=job.parent_id,
        )  # fmt: skip
        run.apply(start_in(database, run, job.parent_id))
        job.state, job.tries, job.run_id, job.run = RUNNING, job.tries + 1, run.id, run
        database.execute(
            "UPDATE jobs SET state = 'running', tries = ?, run_id = ?, started_ns = ?,"
            " ended_ns = NULL, announced = NULL WHERE id = ?",
            (job.tries, run.id, run.started_ns, job.id),
        )
        return job

    def _next(self, database: "sqlite3.Connection", name: bytes) -> Job | None:
        """Return the job of a name that is to start now."""
        now = time.time_ns()
        if find_pause(database, (name,)) is not None:
            return None
        database.execute(
            "UPDATE jobs SET state = 'queued' WHERE name = ? AND state = 'delayed'"
            " AND blocked = 0 AND ifnull(not_before_ns, 0) <= ?",
            (name, now),
        )
        while row := database.execute(f"{SELECT_JOBS} {_NEXT}", (name,)).fetchone():
            if row[-1] is None or row[-1] == here().boot_id:
                return self._job(database, row)
            _doubt(database, self._job(database, row))
        return None

    def give_back(self, job: Job, detail: str) -> None:
        run = _run_of(job)
        change = run.is_refused(REFUSED, detail)

        def give_back(database: "sqlite3.Connection") -> None:
            update(database, run, change)
            database.execute(
                "UPDATE jobs SET state = 'queued', tries = tries - 1 WHERE id = ? AND run_id = ?"
                " AND state = 'running'",
                (job.id, run.id),
            )

        self._do(give_back, durable=True)
        run.apply(change)

    def find_job(self, job_id: int) -> Job | None:
        def find(database: "sqlite3.Connection") -> Job | None:
            row = database.execute(f"{SELECT_JOBS} WHERE id = ?", (job_id,)).fetchone()
            return None if row is None else self._job(database, row)

        job = self._do(find)
        if job is not None and job.run_id is not None:
            job.run = self.find(job.run_id)
        return job

    def cancel(self, job_id: int, detail: str) -> frozenset[bytes] | None:
        names = self._do(lambda database: followers.cancel(database, job_id, detail), durable=True)
        return None if names is None else frozenset(names)

    def retry(self, job_id: int) -> bool:
        return self._changes(
            "UPDATE jobs SET state = 'queued', blocked = 0, not_before_ns = NULL, tries = 0,"
            " position = 0, ended_ns = NULL, detail = NULL, exit_code = NULL, signal = NULL,"
            " announced = NULL WHERE id = ? AND state IN ('failed', 'lost', 'cancelled')",
            job_id,
        )

    def put_first(self, job_id: int) -> bool:
        return self._changes(
            "UPDATE jobs SET (priority, position) = (SELECT priority, position - 1 FROM jobs j"
            " WHERE j.name = jobs.name AND j.state IN ('queued', 'delayed')"
            " ORDER BY priority DESC, position, id LIMIT 1)"
            " WHERE id = ? AND state IN ('queued', 'delayed')",
            job_id,
        )

    def pause(self, name: bytes, until_ns: int | None) -> None:
        def pause(database: "sqlite3.Connection") -> None:
            keep_pause(database, name)
            put = "INSERT OR REPLACE INTO pauses VALUES (?, ?, ?, ?)"
            database.execute(put, (name, time.time_ns(), until_ns, os.getuid()))

        self._do(pause, durable=True)

    def resume(self, name: bytes) -> bool:
        def resume(database: "sqlite3.Connection") -> bool:
            keep_pause(database, name)
            return database.execute("DELETE FROM pauses WHERE name = ?", (name,)).rowcount > 0

        return self._do(resume, durable=True)

    def _changes(self, statement: str, *values: object) -> bool:
        """Execute a statement durably; return whether it changed a row."""
        return self._do(lambda db: db.execute(statement, values).rowcount > 0, durable=True)


def _run_of(job: Job) -> Run:
    assert job.run is not None
    return job.run


def _finish_job(
    database: "sqlite3.Connection", run: Run, ending: "Ending"
) -> "tuple[Change, frozenset[bytes]]":
    change = finish_in(database, run, run.ends(ending))
    return change, frozenset(followers.end_job(database, run, change))


def _doubt(database: "sqlite3.Connection", job: Job) -> None:
    """Judge a job that may have been started just before the machine went down."""
    if job.tries < job.retries:
        change = "UPDATE jobs SET tries = tries + 1, announced = NULL WHERE id = ?"
        database.execute(change, (job.id,))
        return
    database.execute(
        "UPDATE jobs SET state = 'lost', ended_ns = ?, announced = NULL, detail = ? WHERE id = ?",
        (time.time_ns(), "the machine went down in the moment of its start", job.id),
    )
    followers.cancel_followers(database, job.id)
