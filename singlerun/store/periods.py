"""The record of a period: what ran in it, what was measured, what was paused.

A run that touches a period was asked for in it, or shortly before, or is a long one, or is still
open; each of the four has its index, so a day costs the same in a large record.
"""

import time

from singlerun.store.base import Retrospect
from singlerun.store.rows import SELECT_RUNS, DamagedError, is_int, read_run
from singlerun.store.run import REFUSED, SKIPPED, SUCCEEDED, Pause, Run
from singlerun.store.sqlite import SqliteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

LONG_NS = 3600 * 10**9
"""A run that takes more than this is in the index of long ones; the schema has the number too."""
CROWD = 1000
"""Runs that may be recorded in another order than they were asked for."""
DEEPEST = 10_000
"""Runs of a name among which its latest success is looked for."""

_IN_PERIOD = (
    "asked_ns BETWEEN ?1 - {long} AND ?2 AND ifnull(ended_ns, ?1) >= ?1",
    "ended_ns >= ?1 AND ended_ns - asked_ns > {long} AND asked_ns < ?1 - {long}",
    "ended_ns IS NULL AND +asked_ns < ?1 - {long}",
)
"""With a plus, that no other index be taken than the one of open runs."""
_OF_NAME = " AND EXISTS (SELECT 1 FROM run_names WHERE name = ?3 AND run_id = runs.id)"
_MEASURED = (
    "runs.id", "runs.names", "runs.state", "asked_ns", "started_ns", "ended_ns", "elapsed_ns",
    "user_us", "system_us", "max_rss_kb",
)  # fmt: skip


class Figures:
    """What was measured of a run; what is unknown is None.

    Attributes:
        waited_ns: from asking to the start, or to the refusal.
        cpu_us: CPU time in microseconds.
    """

    __slots__ = ("cpu_us", "elapsed_ns", "has_started", "id", "max_rss_kb", "names", "state",
                 "waited_ns")  # fmt: skip

    def __init__(self, row: "Sequence[Any]") -> None:
        run_id, names, state, asked, started, ended, elapsed, user, system, rss = row
        numbers = (run_id, asked, started or 0, ended or 0, elapsed or 0, user or 0, rss or 0)
        if not (isinstance(names, bytes) and isinstance(state, str) and all(map(is_int, numbers))):
            raise DamagedError(f"run {run_id!r} is damaged")
        self.id, self.state, self.names = run_id, state, tuple(names.split(b"\0"))
        self.has_started = started is not None
        until = started or ended
        self.waited_ns: int | None = None if until is None else max(0, until - asked)
        self.elapsed_ns: int | None = elapsed
        self.cpu_us: int | None = None if user is None else user + (system or 0)
        self.max_rss_kb: int | None = rss


class SqlitePeriods(SqliteStore, Retrospect):
    """The verbs that look back, in SQL."""

    def runs_in(self, since_ns: int, until_ns: int, name: bytes | None = None) -> list[Run]:
        of_name = "" if name is None else _OF_NAME
        values = [since_ns, until_ns] if name is None else [since_ns, until_ns, name]

        def select(database: "sqlite3.Connection") -> list[Run]:
            found: dict[int, Run] = {}
            for condition in _IN_PERIOD:
                # Only the first condition has a second value: SQLite counts those it is given.
                where = condition.format(long=LONG_NS) + of_name + " AND ?2 NOTNULL"
                for row in database.execute(f"{SELECT_RUNS} WHERE {where}", values):
                    found[row[0]] = read_run(row)
            return [found[run_id] for run_id in sorted(found)]

        return self._do(select)

    def figures(self, since_ns: int, until_ns: int, name: bytes | None = None) -> list[Figures]:
        columns = f"SELECT {', '.join(_MEASURED)} FROM"
        period = "asked_ns BETWEEN ? AND ?"

        def select(database: "sqlite3.Connection") -> list[Figures]:
            if name is None:
                query = f"{columns} runs WHERE {period} ORDER BY asked_ns"
                rows = database.execute(query, (since_ns, until_ns))
            else:
                query = (
                    f"{columns} run_names JOIN runs ON runs.id = run_id WHERE name = ?"
                    f" AND run_id >= ? AND {period} ORDER BY run_id"
                )
                first = _first_since(database, since_ns)
                rows = database.execute(query, (name, first, since_ns, until_ns))
            return [Figures(row) for row in rows]

        return self._do(select)

    def pauses_in(self, since_ns: int, until_ns: int, name: bytes | None = None) -> list[Pause]:
        of_name, values = ("", []) if name is None else (" AND name = ?", [name])
        query = " UNION ALL ".join(
            f"SELECT name, since_ns, until_ns, uid FROM {table}"  # noqa: S608
            f" WHERE since_ns <= ? AND {end} >= ?{of_name}"
            for table, end in (
                ("past_pauses", "until_ns"),
                ("pauses", f"ifnull(until_ns, {2**62})"),
            )
        )

        def select(database: "sqlite3.Connection") -> list[Pause]:
            return [
                _pause(row) for row in database.execute(query, [until_ns, since_ns, *values] * 2)
            ]

        return sorted(self._do(select), key=lambda pause: pause.since_ns)

    def latest_success(self, name: bytes) -> Run | None:
        nth = "SELECT run_id FROM run_names WHERE name = ?1 ORDER BY run_id DESC LIMIT 1 OFFSET ?2"
        query = (
            f"{SELECT_RUNS} JOIN run_names ON run_id = runs.id WHERE name = ?1"
            f" AND run_id > ifnull(({nth}), 0) AND state = ?3 ORDER BY run_id DESC LIMIT 1"
        )
        values = (name, DEEPEST, SUCCEEDED)
        row = self._do(lambda database: database.execute(query, values).fetchone())
        return None if row is None else read_run(row)

    def refusals(self, name: bytes, since_ns: int, *, limit: int) -> list[Run]:
        query = (
            f"{SELECT_RUNS} JOIN run_names ON run_id = runs.id WHERE name = ? AND run_id >= ?"
            " AND state IN (?, ?) ORDER BY run_id DESC LIMIT ?"
        )

        def select(database: "sqlite3.Connection") -> list[Run]:
            first = _first_since(database, since_ns)
            values = (name, first, REFUSED, SKIPPED, limit)
            return [read_run(row) for row in database.execute(query, values)]

        return self._do(select)

    def count_pending(self, name: bytes) -> tuple[int, int]:
        query = "SELECT count(*) FROM jobs WHERE name = ? AND state = '%s'"  # each has its index

        def count(database: "sqlite3.Connection") -> list[int]:
            queries = [query % state for state in ("queued", "delayed")]
            return [database.execute(each, (name,)).fetchone()[0] for each in queries]

        queued, delayed = self._do(count)
        return queued, delayed

    def similar_names(self, name: bytes, *, limit: int) -> list[bytes]:
        query = "SELECT name FROM names WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"
        begin = name[:1]
        values = (begin, begin + b"\xff" * 8, limit)
        rows = self._do(lambda database: database.execute(query, values).fetchall())
        return [found for (found,) in rows if isinstance(found, bytes)]


def keep_pause(database: "sqlite3.Connection", name: bytes) -> None:
    """Keep a pause that is to be removed, as it was until now or until it ended by itself."""
    database.execute(
        "INSERT INTO past_pauses SELECT name, since_ns, min(ifnull(until_ns, ?1), ?1), uid"
        " FROM pauses WHERE name = ?2",
        (time.time_ns(), name),
    )


def _first_since(database: "sqlite3.Connection", since_ns: int) -> int:
    """Return an id below which no run was asked for since then."""
    query = (
        "SELECT min(id) FROM (SELECT id FROM runs WHERE asked_ns >= ? ORDER BY asked_ns LIMIT ?)"
    )
    (first,) = database.execute(query, (since_ns, CROWD)).fetchone()
    return 2**62 if first is None else int(first)


def _pause(row: "Sequence[Any]") -> Pause:
    name, since_ns, until_ns, uid = row
    numbers = (since_ns, uid, until_ns or 0)
    if not (isinstance(name, bytes) and all(map(is_int, numbers))):
        raise DamagedError("a pause is damaged")
    return Pause(name, since_ns, until_ns, uid)
