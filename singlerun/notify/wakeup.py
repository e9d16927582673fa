"""Makes sure that a sender exists while there is something in the spool, and is awake.

As for the workers of queues (queue/wakeup.py), the sender holds the lock of a FIFO, and its bytes
wake the sender up. A process that has added to the spool tries the lock. If it gets it, there was
no sender, and it starts one, which inherits the lock; if not, it writes a byte. A sender that finds
nothing to do frees the lock and looks again, so it misses nothing that was added before that.

If a process is killed between the lock and the start, what it has added stays in the spool for the
next event: nothing is lost, and no run waits for a notification.
"""

import fcntl
import os
import time

from singlerun.notify.spool import DIRECTORY, FIFO
from singlerun.process import interpreter
from singlerun.process.descriptors import try_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.paths import StateDir

LOG = b"notify.log"
LOG_BYTES = 1024 * 1024
_LOOK, _HURRY = b"!", b"+"


def ensure(state: "StateDir", *, hurry: bool = False) -> int | None:
    """Make sure that a sender exists and looks; return its PID if it was started here.

    ``hurry``: it is to try at once also what has failed a moment ago.

    Raises:
        StateDirError, SinglerunError, OSError: it can't be started.
    """
    fifo = state.open_fifo(FIFO, DIRECTORY)
    try:
        if not try_lock(fifo):
            wake(fifo, _HURRY if hurry else _LOOK)
            return None
        return _start(state, fifo)
    finally:
        os.close(fifo)


def unlock(fifo: int) -> None:
    """Stop being the sender."""
    fcntl.flock(fifo, fcntl.LOCK_UN)


def wake(fifo: int, word: bytes) -> None:
    """Let the sender look again if it sleeps."""
    try:
        os.write(fifo, word)
    except BlockingIOError:
        pass  # full of wake-ups


def clear(fifo: int) -> bool:
    """Remove all wake-ups; return whether one asks to hurry. To be followed by a look."""
    words = b""
    try:
        while more := os.read(fifo, 65536):
            words += more
    except BlockingIOError:
        pass
    return _HURRY in words


def log(state: "StateDir", message: str) -> None:
    """Add a line to the log, which is bounded; failing to do so is no error."""
    path = _rotated(state)
    line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {message}\n".encode(errors="backslashreplace")
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError:
        pass


def _rotated(state: "StateDir") -> bytes:
    path = os.path.join(state.path, LOG)
    try:
        if os.stat(path).st_size > LOG_BYTES:
            os.replace(path, path + b".old")
    except OSError:
        pass
    return path


def _start(state: "StateDir", fifo: int) -> int:
    """Start a sender in a session of its own; it has the FIFO and its lock."""
    words = [*interpreter.words("singlerun.notify.sender"), str(fifo)]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        words[0],
        [*map(os.fsencode, words), state.path],
        # It is no part of the run whose news it tells.
        interpreter.environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, _rotated(state), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, fifo, fifo),
        ],
        setsid=True,
        setsigmask=(),
    )
