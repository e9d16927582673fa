"""A lock file, for file systems whose kernel lock can't be trusted: filelock's StrictSoftFileLock.

    take    look at the claims: all dead -> break them, and claim (filelock's part, by hard links,
            which every file system that makes them makes at once or not at all)
    hold    while the claim is there; a note beside it tells what is started under it
    free    forget the note, delete the claim

There is no queue in the kernel, so a waiter polls, the less often the longer it waits. Nor is it
inherited: the claim of a wrapper that was killed counts as long as its command lives (claims.py).
Where the kernel lock can be trusted too, both are taken, or neither.

The file itself stays where it is, with filelock's sentinel in it. For filelock's plain SoftFileLock
any file is a held lock, so it is refused; and its marker refuses us. Deleting the sentinel with the
claim would let SoftFileLock in again, but beside a StrictSoftFileLock that found the sentinel just
before: both would hold. So the two exclude each other, but can't take turns on one path.

The process may end while another of its threads still tries to take the lock, and no finalizer
runs then. So each try is made with the mutex held, and none is begun after ``abandon``.
"""

import _thread
import os
import time
from errno import EMLINK, ENOSYS, ENOTSUP, EPERM, EXDEV
from random import uniform

from filelock import (
    MarkerSoftFileLock,
    SoftFileLock,
    SoftFileLockProtocolError,
    StrictSoftFileLock,
    Timeout,
)

from singlerun.errors import LockFileError
from singlerun.lock import claims
from singlerun.paths import SCARCITY, make_private_directory, reason, remedy
from singlerun.process.identity import DEAD
from singlerun.timings import LONGEST_TRY, SHORTEST_TRY, TRY_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock.flock import FlockFile

_NO_LINKS = {EMLINK, ENOSYS, ENOTSUP, EPERM, EXDEV}


class LockFile:
    """A lock file, and the kernel lock beside it where there is one; the same verbs as FlockFile.

    ``path`` is that of the kernel lock, even where none is taken: locks are sorted by it.
    """

    needs_freeing = True
    is_suspect = False  # the claim's note has the marks of its holder

    def __init__(
        self, at: bytes, kernel: "FlockFile", *, both: bool, mode: int | None = None,
        needs_links: bool = True,
    ) -> None:  # fmt: skip
        """Name a lock file, and the kernel lock for the same purpose, taken too if ``both``.

        ``mode`` is for the files that are made, in a directory of ours; None for a file that the
        user chose, where the umask decides. Where a file system makes no hard links there can be
        no claim, so the kernel lock is enough there unless ``needs_links`` is true.
        """
        self.path = kernel.path
        self._at = at
        self._kernel = kernel if both else None
        self._needs_links = needs_links
        self._is_ours = mode is not None
        self._mode = 0o666 if mode is None else mode
        shown = os.fsdecode(at)
        self._lock = (
            StrictSoftFileLock(shown, thread_local=False)
            if mode is None
            else StrictSoftFileLock(shown, mode=mode, thread_local=False)
        )
        self._mutex = _thread.allocate_lock()
        self._abandoned = False
        self._is_given = False
        self._made = False
        self._token = ""

    @property
    def fds(self) -> list[int]:
        """The descriptors that keep the kernel lock; the claim has none."""
        return [] if self._kernel is None else self._kernel.fds

    @property
    def paths(self) -> list[bytes]:
        if self._kernel is None or self._at == self.path:
            return [self._at]
        return [self.path, self._at]

    def suspect(self, *, suspected: bool) -> None:
        """Note nothing."""

    @property
    def created(self) -> bool:
        if self._kernel is None or self._at == self.path:
            return self._made
        return self._kernel.created

    def try_take(self) -> bool:
        if not self._mutex.acquire(timeout=TRY_PATIENCE):
            return False
        try:
            if self._abandoned or not self._claim():
                return False
            taken = False
            try:
                taken = self._kernel is None or self._kernel.try_take()
            finally:
                if not taken:
                    self._drop()
            return taken
        finally:
            self._mutex.release()

    def take(self) -> None:
        """Try again until the lock is taken, or abandoned."""
        nap = SHORTEST_TRY
        while not self._abandoned and not self.try_take():
            time.sleep(uniform(nap / 2, nap))  # noqa: S311 - so that waiters don't try in step
            nap = min(nap * 1.2, LONGEST_TRY)

    def _claim(self) -> bool:
        """Make our claim if all others are dead; return whether it was made."""
        try:
            if self._is_ours:  # or its directory may have been deleted during a long wait
                make_private_directory(os.path.dirname(self._at))
            former = claims.read(self._at)
            if any(claims.fate(claim)[0] != DEAD for claim in former):
                return False
            for claim in former:
                claims.break_(claim)
            self._made = not os.path.lexists(self._at)
            while not self._try():
                if self._abandoned or claims.read(self._at) or self._is_marked():
                    return False
                # It is free, so what is there is no lock file (yet): filelock gives it two seconds
                # to become one, and then raises.
                time.sleep(LONGEST_TRY)
            # Other processes may try at this moment, but no other thread of this one does.
            pid = os.getpid()
            self._token = next(
                claim.token for claim in claims.read(self._at) if claim.held and claim.pid == pid
            )
        except (SoftFileLockProtocolError, OSError, StopIteration) as error:
            self._drop()
            foreign = getattr(error, "claim_name", None) is not None
            cause = error.__cause__ if isinstance(error, SoftFileLockProtocolError) else error
            number = getattr(cause, "errno", None)
            if foreign and number == EPERM:
                # It links a claim to see whether it is still there, which the kernel may forbid
                # with another user's (fs.protected_hardlinks): so there is one.
                return False
            if number in _NO_LINKS:
                if not self._needs_links:
                    return True
                raise LockFileError(
                    os.fsdecode(self._at),
                    "its file system makes no hard links, and a lock file needs them",
                    "put it on a local file system, or insist with --lock-type flock",
                ) from error
            raise self._failure(error) from error
        return True

    def _try(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except ExceptionGroup as group:  # it failed, and then to clean up after it
            first: Exception = group
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            raise first from first.__cause__
        return True

    def _is_marked(self) -> bool:
        """Return whether the file is held by one of filelock's other locks."""
        path = os.fsdecode(self._at)
        return bool(SoftFileLock(path).pid or MarkerSoftFileLock(path).pid)

    def _failure(self, error: Exception) -> LockFileError:
        what, advice = "its claims were deleted from outside", "try again"
        if isinstance(error, SoftFileLockProtocolError):
            name = "" if error.claim_name is None else f"{error.claim_name}: "
            what = f"{name}{error.reason}"
            advice = "remove it if it is not in use, or name another file"
        elif isinstance(error, OSError):
            what, advice = reason(error), "make its directory writable, and make room"
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno in SCARCITY:
            advice = remedy(cause)
        return LockFileError(os.fsdecode(self._at), what, advice)

    def note(self, marks: tuple[int | None, int], command: tuple[int, int | None] | None) -> None:
        """Note the marks of the run that begins, then the process of its command.

        Raises LockFileError if the marks can't be noted: what is left would not be found.
        """
        self._is_given = command is not None
        if not self._token:
            return
        path = claims.note_path(self._at, self._token)
        try:
            claims.write_note(path, marks, command, mode=self._mode)
        except OSError as error:
            if command is None:  # else its marks were noted before it was started
                raise self._failure(error) from error

    def is_current(self) -> bool:
        if self._kernel is not None and not self._kernel.is_current():
            return False
        name = f"held-v1-{self._token}.claim".encode()
        directory = os.path.join(self._at + claims.DIRECTORY, b"claims")
        return not self._token or os.path.lexists(os.path.join(directory, name))

    def unlock(self) -> None:
        self._drop()
        if self._kernel is not None:
            self._kernel.unlock()

    def _drop(self) -> None:
        if self._token:
            claims.forget_note(claims.note_path(self._at, self._token))
            self._token = ""
        try:
            self._lock.release(force=True)
        except Exception:  # noqa: BLE001, S110 - what is left is a dead claim once this process has ended
            pass

    def abandon(self) -> None:
        """Free the lock, and never take it again, whatever another thread is about to do."""
        self._abandoned = True
        mine = self._mutex.acquire(timeout=TRY_PATIENCE)
        try:
            self.unlock()
        finally:
            if mine:
                self._mutex.release()

    def forsake(self) -> None:
        """After an internal error, free the lock unless a command runs under it."""
        if not self._is_given:
            self.free()

    def forget_created(self) -> None:
        if self._kernel is not None:
            self._kernel.forget_created()
        if self._made:
            try:
                os.unlink(self._at)
            except OSError:
                pass

    def free(self) -> None:
        self.unlock()
        if self._kernel is not None:
            self._kernel.close()
