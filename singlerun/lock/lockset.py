"""All locks that one job needs: they are taken together or not at all.

They are taken in the order of their paths, the same in all processes, so that no two jobs can each
hold what the other waits for.
"""

from singlerun.errors import StateDirError
from singlerun.lock.line import Line, Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock.flock import FlockFile
    from singlerun.lock.lockfile import LockFile
    from singlerun.lock.slots import SlotLock


class LockSet:
    """The locks of a job, and the lines in which it waits for them.

    What takes them raises LockFileError or StateDirError if a lock file can't be opened or locked.

    Attributes:
        out_of_line: why the job waited without a ticket, None if it had one.
    """

    def __init__(self, locks: "list[FlockFile | SlotLock | LockFile]", lines: list[Line]) -> None:
        self._locks = sorted(locks, key=lambda lock: lock.path)
        self._lines = Lines(lines)
        self._abandoned = False
        self._is_held = False
        self.out_of_line: str | None = None

    @property
    def fds(self) -> list[int]:
        """The descriptors that keep the locks, for the command to inherit."""
        return [fd for lock in self._locks for fd in lock.fds]

    @property
    def paths(self) -> list[bytes]:
        """The paths of the lock files."""
        return [path for lock in self._locks for path in lock.paths]

    @property
    def place(self) -> int | None:
        """The position of this process in the longest of the lines, the front being 1."""
        return self._lines.position()

    @property
    def created(self) -> list[bytes]:
        """The paths of the lock files that did not exist before."""
        return [lock.path for lock in self._locks if lock.created]

    @property
    def suspects(self) -> list[bytes]:
        """The paths of the lock files whose latest holder could not be recorded."""
        return [lock.path for lock in self._locks if lock.is_suspect]

    def suspect(self, *, suspected: bool) -> None:
        """Note that no record has the holder of these locks, or that it is known to be gone."""
        for lock in self._locks:
            lock.suspect(suspected=suspected)

    @property
    def needs_freeing(self) -> bool:
        """Whether the end of this process would leave some of the locks held."""
        return any(lock.needs_freeing for lock in self._locks)

    def sweep(self) -> None:
        """Delete the tickets of the dead."""
        self._lines.sweep()

    def is_awaited(self) -> bool:
        """Return whether another process waits for one of the locks, or that cannot be seen."""
        try:
            return not self._lines.are_empty()
        except StateDirError:
            return True

    def try_in_turn(self) -> bool:
        """Take all locks, or none if one is held or awaited; return whether they were taken."""
        # Waiters that came after the locks were taken stand behind this process, not before it.
        return self._is_held or (self._lines.are_empty() and self.try_take())

    def try_take(self) -> bool:
        """Take all locks, or none if one is held; ignoring the line; return whether all were."""
        taken = []
        try:
            for lock in self._locks:
                if not lock.try_take():
                    return False
                taken.append(lock)
            self._is_held = True
            return True
        finally:
            if len(taken) < len(self._locks):
                for lock in taken:
                    lock.free()

    def take(self, *, unless_occupied: bool = False, pid: int | None = None) -> None:
        """Take all locks in turn, asleep in the kernel meanwhile; else as ``stand_in_line``."""
        self.stand_in_line(unless_occupied=unless_occupied, pid=pid)
        for lock in self._locks:
            lock.take()
        self._taken()

    def stand_in_line(self, *, unless_occupied: bool = False, pid: int | None = None) -> None:
        """Join the lines, and sleep until this process is at the front of each.

        ``pid`` is the process on whose behalf this one waits, if any. Raises OccupiedError if
        another process waits already, and ``unless_occupied`` is true.
        """
        try:
            self._lines.join(unless_occupied=unless_occupied, pid=pid)
        except StateDirError as error:  # a full disk must not keep a job from its lock
            self.out_of_line = str(error)
        self._lines.wait()

    def try_take_as_first(self) -> bool:
        """Take all locks, or none if one is held, and leave the line; after ``stand_in_line``."""
        if taken := self.try_take():
            self._taken()
        return taken

    def _taken(self) -> None:
        self._is_held = True
        self._lines.leave()
        if self._abandoned:
            self.unlock()

    def is_current(self) -> bool:
        """Return whether the files that were locked are still those at their paths."""
        return all(lock.is_current() for lock in self._locks)

    def abandon(self) -> None:
        """Leave no trace of a wait that failed; the process must end after this.

        ``take`` may still sleep in another thread, or have just taken the locks. Whichever of the
        two comes second frees them.
        """
        self._abandoned = True
        if self._is_held:
            self.forget_created()
        for lock in self._locks:
            lock.abandon()
        self._lines.abandon()

    def note(
        self, marks: tuple[int | None, int], command: tuple[int, int | None] | None = None
    ) -> None:
        """Note the marks of the run that begins, then its command's process, beside a lock file.

        Raises LockFileError if the marks can't be noted.
        """
        for lock in self._locks:
            lock.note(marks, command)

    def forsake(self) -> None:
        """After an internal error, free what the kernel would not, if no command was started."""
        for lock in self._locks:
            lock.forsake()

    def unlock(self) -> None:
        """Free all locks and leave the files open."""
        for lock in self._locks:
            lock.unlock()

    def forget_created(self) -> None:
        """Delete the lock files that this attempt created; only with the locks held.

        A missing lock file is a trace of one that was deleted under its holder, and the next
        attempt must find that trace too. A process that opened a file before it was deleted finds
        that it is not the current one, and starts over.
        """
        for lock in self._locks:
            lock.forget_created()

    def adopt(self, descriptors: list[int], created: list[bool]) -> None:
        """Take over all locks, in the order of ``fds``, from the process that took them for us."""
        rest = iter(descriptors)
        for lock, new in zip(self._locks, created, strict=True):
            lock.adopt(rest, created=new)  # type: ignore[union-attr]  # a lock file is never taken so
        self._is_held = True

    def close(self) -> None:
        """Close all files; other processes that have them open keep the locks."""
        self._is_held = False
        for lock in self._locks:
            lock.close()  # type: ignore[union-attr]  # as above

    def free(self) -> None:
        """Free all locks, for the command's children too; the last thing to do."""
        was_held, self._is_held = self._is_held, False
        for lock in self._locks:
            lock.free()
        if was_held:  # the next holder has begun by now: this keeps no waiter waiting
            self._lines.trim()
