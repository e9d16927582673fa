"""Deletes the files of names that are not used: lock files, waiting lines, FIFOs.

A lock file must never be deleted under its holder, nor split a lock in two: one process with the
old file, one with the new. It goes only while we hold its lock, and the run-log to ourselves:

    a holder          has the kernel's lock, so that we can't get it
    a process that    has opened the file, and locks it when we have let go: it looks whether the
    is about to       file is still the one at its path (flock.py), and starts over
    one that fails    to lock it because we hold it: it tries again when we have let the run-log go
    to get it         (lifecycle.py), and starts over
    an owner that     has lost the lock, closed by its command, is an open run in the record, or has
                      marked the file as suspect: then it stays
    another file      that has been put there meanwhile, and locked: its holder can't have recorded
                      its start, which takes the run-log; it will look at the path after that

A line goes when it is empty, while we hold its gate: rmdir(2) fails if a ticket is there, and the
next waiter finds that there is none, and makes it anew (line.py). A FIFO goes while we hold its
lock as its worker does, and no job is pending; an adder that has opened it looks, too (wakeup.py).

Where kernel locks can't be trusted, or another user may exchange the directory, nothing is deleted.
Nor is a lock file of filelock's, NAME.soft: its SoftFileLock may take the path for free, while a
StrictSoftFileLock has just found its sentinel there. Only what killed processes left beside it is.
"""

import fcntl
import os
import stat

from singlerun.lock.filesystem import distrusted
from singlerun.paths import lock_file_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from singlerun.paths import StateDir
    from singlerun.store.pruning import PruningStore

LOCK = b".lock"
_PRIVATE, _TEMPORARY = b".private-v1-", b".tmp"
_PROBE = b".probe-v1-"


def name_of(file: bytes) -> bytes | None:
    """Return the name for which a file name was made, without its suffix; None if it was cut.

    Of a slot's file that is the name of the lock.
    """
    if file.startswith(b"%%"):
        file = file.partition(b"-")[2]
    first, *escaped = file.split(b"%")
    if not first + b"".join(escaped) or b"" in escaped:  # "%%" stands before a hash
        return None
    try:
        return first + b"".join(bytes([int(part[:2], 16)]) + part[2:] for part in escaped)
    except ValueError:
        return None


class IdleFiles:
    """The files in a state directory of names that were last used before a time.

    Each method yields the bytes of a file for each that it deletes, or would delete, and 0 for each
    that it leaves, so that its caller can rest. What can't be deleted is left.
    """

    def __init__(
        self, state: "StateDir", store: "PruningStore", before_ns: int, *, dry_run: bool
    ) -> None:
        self._state, self._store = state, store
        self._before_ns, self._dry_run = before_ns, dry_run
        is_safe = not state.is_exchangeable and distrusted(state.locks) is None
        self._used = store.names_in_use().names if is_safe else None

    def lock_files(self) -> "Iterator[tuple[int, int]]":
        """Delete lock files, those of slots too."""
        for file in self._names(b"locks", LOCK):
            entry = self._entry(b"locks", file)
            name = name_of(file.removesuffix(LOCK))
            if entry is not None and stat.S_ISREG(entry.st_mode) and self._is_idle(name, entry):
                yield from _told(entry, self._dry_run or self._delete_lock(file))
            else:
                yield 0, 0

    def _delete_lock(self, file: bytes) -> bool:
        state = self._state
        with self._store.exclusively():
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(file, flags, dir_fd=state.locks_fd)
            except OSError:
                return False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine, there = os.fstat(descriptor), state.stat_lock(file)
                is_current = (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
                if not is_current or not _is_free_of_doubt(mine) or file in self._owned():
                    return False
                os.unlink(file, dir_fd=state.locks_fd)
            except OSError:  # it is held, or was deleted
                return False
            finally:
                os.close(descriptor)
        return True

    def _owned(self) -> set[bytes]:
        """Return the lock files of open runs, and of their slots."""
        found = set()
        for run in self._store.open_runs():
            files = [lock_file_name(name) for name in run.names]
            if run.lock_file is not None:
                files.append(b"%%" + lock_file_name(run.lock_file))
            for file in files:
                slots = range(1, (run.slots or 0) + 1)
                found.update([file, *(b"%%%%%d-%s" % (slot, file) for slot in slots)])
        return found

    def lines(self) -> "Iterator[tuple[int, int]]":
        """Delete waiting lines."""
        for line in self._names(b"lines"):
            entry = self._entry(b"lines", line)
            # A ticket that comes or goes changes the time.
            if entry is None or not self._is_before(entry) or not stat.S_ISDIR(entry.st_mode):
                yield 0, 0
                continue
            path = os.path.join(self._state.lines, line)
            yield from _told(entry, _is_empty(path) if self._dry_run else _delete_line(path))

    def fifos(self) -> "Iterator[tuple[int, int]]":
        """Delete the FIFOs of queues."""
        for file in self._names(b"workers"):
            entry = self._entry(b"workers", file)
            if (
                entry is not None
                and stat.S_ISFIFO(entry.st_mode)
                and self._is_before(entry)
                and self._is_idle(name_of(file), entry)
            ):
                yield from _told(entry, self._dry_run or self._delete_fifo(file))
            else:
                yield 0, 0

    def _delete_fifo(self, file: bytes) -> bool:
        path = os.path.join(self._state.path, b"workers", file)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._store.exclusively():
            try:
                descriptor = os.open(path, flags)
            except OSError:
                return False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine, there = os.fstat(descriptor), os.stat(path, follow_symlinks=False)
                if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
                    return False
                used = self._store.names_in_use().names
                if file in {lock_file_name(name).removesuffix(LOCK) for name in used}:
                    return False
                os.unlink(path)
            except OSError:
                return False
            finally:
                os.close(descriptor)
        return True

    def leftovers(self) -> "Iterator[tuple[int, int]]":
        """Delete what killed processes left of filelock's beside a lock file.

        It is what was to become a claim or a lock file, and filelock itself deletes it in time: a
        process that misses it starts over.
        """
        for directory, is_leftover in self._places():
            for file in self._names(directory):
                entry = self._entry(directory, file)
                if entry is None or not is_leftover(file) or not self._is_before(entry):
                    continue
                path = os.path.join(self._state.path, directory, file)
                yield from _told(entry, self._dry_run or _unlink(path))

    def _places(self) -> "Iterator[tuple[bytes, Callable[[bytes], bool]]]":
        yield b"locks", _is_private
        for file in self._names(b"locks", b".soft.filelock"):
            yield os.path.join(b"locks", file, b"claims"), _is_private

    def _names(self, directory: bytes, suffix: bytes = b"") -> list[bytes]:
        if self._used is None:
            return []
        try:
            found = os.listdir(os.path.join(self._state.path, directory))
        except OSError:
            return []
        return sorted(file for file in found if file.endswith(suffix))

    def _entry(self, directory: bytes, file: bytes) -> os.stat_result | None:
        try:
            path = os.path.join(self._state.path, directory, file)
            return os.stat(path, follow_symlinks=False)
        except OSError:
            return None

    def _is_idle(self, name: bytes | None, entry: os.stat_result) -> bool:
        """Return whether a name was last used before the time, as far as the record knows."""
        assert self._used is not None
        if name in self._used:
            return False
        last = None if name is None else self._store.last_use_ns(name)
        return self._is_before(entry) if last is None else last < self._before_ns

    def _is_before(self, entry: os.stat_result) -> bool:
        return entry.st_mtime_ns < self._before_ns


def _is_free_of_doubt(entry: os.stat_result) -> bool:
    """Return whether an open file can be a lock file of ours whose latest holder was recorded."""
    is_ours = stat.S_ISREG(entry.st_mode) and entry.st_uid == os.geteuid() and entry.st_nlink == 1
    return is_ours and not entry.st_size and not entry.st_mode & stat.S_IXUSR


def _told(entry: os.stat_result, done: bool) -> "Iterator[tuple[int, int]]":
    yield (1, entry.st_blocks * 512) if done else (0, 0)


def _is_empty(path: bytes) -> bool:
    try:
        return not os.listdir(path)
    except OSError:
        return False


def _delete_line(path: bytes) -> bool:
    """Delete a line unless there is a ticket in it, or a process about to make one (line.py)."""
    try:
        gate = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rmdir(path)
    except OSError:
        return False
    finally:
        os.close(gate)
    return True


def _unlink(path: bytes) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _is_private(file: bytes) -> bool:
    is_record = file.startswith(b".") and _PRIVATE in file
    return file.endswith(_TEMPORARY) and (is_record or file.startswith(_PROBE))
