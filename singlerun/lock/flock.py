"""One lock file and the kernel's flock(2) on it.

The lock belongs to the open file description. The command inherits it, so it outlives a wrapper
that is killed; LOCK_UN by the wrapper frees it for all that inherited it, close(2) only for itself.

Other processes may unlink and recreate the file while it is waited for or held, which would split
the lock in two. So after each taking the path is looked up again, and the lock counts only if the
locked file is still the one at that path; otherwise it is taken anew on the new file.
"""

import fcntl
import os
import stat
from errno import EBADF, EIO, ELOOP

from singlerun.errors import LockFileError, StateDirError
from singlerun.paths import StateDir, lift, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class KernelLock:
    """A lock held by flock(2): processes that inherit it keep it; the kernel frees it at last."""

    needs_freeing = False
    """Whether it stays held when this process ends."""

    def unlock(self) -> None:
        """Free the lock, for all that inherited it too."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Free the lock; the process must end after this."""
        self.unlock()

    def forsake(self) -> None:
        """After an internal error, leave the lock to the command, or to the kernel to free."""

    def note(self, marks: tuple[int | None, int], command: tuple[int, int | None] | None) -> None:
        """Note nothing: the processes of the run keep what they inherit."""


class FlockFile(KernelLock):
    """A lock file, open or not, held or not. Its verbs are those of every kind of lock.

    What opens or takes it raises LockFileError or StateDirError if that can't be done.

    Attributes:
        path: absolute.
        fd: the descriptor while the file is open, else -1.
        created: whether opening it created it.
        is_suspect: whether its latest holder could not be recorded (``suspect``), or may have
            locked a file at this path that another user has moved away.
    """

    def __init__(self, path: bytes, *, shared: bool) -> None:
        self.path = path
        self.fd = -1
        self.created = False
        self.is_suspect = False
        self._operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._to_write = False

    @property
    def fds(self) -> list[int]:
        """The descriptors that keep the lock."""
        return [self.fd]

    @property
    def paths(self) -> list[bytes]:
        """The paths at which it is locked."""
        return [self.path]

    def open(self) -> None:
        """Open the file, unless it is open."""
        if self.fd < 0:
            self.fd, self.created = self._open()

    def try_take(self) -> bool:
        """Take the lock if it is free; return whether it was taken."""
        return self._take(self._operation | fcntl.LOCK_NB)

    def take(self) -> None:
        """Take the lock; sleep in the kernel until it is free."""
        self._take(self._operation)

    def free(self) -> None:
        """Free the lock, for all that inherited it too, and close the file."""
        self.unlock()
        self.close()

    def unlock(self) -> None:
        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def forget_created(self) -> None:
        """Delete the file if opening it created it; only with the lock held."""
        if self.created and self.fd >= 0 and self.is_current():
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass

    def suspect(self, *, suspected: bool) -> None:
        """Note in the file's mode, which even a full disk can keep, that no record has its holder.

        Of a file in the state directory only; another may be executable for its own reasons.
        """

    def adopt(self, descriptors: "Iterator[int]", *, created: bool) -> None:
        """Take over the lock by the next of these descriptors, from the process that took it."""
        self.close()
        self.fd = next(descriptors)
        self.created = self.created or created
        self.is_current()

    def close(self) -> None:
        """Close the file; other processes that have it open keep the lock."""
        if self.fd >= 0:
            try:
                os.close(self.fd)
            except OSError:  # it is closed all the same (close(2))
                pass
            self.fd = -1

    def _take(self, operation: int) -> bool:
        while True:
            self.open()
            try:
                fcntl.flock(self.fd, operation)
            except BlockingIOError:
                if self.is_current():
                    return False
            except OSError as error:
                self.close()
                if error.errno in {EBADF, EIO} and not self._to_write:
                    # NFS turns it into a byte-range lock, which needs a file opened for writing.
                    self._to_write = True
                    continue
                advice = "put it on a local file system"
                raise LockFileError(os.fsdecode(self.path), reason(error), advice) from error
            else:
                if self.is_current():
                    return True
            self.close()

    def is_current(self) -> bool:
        """Return whether the open file is still the one at its path."""
        mine = os.fstat(self.fd)
        self._look(mine)
        try:
            there = self._stat()
        except OSError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def _look(self, entry: os.stat_result) -> None:
        pass

    def _stat(self) -> os.stat_result:
        return os.stat(self.path)

    def _open(self) -> tuple[int, bool]:
        raise NotImplementedError


class NamedLock(FlockFile):
    """A lock file in the state directory."""

    def __init__(self, file: bytes, state: StateDir, *, shared: bool) -> None:
        super().__init__(os.path.join(state.locks, file), shared=shared)
        self._file = file
        self._state = state

    def suspect(self, *, suspected: bool) -> None:
        try:
            os.fchmod(self.fd, 0o700 if suspected else 0o600)
        except OSError:  # a read-only file system
            pass

    def _look(self, entry: os.stat_result) -> None:
        self.is_suspect = bool(entry.st_mode & stat.S_IXUSR) or self._state.is_exchangeable

    def _stat(self) -> os.stat_result:
        # In the directory that was opened, even if it is moved meanwhile.
        return self._state.stat_lock(self._file)

    def _open(self) -> tuple[int, bool]:
        try:
            return self._state.open_lock(self._file)
        except StateDirError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        # It was deleted, perhaps during a long wait. Others have made a new one, or we do now.
        self._state = StateDir(self._state.path)
        return self._state.open_lock(self._file)


class ChosenFile(FlockFile):
    """A file that the user chose, shared with flock(1) and others, and opened as flock(1) does."""

    def _open(self) -> tuple[int, bool]:
        from singlerun.symlinks import resolve  # noqa: PLC0415 - not in the plain form

        flags = os.O_RDWR if self._to_write else os.O_RDONLY
        flags |= os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
        shown = os.fsdecode(self.path)
        while True:
            path = resolve(self.path)
            try:
                # Without O_CREAT first: in a sticky directory it fails on a file of another user
                # (fs.protected_regular), and on a directory always.
                try:
                    descriptor, created = os.open(path, flags), False
                except FileNotFoundError:
                    descriptor, created = os.open(path, flags | os.O_CREAT, 0o666), True
                break
            except OSError as error:
                if error.errno == ELOOP:  # it has become a link since it was resolved
                    continue
                advice = "name a file that you may read or create"
                raise LockFileError(shown, reason(error), advice) from error
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            os.close(descriptor)
            raise LockFileError(shown, "it is neither a file nor a directory", "name another")
        return lift(descriptor), created
