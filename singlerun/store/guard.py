"""The flock around all access to the database; a queue in the kernel would do, had it a timeout."""

import fcntl
import os
import time

from singlerun.errors import RecordError, StateDirError
from singlerun.paths import reason
from singlerun.process.signals import STOPPING
from singlerun.timings import GUARD_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from singlerun.paths import StateDir
else:
    import _signal


class Guard:
    """The flock around all access to the database; may be nested.

    Stop signals of a terminal are blocked meanwhile: a process that Ctrl-Z stopped with the guard
    held would keep all others waiting. ``patience`` is how long it waits while no other makes
    progress.
    """

    def __init__(self, state: "StateDir", path: bytes, *, patience: float = GUARD_PATIENCE) -> None:
        self._state = state
        self._path = path
        self._patience = patience
        self._shown = os.fsdecode(path)
        self._fd = -1
        self._depth = 0
        self._mask: set[int] = set()

    def __enter__(self) -> None:
        if self._depth == 0:
            self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, STOPPING)
            try:
                self._take()
            except BaseException:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
                raise
        self._depth += 1

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)

    def close(self) -> None:
        """Let go of its file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self) -> None:
        try:
            if self._fd < 0:
                self._fd = self._state.open_file(os.path.basename(self._path) + b".lock")
        except StateDirError as error:
            raise RecordError(self._shown, *error.args[1:]) from None
        nap, deadline, progress = 0.0002, 0.0, (0, 0)
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Held for a fraction of a millisecond, unless its holder was stopped. A crowd may
                # keep one process waiting for long, and is told from that by its progress.
                if time.monotonic() > deadline:
                    if deadline and progress == self._progress():
                        raise RecordError(
                            self._shown,
                            f"another singlerun has kept it busy for {self._patience:g} s",
                            f"find the stopped process: fuser -v {self._shown}.lock",
                        ) from None
                    deadline, progress = time.monotonic() + self._patience, self._progress()
                time.sleep(nap)
                nap = min(nap * 1.5, 0.01)
            except OSError as error:
                raise RecordError(
                    self._shown, reason(error), "put it on a local file system"
                ) from error
            else:
                return

    def _progress(self) -> tuple[int, int]:
        """Return what changes with every write of others."""
        try:
            log = os.stat(self._path + b"-wal")
        except OSError:
            return 0, 0
        return log.st_mtime_ns, log.st_size
