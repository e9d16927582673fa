"""The record of a period: what ran in it, what was measured, what was paused.

A run that touches a period was asked for in it or shortly before, or is a long one, or is still
open; each of these has its index, so a day costs the same in a large record.
"""

import time

from singlerun.store.base import Retrospect
from singlerun.store.history import LONG_NS
from singlerun.store.rows import SELECT_RUNS, DamagedError, is_int, read_run
from singlerun.store.run import (
    RUNNING,
    STATES,
    SUCCEEDED,
    WAITING,
    Pause,
    Run,
)
from singlerun.store.sqlite import DEEPEST, SqliteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

_ENDED = tuple(state for state in STATES if state not in {WAITING, RUNNING})
_IN_PERIOD = (
    *(
        f"state = '{state}' AND ended_ns >= :since"
        f" AND asked_ns BETWEEN :since - {LONG_NS} AND :until"
        for state in _ENDED
    ),
    f"ended_ns >= :since AND ended_ns - asked_ns > {LONG_NS} AND +asked_ns < :since - {LONG_NS}",
    "ended_ns IS NULL AND +asked_ns <= :until",
)
_ASKED = (
    *(
        f"state = '{state}' AND ended_ns NOTNULL AND asked_ns BETWEEN :since AND :until"
        for state in _ENDED
    ),
    "ended_ns IS NULL AND +asked_ns BETWEEN :since AND :until",
)
"""Conditions of which each has its index; with a plus, that no other be taken."""
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
        of_name, values = _of_name(since_ns, until_ns, name)

        def select(database: "sqlite3.Connection") -> list[Run]:
            found: dict[int, Run] = {}
            for condition in _IN_PERIOD:
                query = f"{SELECT_RUNS} WHERE {condition}{of_name}"
                for row in database.execute(query, values):
                    found[row[0]] = read_run(row)
            return [found[run_id] for run_id in sorted(found)]

        return self._do(select)

    def figures(self, since_ns: int, until_ns: int, name: bytes | None = None) -> list[Figures]:
        of_name, values = _of_name(since_ns, until_ns, name)
        columns = f"SELECT {', '.join(_MEASURED)} FROM runs"  # noqa: S608

        def select(database: "sqlite3.Connection") -> list[Figures]:
            found: list[Figures] = []
            for condition in _ASKED:
                rows = database.execute(f"{columns} WHERE {condition}{of_name}", values)
                found += map(Figures, rows)
            return sorted(found, key=lambda figures: figures.id)

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

        return sorted(self._do(select), key=lambda pause: (pause.since_ns, pause.name))

    def latest_success(self, name: bytes) -> Run | None:
        latest = "SELECT run_id FROM run_names WHERE name = :name ORDER BY run_id DESC"
        query = (
            f"{SELECT_RUNS} JOIN run_names ON run_id = runs.id WHERE name = :name"
            f" AND run_id > ifnull(({latest} LIMIT 1 OFFSET {DEEPEST}), 0) AND state = :state"
            " ORDER BY run_id DESC LIMIT 1"
        )
        values = {"name": name, "state": SUCCEEDED}
        row = self._do(lambda database: database.execute(query, values).fetchone())
        return None if row is None else read_run(row)

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
        "INSERT INTO past_pauses SELECT name, since_ns, min(ifnull(until_ns, :now), :now), uid"
        " FROM pauses WHERE name = :name",
        {"now": time.time_ns(), "name": name},
    )


def _of_name(
    since_ns: int, until_ns: int, name: bytes | None
) -> "tuple[str, dict[str, int | bytes | None]]":
    """Return the condition that a run has a name, if one is given, and the values of a query."""
    named = "SELECT 1 FROM run_names WHERE name = :name AND run_id = runs.id"
    condition = "" if name is None else f" AND EXISTS ({named})"
    return condition, {"since": since_ns, "until": until_ns, "name": name}


def _pause(row: "Sequence[Any]") -> Pause:
    name, since_ns, until_ns, uid = row
    numbers = (since_ns, uid, until_ns or 0)
    if not (isinstance(name, bytes) and all(map(is_int, numbers))):
        raise DamagedError("a pause is damaged")
    return Pause(name, since_ns, until_ns, uid)
