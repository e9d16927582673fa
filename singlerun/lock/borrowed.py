"""A descriptor that the caller has open, locked as ``flock N`` does; the caller keeps the lock.

The lock belongs to the open file description, which is the caller's: it stays when this process
ends. So the caller's descriptor is only ever locked without waiting, and never once the wait was
given up. To wait, the file is opened anew and that is locked; a contender that comes between the
two locks and takes no notice of the line, as flock(1) does, is waited for again.
"""

import _thread
import fcntl
import os

from singlerun.lock.flock import FlockFile
from singlerun.process.descriptors import is_locked


class BorrowedFile(FlockFile):
    """A descriptor of the caller."""

    __slots__ = ("_is_abandoned", "_mutex", "_was_locked")

    def __init__(self, path: bytes, fd: int, *, shared: bool) -> None:
        super().__init__(path, shared=shared)
        self.fd = fd
        self._mutex = _thread.allocate_lock()
        self._is_abandoned = False
        self._was_locked = is_locked(fd)

    def try_take(self) -> bool:
        with self._mutex:
            return not self._is_abandoned and super().try_take()

    def take(self) -> None:
        while not self.try_take() and not self._is_abandoned:
            own = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(own, self._operation)
            finally:
                os.close(own)

    def unlock(self) -> None:
        if not self._was_locked:  # else the caller had it before, and has it still
            super().unlock()

    def abandon(self) -> None:
        with self._mutex:
            self._is_abandoned = True
            self.unlock()

    def forsake(self) -> None:
        self.unlock()

    def close(self) -> None:
        """Leave it open: it is the caller's."""

    def is_current(self) -> bool:
        """Return true: whatever is at the path, this descriptor is what the caller wants locked."""
        return True
