"""The run-log's verbs in SQL."""

import time

from singlerun.process.identity import here
from singlerun.store.base import LOST, RUNNING, STOPPED, WAITING, Pause, PausedError, Run, Store
from singlerun.store.database import FILE, Database, Guard

__all__ = ["FILE", "SqliteStore"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir

_COLUMNS = (
    "id", "token", "names", "lock_file", "argv", "cwd", "shared", "state", "uid", "host",
    "boot_id", "pid_ns", "wrapper_pid", "wrapper_started", "command_pid", "command_started",
    "asked_ns", "started_ns", "ended_ns", "elapsed_ns", "exit_code", "signal", "user_us",
    "system_us", "max_rss_kb", "parent_id", "conflict_id", "detail", "slots", "job_id",
)  # fmt: skip
_INSERT = f"INSERT INTO runs VALUES ({','.join('?' * len(_COLUMNS))})"  # noqa: S608
_SELECT = f"SELECT {', '.join(f'runs.{column}' for column in _COLUMNS)} FROM runs"  # noqa: S608


class SqliteStore(Store):
    """The run-log in the state directory.

    Attributes:
        notices: what the user must be told of, such as a database that was set aside.
    """

    def __init__(self, state: "StateDir") -> None:
        self._database = Database(state)
        self.notices = self._database.notices
        self._do = self._database.do

    # -- the verbs that write ----------------------------------------------------------------

    def exclusively(self) -> Guard:
        return self._database.guard

    def wait_run(self, run: Run) -> None:
        run.state = WAITING
        self._do(lambda database: self._insert(database, run))

    def start_run(
        self, run: Run, parent: tuple[int, int] | None, *, heed_pause: bool = False
    ) -> None:
        def start(database: "sqlite3.Connection") -> None:
            if heed_pause and (pause := find_pause(database, run.names)) is not None:
                raise PausedError(pause)
            if parent is not None:
                row = database.execute(
                    "SELECT id FROM runs WHERE id = ? AND token = ?", parent
                ).fetchone()
                run.parent_id = row[0] if row else None
            self._start(database, run)

        self._do(start)

    def name_command(self, run: Run) -> None:
        columns = ("command_pid", "command_started")
        self._do(lambda database: self._update(database, run, columns))

    def finish_run(self, run: Run, outcome: "Outcome", state: str) -> bool:
        run.finish(outcome, state)

        def finish(database: "sqlite3.Connection") -> bool:
            self._finish(database, run)
            return _have_jobs(database, run.names)

        return self._do(finish)

    def refuse_run(self, run: Run, state: str) -> None:
        run.state = state
        run.ended_ns = time.time_ns()

        def refuse(database: "sqlite3.Connection") -> None:
            self._heed_stop(database, run)
            columns = ("state", "ended_ns", "conflict_id", "detail", "signal")
            if run.id is None or not self._update(database, run, columns):
                run.id = None
                self._insert(database, run)

        self._do(refuse)

    def ask_to_end(self, run: Run, detail: str | None) -> bool:
        run.detail = detail
        return self._do(lambda database: self._update(database, run, ("detail",)))

    def close_run(self, run: Run, state: str, detail: str) -> bool:
        # Only what was judged: a run that waited may have started since.
        still = f"ended_ns IS NULL AND state = '{run.state}'"
        run.state, run.detail, run.ended_ns = state, detail, time.time_ns()
        columns = ("state", "detail", "ended_ns")

        def close(database: "sqlite3.Connection") -> bool:
            closed = self._update(database, run, columns, still)
            if closed and run.job_id is not None:
                from singlerun.store.sqlite_queue import end_job  # noqa: PLC0415 - only a job's run

                end_job(database, run)
            return closed

        return self._do(close)

    # -- the verbs that read -----------------------------------------------------------------

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

    def find(self, run_id: int) -> Run | None:
        return next(iter(self._select("WHERE id = ?", (run_id,))), None)

    def usual_ns(self, name: bytes, argv: tuple[bytes, ...]) -> int | None:
        for same_command in (" AND argv = ?", ""):
            query = (
                "SELECT elapsed_ns FROM run_names JOIN runs ON id = run_id WHERE name = ?"  # noqa: S608
                f"{same_command} AND state = 'succeeded' AND elapsed_ns IS NOT NULL"
                " ORDER BY run_id DESC LIMIT 20"
            )
            values = [name, b"\0".join(argv)] if same_command else [name]
            lengths: list[int] = sorted(row[0] for row in self._fetch(query, values))
            if lengths:
                return lengths[len(lengths) // 2]
        return None

    def starts(self, name: bytes, *, limit: int) -> list[int]:
        query = (
            "SELECT started_ns FROM run_names JOIN runs ON id = run_id WHERE name = ?"
            " AND started_ns IS NOT NULL ORDER BY run_id DESC LIMIT ?"
        )
        return [row[0] for row in self._fetch(query, (name, limit))]

    def is_young(self) -> bool:
        rows = self._fetch("SELECT boot_id FROM origin", ())
        return not rows or rows[0][0] == here().boot_id

    def pause_of(self, names: tuple[bytes, ...]) -> Pause | None:
        return self._do(lambda database: find_pause(database, names))

    def close(self) -> None:
        self._database.close()

    # -- how ---------------------------------------------------------------------------------

    def _fetch(self, query: str, values: "Sequence[object]") -> "list[Any]":
        return self._do(lambda database: database.execute(query, values).fetchall())

    def _select(self, clauses: str, values: "Sequence[object]" = ()) -> list[Run]:
        def select(database: "sqlite3.Connection") -> list[Run]:
            return [_run(row) for row in database.execute(f"{_SELECT} {clauses}", values)]

        return self._do(select)

    def _start(self, database: "sqlite3.Connection", run: Run) -> None:
        run.state = RUNNING
        run.started_ns = time.time_ns()
        run.token = self._next_token(database, run)
        if run.id is None:
            self._insert(database, run)
        else:
            self._update(database, run, ("state", "started_ns", "token", "parent_id"))

    def _finish(self, database: "sqlite3.Connection", run: Run) -> None:
        columns = (
            "state", "ended_ns", "detail", "exit_code", "signal", "elapsed_ns", "user_us",
            "system_us", "max_rss_kb", "command_pid", "command_started",
        )  # fmt: skip
        if self._update(database, run, columns, "ended_ns IS NULL AND detail IS NULL"):
            return
        self._heed_stop(database, run)
        # Who ended a run knows best how, also when somebody thought that it was lost.
        if self._update(database, run, columns, f"ended_ns IS NULL OR state = '{LOST}'"):
            return
        known = "SELECT 1 FROM runs WHERE id = ? AND token = ?"
        if not database.execute(known, (run.id, run.token)).fetchone():
            run.id = None  # another database took the place of the one that knew it
            self._insert(database, run)

    def _insert(self, database: "sqlite3.Connection", run: Run) -> None:
        run.id = database.execute(_INSERT, [_value(run, column) for column in _COLUMNS]).lastrowid
        for name in set(run.names):
            database.execute("INSERT INTO run_names VALUES (?, ?)", (name, run.id))

    def _update(
        self,
        database: "sqlite3.Connection",
        run: Run,
        columns: tuple[str, ...],
        still: str = "ended_ns IS NULL",
    ) -> bool:
        """Change columns of a run that is open; tell whether it was."""
        changes = ", ".join([f"{column} = ?" for column in columns])
        # The time of asking tells a run from one of the same id in a database begun anew.
        cursor = database.execute(
            f"UPDATE runs SET {changes} WHERE id = ? AND asked_ns = ? AND ({still})",  # noqa: S608
            [*[getattr(run, column) for column in columns], run.id, run.asked_ns],
        )
        return cursor.rowcount > 0

    def _heed_stop(self, database: "sqlite3.Connection", run: Run) -> None:
        """Record a run that somebody asked to end as stopped by him; others have no detail yet."""
        asked = database.execute(
            "SELECT detail FROM runs WHERE id = ? AND asked_ns = ? AND ended_ns IS NULL"
            " AND detail IS NOT NULL",
            (run.id, run.asked_ns),
        ).fetchone()
        if asked:
            run.state, run.detail = STOPPED, asked[0]

    def _next_token(self, database: "sqlite3.Connection", run: Run) -> int:
        # From the clock, so that it grows also after the database was lost and begun anew. In
        # microseconds, because id and token mark what a run has started, and what carries the marks
        # is ended with it: runs of two state directories that begin together must not be confused.
        token = time.time_ns() // 1000
        for name in run.names:
            row = database.execute("SELECT token FROM names WHERE name = ?", (name,)).fetchone()
            if row and row[0] >= token:
                token = row[0] + 1
        for name in set(run.names):
            database.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, token))
        return token


def find_pause(database: "sqlite3.Connection", names: tuple[bytes, ...]) -> Pause | None:
    """Give the pause of the first of these names that is paused; None if none is."""
    for name in names:
        row = database.execute(
            "SELECT since_ns, until_ns, uid FROM pauses WHERE name = ?"
            " AND (until_ns IS NULL OR until_ns > ?)",
            (name, time.time_ns()),
        ).fetchone()
        if row:
            return Pause(name, *row)
    return None


def _have_jobs(database: "sqlite3.Connection", names: tuple[bytes, ...]) -> bool:
    for name in names:
        for state in ("queued", "delayed"):  # each has its index
            query = f"SELECT 1 FROM jobs WHERE name = ? AND state = '{state}' LIMIT 1"  # noqa: S608
            if database.execute(query, (name,)).fetchone():
                return True
    return False


def _value(run: Run, column: str) -> object:
    value = getattr(run, column)
    return b"\0".join(value) if column in {"names", "argv"} else value


def _run(row: "Sequence[object]") -> Run:
    run = Run.__new__(Run)
    for column, value in zip(_COLUMNS, row, strict=True):
        if column in {"names", "argv"}:
            text = value if isinstance(value, bytes) else str(value).encode()
            setattr(run, column, tuple(text.split(b"\0")))
        else:
            setattr(run, column, value)
    run.shared = bool(run.shared)
    return run
