"""What became of each name, counted: also the runs that are no longer kept.

Counting a million runs at each look would keep the record busy for seconds. So the sums are kept,
and each look adds what has ended since the one before. It goes through the runs in order of their
ids, a few in each transaction, and rests in between, so that a start waits for some milliseconds at
most; runs that are open when they are passed are remembered, and counted once they have ended.

What has been counted stays counted: sums never fall, whatever becomes of the runs. So before runs
are deleted, they are counted, in the same transaction at the latest. A run that was counted as lost
stays so, even if its wrapper turns out to have lived and records another end.
"""

import time
from bisect import bisect_left

from singlerun.store.base import Tallying
from singlerun.store.rows import DamagedError, is_int
from singlerun.store.run import REFUSED, SKIPPED, STATES, SUCCEEDED
from singlerun.store.sqlite import SqliteStore
from singlerun.timings import TALLY_BURST, TALLY_REST

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from typing import Any

BOUNDS = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
"""Upper bounds in seconds of the durations that are counted together; the last ones have none."""
_BUCKETS = tuple(f"b{number}" for number in range(len(BOUNDS) + 1))
_INT_OR_NONE = {int, type(None)}
_RUN = "runs.id, names, state, asked_ns, started_ns, ended_ns, elapsed_ns, exit_code, signal"
_NUMBERS = (
    "used_ns", "refused", "started_ns", "ended_ns", "elapsed_ns", "exit_code", "signal",
    "succeeded_ns", "refused_ns",
)  # fmt: skip
_STANDING = (*_NUMBERS, "state", "told")
_SELECT_STANDING = f"SELECT {', '.join(_STANDING)} FROM standings WHERE name = ?"  # noqa: S608
_WRITE_STANDING = (
    f"INSERT OR REPLACE INTO standings (name, {', '.join(_STANDING)})"  # noqa: S608
    f" VALUES (?{', ?' * len(_STANDING)})"
)
_COUNTED = ("runs", "elapsed_ns", *_BUCKETS)
_GROWN = ", ".join(f"{column} = {column} + excluded.{column}" for column in _COUNTED)
_ADD_TALLY = (
    f"INSERT INTO tallies (name, state, {', '.join(_COUNTED)})"  # noqa: S608
    f" VALUES (?, ?{', ?' * len(_COUNTED)}) ON CONFLICT (name, state) DO UPDATE SET {_GROWN}"
)


class Standing:
    """What became of a name lately. Times are nanoseconds since the epoch, or None.

    Attributes:
        used_ns: when a run of it was last asked for, started or ended; 0 if there was none.
        started_ns: the latest start.
        ended_ns, state, exit_code, signal, elapsed_ns: the latest end of a run that had started.
        succeeded_ns: the latest end of a run that succeeded.
        refused_ns, refused: the latest refusal, and how many there were since the latest start.
        told: what was told of it last, None if nothing was.
    """

    __slots__ = _STANDING

    def __init__(self) -> None:
        self.used_ns = self.refused = 0
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.elapsed_ns: int | None = None
        self.state: str | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.succeeded_ns: int | None = None
        self.refused_ns: int | None = None
        self.told: str | None = None


class Tally:
    """How many runs of a name ended in a state, and how long those took that had started.

    Attributes:
        runs: how many there were.
        elapsed_ns: how long they took together.
        buckets: how many took up to each of BOUNDS, but longer than the one before, and longer
            than the last.
    """

    __slots__ = ("buckets", "elapsed_ns", "runs")

    def __init__(self, runs: int = 0, elapsed_ns: int = 0, buckets: "Sequence[int]" = ()) -> None:
        self.runs, self.elapsed_ns = runs, elapsed_ns
        self.buckets = list(buckets) or [0] * len(_BUCKETS)

    def add(self, elapsed_ns: int | None) -> None:
        """Count a run."""
        self.runs += 1
        if elapsed_ns is not None:
            self.elapsed_ns += elapsed_ns
            self.buckets[bisect_left(BOUNDS, elapsed_ns / 1e9)] += 1


class SqliteTallies(SqliteStore, Tallying):
    """The verbs that count, in SQL."""

    def tally(self) -> None:
        while self.tally_some():
            time.sleep(TALLY_REST)

    def tally_some(self) -> bool:
        return self._do(_tally_some)

    def tallies(self, names: "Iterable[bytes]") -> dict[bytes, dict[str, Tally]]:
        query = f"SELECT state, runs, elapsed_ns, {', '.join(_BUCKETS)} FROM tallies WHERE name = ?"  # noqa: S608

        def select(database: "sqlite3.Connection") -> dict[bytes, dict[str, Tally]]:
            return {
                name: {row[0]: _tally(row) for row in database.execute(query, (name,))}
                for name in names
            }

        return self._do(select)

    def tallied_since_ns(self) -> int:
        query = "SELECT since_ns FROM tallied"
        rows = self._do(lambda database: database.execute(query).fetchall())
        return next((since for (since,) in rows if is_int(since)), 0)

    def standings(self, names: "Iterable[bytes]") -> dict[bytes, Standing]:
        return self._do(lambda database: {name: _standing(database, name) for name in names})

    def latest_names(self, limit: int, since_ns: int = 0) -> tuple[list[bytes], int]:
        query = "SELECT name FROM standings WHERE used_ns > ? ORDER BY used_ns DESC LIMIT ?"
        count = "SELECT count(*) FROM standings WHERE used_ns > ?"

        def select(database: "sqlite3.Connection") -> tuple[list[bytes], int]:
            names = [name for (name,) in database.execute(query, (since_ns, limit))]
            return names, database.execute(count, (since_ns,)).fetchone()[0]

        return self._do(select)

    def job_counts(self, states: "Sequence[str]") -> dict[bytes, dict[str, int]]:
        query = (
            "SELECT name, count(*) FROM jobs INDEXED BY jobs_states WHERE state = ? GROUP BY name"
        )

        def count(database: "sqlite3.Connection") -> dict[bytes, dict[str, int]]:
            found: dict[bytes, dict[str, int]] = {}
            for state in states:
                for name, number in database.execute(query, (state,)):
                    found.setdefault(name, dict.fromkeys(states, 0))[state] = number
            return found

        return self._do(count)

    def set_told(self, name: bytes, told: str | None) -> None:
        statement = (
            "INSERT INTO standings (name, used_ns, refused, told) VALUES (?, 0, 0, ?)"
            " ON CONFLICT (name) DO UPDATE SET told = excluded.told"
        )
        self._do(lambda database: database.execute(statement, (name, told)))


# -- within a transaction ----------------------------------------------------------------------


class _Sums:
    """What a transaction adds to the sums, and what it changes in the standings."""

    def __init__(self, database: "sqlite3.Connection") -> None:
        self._database = database
        self._standings: dict[bytes, Standing] = {}
        self._tallies: dict[tuple[bytes, str], Tally] = {}
        self._changed: set[bytes] = set()

    def add(self, row: "Sequence[Any]") -> bool:
        """Take a run into account; return whether it is done with: it has ended, or is damaged."""
        _, names, state, *numbers = row
        if not _is_sound(names, state, numbers):
            return True
        _, started_ns, ended_ns, elapsed_ns, *_ = numbers
        for name in {*names.split(b"\0")}:
            standing = self._standings.get(name)
            if standing is None:
                standing = self._standings[name] = _standing(self._database, name)
            if _update(standing, state, numbers):
                self._changed.add(name)
            if ended_ns is not None:
                tally = self._tallies.setdefault((name, state), Tally())
                tally.add(None if started_ns is None else elapsed_ns)
        return ended_ns is not None

    def write(self) -> None:
        """Write what has changed."""
        standings = [(name, self._standings[name]) for name in self._changed]
        values = [(name, *(getattr(of, column) for column in _STANDING)) for name, of in standings]
        self._database.executemany(_WRITE_STANDING, values)
        added = [(*key, of.runs, of.elapsed_ns, *of.buckets) for key, of in self._tallies.items()]
        self._database.executemany(_ADD_TALLY, added)


def tally_all(database: "sqlite3.Connection") -> None:
    """Count all runs that have ended, in a transaction that deletes runs: few, after ``tally``."""
    while _tally_some(database):
        pass


def _tally_some(database: "sqlite3.Connection") -> bool:
    """Count the runs that have ended since, and some of the next; return whether more follow."""
    deadline = time.process_time() + TALLY_BURST
    row = database.execute("SELECT up_to FROM tallied").fetchone()
    up_to = row[0] if row is not None and is_int(row[0]) else 0
    sums = _Sums(database)
    passed = f"SELECT {_RUN} FROM untallied JOIN runs ON runs.id = run_id"  # noqa: S608
    ended = [each[0] for each in database.execute(passed).fetchall() if sums.add(each)]
    following = database.execute(f"SELECT {_RUN} FROM runs WHERE id > ? ORDER BY id", (up_to,))  # noqa: S608
    since_ns, still_open, are_more = 0, [], False
    for each in following:
        since_ns = since_ns or each[3]
        up_to = each[0]
        if not sums.add(each):
            still_open.append(up_to)
        if are_more := time.process_time() > deadline:
            break
    following.close()
    sums.write()
    database.executemany("DELETE FROM untallied WHERE run_id = ?", [(each,) for each in ended])
    database.executemany(
        "INSERT OR IGNORE INTO untallied VALUES (?)", [(each,) for each in still_open]
    )
    if row is None:
        values = up_to, since_ns or time.time_ns()
        database.execute("INSERT INTO tallied VALUES (?, ?)", values)
    elif up_to != row[0]:
        database.execute("UPDATE tallied SET up_to = ?", (up_to,))
    return are_more


def _is_sound(names: object, state: object, numbers: "Sequence[object]") -> bool:
    """Return whether a row, of which any byte may be damaged, can be a run."""
    return (
        type(names) is bytes
        and state in STATES
        and type(numbers[0]) is int
        and {*map(type, numbers)} <= _INT_OR_NONE
    )


def _update(standing: Standing, state: str, numbers: "Sequence[Any]") -> bool:
    """Take a run into account; return whether that changed anything."""
    asked_ns, started_ns, ended_ns, elapsed_ns, exit_code, signal = numbers
    before = standing.used_ns, standing.started_ns, standing.refused
    standing.used_ns = max(standing.used_ns, asked_ns, started_ns or 0, ended_ns or 0)
    if started_ns is not None:
        if started_ns > (standing.started_ns or 0):
            standing.started_ns = started_ns
            if started_ns >= (standing.refused_ns or 0):
                standing.refused = 0
        if ended_ns is not None and ended_ns >= (standing.ended_ns or 0):
            standing.ended_ns, standing.state, standing.elapsed_ns = ended_ns, state, elapsed_ns
            standing.exit_code, standing.signal = exit_code, signal
        if state == SUCCEEDED and ended_ns is not None:
            standing.succeeded_ns = max(standing.succeeded_ns or 0, ended_ns)
    elif state in {REFUSED, SKIPPED} and ended_ns is not None:
        standing.refused_ns = max(standing.refused_ns or 0, ended_ns)
        standing.refused += ended_ns > (standing.started_ns or 0)
    return ended_ns is not None or before != (
        standing.used_ns, standing.started_ns, standing.refused
    )  # fmt: skip


def _standing(database: "sqlite3.Connection", name: bytes) -> Standing:
    found = Standing()
    row = database.execute(_SELECT_STANDING, (name,)).fetchone()
    if row is None:
        return found
    *numbers, state, told = row
    kinds = {*map(type, numbers)}
    if not kinds <= _INT_OR_NONE or None in numbers[:2]:
        raise DamagedError("a standing has a damaged number")
    if not {type(state), type(told)} <= {str, type(None)}:
        raise DamagedError("a standing has a damaged text")
    for column, value in zip(_STANDING, row, strict=True):
        setattr(found, column, value)
    return found


def _tally(row: "Sequence[Any]") -> Tally:
    if row[0] not in STATES or not all(map(is_int, row[1:])):
        raise DamagedError("a tally is damaged")
    return Tally(row[1], row[2], row[3:])
