"""The run-log's verbs in SQL."""

import time

from singlerun.process.identity import here
from singlerun.store.base import Store
from singlerun.store.database import FILE, Database
from singlerun.store.rows import SELECT_RUNS, DamagedError, columns_of, is_int, read_run
from singlerun.store.run import LOST, STOPPED, Pause, PausedError, Run

__all__ = ["FILE", "SqliteStore"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from singlerun.paths import StateDir
    from singlerun.process.identity import Owner
    from singlerun.process.marks import Marks
    from singlerun.store.guard import Guard
    from singlerun.store.history import Filter, Search
    from singlerun.store.run import Change, Ending

DEEPEST = 10_000
"""Runs of a name among which successes are looked for: a name may fail for years."""


class SqliteStore(Store):
    """The run-log in the state directory, or in a database; ``notices`` are as Database's."""

    def __init__(self, source: "StateDir | Database") -> None:
        self._database = source if isinstance(source, Database) else Database(source)
        self.notices = self._database.notices
        self._do = self._database.do

    def exclusively(self) -> "Guard":
        return self._database.guard

    def wait_run(self, run: Run) -> None:
        run.apply(self._do(lambda database: insert(database, run, run.waits())))

    def start_run(self, run: Run, parent: "Marks | None", *, heed_pause: bool = False) -> None:
        def start(database: "sqlite3.Connection") -> "Change":
            if heed_pause and (pause := find_pause(database, run.names)) is not None:
                raise PausedError(pause)
            return start_in(database, run, _known(database, parent))

        run.apply(self._do(start))

    def name_command(self, run: Run, command: "Owner") -> None:
        change = run.is_named(command)
        self._do(lambda database: update(database, run, change))
        run.apply(change)

    def hand_over(self, run: Run, keeper: "Owner", fd: int) -> None:
        change = run.is_kept(keeper, fd)
        self._do(lambda database: update(database, run, change))
        run.apply(change)

    def finish_run(self, run: Run, ending: "Ending") -> bool:
        def finish(database: "sqlite3.Connection") -> "tuple[Change, bool]":
            return finish_in(database, run, run.ends(ending)), _have_jobs(database, run.names)

        change, have_jobs = self._do(finish)
        run.apply(change)
        return have_jobs

    def refuse_run(
        self, run: Run, state: str, detail: str | None, *, conflict_id: int | None = None,
        signal: int | None = None,
    ) -> None:  # fmt: skip
        def refuse(database: "sqlite3.Connection") -> "Change":
            change = run.is_refused(state, detail, conflict_id=conflict_id, signal=signal)
            change |= _stopped_by(database, run)
            if run.id is not None and update(database, run, change):
                return change
            return insert(database, run, change)

        run.apply(self._do(refuse))

    def ask_to_end(self, run: Run, detail: str, signal: "Callable[[], bool]") -> bool:
        def ask(database: "sqlite3.Connection") -> bool:
            is_open = update(database, run, {"detail": detail})
            if is_open and not signal():
                update(database, run, {"detail": None})
            return is_open

        return self._do(ask)

    def take_back(self, run: Run) -> None:
        self._do(lambda database: update(database, run, {"detail": None}))

    def close_run(self, run: Run, state: str, detail: str) -> bool:
        # Only what was judged: a run that waited may have started since.
        still = f"ended_ns IS NULL AND state = '{run.state}'"
        change = run.is_closed(state, detail)

        def close(database: "sqlite3.Connection") -> bool:
            closed = update(database, run, change, still)
            if closed and run.job_id is not None:
                from singlerun.store.followers import end_job  # noqa: PLC0415 - only a job's run

                end_job(database, run, change)
            return closed

        closed = self._do(close)
        if closed:
            run.apply(change)
        return closed

    def open_runs(self, names: tuple[bytes, ...] = (), lock_file: bytes | None = None) -> list[Run]:
        if lock_file is not None:
            return self._select(
                "WHERE ended_ns IS NULL AND lock_file = ? ORDER BY id", (lock_file,)
            )
        if not names:
            return self._select("WHERE ended_ns IS NULL ORDER BY id")
        holes = ",".join("?" * len(names))
        held = f"SELECT 1 FROM run_names WHERE name IN ({holes}) AND run_id = runs.id"  # noqa: S608
        return self._select(
            f"WHERE ended_ns IS NULL AND lock_file IS NULL AND EXISTS ({held}) ORDER BY id", names
        )

    def runs(self, name: bytes | None = None, *, limit: int) -> list[Run]:
        if name is None:
            return self._select("ORDER BY id DESC LIMIT ?", (limit,))
        return self._select(
            "JOIN run_names ON run_id = id WHERE name = ? ORDER BY run_id DESC LIMIT ?",
            (name, limit),
        )

    def search(self, wanted: "Filter") -> "Search":
        from singlerun.store.history import Search  # noqa: PLC0415 - only where people look

        return Search(self._do, wanted)

    def find(self, run_id: int) -> Run | None:
        return next(iter(self._select("WHERE id = ?", (run_id,))), None)

    def usual_ns(self, name: bytes, argv: tuple[bytes, ...]) -> int | None:
        for same_command in (" AND argv = ?", ""):
            query = (  # the order of a CROSS JOIN is that of its left side
                "SELECT elapsed_ns FROM (SELECT run_id FROM run_names WHERE name = ?"  # noqa: S608
                f" ORDER BY run_id DESC LIMIT {DEEPEST}) CROSS JOIN runs ON id = run_id"
                f" WHERE state = 'succeeded' AND elapsed_ns IS NOT NULL{same_command} LIMIT 20"
            )
            values = [name, b"\0".join(argv)] if same_command else [name]
            lengths = sorted(self._numbers(query, values))
            if lengths:
                return lengths[len(lengths) // 2]
        return None

    def starts(self, name: bytes, *, limit: int) -> list[int]:
        query = (
            "SELECT started_ns FROM run_names JOIN runs ON id = run_id WHERE name = ?"
            " AND started_ns IS NOT NULL ORDER BY run_id DESC LIMIT ?"
        )
        return self._numbers(query, (name, limit))

    def is_young(self) -> bool:
        query = "SELECT boot_id FROM origin"
        rows = self._do(lambda database: database.execute(query).fetchall())
        return not rows or rows[0][0] == here().boot_id

    def pause_of(self, names: tuple[bytes, ...]) -> Pause | None:
        return self._do(lambda database: find_pause(database, names))

    def run_before(self, run: Run) -> Run | None:
        from singlerun.store import tidings  # noqa: PLC0415 - only with notifications

        return self._do(lambda database: tidings.run_before(database, run))

    def refused_in_a_row(self, run: Run) -> tuple[int, int]:
        from singlerun.store import tidings  # noqa: PLC0415 - as above

        return self._do(lambda database: tidings.refused_in_a_row(database, run))

    def tell_once(self, name: bytes, kind: str, occasion: int) -> bool:
        from singlerun.store import tidings  # noqa: PLC0415 - as above

        return self._do(lambda database: tidings.tell_once(database, name, kind, occasion))

    def close(self) -> None:
        self._database.close()

    def _numbers(self, query: str, values: "Sequence[object]") -> list[int]:
        def fetch(database: "sqlite3.Connection") -> list[int]:
            return [number for (number,) in database.execute(query, values) if is_int(number)]

        return self._do(fetch)

    def _select(self, clauses: str, values: "Sequence[object]" = ()) -> list[Run]:
        def select(database: "sqlite3.Connection") -> list[Run]:
            return [read_run(row) for row in database.execute(f"{SELECT_RUNS} {clauses}", values)]

        return self._do(select)


# -- within a transaction: each returns what the run becomes, once that is committed -------------


def start_in(database: "sqlite3.Connection", run: Run, parent_id: int | None) -> "Change":
    """Write that a run starts."""
    change = run.starts(_next_token(database, run.names), parent_id)
    if run.id is not None and update(database, run, change):
        return change
    return insert(database, run, change)


def finish_in(database: "sqlite3.Connection", run: Run, change: "Change") -> "Change":
    """Write that a run ends."""
    if update(database, run, change, "ended_ns IS NULL AND detail IS NULL"):
        return change
    change |= _stopped_by(database, run)
    # The wrapper knows the end best, also of a run that was taken for lost.
    if update(database, run, change, f"ended_ns IS NULL OR state = '{LOST}'"):
        return change
    known = "SELECT 1 FROM runs WHERE id = ? AND token = ?"
    if database.execute(known, (run.id, run.token)).fetchone():
        return {}
    return insert(database, run, change)  # another database took the place of the one that knew it


def insert(database: "sqlite3.Connection", run: Run, change: "Change") -> "Change":
    """Write a run as it is after a change into a new row; return the change with its id."""
    values = {name: getattr(run, name) for name in Run.__slots__} | change | {"id": None}
    columns = columns_of(values)
    # Named, since the columns of a migrated database stand in the order of their history.
    statement = f"INSERT INTO runs ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})"  # noqa: S608
    run_id = database.execute(statement, list(columns.values())).lastrowid
    for name in set(run.names):
        database.execute("INSERT INTO run_names VALUES (?, ?)", (name, run_id))
    return change | {"id": run_id}


def update(
    database: "sqlite3.Connection", run: Run, change: "Change", still: str = "ended_ns IS NULL"
) -> bool:
    """Write a change into the row of an open run; return whether it was open."""
    columns = columns_of(change)
    changes = ", ".join([f"{column} = ?" for column in columns])
    # The time of asking tells a run from one of the same id in a database begun anew.
    cursor = database.execute(
        f"UPDATE runs SET {changes} WHERE id = ? AND asked_ns = ? AND ({still})",  # noqa: S608
        [*columns.values(), run.id, run.asked_ns],
    )
    return cursor.rowcount > 0


def find_pause(database: "sqlite3.Connection", names: tuple[bytes, ...]) -> Pause | None:
    """Return the pause of the first of these names that is paused; None if none is."""
    for name in names:
        row = database.execute(
            "SELECT since_ns, until_ns, uid FROM pauses WHERE name = ?"
            " AND (until_ns IS NULL OR until_ns > ?)",
            (name, time.time_ns()),
        ).fetchone()
        if row:
            since_ns, until_ns, uid = row
            if not (is_int(since_ns) and is_int(uid) and is_int(until_ns or 0)):
                raise DamagedError("a pause is damaged")
            return Pause(name, since_ns, until_ns, uid)
    return None


def _known(database: "sqlite3.Connection", parent: "Marks | None") -> int | None:
    """Return the id of a parent that this database knows."""
    if parent is None:
        return None
    query = "SELECT id FROM runs WHERE id = ? AND token = ?"
    row = database.execute(query, (parent.run_id, parent.token)).fetchone()
    return row[0] if row else None


def _stopped_by(database: "sqlite3.Connection", run: Run) -> "Change":
    """Return what a run becomes that was signalled: stopped, and by whom; else nothing."""
    asked = database.execute(
        "SELECT detail FROM runs WHERE id = ? AND asked_ns = ? AND ended_ns IS NULL"
        " AND detail IS NOT NULL",
        (run.id, run.asked_ns),
    ).fetchone()
    return {"state": STOPPED, "detail": asked[0]} if asked else {}


def _next_token(database: "sqlite3.Connection", names: tuple[bytes, ...]) -> int:
    # From the clock, so that it grows also after the database was lost and begun anew. In
    # microseconds, because id and token mark what a run has started, and what carries the marks
    # is ended with it: runs of two state directories that begin together must not be confused.
    token = time.time_ns() // 1000
    for name in names:
        row = database.execute("SELECT token FROM names WHERE name = ?", (name,)).fetchone()
        if row and is_int(row[0]) and token <= row[0] < 2**62:
            token = row[0] + 1
    for name in set(names):
        database.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, token))
    return token


def _have_jobs(database: "sqlite3.Connection", names: tuple[bytes, ...]) -> bool:
    query = "SELECT 1 FROM jobs WHERE name = ? AND state = '%s' LIMIT 1"
    queries = [query % state for state in ("queued", "delayed")]  # each has its index
    return any(database.execute(each, (name,)).fetchone() for name in names for each in queries)
