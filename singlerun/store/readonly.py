"""The database as it is: what looks at it here changes no byte of it, nor of the files beside it.

SQLite reads a database with a write-ahead log through a shared index, the file -shm. A connection
that may only read still creates and repairs that file, unless it is told not to (readonly_shm). It
then takes no lock that a writer or the guard would wait for.
"""

import os
import sqlite3
import time
from urllib.parse import quote

from singlerun.errors import RecordError
from singlerun.paths import reason
from singlerun.store import migrations
from singlerun.store.database import FILE, Database, flaw
from singlerun.store.run import Declined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Result = TypeVar("Result")

PATIENCE = 1.0
"""Seconds to wait for another program that keeps everyone else out of the database."""
STEPS = 10_000
"""Instructions of SQLite between two looks at the clock: some milliseconds."""
MOST_FLAWS = 5
_BUSY, _READONLY, _INTERRUPTED = 5, 8, 9
PAUSE = 0.05
"""Seconds until a writer has made the index of the log that a reader may not make."""


class ReadOnlyDatabase(Database):
    """The database in a directory that others may not write to, for at most some seconds."""

    def __init__(self, directory: bytes, seconds: float) -> None:
        # Not that of Database, which has a guard: without one nothing here could write safely.
        self.notices: list[str] = []
        self._path = os.path.join(os.path.abspath(directory), FILE)
        self._shown = os.fsdecode(self._path)
        self._deadline = time.monotonic() + seconds
        self._open: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close it."""
        self._forget()

    def do(
        self, work: "Callable[[sqlite3.Connection], Result]", *, durable: bool = False
    ) -> "Result":
        """Do work that only reads; raise RecordError if it can't be done, or not in time."""
        if durable:
            raise RecordError(self._shown, "it was opened to be read only", "see the README")
        try:
            database = self._open or self._connect_to_read()
            database.execute("BEGIN")
            try:
                return work(database)
            finally:
                database.execute("ROLLBACK")
        except (Declined, RecordError):
            raise
        except OSError as error:
            raise RecordError(self._shown, reason(error), "check its directory") from error
        except Exception as error:
            self._forget()
            raise RecordError(self._shown, said(error), "see: singlerun doctor") from error

    def _connect_to_read(self) -> "sqlite3.Connection":
        database = connect(self._path, self._deadline)
        try:
            found = identity(database)
        except BaseException:
            database.close()
            raise
        if found != (migrations.LATEST, migrations.APPLICATION_ID):
            database.close()
            what = "its schema is not that of this version"
            raise RecordError(self._shown, what, "see: singlerun doctor")
        self._open = database
        return database


class Condition:
    """What was found in a database.

    Attributes:
        version, application_id: its schema's, and the program's that made it.
        flaws: what ``PRAGMA quick_check`` says of it, at most MOST_FLAWS.
        is_complete: whether there was time for all of it.
        runs: how many it has recorded, with the refused ones; None if it can't tell.
    """

    def __init__(self) -> None:
        self.version = self.application_id = 0
        self.flaws: list[str] = []
        self.is_complete = True
        self.runs: int | None = None


def examine(directory: bytes, seconds: float) -> Condition:
    """Check a database for damage, for at most some seconds.

    Raises RecordError if it can't be read at all, OSError if it can't be looked at.
    """
    path = os.path.join(os.path.abspath(directory), FILE)
    has_log = os.path.lexists(path + b"-wal")
    deadline = time.monotonic() + seconds
    found = Condition()
    try:
        database = connect(path, deadline)
        try:
            found.version, found.application_id = identity(database)
            rows = database.execute(f"PRAGMA quick_check({MOST_FLAWS})").fetchall()
            found.flaws = [text for (text,) in rows if text != "ok"]
            if found.application_id == migrations.APPLICATION_ID and not found.flaws:
                (found.runs,) = database.execute("SELECT count(*) FROM runs").fetchone()
        finally:
            database.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if code(error) == _BUSY:
            what = f"another program has kept all others out of it for {PATIENCE:g} s"
            shown = os.fsdecode(path)
            raise RecordError(shown, what, f"find that program: fuser -v {shown}") from error
        if code(error) == _READONLY and (left := deadline - PAUSE - time.monotonic()) > 0:
            time.sleep(PAUSE)
            return examine(directory, left)
        if code(error) in {_INTERRUPTED, _READONLY}:
            found.is_complete = False
        else:
            found.flaws.append(said(error))
    if found.flaws and not has_log and os.path.lexists(path + b"-wal"):
        return examine(directory, seconds)  # a run has opened it and changed it meanwhile
    return found


def connect(path: bytes, deadline: float) -> "sqlite3.Connection":
    """Open a database to read it until a deadline, by the monotonic clock.

    Raises RecordError if its kind of file is wrong, or a file beside it is missing; OSError if it
    can't be looked at.
    """
    shown = os.fsdecode(path)
    # For root, SQLite gives what stands beside a database to the database's owner, whatever it is.
    for file in (path, path + b"-wal", path + b"-shm"):
        if os.path.lexists(file) and (wrong := flaw(os.lstat(file))) is not None:
            raise RecordError(os.fsdecode(file), wrong, "remove it")
    with open(path, "rb", buffering=0):  # the error of open(2) says more than SQLite's
        pass
    has_log = os.path.lexists(path + b"-wal")
    if has_log and not os.path.lexists(path + b"-shm"):
        why = "its index (-shm) is missing beside its log (-wal), and only a run may make it"
        raise RecordError(shown, why, "to do so: singlerun ps")
    # Without a log no process has it open; one that opens it now makes a log first.
    mode = "mode=ro&readonly_shm=1" if has_log else "immutable=1"
    uri = f"file:{quote(path)}?{mode}"
    database = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
    database.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
    return database


def identity(database: "sqlite3.Connection") -> tuple[int, int]:
    """Return the version of a database's schema, and the id of the program that made it."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (application,) = database.execute("PRAGMA application_id").fetchone()
    return int(version), int(application)


def code(error: Exception) -> int:
    """Return the primary code of an error of SQLite, 0 if it has none."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def said(error: Exception) -> str:
    """Return what an error says, for a person."""
    if isinstance(error, UnicodeDecodeError):
        return "a message about its damage is damaged"
    if code(error) == _INTERRUPTED:
        return "reading it took too long"
    return str(error) or type(error).__name__
