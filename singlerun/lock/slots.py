"""At most N at once: a lock that has N slots.

A run with a slot holds the lock itself shared, so that an exclusive one waits for all of them, and
the file of one slot exclusively. Which slot does not matter: a free one is found by trying all.

flock(2) can't sleep on several files. So a waiter sleeps on each in a thread of its own until the
first gets its lock. The other threads can't be woken. Their files are replaced under them (dup2):
such a thread sleeps on, and when its lock comes, only its own call still refers to the file, and
the kernel frees it as the call returns.
"""

import _thread
import fcntl
import os

from singlerun.lock.flock import FlockFile, KernelLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class SlotLock(KernelLock):
    """One of the slots of a lock; the same verbs as FlockFile. ``path`` is the lock's own."""

    def __init__(self, main: FlockFile, slots: list[FlockFile]) -> None:
        """``main`` must be a shared lock."""
        self.path = main.path
        self._main = main
        self._slots = slots
        self._taken: FlockFile | None = None

    @property
    def fds(self) -> list[int]:
        """The descriptors that keep the lock and the slot."""
        return self._main.fds if self._taken is None else [*self._main.fds, *self._taken.fds]

    @property
    def paths(self) -> list[bytes]:
        return [self.path]

    @property
    def is_suspect(self) -> bool:
        return self._main.is_suspect

    def suspect(self, *, suspected: bool) -> None:
        self._main.suspect(suspected=suspected)

    @property
    def created(self) -> bool:
        return self._main.created

    def try_take(self) -> bool:
        if not self._main.try_take():
            return False
        for slot in self._slots:
            if slot.try_take():
                self._taken = slot
                return True
            slot.close()
        self._main.free()
        return False

    def take(self) -> None:
        self._main.take()
        while self._taken is None:
            for slot in self._slots:
                slot.open()
            slot = self._slots[_first_locked([slot.fd for slot in self._slots])]
            for other in self._slots:
                if other is not slot:
                    other.fd = -1  # replaced
            if slot.is_current():
                self._taken = slot
            else:
                slot.close()

    def adopt(self, descriptors: "Iterator[int]", *, created: bool) -> None:
        self._main.adopt(descriptors, created=created)
        slot_fd = next(descriptors)
        for slot in self._slots:
            slot.close()
            slot.fd = slot_fd
            if slot.is_current():
                break
            slot.fd = -1
        else:  # its file was deleted: any slot will do for one that is not current
            slot.fd = slot_fd
        self._taken = slot

    def close(self) -> None:
        if self._taken is not None:
            self._taken.close()
            self._taken = None
        self._main.close()

    def is_current(self) -> bool:
        return self._main.is_current() and self._taken is not None and self._taken.is_current()

    def free(self) -> None:
        if self._taken is not None:
            self._taken.free()
            self._taken = None
        self._main.free()

    def unlock(self) -> None:
        if self._taken is not None:
            self._taken.unlock()
        self._main.unlock()

    def forget_created(self) -> None:
        self._main.forget_created()


def _first_locked(fds: list[int]) -> int:
    """Sleep until one of these files is locked; return its index, and let go of the others."""
    mutex, decided = _thread.allocate_lock(), _thread.allocate_lock()
    decided.acquire()
    locked: list[tuple[int, OSError | None]] = []

    def lock(index: int) -> None:
        failed = None
        try:
            fcntl.flock(fds[index], fcntl.LOCK_EX)
        except OSError as error:
            failed = error
        with mutex:
            if not locked:
                locked.append((index, failed))
                decided.release()

    for index in range(len(fds)):
        _thread.start_new_thread(lock, (index,))
    decided.acquire()
    with mutex:
        ((first, error),) = locked
    # No other process has this pipe, so a thread that has not begun its call yet returns at once.
    idle = os.pipe()
    for index, fd in enumerate(fds):
        if index != first:
            os.dup2(idle[0], fd, inheritable=False)
    os.close(idle[0])
    os.close(idle[1])
    if error is not None:
        raise error
    return first
