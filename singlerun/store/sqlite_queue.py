"""The queues' verbs in SQL.

What changes a queue is committed durably: what was accepted is there after a power loss, and what
was claimed before one is not claimed again.

The sync of a claim would be a quarter of what a short job costs, and it must come before the start.
So while a short job runs, the next one is announced: that is synced, and the claim need not be. A
job that was announced in another boot may have started in it; that is all that is known of it.
"""

import json
import os
import time

from singlerun.process.identity import here
from singlerun.store.base import FAILED as RUN_FAILED
from singlerun.store.base import LOST as RUN_LOST
from singlerun.store.base import REFUSED as RUN_REFUSED
from singlerun.store.base import STOPPED, TIMED_OUT, Run
from singlerun.store.base import SUCCEEDED as RUN_SUCCEEDED
from singlerun.store.queue import (
    CANCELLED,
    DELAYED,
    FAILED,
    LOST,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Context,
    FullError,
    Job,
    QueueStore,
    ReplacedError,
)
from singlerun.store.sqlite import SqliteStore, find_pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from typing import Any

    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir

LONGEST_DELAY = 86_400.0
"""Seconds at which the delay between tries stops doubling."""

_COLUMNS = (
    "id", "name", "context_id", "argv", "state", "priority", "not_before_ns", "after_id", "label",
    "retries", "retry_delay", "uid", "parent_id", "added_ns", "tries", "started_ns", "ended_ns",
    "run_id", "exit_code", "signal", "detail", "blocked", "announced",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"  # noqa: S608
_NEXT = "WHERE name = ? AND state = 'queued' ORDER BY priority DESC, position, id LIMIT 1"


class _NotAnnouncedError(Exception):
    """It is not the job that was announced: this commit must be synced after all."""


class SqliteQueue(SqliteStore, QueueStore):
    """The run-log and the queues in the state directory."""

    def __init__(self, state: "StateDir") -> None:
        super().__init__(state)
        self._contexts: dict[int, Context] = {}
        self._followers: set[bytes] = set()
        self._announced: int | None = None

    def enqueue(
        self, jobs: "Sequence[Job]", context: Context, *, unique: bool, limit: int | None
    ) -> list[int]:
        def enqueue(database: "sqlite3.Connection") -> list[int]:
            name, now = jobs[0].name, time.time_ns()
            if unique:
                pending = database.execute(
                    "SELECT id FROM jobs WHERE name = ? AND state IN (?, ?)",
                    (name, QUEUED, DELAYED),
                ).fetchall()
            else:
                pending = []
            replaced = {number for (number,) in pending} & {job.after_id for job in jobs}
            if replaced:
                raise ReplacedError(replaced.pop())
            if limit is not None:
                (count,) = database.execute(
                    "SELECT count(*) FROM jobs WHERE name = ? AND state IN (?, ?)",
                    (name, QUEUED, DELAYED),
                ).fetchone()
                if count - len(pending) + len(jobs) > limit:
                    raise FullError(count)
            first = _reserve(database, len(jobs))
            context_id = _context_id(database, context)
            states = {job.after_id: self._state_after(database, job.after_id) for job in jobs}
            uid, parent_id = os.getuid(), jobs[0].parent_id
            database.executemany(
                "INSERT INTO jobs (id, name, context_id, argv, state, priority, not_before_ns,"
                " after_id, blocked, label, retries, retry_delay, uid, parent_id, added_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        number, name, context_id, b"\0".join(job.argv),
                        DELAYED if job.not_before_ns or states[job.after_id] else QUEUED,
                        job.priority, job.not_before_ns, job.after_id,
                        states[job.after_id] is not None, job.label, job.retries, job.retry_delay,
                        uid, parent_id, now,
                    )
                    for number, job in enumerate(jobs, first)
                ),
            )  # fmt: skip
            for (job_id,) in pending:
                self._cancel(database, job_id, f"replaced by job {first}")
            for number, job in enumerate(jobs, first):
                if states[job.after_id] == FAILED:
                    self._cancel(database, number, f"job {job.after_id} did not succeed")
            return list(range(first, first + len(jobs)))

        return self._do(enqueue, durable=True)

    def _state_after(self, database: "sqlite3.Connection", after_id: int | None) -> str | None:
        """Tell what a job that is to follow another must do: nothing, wait (DELAYED), or fail."""
        if after_id is None:
            return None
        row = database.execute("SELECT state FROM jobs WHERE id = ?", (after_id,)).fetchone()
        if row is None:
            raise LookupError(after_id)
        return {SUCCEEDED: None, FAILED: FAILED, CANCELLED: FAILED, LOST: FAILED}.get(
            row[0], DELAYED
        )

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
                " AND NOT blocked ORDER BY not_before_ns LIMIT 1"
            )
            row = database.execute(delayed, (name,)).fetchone()
            return None if row is None else max(0.0, ((row[0] or 0) - now) / 1e9)

        return self._do(look)

    def claim(self, name: bytes, run: Run) -> Job | None:
        return self._do_claim(lambda database: self._claim(database, name, run), run)

    def announce(self, name: bytes) -> None:
        boot_id = here().boot_id

        def announce(database: "sqlite3.Connection") -> int | None:
            row = database.execute(f"{_SELECT} {_NEXT}", (name,)).fetchone()
            if row is not None:
                database.execute("UPDATE jobs SET announced = ? WHERE id = ?", (boot_id, row[0]))
            return None if row is None else int(row[0])

        if boot_id:
            self._announced = self._do(announce, durable=True)

    def retract(self) -> None:
        if self._announced is not None:
            change = "UPDATE jobs SET announced = NULL WHERE id = ?"
            values = (self._announced,)
            self._announced = None
            self._do(lambda database: database.execute(change, values), durable=True)

    def _do_claim(
        self, work: "Callable[[sqlite3.Connection], Job | None]", following: Run | None
    ) -> Job | None:
        """Claim in one commit, synced unless what is claimed was announced."""
        if self._announced is not None and following is not None:
            try:
                return self._do(work)
            except _NotAnnouncedError:
                following.id = None
            finally:
                self._announced = None
        return self._do(work, durable=True)

    def finish_and_claim(
        self, job: Job, outcome: "Outcome", state: str, following: Run | None
    ) -> Job | None:
        run = job.run
        assert run is not None
        run.finish(outcome, state)

        def finish(database: "sqlite3.Connection") -> Job | None:
            self._finish(database, run)
            self._followers |= end_job(database, run)
            return None if following is None else self._claim(database, job.name, following)

        return self._do_claim(finish, following)

    def _claim(self, database: "sqlite3.Connection", name: bytes, run: Run) -> Job | None:
        job = self._next(database, name)
        if self._announced is not None and (job is None or job.id != self._announced):
            raise _NotAnnouncedError
        if job is None:
            return None
        assert job.context is not None
        run.argv, run.cwd, run.job_id, run.parent_id = (
            job.argv, job.context.cwd, job.id, job.parent_id,
        )  # fmt: skip
        run.asked_ns = job.added_ns
        self._start(database, run)
        job.state, job.tries, job.run_id, job.run = RUNNING, job.tries + 1, run.id, run
        database.execute(
            "UPDATE jobs SET state = 'running', tries = ?, run_id = ?, started_ns = ?,"
            " ended_ns = NULL, announced = NULL WHERE id = ?",
            (job.tries, run.id, run.started_ns, job.id),
        )
        return job

    def _next(self, database: "sqlite3.Connection", name: bytes) -> Job | None:
        """Give the job of a name that is to start now."""
        now = time.time_ns()
        if find_pause(database, (name,)) is not None:
            return None
        database.execute(
            "UPDATE jobs SET state = 'queued' WHERE name = ? AND state = 'delayed'"
            " AND NOT blocked AND ifnull(not_before_ns, 0) <= ?",
            (name, now),
        )
        while row := database.execute(f"{_SELECT} {_NEXT}", (name,)).fetchone():
            if row[-1] is None or row[-1] == here().boot_id:
                return self._job(database, row)
            self._doubt(database, self._job(database, row))
        return None

    def _doubt(self, database: "sqlite3.Connection", job: Job) -> None:
        """Judge a job that may have been started just before the machine went down."""
        if job.tries < job.retries:
            change = "UPDATE jobs SET tries = tries + 1, announced = NULL WHERE id = ?"
            database.execute(change, (job.id,))
            return
        database.execute(
            "UPDATE jobs SET state = 'lost', ended_ns = ?, announced = NULL, detail = ?"
            " WHERE id = ?",
            (time.time_ns(), "the machine went down in the moment of its start", job.id),
        )
        self._followers |= _cancel_followers(database, job.id)

    def give_back(self, job: Job, detail: str) -> None:
        run = job.run
        assert run is not None
        run.detail, run.ended_ns, run.state = detail, time.time_ns(), RUN_REFUSED

        def give_back(database: "sqlite3.Connection") -> None:
            self._update(database, run, ("state", "ended_ns", "detail"))
            database.execute(
                "UPDATE jobs SET state = 'queued', tries = tries - 1 WHERE id = ? AND run_id = ?"
                " AND state = 'running'",
                (job.id, run.id),
            )

        self._do(give_back, durable=True)

    def jobs(
        self, name: bytes | None = None, *, ended: bool = False, limit: int | None = None
    ) -> list[Job]:
        where, values = ("WHERE name = ?", [name]) if name is not None else ("WHERE 1", [])
        if ended:
            order = "ORDER BY id DESC"
        else:
            where += " AND state IN ('running', 'queued', 'delayed')"
            order = (
                "ORDER BY name, state = 'running' DESC, state = 'queued' DESC, blocked,"
                " CASE state WHEN 'queued' THEN 0 ELSE not_before_ns END,"
                " priority DESC, position, id"
            )
        cut = "" if limit is None else f" LIMIT {limit:d}"

        def select(database: "sqlite3.Connection") -> list[Job]:
            rows = database.execute(f"{_SELECT} {where} {order}{cut}", values).fetchall()
            return [self._job(database, row) for row in rows]

        found = self._do(select)
        places: dict[bytes, int] = {}
        for job in found:
            if job.state == QUEUED and not ended:
                job.place = places[job.name] = places.get(job.name, 0) + 1
            if job.run_id is not None:
                job.run = self.find(job.run_id)
        return found

    def find_job(self, job_id: int) -> Job | None:
        def find(database: "sqlite3.Connection") -> Job | None:
            row = database.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
            return None if row is None else self._job(database, row)

        job = self._do(find)
        if job is not None and job.run_id is not None:
            job.run = self.find(job.run_id)
        return job

    def cancel(self, job_id: int, detail: str) -> bool:
        return self._do(lambda database: self._cancel(database, job_id, detail), durable=True)

    def retry(self, job_id: int) -> bool:
        def retry(database: "sqlite3.Connection") -> bool:
            cursor = database.execute(
                "UPDATE jobs SET state = 'queued', blocked = 0, not_before_ns = NULL, tries = 0,"
                " position = 0, ended_ns = NULL, detail = NULL, exit_code = NULL, signal = NULL,"
                " announced = NULL"
                " WHERE id = ? AND state IN ('failed', 'lost', 'cancelled')",
                (job_id,),
            )
            return cursor.rowcount > 0

        return self._do(retry, durable=True)

    def put_first(self, job_id: int) -> bool:
        def put_first(database: "sqlite3.Connection") -> bool:
            cursor = database.execute(
                "UPDATE jobs SET (priority, position) = (SELECT priority, position - 1 FROM jobs j"
                " WHERE j.name = jobs.name AND j.state IN ('queued', 'delayed')"
                " ORDER BY priority DESC, position, id LIMIT 1)"
                " WHERE id = ? AND state IN ('queued', 'delayed')",
                (job_id,),
            )
            return cursor.rowcount > 0

        return self._do(put_first, durable=True)

    def pause(self, name: bytes, until_ns: int | None) -> None:
        values = (name, time.time_ns(), until_ns, os.getuid())
        put = "INSERT OR REPLACE INTO pauses VALUES (?, ?, ?, ?)"
        self._do(lambda database: database.execute(put, values), durable=True)

    def resume(self, name: bytes) -> bool:
        def resume(database: "sqlite3.Connection") -> bool:
            return database.execute("DELETE FROM pauses WHERE name = ?", (name,)).rowcount > 0

        return self._do(resume, durable=True)

    def names_with_jobs(self) -> list[bytes]:
        # Each by itself, for its index. A job that runs has an open run.
        query = (
            "SELECT DISTINCT name FROM jobs WHERE state = 'queued'"
            " UNION SELECT DISTINCT name FROM jobs WHERE state = 'delayed'"
            " UNION SELECT name FROM runs JOIN jobs ON jobs.id = job_id WHERE runs.ended_ns IS NULL"
        )
        return [row[0] for row in self._fetch(query, ())]

    def names_of_followers(self) -> list[bytes]:
        names, self._followers = sorted(self._followers), set()
        return names

    def _cancel(self, database: "sqlite3.Connection", job_id: int, detail: str) -> bool:
        cursor = database.execute(
            "UPDATE jobs SET state = ?, ended_ns = ?, detail = ? WHERE id = ? AND state IN (?, ?)",
            (CANCELLED, time.time_ns(), detail, job_id, QUEUED, DELAYED),
        )
        if cursor.rowcount > 0:
            self._followers |= _cancel_followers(database, job_id)
        return cursor.rowcount > 0

    def _job(self, database: "sqlite3.Connection", row: "Sequence[Any]") -> Job:
        job = Job.__new__(Job)
        job.place = job.run = job.paused_until_ns = None
        (
            job.id, job.name, context_id, argv, job.state, job.priority, job.not_before_ns,
            job.after_id, job.label, job.retries, job.retry_delay, job.uid, job.parent_id,
            job.added_ns, job.tries, job.started_ns, job.ended_ns, job.run_id, job.exit_code,
            job.signal, job.detail, blocked, _,
        ) = row  # fmt: skip
        job.context = self._context(database, context_id)
        job.argv = tuple(argv.split(b"\0"))
        job.is_blocked = bool(blocked)
        return job

    def _context(self, database: "sqlite3.Connection", context_id: int) -> Context:
        if context_id not in self._contexts:
            cwd, umask, env, options = database.execute(
                "SELECT cwd, umask, env, options FROM contexts WHERE id = ?", (context_id,)
            ).fetchone()
            if len(self._contexts) > 100:
                self._contexts.clear()
            self._contexts[context_id] = Context(
                cwd, umask, tuple(env.split(b"\0")) if env else (), json.loads(options)
            )
        return self._contexts[context_id]


def end_job(database: "sqlite3.Connection", run: Run) -> set[bytes]:
    """Record what the end of a run makes of its job; give the names whose jobs that concerns."""
    if run.state == RUN_SUCCEEDED:  # by far the most
        succeeded = database.execute(
            "UPDATE jobs SET state = 'succeeded', ended_ns = ?, exit_code = 0, signal = NULL,"
            " detail = NULL WHERE id = ? AND run_id = ? AND state IN ('running', 'lost')",
            (run.ended_ns, run.job_id, run.id),
        )
        return _free_followers(database, run.job_id) if succeeded.rowcount else set()
    row = database.execute(
        "SELECT name, tries, retries, retry_delay FROM jobs WHERE id = ? AND run_id = ?"
        " AND state IN ('running', 'lost')",
        (run.job_id, run.id),
    ).fetchone()
    if row is None:
        return set()
    name, tries, retries, retry_delay = row
    now = time.time_ns()
    if run.state in {RUN_FAILED, TIMED_OUT, RUN_LOST} and tries <= retries:
        delay = min(retry_delay * 2.0 ** min(tries - 1, 64), LONGEST_DELAY)
        state, ended_ns, not_before_ns = DELAYED, None, now + round(delay * 1e9)
    else:
        state = LOST if run.state == RUN_LOST else FAILED
        ended_ns, not_before_ns = now, None
    detail = run.detail
    if run.state == TIMED_OUT:
        detail = "its time was over"
    elif run.state == RUN_LOST:
        detail = f"run {run.id} is lost: {run.detail}; it was started by PID {run.wrapper_pid}"
    elif run.state == STOPPED and detail is None:
        detail = "it was stopped"
    database.execute(
        "UPDATE jobs SET state = ?, ended_ns = ?, not_before_ns = ?, exit_code = ?, signal = ?,"
        " detail = ? WHERE id = ?",
        (state, ended_ns, not_before_ns, run.exit_code, run.signal, detail, run.job_id),
    )
    if state in {FAILED, LOST}:
        return _cancel_followers(database, run.job_id)
    return {name}


def _free_followers(database: "sqlite3.Connection", job_id: int | None) -> set[bytes]:
    names = _followers(database, job_id)
    if names:
        database.execute(
            "UPDATE jobs SET blocked = 0, state = CASE WHEN ifnull(not_before_ns, 0) <= ?"
            " THEN 'queued' ELSE 'delayed' END WHERE after_id = ? AND blocked"
            " AND state = 'delayed'",
            (time.time_ns(), job_id),
        )
    return {name for _, name in names}


def _cancel_followers(database: "sqlite3.Connection", job_id: int | None) -> set[bytes]:
    names: set[bytes] = set()
    ended = [job_id]
    while ended:
        of = ended.pop()
        followers = _followers(database, of)
        names |= {name for _, name in followers}
        ended += [number for number, _ in followers]
        database.executemany(
            "UPDATE jobs SET state = 'cancelled', blocked = 0, ended_ns = ?, detail = ?"
            " WHERE id = ?",
            [(time.time_ns(), f"job {of} did not succeed", number) for number, _ in followers],
        )
    return names


def _followers(database: "sqlite3.Connection", job_id: int | None) -> "list[tuple[int, bytes]]":
    query = "SELECT id, name FROM jobs WHERE after_id = ? AND blocked AND state = 'delayed'"
    return database.execute(query, (job_id,)).fetchall()


def _context_id(database: "sqlite3.Connection", context: Context) -> int:
    """Record a context, unless it is the one that was recorded last."""
    values = (
        context.cwd, context.umask, b"\0".join(context.env), json.dumps(context.options),
    )  # fmt: skip
    query = "SELECT cwd, umask, env, options, id FROM contexts ORDER BY id DESC LIMIT 1"
    latest = database.execute(query).fetchone()
    if latest is not None and latest[:4] == values:
        return int(latest[4])
    added = "INSERT INTO contexts (cwd, umask, env, options) VALUES (?, ?, ?, ?)"
    return database.execute(added, values).lastrowid or 0


def _reserve(database: "sqlite3.Connection", count: int) -> int:
    """Take so many numbers out of the sequence that gives the runs' ids; give the first."""
    taken = database.execute(
        "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'runs'", (count,)
    )
    if taken.rowcount == 0:  # nothing has run yet
        database.execute("INSERT INTO sqlite_sequence VALUES ('runs', ?)", (count,))
    query = "SELECT seq FROM sqlite_sequence WHERE name = 'runs'"
    (last,) = database.execute(query).fetchone()
    return int(last) - count + 1
