"""One SQLite database, kept open, migrated and whole.

WAL, so that readers and the writer don't wait for each other, with synchronous=NORMAL: a crash of
ours loses nothing, a power loss at most the latest rows, and neither damages the file.

All access is serialized by a flock on a file beside it, the guard. At 64 writers SQLite's own
busy handler starves some of them for seconds. The guard also keeps two processes from creating the
database at once, and from meeting the WAL-reset race of SQLite 3.7.0 to 3.51.2.

A run does not close its connection: closing, as the last one, would checkpoint (two fsyncs) and
delete the log that the next run has to make again. The kernel closes it, as after a crash, and the
next to open it reads the log through. So the log is kept small: any process that finds it longer
than LOG_BYTES checkpoints and truncates it. SQLite's automatic checkpoint would not do: it leaves
truncation to a later transaction of the same connection, which may have none.

Any byte of the file may be damaged, and SQLite's messages about it need not be UTF-8. So whatever
an attempt raises, of any type, is a RecordError, save a Declined, which is an answer.
"""

import os
import stat
import sys
import time

from singlerun.errors import RecordError
from singlerun.paths import reason
from singlerun.process.identity import here
from singlerun.store import migrations
from singlerun.store.guard import Guard
from singlerun.store.rows import DamagedError
from singlerun.store.run import Declined
from singlerun.timings import BUSY_PATIENCE, GUARD_PATIENCE


def _import_sqlite() -> "ModuleType":
    """Import the bare extension, for the price of loading SQLite alone.

    The package around it imports datetime and more (1.6 ms). The extension itself wants one thing
    of functools, lru_cache, and that module with all that it imports costs 3 ms, a quarter of
    Python's start. So unless functools is imported already, the extension is given the C function
    at the bottom of lru_cache.
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
    from collections.abc import Callable
    from types import ModuleType
    from typing import TypeVar

    from singlerun.paths import StateDir

    Result = TypeVar("Result")
else:
    sqlite3 = _import_sqlite()

FILE = b"singlerun.db"
LOG_BYTES = 512 * 1024
MANY = 500
"""Transactions of one connection after which the log is looked at again: a worker lives long."""
_BROKEN = {11, 26}  # SQLITE_CORRUPT, SQLITE_NOTADB
_READONLY = 8
_CHANGED = ("no such ", "Could not decode ", "unsupported file format", "duplicate column name")
"""What SQLite says of a schema that is not the one that our statements are for."""
_ADVICE = {
    5: "find who keeps it locked: fuser -v FILE",  # SQLITE_BUSY
    8: "make it and its directory writable",  # SQLITE_READONLY
    10: "check the disk and its file system",  # SQLITE_IOERR
    13: "make room on its file system",  # SQLITE_FULL
    14: "make it and its directory writable",  # SQLITE_CANTOPEN
}


class Database:
    """The database in the state directory, opened when it is first needed.

    Attributes:
        guard: the flock around whatever touches it, a context manager.
        path: where it is; its log has ``-wal`` appended.
        notices: what the user must be told of, such as a database that was set aside.

    ``patience`` is the guard's. With ``repairs`` false, a damaged database is left where it is.
    """

    def __init__(
        self, state: "StateDir", *, patience: float = GUARD_PATIENCE, repairs: bool = True
    ) -> None:
        self._repairs = repairs
        self._is_durable = False
        self._commits = 0
        self.notices: list[str] = []
        # SQLite takes names relative to the working directory, which may change: ours is absolute.
        self.path = os.path.join(state.path, FILE)
        self._shown = os.fsdecode(self.path)
        self.guard = Guard(state, self.path, patience=patience)
        self._open: sqlite3.Connection | None = None
        self._inode = 0

    def close(self) -> None:
        """Close it, and the guard's file too; raise RecordError if it can't be closed properly."""
        try:
            if self._open is not None:
                with self.guard:
                    self._forget()
        finally:
            self._open = None
            self.guard.close()

    def do(
        self, work: "Callable[[sqlite3.Connection], Result]", *, durable: bool = False
    ) -> "Result":
        """Do work in one transaction; if the database is damaged or foreign, in a new one.

        ``work`` may be called again and must change nothing but the database. ``durable``: it
        survives a power loss, and so does all before it, at the price of a sync.

        Raises:
            RecordError: it can't be done. A Declined is the answer of ``work``, and passed on.
        """
        with self.guard:
            try:
                return self._in_whole_file(work, durable=durable)
            except (Declined, RecordError):
                raise
            except OSError as error:
                raise RecordError(self._shown, reason(error), "check its directory") from error
            except Exception as error:
                self._forget()  # a connection may fail for ever after, with SQLITE_PROTOCOL
                advice = _ADVICE.get(_code(error) & 0xFF, "see the README on the run-log")
                advice = advice.replace("FILE", self._shown)
                raise RecordError(self._shown, _said(error), advice) from error

    def alone(self, work: "Callable[[sqlite3.Connection], Result]") -> "Result":
        """Do work that must stand outside of a transaction, as ``do`` does, but only once."""
        with self.guard:
            try:
                return work(self._current() or self._connect())
            except RecordError:
                raise
            except Exception as error:
                self._forget()
                advice = "see the README on the run-log"
                raise RecordError(self._shown, _said(error), advice) from error

    def _in_whole_file(
        self, work: "Callable[[sqlite3.Connection], Result]", *, durable: bool
    ) -> "Result":
        # SQLite calls a read that failed damage, too: what is damaged is so the second time.
        for is_last in (False, True):
            try:
                return self._in_transaction(work, durable=durable)
            except (DamagedError, UnicodeDecodeError, sqlite3.DatabaseError) as error:
                if not (_is_damage(error) or self._has_damaged_format(error)):
                    raise
                self._forget()
                if is_last:
                    if not self._repairs:
                        raise
                    self._set_aside(_said(error))
        return self._in_transaction(work, durable=durable)

    def _has_damaged_format(self, error: Exception) -> bool:
        """Return whether the file is called read-only because its header names a later format."""
        if _code(error) & 0xFF != _READONLY:
            return False
        with open(self.path, "rb", buffering=0) as file:
            return max(file.read(20)[18:], default=0) > 2

    def _in_transaction(
        self, work: "Callable[[sqlite3.Connection], Result]", *, durable: bool
    ) -> "Result":
        database = self._current() or self._connect()
        if durable is not self._is_durable:
            database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._is_durable = durable
        # Never the deferred BEGIN: its first write can fail with "database is locked" at once.
        database.execute("BEGIN IMMEDIATE")
        try:
            result = work(database)
            database.execute("COMMIT")
        except BaseException:
            self._roll_back(database)
            raise
        self._commits += 1
        if self._commits % MANY == 0:
            try:
                self.shorten_log(database)
            except sqlite3.Error:  # it is committed, and must not be done again
                pass
        return result

    def _roll_back(self, database: "sqlite3.Connection") -> None:
        try:
            if database.in_transaction:
                database.execute("ROLLBACK")
        except sqlite3.Error:  # then the connection's end undoes it
            self._forget()

    def _forget(self) -> None:
        """Close the connection, if there is one."""
        if self._open is not None:
            try:
                self._open.close()
            except Exception:  # noqa: BLE001, S110 - the kernel closes what SQLite can't
                pass
            self._open = None

    def _current(self) -> "sqlite3.Connection | None":
        """Give the open connection, unless its file was moved aside or deleted since."""
        if self._open is None:
            return None
        try:
            if os.stat(self.path).st_ino == self._inode:
                return self._open
        except FileNotFoundError:
            pass
        self._forget()
        return None

    def _connect(self) -> "sqlite3.Connection":
        try:
            entry = os.lstat(self.path)
        except FileNotFoundError:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            os.chmod(self.path, 0o600)
            entry = os.lstat(self.path)
        if (wrong := flaw(entry)) is not None:
            raise RecordError(self._shown, wrong, "remove it")
        database = sqlite3.connect(self.path, timeout=BUSY_PATIENCE, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = NORMAL")
            self._is_durable = False
            database.execute("PRAGMA wal_autocheckpoint = 0")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (application,) = database.execute("PRAGMA application_id").fetchone()
            if (version, application) != (migrations.LATEST, migrations.APPLICATION_ID):
                self._migrate(database, version, application)
            self.shorten_log(database)
        except BaseException:
            database.close()
            raise
        self._open, self._inode = database, entry.st_ino
        return database

    def shorten_log(self, database: "sqlite3.Connection", most: int = LOG_BYTES) -> None:
        """Write the log back into the file, and empty it, if it has more than so many bytes."""
        try:
            if os.stat(self.path + b"-wal").st_size <= most:
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
            raise DamagedError("it is a database of another program")
        if application == migrations.APPLICATION_ID and not 0 < version < migrations.IMPOSSIBLE:
            raise DamagedError(f"it has version {version}")
        if version > migrations.LATEST:
            if migrations.schema(database) != migrations.latest_schema():
                hint = "upgrade this one, or give it another --dir"
                raise RecordError(self._shown, "a newer singlerun wrote it", hint)
            version = migrations.LATEST  # only that number is damaged
        if version == 0:  # before the first table: later it would take a VACUUM (store/compact.py)
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        try:
            migrations.migrate(database, version)
            if version == 0:
                database.execute("INSERT INTO origin VALUES (?)", (here().boot_id,))
            database.execute(f"PRAGMA user_version = {migrations.LATEST}")
            database.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")
            database.execute("COMMIT")
        except BaseException:
            self._roll_back(database)
            raise

    def _set_aside(self, why: str) -> None:
        """Move a database that can't be used out of the way; nothing in it is lost."""
        aside = self.path + time.strftime(".broken-%Y%m%dT%H%M%SZ", time.gmtime()).encode()
        aside += b".%d" % os.getpid()
        for suffix in (b"", b"-wal", b"-shm"):
            try:
                os.rename(self.path + suffix, aside + suffix)
            except FileNotFoundError:
                pass
        notice = f"the run-log {self._shown} could not be used ({why}): it was set aside as"
        self.notices.append(f"{notice} {os.fsdecode(aside)}, and a new one begun")


def flaw(entry: os.stat_result) -> str | None:
    """Return why a file can't be the database, None if it can."""
    if stat.S_ISLNK(entry.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISREG(entry.st_mode):
        return "it is not a regular file"
    if entry.st_uid != os.geteuid():
        return f"it belongs to user {entry.st_uid}, not to {os.geteuid()}"
    if entry.st_nlink > 1:
        return "it has a second name (a hard link)"
    return None


def _is_damage(error: Exception) -> bool:
    """Return whether an error means that the file is damaged or foreign.

    "no such table": our statements are fixed, so the schema was changed. SQLite can't say in UTF-8
    what it found damaged, or a text in it is not UTF-8: UnicodeDecodeError, "Could not decode".
    """
    return (
        not isinstance(error, sqlite3.DatabaseError)
        or _code(error) & 0xFF in _BROKEN
        or str(error).startswith(_CHANGED)
        or str(error).endswith(" already exists")
    )


def _said(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a message about its damage is damaged"
    return str(error) or type(error).__name__


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0) or 0)
