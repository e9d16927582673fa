"""Holding a name: all of a job's locks, or none.

Several locks are taken in the order of their paths, which is the same for everybody, so that no
two jobs can each hold what the other waits for.
"""

from singlerun.lock.flock import ChosenFile, FlockFile, NamedLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.paths import StateDir


class Hold:
    """The locks that one job needs."""

    __slots__ = ("_files",)

    def __init__(self, files: list[FlockFile]) -> None:
        self._files = sorted(files, key=lambda file: file.path)

    @property
    def fds(self) -> list[int]:
        """The descriptors that keep the locks, for the command to inherit."""
        return [file.fd for file in self._files]

    @property
    def paths(self) -> list[bytes]:
        """The paths of the lock files."""
        return [file.path for file in self._files]

    @property
    def created(self) -> list[bytes]:
        """The paths of those lock files that did not exist before."""
        return [file.path for file in self._files if file.created]

    def try_take(self) -> bool:
        """Take all locks, or none if somebody holds one of them; tell which.

        Raises:
            LockFileError, StateDirError: a lock file can't be opened or locked.
        """
        taken = []
        try:
            for file in self._files:
                if not file.try_take():
                    return False
                taken.append(file)
            return True
        finally:
            if len(taken) < len(self._files):
                for file in taken:
                    file.free()

    def take(self) -> None:
        """Take all locks, sleeping in the kernel for each that somebody holds.

        Raises:
            LockFileError, StateDirError: a lock file can't be opened or locked.
        """
        for file in self._files:
            file.take()

    def free(self) -> None:
        """Free all locks, for the command's children too; the last thing to do."""
        for file in self._files:
            file.free()

    def close(self) -> None:
        """Let go of the locks but leave them to those who inherited them."""
        for file in self._files:
            file.close()


def of_names(names: "tuple[bytes, ...]", state: "StateDir", *, shared: bool) -> Hold:
    """Give the locks of these names."""
    return Hold([NamedLock(name, state, shared=shared) for name in sorted(set(names))])


def of_file(path: bytes, *, shared: bool) -> Hold:
    """Give the lock on a file that the user chose."""
    return Hold([ChosenFile(path, shared=shared)])
