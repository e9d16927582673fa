"""Forgetting, in SQL: short transactions, each of which finds its rows by an index."""

import os
import time

from singlerun.store import tallies
from singlerun.store.compact import Compacting
from singlerun.store.database import Database
from singlerun.store.prunable import RUN, Ended, Prunable
from singlerun.store.pruning import InUse, Limits, PruningStore, Step
from singlerun.store.rows import is_int
from singlerun.store.run import RUNNING, STATES, WAITING
from singlerun.store.sqlite_queue import SqliteQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

    from singlerun.paths import StateDir

ROWS = 100
"""Rows of one transaction: 1 to 3 ms, in which a start must wait; and a few hundred KB of log."""
FEW_ROWS = 50
"""The same where the rows are those of one name, which lie far from each other in the file."""
LOOK = 0.002
"""Seconds after which a transaction that only looks leaves the record to others."""
_ENDED = tuple(state for state in STATES if state not in {WAITING, RUNNING})
_JOB_STATES = ("succeeded", "failed", "cancelled", "lost")
_JOB = (
    "id, state, ended_ns, context_id,"
    " 200 + length(argv) + length(name) + ifnull(length(detail), 0) + ifnull(length(label), 0),"
    " added_ns"
)


class SqlitePruning(Compacting, SqliteQueue, PruningStore):
    """The run-log in the state directory, to prune it. A damaged one is left as it is."""

    def __init__(self, state: "StateDir") -> None:
        super().__init__(state)
        self._database = Database(state, repairs=False)
        self.notices, self._do = self._database.notices, self._database.do
        self._gone: set[int] = set()
        """Jobs that are forgotten, or would be."""
        self._left: dict[int, int] = {}
        """By context: how many of its jobs would be forgotten."""

    # -- jobs ------------------------------------------------------------------------------------

    def forget_jobs(self, limits: Limits, *, dry_run: bool = False) -> "Iterator[Step]":
        yield from self._old_jobs(limits, dry_run=dry_run)
        for state in _JOB_STATES:
            yield from self._surplus_jobs(state, limits.count, dry_run=dry_run)

    def _old_jobs(self, limits: Limits, *, dry_run: bool) -> "Iterator[Step]":
        query = f"SELECT {_JOB} FROM jobs WHERE id > ? ORDER BY id LIMIT {ROWS}"  # noqa: S608

        def page(database: "sqlite3.Connection", after: int) -> "tuple[Step, int | None]":
            rows = database.execute(query, (after,)).fetchall()
            step = self._forget_jobs(database, rows, limits.before_ns, dry_run=dry_run)
            # A job ends after it was added, and those with higher ids were added later.
            is_over = len(rows) < ROWS or (is_int(rows[-1][5]) and rows[-1][5] >= limits.before_ns)
            return step, None if is_over else rows[-1][0]

        return self._pages(page, 0)

    def _surplus_jobs(self, state: str, count: int, *, dry_run: bool) -> "Iterator[Step]":
        of_state = f"FROM jobs INDEXED BY jobs_states WHERE state = '{state}'"
        names = f"SELECT min(name) {of_state} AND name > ?"
        cut = f"SELECT id {of_state} AND name = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        surplus = f"{of_state} AND name = ? AND id > ? AND id <= ?"
        query = f"SELECT {_JOB} {surplus} ORDER BY id LIMIT {ROWS}"

        def surplus_of(name: bytes, cutoff: int) -> "Iterator[Step]":
            def page(database: "sqlite3.Connection", after: int) -> "tuple[Step, int | None]":
                rows = database.execute(query, (name, after, cutoff)).fetchall()
                step = self._forget_jobs(database, rows, None, dry_run=dry_run)
                return step, rows[-1][0] if rows else None

            return self._pages(page, 0)

        for name, cutoff in self._crowded(names, cut, count):
            yield from surplus_of(name, cutoff)

    def _forget_jobs(
        self, database: "sqlite3.Connection", rows: "list[Any]", before_ns: int | None, *,
        dry_run: bool,
    ) -> Step:  # fmt: skip
        followed = (
            "SELECT 1 FROM jobs WHERE after_id = ? AND state IN ('queued', 'delayed') LIMIT 1"
        )
        step = Step()
        doomed = []
        for number, state, ended_ns, context, size, _ in rows:
            if number in self._gone or state not in _JOB_STATES or not is_int(ended_ns):
                continue
            if before_ns is not None and ended_ns >= before_ns:
                continue
            if database.execute(followed, (number,)).fetchone():
                continue
            doomed.append((number, context))
            step.rows, step.size = step.rows + 1, step.size + size
        if dry_run:
            for number, context in doomed:
                self._gone.add(number)
                self._left[context] = self._left.get(context, 0) + 1
        else:
            gone = [(number,) for number, _ in doomed]
            database.executemany("DELETE FROM jobs WHERE id = ?", gone)
        return step

    # -- runs ------------------------------------------------------------------------------------

    def forget_runs(self, limits: Limits, *, dry_run: bool = False) -> "Iterator[Step]":
        prunable = Prunable(limits.count, self._gone)
        while not dry_run and self.tally_some():
            yield Step()
        for state in _ENDED:
            yield from self._old_runs(prunable, state, limits.before_ns, dry_run=dry_run)
        names = "SELECT min(name) FROM run_names WHERE name > ?"
        cut = "SELECT run_id FROM run_names WHERE name = ? ORDER BY run_id DESC LIMIT 1 OFFSET ?"
        for name, cutoff in self._crowded(names, cut, limits.count):
            yield from self._surplus_runs(prunable, name, cutoff, dry_run=dry_run)

    def _old_runs(
        self, prunable: Prunable, state: str, before_ns: int, *, dry_run: bool
    ) -> "Iterator[Step]":
        query = (
            f"SELECT {RUN} FROM runs WHERE state = '{state}' AND ended_ns NOTNULL"  # noqa: S608
            f" AND asked_ns < ? AND (asked_ns, id) > (?, ?) ORDER BY asked_ns, id LIMIT {ROWS}"
        )

        def page(
            database: "sqlite3.Connection", after: "tuple[int, int]"
        ) -> "tuple[Step, tuple[int, int] | None]":
            rows = database.execute(query, (before_ns, *after)).fetchall()
            found = [Ended(row) for row in rows if Ended.is_sound(row)]
            old = [run for run in found if run.ended_ns < before_ns]
            doomed = [run for run in old if not prunable.is_kept(database, run)]
            step = _forget(database, doomed, prunable, dry_run=dry_run)
            return step, (rows[-1][3], rows[-1][0]) if len(rows) == ROWS else None

        return self._pages(page, (-(2**62), 0))

    def _surplus_runs(
        self, prunable: Prunable, name: bytes, cutoff: int, *, dry_run: bool
    ) -> "Iterator[Step]":
        query = (
            f"SELECT {RUN} FROM (SELECT run_id FROM run_names WHERE name = ? AND run_id > ?"  # noqa: S608
            f" AND run_id <= ? ORDER BY run_id LIMIT {FEW_ROWS}) CROSS JOIN runs ON id = run_id"
        )

        def page(database: "sqlite3.Connection", after: int) -> "tuple[Step, int | None]":
            rows = database.execute(query, (name, after, cutoff)).fetchall()
            found = [Ended(row) for row in rows if Ended.is_sound(row)]
            many = [run for run in found if prunable.is_surplus(database, run)]
            doomed = [run for run in many if not prunable.is_kept(database, run)]
            step = _forget(database, doomed, prunable, dry_run=dry_run)
            return step, rows[-1][0] if rows else None

        return self._pages(page, 0)

    # -- how all of it goes ------------------------------------------------------------------------

    def _pages(
        self, page: "Callable[[sqlite3.Connection, Any], tuple[Step, Any]]", after: "Any"
    ) -> "Iterator[Step]":
        """Yield what each page has forgotten; a page is a transaction, and tells where it ended."""
        while after is not None:
            step, after = self._do(lambda database, after=after: page(database, after))  # type: ignore[misc]
            yield step

    def _crowded(self, names: str, cut: str, count: int) -> "Iterator[tuple[bytes, int]]":
        """Yield the names of which there are more than so many, and the highest surplus id."""

        def look(database: "sqlite3.Connection", after: bytes) -> "tuple[bytes | None, Any]":
            deadline = time.monotonic() + LOOK
            while True:
                ((name,),) = database.execute(names, (after,))
                row = None if name is None else database.execute(cut, (name, count)).fetchone()
                if name is None or row is not None or time.monotonic() > deadline:
                    return name, row
                after = name

        name: bytes | None = b""
        while True:
            name, row = self._do(lambda database, after=name: look(database, after))  # type: ignore[misc]
            if not isinstance(name, bytes):
                return
            if row is not None:
                yield name, row[0]

    # -- the rest --------------------------------------------------------------------------------

    def forget_contexts(self, *, dry_run: bool = False) -> "Iterator[Step]":
        # Never the latest: its id would be given again, and a worker remembers what it had.
        query = (
            "SELECT id, 100 + length(cwd) + length(env) + length(options),"  # noqa: S608
            " (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE context_id = contexts.id LIMIT ?))"
            " FROM contexts WHERE id > ? AND id < (SELECT max(id) FROM contexts)"
            f" ORDER BY id LIMIT {ROWS}"
        )
        most = max(self._left.values(), default=0) + 1

        def page(database: "sqlite3.Connection", after: int) -> "tuple[Step, int | None]":
            rows = database.execute(query, (most, after)).fetchall()
            unused = [
                (number, size) for number, size, jobs in rows if jobs <= self._left.get(number, 0)
            ]
            if not dry_run:
                gone = [(number,) for number, _ in unused]
                database.executemany("DELETE FROM contexts WHERE id = ?", gone)
            step = Step(len(unused), sum(size for _, size in unused))
            return step, rows[-1][0] if rows else None

        return self._pages(page, 0)

    def forget_pauses(self, limits: Limits, *, dry_run: bool = False) -> "Iterator[Step]":
        past = f"SELECT rowid FROM past_pauses WHERE until_ns < ? ORDER BY until_ns LIMIT {ROWS}"  # noqa: S608
        over = f"SELECT name FROM pauses WHERE until_ns < ? LIMIT {ROWS}"  # noqa: S608
        statements = [
            f"DELETE FROM past_pauses WHERE rowid IN ({past})",  # noqa: S608
            f"DELETE FROM pauses WHERE name IN ({over})",  # noqa: S608
        ]
        if dry_run:
            statements = [
                "SELECT count(*) FROM past_pauses WHERE until_ns < ?",
                "SELECT count(*) FROM pauses WHERE until_ns < ?",
            ]

        def page(database: "sqlite3.Connection", _: int) -> "tuple[Step, int | None]":
            cursors = [database.execute(each, (limits.before_ns,)) for each in statements]
            rows = sum(each.fetchone()[0] if dry_run else each.rowcount for each in cursors)
            return Step(rows, 60 * rows), 1 if rows and not dry_run else None

        return self._pages(page, 0)

    def known_runs(self, ids: "Collection[int]") -> "tuple[set[int], int]":
        def look(database: "sqlite3.Connection") -> "tuple[set[int], int]":
            query = "SELECT 1 FROM runs WHERE id = ?"
            known = {number for number in ids if database.execute(query, (number,)).fetchone()}
            row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'runs'").fetchone()
            return known, row[0] if row and is_int(row[0]) else 0

        return self._do(look)

    def names_in_use(self) -> InUse:
        def look(database: "sqlite3.Connection") -> InUse:
            names, files = set(), set()
            rows = database.execute("SELECT names, lock_file FROM runs WHERE ended_ns IS NULL")
            for together, file in rows:
                names.update(together.split(b"\0"))
                files.add(file)
            names.update(self._leap(database, "queued"), self._leap(database, "delayed"))
            now = time.time_ns()
            paused = "SELECT name FROM pauses WHERE until_ns IS NULL OR until_ns > ?"
            names.update(name for (name,) in database.execute(paused, (now,)))
            return InUse(names, files - {None})

        return self._do(look)

    @staticmethod
    def _leap(database: "sqlite3.Connection", state: str) -> "Iterator[bytes]":
        """Yield the names with jobs in a state, by leaps from one to the next in the index."""
        query = f"SELECT min(name) FROM jobs WHERE state = '{state}' AND name > ?"  # noqa: S608
        name = b""
        while True:
            ((name,),) = database.execute(query, (name,))
            if name is None:
                return
            yield name

    def last_use_ns(self, name: bytes) -> int | None:
        query = (
            "SELECT ended_ns, asked_ns FROM runs WHERE id ="
            " (SELECT max(run_id) FROM run_names WHERE name = ?)"
        )
        row = self._do(lambda database: database.execute(query, (name,)).fetchone())
        times = [value for value in row or () if is_int(value)]
        return max(times, default=None)

    def size(self) -> int:
        found = 0
        for suffix in (b"", b"-wal"):
            try:
                found += os.stat(self._database.path + suffix).st_size
            except OSError:
                pass
        return found


def _forget(
    database: "sqlite3.Connection", doomed: "list[Ended]", prunable: Prunable, *, dry_run: bool
) -> Step:
    """Delete these runs, once they are counted."""
    fresh = [run for run in doomed if run.id not in prunable.gone]
    if dry_run:
        prunable.gone.update(run.id for run in fresh)
    elif fresh:
        tallies.tally_all(database)  # what has ended since
        named = [(name, run.id) for run in fresh for name in set(run.names)]
        database.executemany("DELETE FROM run_names WHERE name = ? AND run_id = ?", named)
        database.executemany("DELETE FROM runs WHERE id = ?", [(run.id,) for run in fresh])
    return Step(len(fresh), sum(run.size for run in fresh), tuple(run.id for run in fresh))


__all__ = ["SqlitePruning"]
