"""Giving space back: the file of the record shrinks, and its log stays short.

A database that was made with incremental auto-vacuum gives free pages back a few at a time. One of
an earlier version must be written anew once (VACUUM), which keeps the record busy as long as that
takes; then waiting processes must not take us for stopped, so a thread shows them progress.

A checkpoint syncs the log and the file, with the guard held. So the log is synced before, without
the guard, and is written back while it is short.
"""

import os
from threading import Event, Thread

from singlerun.errors import RecordError
from singlerun.store.database import LOG_BYTES
from singlerun.store.sqlite import SqliteStore
from singlerun.timings import GUARD_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

PAGES = 32
"""Pages that are given back in one transaction: a millisecond."""
SLACK = 64
"""Free pages that a file may have for what comes next."""
SHORT = LOG_BYTES - 64 * 1024
"""Bytes of the log that are written back: just before any run would have to do it."""
_INCREMENTAL = 2


class Compacting(SqliteStore):
    """The verbs that give space back."""

    def shrink(self) -> "Iterator[int]":
        def step(database: "sqlite3.Connection") -> int:
            if _number(database, "auto_vacuum") != _INCREMENTAL:
                return 0
            free = _number(database, "freelist_count")
            if free <= SLACK:
                return 0
            database.execute(f"PRAGMA incremental_vacuum({min(PAGES, free)})").fetchall()
            return min(PAGES, free) * _number(database, "page_size")

        while given := self._do(step):
            yield given

    def compact(self, most: int | None = None) -> bool:
        def rewrite(database: "sqlite3.Connection") -> bool:
            if _number(database, "auto_vacuum") == _INCREMENTAL:
                return False
            pages = _number(database, "page_count") - _number(database, "freelist_count")
            size = pages * _number(database, "page_size")
            if (most is not None and size > most) or not self._has_room(size):
                return True
            with _Progress(self._database.path + b"-wal"):
                database.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
                database.execute("VACUUM")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return _number(database, "auto_vacuum") != _INCREMENTAL

        try:
            return self._database.alone(rewrite)
        except RecordError:  # a full disk, or a reader that keeps the file: it can shrink later
            return True

    def _has_room(self, size: int) -> bool:
        """Return whether the log may grow by the whole of what is written anew, and a copy, too."""
        disk = os.statvfs(os.path.dirname(self._database.path))
        return disk.f_bavail * disk.f_frsize > 3 * size + 16 * 1024 * 1024

    def latest_write(self) -> tuple[int, int]:
        try:
            log = os.stat(self._database.path + b"-wal")
        except OSError:
            return 0, 0
        return log.st_mtime_ns, log.st_size

    def settle(self, most: int = SHORT) -> None:
        path = self._database.path + b"-wal"
        try:
            if os.stat(path).st_size <= most:
                return
            log = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fdatasync(log)
            finally:
                os.close(log)
        except OSError:
            return
        self._database.alone(lambda database: self._database.shorten_log(database, most))


class _Progress:
    """Shows processes that wait for the guard that its holder works (guard.py), by a time stamp."""

    def __init__(self, path: bytes) -> None:
        self._path, self._over = path, Event()
        self._thread = Thread(target=self._show, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _show(self) -> None:
        while not self._over.wait(GUARD_PATIENCE / 5):
            try:
                os.utime(self._path)
            except OSError:
                pass


def _number(database: "sqlite3.Connection", pragma: str) -> int:
    return int(database.execute(f"PRAGMA {pragma}").fetchone()[0])
