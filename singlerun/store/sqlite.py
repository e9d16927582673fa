"""The run-log in an SQLite database.

WAL, so that readers and the writer don't wait for each other, with synchronous=NORMAL: a crash of
ours loses nothing, a power loss at most the latest rows, and neither damages the file.

Whatever touches the database is done under a flock on a file beside it. At 64 writers SQLite's own
waiting starves some of them for seconds; a queue in the kernel doesn't. It also keeps two processes
from creating the database at once, and from meeting the WAL-reset race of SQLite 3.7.0 to 3.51.2.

A run does not close its connection: closing, as the last one, would checkpoint (two fsyncs) and
delete the log that the next run has to make again. The kernel closes it, as after a crash, and who
opens it next reads the log through. So the log is kept small: whoever finds it longer than
LOG_BYTES writes it back and empties it. SQLite's own automatic checkpoint would not do: it leaves
emptying to a later transaction of the same connection, which may have none.
"""

import fcntl
import os
import stat
import sys
import time

from singlerun.errors import RecordError, StateDirError
from singlerun.owner import here
from singlerun.paths import reason
from singlerun.store import migrations
from singlerun.store.base import LOST, RUNNING, WAITING, Run, Store


def _import_sqlite() -> "ModuleType":
    """Import the bare extension, for the price of loading SQLite alone.

    The package around it imports datetime and more (1.6 ms). The extension itself wants one thing
    of functools, lru_cache, and that module with all that it imports costs 3 ms, a quarter of
    Python's start. So where nobody has imported functools yet, the extension is given the C
    function that is at the bottom of lru_cache.
    """
    if "functools" not in sys.modules:
        try:
            from _functools import _lru_cache_wrapper  # type: ignore[import-not-found]  # noqa: PLC0415
        except ImportError:
            pass
        else:
            stand_in = type(sys)("functools")
            stand_in.__dict__["lru_cache"] = lambda maxsize: (
                lambda function: _lru_cache_wrapper(function, maxsize, False, tuple)
            )
            sys.modules["functools"] = stand_in
    try:
        import _sqlite3  # noqa: PLC0415
    except ImportError:
        import sqlite3 as _sqlite3  # type: ignore[no-redef]  # noqa: PLC0415
    finally:
        if not hasattr(sys.modules.get("functools"), "__file__"):
            sys.modules.pop("functools", None)
    return _sqlite3


TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any, TypeVar

    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir

    Result = TypeVar("Result")
else:
    sqlite3 = _import_sqlite()

FILE = b"singlerun.db"
LOG_BYTES = 512 * 1024
PATIENCE = 10.0
"""Seconds to wait for another singlerun. One that was stopped must not stop every job with it."""
BUSY_PATIENCE = 5.0
"""Seconds to wait for another program that has locked the database."""

_COLUMNS = (
    "id", "token", "names", "lock_file", "argv", "cwd", "shared", "state", "uid", "host",
    "boot_id", "pid_ns", "wrapper_pid", "wrapper_started", "command_pid", "command_started",
    "asked_ns", "started_ns", "ended_ns", "elapsed_ns", "exit_code", "signal", "user_us",
    "system_us", "max_rss_kb", "parent_id", "conflict_id", "detail",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(f'runs.{column}' for column in _COLUMNS)} FROM runs"  # noqa: S608
_BROKEN = {11, 26}  # SQLITE_CORRUPT, SQLITE_NOTADB
_ADVICE = {
    5: "find who keeps it locked: fuser -v FILE",  # SQLITE_BUSY
    8: "make it and its directory writable",  # SQLITE_READONLY
    10: "check the disk and its file system",  # SQLITE_IOERR
    13: "make room on its file system",  # SQLITE_FULL
    14: "make it and its directory writable",  # SQLITE_CANTOPEN
}


class _ForeignError(Exception):
    """The database isn't one of ours: why."""


class _Guard:
    """The flock around whatever touches the database; may be nested."""

    def __init__(self, state: "StateDir", shown: str) -> None:
        self._state = state
        self._shown = shown
        self._fd = -1
        self._depth = 0

    def __enter__(self) -> None:
        if self._depth == 0:
            self._take()
        self._depth += 1

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _take(self) -> None:
        try:
            if self._fd < 0:
                self._fd = self._state.open_file(FILE + b".lock")
        except StateDirError as error:
            raise RecordError(self._shown, *error.args[1:]) from None
        deadline, nap = time.monotonic() + PATIENCE, 0.0002
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Held for a fraction of a millisecond, unless its holder was stopped.
                if time.monotonic() > deadline:
                    raise RecordError(
                        self._shown,
                        f"another singlerun has kept it busy for {PATIENCE:.0f} s",
                        f"find the stopped process: fuser -v {self._shown}.lock",
                    ) from None
                time.sleep(nap)
                nap = min(nap * 1.5, 0.01)
            except OSError as error:
                raise RecordError(
                    self._shown, reason(error), "put it on a local file system"
                ) from error
            else:
                return


class SqliteStore(Store):
    """The run-log in the state directory.

    Attributes:
        notices: what the user must be told of, such as a database that was set aside.
    """

    def __init__(self, state: "StateDir") -> None:
        self.notices: list[str] = []
        self._directory = state.path
        # SQLite takes names relative to the working directory, which may change: ours is absolute.
        self._path = os.path.join(state.path, FILE)
        self._shown = os.fsdecode(self._path)
        self._guard = _Guard(state, self._shown)
        self._open: sqlite3.Connection | None = None
        self._inode = 0

    # -- the verbs that write ----------------------------------------------------------------

    def exclusively(self) -> _Guard:
        return self._guard

    def wait_run(self, run: Run) -> None:
        run.state = WAITING
        self._do(lambda database: self._insert(database, run))

    def start_run(self, run: Run, parent: tuple[int, int] | None) -> None:
        def start(database: "sqlite3.Connection") -> None:
            run.state = RUNNING
            run.started_ns = time.time_ns()
            if parent is not None:
                row = database.execute(
                    "SELECT id FROM runs WHERE id = ? AND token = ?", parent
                ).fetchone()
                run.parent_id = row[0] if row else None
            run.token = self._next_token(database, run)
            if run.id is None:
                self._insert(database, run)
            else:
                self._update(database, run, ("state", "started_ns", "token", "parent_id"))

        self._do(start)

    def name_command(self, run: Run) -> None:
        columns = ("command_pid", "command_started")
        self._do(lambda database: self._update(database, run, columns))

    def finish_run(self, run: Run, outcome: "Outcome", state: str) -> None:
        run.state = state
        run.ended_ns = time.time_ns()
        measured = ("exit_code", "signal", "elapsed_ns", "user_us", "system_us", "max_rss_kb")
        for column in measured:
            setattr(run, column, getattr(outcome, column))
        columns = (*measured, "state", "ended_ns", "detail")

        def finish(database: "sqlite3.Connection") -> None:
            # Who ended a run knows best how, also when somebody thought that it was lost.
            if self._update(database, run, columns, f"ended_ns IS NULL OR state = '{LOST}'"):
                return
            known = "SELECT 1 FROM runs WHERE id = ? AND token = ?"
            if not database.execute(known, (run.id, run.token)).fetchone():
                run.id = None  # another database took the place of the one that knew it
                self._insert(database, run)

        self._do(finish)

    def refuse_run(self, run: Run, state: str) -> None:
        run.state = state
        run.ended_ns = time.time_ns()

        def refuse(database: "sqlite3.Connection") -> None:
            columns = ("state", "ended_ns", "conflict_id", "detail", "signal")
            if run.id is None or not self._update(database, run, columns):
                run.id = None
                self._insert(database, run)

        self._do(refuse)

    def close_run(self, run: Run, state: str, detail: str) -> bool:
        # Only what was judged: a run that waited may have started since.
        still = f"ended_ns IS NULL AND state = '{run.state}'"
        run.state, run.detail, run.ended_ns = state, detail, time.time_ns()
        columns = ("state", "detail", "ended_ns")
        return self._do(lambda database: self._update(database, run, columns, still))

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

    def close(self) -> None:
        if self._open is not None:
            with self._guard:
                self._open.close()
            self._open = None

    # -- how ---------------------------------------------------------------------------------

    def _fetch(self, query: str, values: "Sequence[object]") -> "list[Any]":
        return self._do(lambda database: database.execute(query, values).fetchall())

    def _select(self, clauses: str, values: "Sequence[object]" = ()) -> list[Run]:
        def select(database: "sqlite3.Connection") -> list[Run]:
            return [_run(row) for row in database.execute(f"{_SELECT} {clauses}", values)]

        return self._do(select)

    def _insert(self, database: "sqlite3.Connection", run: Run) -> None:
        values = [_value(run, column) for column in _COLUMNS]
        holes = ",".join("?" * len(_COLUMNS))
        cursor = database.execute(f"INSERT INTO runs VALUES ({holes})", values)  # noqa: S608
        run.id = cursor.lastrowid
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
        changes = ", ".join(f"{column} = ?" for column in columns)
        # The time of asking tells a run from one of the same id in a database begun anew.
        cursor = database.execute(
            f"UPDATE runs SET {changes} WHERE id = ? AND asked_ns = ? AND ({still})",  # noqa: S608
            [*(_value(run, column) for column in columns), run.id, run.asked_ns],
        )
        return cursor.rowcount > 0

    def _next_token(self, database: "sqlite3.Connection", run: Run) -> int:
        # From the clock, so that it grows also after the database was lost and begun anew.
        token = time.time_ns() // 1_000_000
        for name in run.names:
            row = database.execute("SELECT token FROM names WHERE name = ?", (name,)).fetchone()
            if row and row[0] >= token:
                token = row[0] + 1
        for name in set(run.names):
            database.execute("INSERT OR REPLACE INTO names VALUES (?, ?)", (name, token))
        return token

    def _do(self, work: "Callable[[sqlite3.Connection], Result]") -> "Result":
        """Do work in one transaction; with a broken or foreign database, in a new one."""
        with self._guard:
            try:
                try:
                    return self._in_transaction(work)
                except _ForeignError as error:
                    self._set_aside(str(error))
                except sqlite3.DatabaseError as error:
                    if not _is_broken(error):
                        raise
                    self._set_aside(str(error))
                return self._in_transaction(work)
            except (sqlite3.Error, _ForeignError) as error:
                advice = _ADVICE.get(_code(error) & 0xFF, "see the README on the run-log")
                raise RecordError(
                    self._shown, str(error), advice.replace("FILE", self._shown)
                ) from error
            except OSError as error:
                raise RecordError(self._shown, reason(error), "check its directory") from error

    def _in_transaction(self, work: "Callable[[sqlite3.Connection], Result]") -> "Result":
        database = self._current() or self._connect()
        # Never the deferred BEGIN: its first write can fail with "database is locked" at once.
        database.execute("BEGIN IMMEDIATE")
        try:
            result = work(database)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        return result

    def _current(self) -> "sqlite3.Connection | None":
        """Give the open connection, unless its file was moved aside or deleted since."""
        if self._open is None:
            return None
        try:
            if os.stat(self._path).st_ino == self._inode:
                return self._open
        except FileNotFoundError:
            pass
        self._open.close()
        self._open = None
        return None

    def _connect(self) -> "sqlite3.Connection":
        try:
            entry = os.lstat(self._path)
        except FileNotFoundError:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            os.chmod(self._path, 0o600)
            entry = os.lstat(self._path)
        flaw = _flaw(entry)
        if flaw:
            raise RecordError(self._shown, flaw, "remove it")
        database = sqlite3.connect(self._path, timeout=BUSY_PATIENCE, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA wal_autocheckpoint = 0")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            if (version, application) != (migrations.LATEST, migrations.APPLICATION_ID):
                self._migrate(database, version, application)
            self._shorten_log(database)
        except BaseException:
            database.close()
            raise
        self._open, self._inode = database, entry.st_ino
        return database

    def _shorten_log(self, database: "sqlite3.Connection") -> None:
        try:
            if os.stat(self._path + b"-wal").st_size <= LOG_BYTES:
                return
        except FileNotFoundError:
            return
        # A reader elsewhere (sqlite3's shell) keeps the log: not worth waiting for.
        database.execute("PRAGMA busy_timeout = 0")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute(f"PRAGMA busy_timeout = {round(BUSY_PATIENCE * 1000)}")

    def _migrate(self, database: "sqlite3.Connection", version: int, application: int) -> None:
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != migrations.APPLICATION_ID and (application or tables or version):
            raise _ForeignError("it is a database of another program")
        if version > migrations.LATEST:
            raise RecordError(
                self._shown,
                "a newer singlerun wrote it",
                "upgrade this one, or give it another --dir",
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        try:
            for number in range(version, migrations.LATEST):
                for statement in migrations.MIGRATIONS[number].split(";"):
                    database.execute(statement)
            if version == 0:
                database.execute("INSERT INTO origin VALUES (?)", (here().boot_id,))
            database.execute(f"PRAGMA user_version = {migrations.LATEST}")
            database.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _set_aside(self, why: str) -> None:
        """Move a database that can't be used out of the way; nothing in it is lost."""
        if self._open is not None:
            self._open.close()
            self._open = None
        aside = self._path + time.strftime(".broken-%Y%m%dT%H%M%SZ", time.gmtime()).encode()
        aside += b".%d" % os.getpid()
        for suffix in (b"", b"-wal", b"-shm"):
            try:
                os.rename(self._path + suffix, aside + suffix)
            except FileNotFoundError:
                pass
        self.notices.append(
            f"the run-log {self._shown} could not be used ({why}):"
            f" it was set aside as {os.fsdecode(aside)}, and a new one begun"
        )


def _flaw(entry: os.stat_result) -> str | None:
    if stat.S_ISLNK(entry.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISREG(entry.st_mode):
        return "it is not a regular file"
    if entry.st_uid != os.geteuid():
        return f"it belongs to user {entry.st_uid}, not to {os.geteuid()}"
    if entry.st_nlink > 1:
        return "it has a second name (a hard link)"
    return None


def _is_broken(error: Exception) -> bool:
    # "no such table": our statements are fixed, so somebody has changed the schema.
    return _code(error) & 0xFF in _BROKEN or str(error).startswith("no such ")


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


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
