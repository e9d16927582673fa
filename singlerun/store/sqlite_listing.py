"""What screens show of the queues, in SQL: none of it reads more rows than it shows or counts."""

import time

from singlerun.store.job_rows import SELECT_JOBS, read_context, read_job
from singlerun.store.queue import DELAYED, JOB_STATES, PAUSED, QUEUED, RUNNING, Pace
from singlerun.store.rows import DamagedError, is_int
from singlerun.store.run import Pause
from singlerun.store.sqlite import SqliteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Sequence
    from typing import Any

    from singlerun.paths import StateDir
    from singlerun.store.database import Database
    from singlerun.store.queue import Context, Job

_STORED = tuple(state for state in JOB_STATES if state != PAUSED)
"""A pause is of a name, not of its jobs."""
_OPEN = (RUNNING, QUEUED, DELAYED)
_QUEUED_ORDER = "name, priority DESC, position, id"
_ORDERS = {
    RUNNING: ("jobs_states", "name, id"),
    QUEUED: ("jobs_ready", _QUEUED_ORDER),
    DELAYED: ("jobs_delayed", "name, blocked, not_before_ns, priority DESC, position, id"),
}
"""The order in which jobs of a state start, and the index that has it, so that none is sorted."""
_FEW, _MANY = 200, 5000
"""Runs of a name among which successful ones are looked for, first few, then many; and the few
among which those of jobs are, so that a name without a queue costs nothing."""
_IDLE_NS = 60 * 10**9
"""Between two jobs, after which a queue was idle."""
_SAMPLE = 50
"""Tries by which the rate of a queue is measured."""


class SqliteListing(SqliteStore):
    """The queues in the state directory, to look at."""

    def __init__(self, source: "StateDir | Database") -> None:
        super().__init__(source)
        self._contexts: dict[int, Context] = {}
        self._contexts_of: sqlite3.Connection | None = None

    def jobs(
        self, name: bytes | None = None, *, ended: bool = False, limit: int | None = None,
        states: "Collection[str]" = (), label: str | None = None,
    ) -> "list[Job]":  # fmt: skip
        def select(database: "sqlite3.Connection") -> "tuple[list[Job], dict[int | None, int]]":
            conditions, values = _conditions(name, label)
            if ended:
                rows = _latest(database, conditions, values, states or JOB_STATES, limit)
            else:
                wanted = [state for state in _OPEN if state in states or not states]
                rows = _open(database, conditions, values, wanted, limit)
            found = [self._job(database, row) for row in rows]
            in_order = None if ended or label is not None else limit
            return found, _places(database, found, in_order)

        found, places = self._do(select)
        for job in found:
            job.place = places.get(job.id)
            if job.run_id is not None:
                job.run = self.find(job.run_id)
        return found

    def jobs_of(self, ids: "Iterable[int]") -> "list[Job]":
        def select(database: "sqlite3.Connection") -> "list[Job]":
            query = f"{SELECT_JOBS} WHERE id = ?"
            rows = (database.execute(query, (number,)).fetchone() for number in ids)
            return [self._job(database, row) for row in rows if row is not None]

        return self._do(select)

    def totals(self, name: bytes | None = None) -> dict[str, int]:
        query = "SELECT count(*) FROM jobs INDEXED BY jobs_states WHERE state = ?"
        query, values = (query, ()) if name is None else (f"{query} AND name = ?", (name,))

        def count(database: "sqlite3.Connection") -> dict[str, int]:
            found = {}
            for state in _STORED:
                (found[state],) = database.execute(query, (state, *values)).fetchone()
            return found

        return self._do(count)

    def pace(self, name: bytes) -> Pace | None:
        query = (  # the order of a CROSS JOIN is that of its left side
            "SELECT started_ns, ended_ns FROM (SELECT run_id FROM run_names WHERE name = ?"
            " ORDER BY run_id DESC LIMIT ?) CROSS JOIN runs ON id = run_id"
            " WHERE job_id IS NOT NULL AND started_ns IS NOT NULL LIMIT ?"
        )
        counted = "SELECT count(*) FROM jobs INDEXED BY jobs_states WHERE state = ? AND name = ?"

        def measure(database: "sqlite3.Connection") -> Pace | None:
            rows = database.execute(query, (name, _FEW, _SAMPLE + 1)).fetchall()
            over = _busy([row for row in rows if is_int(row[0]) and is_int(row[1])])
            if not over:
                return None
            (left,) = database.execute(counted, (QUEUED, name)).fetchone()
            spent = over[0][1] - over[-1][0]
            return Pace(len(over), max(spent, 1), over[0][1], left)

        return self._do(measure)

    def names_with_jobs(self) -> list[bytes]:
        # Each by itself, for its index. A job that runs has an open run.
        query = (
            "SELECT DISTINCT name FROM jobs WHERE state = 'queued'"
            " UNION SELECT DISTINCT name FROM jobs WHERE state = 'delayed'"
            " UNION SELECT name FROM runs JOIN jobs ON jobs.id = job_id WHERE runs.ended_ns IS NULL"
        )
        rows = self._do(lambda database: database.execute(query).fetchall())
        return [name for (name,) in rows if isinstance(name, bytes)]

    def pauses(self, names: "Collection[bytes]" = ()) -> list[Pause]:
        query = (
            "SELECT name, since_ns, until_ns, uid FROM pauses"
            " WHERE until_ns IS NULL OR until_ns > ? ORDER BY name"
        )

        def select(database: "sqlite3.Connection") -> list[Pause]:
            rows = database.execute(query, (time.time_ns(),)).fetchall()
            for name, since_ns, until_ns, uid in rows:
                if not (isinstance(name, bytes) and is_int(since_ns) and is_int(uid)):
                    raise DamagedError("a pause is damaged")
                if not is_int(until_ns or 0):
                    raise DamagedError("a pause is damaged")
            return [Pause(*row) for row in rows if not names or row[0] in names]

        return self._do(select)

    def durations(self, name: bytes) -> list[tuple[tuple[bytes, ...], int]]:
        query = (
            "SELECT argv, elapsed_ns FROM (SELECT run_id FROM run_names WHERE name = ?"
            " ORDER BY run_id DESC LIMIT ?) JOIN runs ON id = run_id"
            " WHERE state = 'succeeded' AND elapsed_ns IS NOT NULL ORDER BY run_id DESC"
        )

        def select(database: "sqlite3.Connection") -> "list[tuple[Any, ...]]":
            few = database.execute(query, (name, _FEW)).fetchall()
            return few or database.execute(query, (name, _MANY)).fetchall()

        rows = self._do(select)
        return [
            (tuple(argv.split(b"\0")), elapsed)
            for argv, elapsed in rows
            if isinstance(argv, bytes) and is_int(elapsed)
        ]

    def last_refusal_ns(self, name: bytes, conflict_id: int) -> int | None:
        query = (
            "SELECT max(ended_ns) FROM (SELECT run_id FROM run_names WHERE name = ?"
            " AND run_id > ? ORDER BY run_id DESC LIMIT ?) JOIN runs ON id = run_id"
            " WHERE conflict_id = ? AND ended_ns IS NOT NULL"
        )
        values = (name, conflict_id, _MANY, conflict_id)
        return next(iter(self._numbers(query, values)), None)

    def _job(self, database: "sqlite3.Connection", row: "Sequence[Any]") -> "Job":
        job, context_id = read_job(row)
        if context_id not in self._contexts or database is not self._contexts_of:
            query = "SELECT cwd, umask, env, options FROM contexts WHERE id = ?"
            context = read_context(database.execute(query, (context_id,)).fetchone())
            # Another connection may be to a database that was begun anew, with the same ids.
            if len(self._contexts) > 100 or database is not self._contexts_of:
                self._contexts.clear()
                self._contexts_of = database
            self._contexts[context_id] = context
        job.context = self._contexts[context_id]
        return job


# -- within a transaction ----------------------------------------------------------------------


def _conditions(name: bytes | None, label: str | None) -> "tuple[str, list[object]]":
    """Return conditions, which follow others, and their values."""
    conditions, values = "", list[object]()
    for condition, value in (("name = ?", name), ("label GLOB ?", label)):
        if value is not None:
            conditions += f" AND {condition}"
            values.append(value)
    return conditions, values


def _open(
    database: "sqlite3.Connection", conditions: str, values: "list[object]",
    states: "Iterable[str]", limit: int | None,
) -> "list[Sequence[Any]]":  # fmt: skip
    """Return the first jobs of some states, name by name, in the order of their start."""
    found: list[Sequence[Any]] = []
    for state in states:
        index, order = _ORDERS[state]
        query = f"{SELECT_JOBS} INDEXED BY {index} WHERE state = '{state}'{conditions}"
        query += f" ORDER BY {order}"
        found += database.execute(f"{query} LIMIT ?", (*values, _no_more_than(limit)))
    found.sort(key=lambda row: row[1])  # by name; it leaves the states of one in order
    return found[:limit]


def _latest(
    database: "sqlite3.Connection", conditions: str, values: "list[object]",
    states: "Collection[str]", limit: int | None,
) -> "list[Sequence[Any]]":  # fmt: skip
    """Return the latest jobs, the highest id first."""
    if conditions.startswith(" AND name") or len(states) < len(JOB_STATES):
        found: list[Sequence[Any]] = []
        for state in states:  # the ids first: the index has them, so few rows are read
            chosen = f"SELECT id FROM jobs INDEXED BY jobs_states WHERE state = ?{conditions}"  # noqa: S608
            query = f"{SELECT_JOBS} WHERE id IN ({chosen} ORDER BY id DESC LIMIT ?)"
            found += database.execute(query, (state, *values, _no_more_than(limit)))
        found.sort(key=lambda row: -int(row[0]))
        return found[:limit]
    query = f"{SELECT_JOBS} WHERE 1{conditions} ORDER BY id DESC LIMIT ?"
    return database.execute(query, (*values, _no_more_than(limit))).fetchall()


def _busy(tries: "list[tuple[int, int]]") -> "list[tuple[int, int]]":
    """Return the latest tries between which the queue was not idle, as start and end."""
    for at in range(1, len(tries)):
        if tries[at - 1][0] - tries[at][1] > _IDLE_NS:
            return tries[:at]
    return tries


def _no_more_than(limit: int | None) -> int:
    return -1 if limit is None else limit


def _places(
    database: "sqlite3.Connection", jobs: "list[Job]", in_order: int | None
) -> dict[int | None, int]:
    """Return the places of queued jobs in their queues, by id.

    ``in_order``: the jobs are the first of each queue, so that counting them will do.
    """
    queued = [(job.id, job.name) for job in jobs if job.state == QUEUED]
    if in_order is None and queued:
        names = sorted({name for _, name in queued})
        query = "SELECT id, name FROM jobs WHERE state = 'queued' AND name = ? ORDER BY "
        query += _QUEUED_ORDER
        queued = [row for name in names for row in database.execute(query, (name,))]
    counts: dict[bytes, int] = {}
    places: dict[int | None, int] = {}
    for number, queue in queued:
        places[number] = counts[queue] = counts.get(queue, 0) + 1
    return places
