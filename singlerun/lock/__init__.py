"""Holding a name: all of a job's locks, or none.

Several locks are taken in the order of their paths, which is the same for everybody, so that no
two jobs can each hold what the other waits for.
"""

import os

from singlerun.errors import LockFileError, SinglerunError, StateDirError, UsageError
from singlerun.lock.flock import ChosenFile, FlockFile, NamedLock
from singlerun.lock.line import Line, OccupiedError, Place, join, position
from singlerun.paths import lock_file_name, slot_file_name

__all__ = ["AUTO", "FLOCK", "LOCKFILE", "Hold", "OccupiedError", "of_file", "of_names"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock.lockfile import LockFile
    from singlerun.lock.slots import SlotLock
    from singlerun.paths import StateDir

    Lock = FlockFile | SlotLock | LockFile

AUTO, FLOCK, LOCKFILE = "auto", "flock", "lockfile"


class Hold:
    """The locks that one job needs, and the lines in which one waits for them.

    Attributes:
        out_of_line: why the job waited without a place in line, None if it had one.
    """

    __slots__ = ("_abandoned", "_files", "_is_held", "_lines", "_place", "out_of_line")

    def __init__(self, files: "list[Lock]", lines: list[Line]) -> None:
        self._files = sorted(files, key=lambda file: file.path)
        self._lines = sorted(lines, key=lambda line: line.path)
        self._place: Place | None = None
        self._abandoned = False
        self._is_held = False
        self.out_of_line: str | None = None

    @property
    def fds(self) -> list[int]:
        """The descriptors that keep the locks, for the command to inherit."""
        return [fd for file in self._files for fd in file.fds]

    @property
    def paths(self) -> list[bytes]:
        """The paths of the lock files."""
        return [path for file in self._files for path in file.paths]

    @property
    def place(self) -> int | None:
        """The place of this process in the longest of the lines, the front being 1."""
        places = [place for line in self._lines if (place := position(line.path, os.getpid()))]
        return max(places, default=None)

    @property
    def created(self) -> list[bytes]:
        """The paths of those lock files that did not exist before."""
        return [file.path for file in self._files if file.created]

    def sweep(self) -> None:
        """Clear away the tickets of the dead."""
        for line in self._lines:
            line.is_empty()

    def try_in_turn(self) -> bool:
        """Take all locks, or none if somebody holds one of them, or waits for it; tell which.

        Raises:
            LockFileError, StateDirError: a lock file can't be opened or locked.
        """
        # Whoever has come since the locks were taken stands in line behind us, not before us.
        return self._is_held or (all(line.is_empty() for line in self._lines) and self.try_take())

    def is_awaited(self) -> bool:
        """Tell whether somebody stands in line for one of the locks."""
        return not all(line.is_empty() for line in self._lines)

    def try_take(self) -> bool:
        """Take all locks, or none if somebody holds one of them; tell which. Past any line.

        Raises:
            LockFileError, StateDirError: a lock file can't be opened or locked.
        """
        taken = []
        try:
            for file in self._files:
                if not file.try_take():
                    return False
                taken.append(file)
            self._is_held = True
            return True
        finally:
            if len(taken) < len(self._files):
                for file in taken:
                    file.free()

    def take(self, *, unless_occupied: bool = False, pid: int | None = None) -> None:
        """Take all locks in turn, asleep in the kernel until nobody is before us.

        ``pid`` is as for ``stand_in_line``.

        Raises:
            OccupiedError: somebody waits already, and ``unless_occupied`` is true.
            LockFileError, StateDirError: a lock file can't be opened or locked.
        """
        self.stand_in_line(unless_occupied=unless_occupied, pid=pid)
        for file in self._files:
            file.take()
        self._taken()

    def stand_in_line(self, *, unless_occupied: bool = False, pid: int | None = None) -> None:
        """Join the lines, and sleep until nobody is before us in any.

        ``pid`` is the process for which one waits, if it is another.

        Raises:
            OccupiedError: somebody waits already, and ``unless_occupied`` is true.
        """
        try:
            self._place = join(self._lines, unless_occupied=unless_occupied, pid=pid)
        except StateDirError as error:  # a full disk must not keep a job from its lock
            self.out_of_line = str(error)
        if self._place is not None:
            self._place.wait()

    def try_take_as_first(self) -> bool:
        """Take all locks, or none if somebody holds one of them; after ``stand_in_line``.

        Raises:
            LockFileError, StateDirError: a lock file can't be opened or locked.
        """
        if not self.try_take():
            return False
        self._taken()
        return True

    def _taken(self) -> None:
        self._is_held = True
        if self._place is not None:
            self._place.leave()
        if self._abandoned:
            self.unlock()

    def is_current(self) -> bool:
        """Tell whether the files that were locked are still those at their paths."""
        return all(file.is_current() for file in self._files)

    def abandon(self) -> None:
        """Leave no trace of a wait that did not end well; the process ends after this.

        ``take`` may still sleep in another thread, or have just taken the locks. Whichever of the
        two comes second frees them.
        """
        self._abandoned = True
        if self._is_held:
            self.forget_created()
        for file in self._files:
            file.abandon()
        if self._place is not None:
            self._place.abandon()

    @property
    def needs_freeing(self) -> bool:
        """Whether the end of this process would not free all of it."""
        return any(file.needs_freeing for file in self._files)

    def note(
        self, marks: tuple[int | None, int], command: tuple[int, int | None] | None = None
    ) -> None:
        """Note the marks of the run that begins, then its command's process, beside a lock file.

        Raises:
            LockFileError: the marks can't be noted.
        """
        for file in self._files:
            file.note(marks, command)

    def forsake(self) -> None:
        """Free after an error of ours what the kernel does not free, if nothing was started."""
        for file in self._files:
            file.forsake()

    def unlock(self) -> None:
        """Free all locks and leave the files open."""
        for file in self._files:
            file.unlock()

    def forget_created(self) -> None:
        """Delete the lock files that were made by this attempt, which hold nothing.

        That a lock file is missing is a trace of what was deleted under a holder; the next attempt
        must find it too. To be called with the locks held: whoever opened a file before it was
        deleted finds that it isn't the current one, and begins anew.
        """
        for file in self._files:
            file.forget_created()

    def adopt(self, descriptors: list[int], created: list[bool]) -> None:
        """Take over all locks from a process that took them for us, in the order of ``fds``."""
        rest = iter(descriptors)
        for file, new in zip(self._files, created, strict=True):
            file.adopt(rest, created=new)  # type: ignore[union-attr]  # a lock file is never taken so
        self._is_held = True

    def close(self) -> None:
        """Close all files; who inherited the locks, or let us inherit them, keeps them."""
        self._is_held = False
        for file in self._files:
            file.close()  # type: ignore[union-attr]  # as above

    def free(self) -> None:
        """Free all locks, for the command's children too; the last thing to do."""
        was_held, self._is_held = self._is_held, False
        for file in self._files:
            file.free()
        if was_held:  # the next has begun by now: this keeps nobody waiting
            for line in self._lines:
                line.trim()


def of_names(
    names: "tuple[bytes, ...]",
    state: "StateDir",
    *,
    shared: bool,
    slots: int | None = None,
    lock_type: str = AUTO,
) -> Hold:
    """Give the locks of these names; with ``slots`` one of so many of each.

    Whatever the type, no two runs of a name go by two different locks: all take the kernel lock
    where it can be trusted, and the lock file where it can't.

    Raises:
        LockFileError, UsageError: it needs a lock file, and is not to be held by one alone.
    """
    wanted = sorted(set(names))
    remote = _distrusted(state.locks)
    alone = not shared and slots is None
    files: list[Lock] = []
    for name in wanted:
        file = lock_file_name(name)
        kernel = NamedLock(file, state, shared=not alone)
        if remote is None and lock_type != LOCKFILE:
            files.append(kernel if slots is None else _slot_of(kernel, file, state, slots))
            continue
        if not alone:
            raise _not_alone(state.locks, remote, "name a local directory with --dir")
        insists = lock_type == FLOCK
        both = remote is None or insists
        at = state.soft_path(name)
        files.append(_lock_file(at, kernel, both=both, mode=0o600, needs_links=not insists))
    # The tickets of a line are kernel locks too.
    return Hold(files, [Line(state.line_path(name)) for name in wanted] if remote is None else [])


def of_file(
    path: bytes,
    state: "StateDir | None",
    *,
    shared: bool,
    slots: int | None = None,
    lock_type: str = AUTO,
) -> Hold:
    """Give the lock on a file that the user chose; without a state directory it has no line.

    Raises:
        LockFileError, UsageError: it can't be looked at, or it needs a lock file, and is not to be
            held by one alone.
        StateDirError: there is no state directory for the slots.
    """
    alone = not shared and slots is None
    kernel = ChosenFile(path, shared=not alone)
    remote = None if lock_type == FLOCK else _distrusted(path)
    file: Lock = kernel
    if remote is not None or lock_type == LOCKFILE:
        if not alone:
            raise _not_alone(path, remote, "name a local file, or insist with --lock-type flock")
        file = _lock_file(path, kernel, both=remote is None)
    local = state if state is not None and _distrusted(state.locks) is None else None
    if slots is not None:
        if local is None:
            raise StateDirError(
                "of the slots", "there is no local one", "name one with --dir or SINGLERUN_DIR"
            )
        # No escaped name begins like this.
        file = _slot_of(kernel, b"%%" + lock_file_name(path), local, slots)
    return Hold([file], [] if local is None else [Line(local.line_path_of_file(path))])


def _slot_of(lock: FlockFile, file: bytes, state: "StateDir", slots: int) -> "SlotLock":
    from singlerun.lock.slots import SlotLock  # noqa: PLC0415 - rare

    files = [slot_file_name(file, slot) for slot in range(1, slots + 1)]
    return SlotLock(lock, [NamedLock(file, state, shared=False) for file in files])


def _lock_file(
    at: bytes, kernel: FlockFile, *, both: bool, mode: int | None = None, needs_links: bool = True
) -> "LockFile":
    from singlerun.lock.lockfile import LockFile  # noqa: PLC0415 - imports filelock, 48 ms

    return LockFile(at, kernel, both=both, mode=mode, needs_links=needs_links)


def _distrusted(path: bytes) -> str | None:
    """Give the type of a file's file system if kernel locks on it can't be trusted, else None."""
    try:
        if os.major(os.stat(path).st_dev):
            return None  # it has a block device, so it is local
    except OSError:
        pass
    from singlerun.lock.filesystem import distrusted  # noqa: PLC0415 - rare

    return distrusted(path)


def _not_alone(path: bytes, remote: str | None, remedy: str) -> SinglerunError:
    what = "a lock file has neither a shared mode nor slots"
    if remote is None:
        return UsageError(what)
    why = f"kernel locks on {remote} can't be trusted, and {what}"
    return LockFileError(os.fsdecode(path), why, remedy)
