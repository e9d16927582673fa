"""Holding a name: all of a job's locks, or none of them."""

import os

from singlerun.errors import LockFileError, SinglerunError, StateDirError, UsageError
from singlerun.lock.flock import ChosenFile, FlockFile, NamedLock
from singlerun.lock.line import Line, OccupiedError
from singlerun.lock.lockset import LockSet
from singlerun.paths import lock_file_name, slot_file_name

__all__ = ["AUTO", "FLOCK", "LOCKFILE", "LockSet", "OccupiedError", "of_file", "of_names"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock.lockfile import LockFile
    from singlerun.lock.slots import SlotLock
    from singlerun.paths import StateDir

AUTO, FLOCK, LOCKFILE = "auto", "flock", "lockfile"


def of_names(
    names: "tuple[bytes, ...]", state: "StateDir", *, shared: bool, slots: int | None = None,
    lock_type: str = AUTO,
) -> LockSet:  # fmt: skip
    """Return the locks of these distinct names; with ``slots``, one of that many slots of each.

    Whatever the type, no two runs of a name use two different locks: all take the kernel lock where
    it can be trusted, and the lock file where it can't. Raises LockFileError or UsageError if it
    needs a lock file, and is not exclusive.
    """
    remote = _distrusted(state.locks)
    exclusive = not shared and slots is None
    locks: list[FlockFile | SlotLock | LockFile] = []
    for name in names:
        file = lock_file_name(name)
        kernel = NamedLock(file, state, shared=not exclusive)
        if remote is None and lock_type != LOCKFILE:
            locks.append(kernel if slots is None else _slot_of(kernel, file, state, slots))
            continue
        if not exclusive:
            raise _not_exclusive(state.locks, remote, "name a local directory with --dir")
        insists = lock_type == FLOCK
        both = remote is None or insists
        at = state.soft_path(name)
        locks.append(_lock_file(at, kernel, both=both, mode=0o600, needs_links=not insists))
    # The tickets of a line are kernel locks too.
    lines = [Line(state.line_path(name)) for name in names] if remote is None else []
    return LockSet(locks, lines)


def of_file(
    path: bytes, state: "StateDir | None", *, shared: bool, slots: int | None = None,
    lock_type: str = AUTO,
) -> LockSet:  # fmt: skip
    """Return the lock on a file that the user chose; it has no line without a state directory.

    Raises LockFileError or UsageError if it can't be looked at, or it needs a lock file and is not
    exclusive, StateDirError if there is no state directory for the slots.
    """
    exclusive = not shared and slots is None
    kernel = ChosenFile(path, shared=not exclusive)
    remote = None if lock_type == FLOCK else _distrusted(path)
    lock: FlockFile | SlotLock | LockFile = kernel
    if remote is not None or lock_type == LOCKFILE:
        if not exclusive:
            advice = "name a local file, or insist with --lock-type flock"
            raise _not_exclusive(path, remote, advice)
        lock = _lock_file(path, kernel, both=remote is None)
    local = state if state is not None and _distrusted(state.locks) is None else None
    if slots is not None:
        if local is None:
            advice = "name one with --dir or SINGLERUN_DIR"
            raise StateDirError("of the slots", "there is no local one", advice)
        # No escaped name begins like this.
        lock = _slot_of(kernel, b"%%" + lock_file_name(path), local, slots)
    return LockSet([lock], _lines_of(path, local))


def of_descriptor(fd: int, path: bytes, state: "StateDir | None", *, shared: bool) -> LockSet:
    """Return the lock on a descriptor that the caller has open, of the file at this path."""
    from singlerun.lock.borrowed import BorrowedFile  # noqa: PLC0415 - rare

    return LockSet([BorrowedFile(path, fd, shared=shared)], _lines_of(path, state))


def _lines_of(path: bytes, state: "StateDir | None") -> list[Line]:
    local = state is not None and _distrusted(state.locks) is None
    return [Line(state.line_path_of_file(path))] if state is not None and local else []


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
    """Return the type of a file's file system if its kernel locks can't be trusted, else None."""
    try:
        if os.major(os.stat(path).st_dev):
            return None  # it has a block device, so it is local
    except OSError:
        pass
    from singlerun.lock.filesystem import distrusted  # noqa: PLC0415 - rare

    return distrusted(path)


def _not_exclusive(path: bytes, remote: str | None, remedy: str) -> SinglerunError:
    what = "a lock file has neither a shared mode nor slots"
    if remote is None:
        return UsageError(what)
    why = f"kernel locks on {remote} can't be trusted, and {what}"
    return LockFileError(os.fsdecode(path), why, remedy)
