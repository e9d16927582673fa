"""Makes sure that a queue is worked off: by one worker, never by none while there is work.

Each name has a FIFO. Its lock (flock) is held by the worker, its bytes wake that up.

    who adds        commits the job; then tries the lock
                        got it: nobody drains; starts a worker that inherits the lock
                        not:    somebody does; writes a byte
    who drains      finds nothing to do: frees the lock; looks again
                        finds something: tries the lock, goes on if it got it
                        finds nothing:   ends

No kick is lost. Who adds and does not get the lock does so while a worker has it, and the job is
committed. That worker frees the lock later, and looks again after that: it sees the job. If it
sleeps until some time, the byte wakes it; a FIFO keeps bytes as long as somebody has it open. A
worker that is killed does neither: so who does not get the lock sees whether its holder lives.

No second worker starts. The lock is not free for a moment between who starts a worker and the
worker: it is the same open file description. Should somebody delete the FIFO, there may be two;
each job is claimed in one commit under the name's own lock, so even they start none twice.

What is lost with who adds, killed after the commit, is the kick alone: whoever adds or runs next
under that name makes up for it, and so does ``reap``.
"""

import fcntl
import os
import time

from singlerun.errors import NoWorkerError
from singlerun.paths import reason
from singlerun.process import interpreter, procfs
from singlerun.render.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.paths import StateDir

LOG = b"workers.log"
LOG_BYTES = 1024 * 1024
DYING = 2.0
"""Seconds that a killed process may take to end, at most."""


def ensure(state: "StateDir", name: bytes, *, dry_run: bool = False) -> bool:
    """See to it that the queue of a name is worked off; tell whether nobody did before.

    Raises:
        NoWorkerError: there is none, and none could be started.
        StateDirError: its FIFO can't be used.
    """
    if dry_run:
        return not has_worker(state, name)
    fifo = state.open_fifo(name)
    try:
        if not try_lock(fifo):
            wake(fifo)
            if not _outlive(fifo):
                return False
        try:
            _start(state, name, fifo)
        except OSError as error:
            raise NoWorkerError(shown(name), reason(error)) from error
        return True
    finally:
        os.close(fifo)


def has_worker(state: "StateDir", name: bytes) -> bool:
    """Tell whether somebody works off the queue of a name.

    Without trying its lock: who adds in that moment would take us for a worker.

    Raises:
        StateDirError: its FIFO can't be used.
    """
    fifo = state.open_fifo(name)
    try:
        return _is_locked(fifo)
    finally:
        os.close(fifo)


def _is_locked(fifo: int) -> bool:
    return bool(procfs.holding(os.readlink(f"/proc/self/fd/{fifo}".encode())))


def _outlive(fifo: int) -> bool:
    """Become the worker after one that is dying; tell whether so.

    Who is killed does not look again, and has the lock a moment longer than it is seen to live.
    """
    deadline = time.monotonic() + DYING
    while not _is_locked(fifo):
        if try_lock(fifo):
            return True
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    return False


def try_lock(fifo: int) -> bool:
    """Become the worker of a queue unless somebody is; tell whether so."""
    try:
        fcntl.flock(fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fifo: int) -> None:
    """Stop being the worker of a queue."""
    fcntl.flock(fifo, fcntl.LOCK_UN)


def wake(fifo: int) -> None:
    """Let the worker look again if it sleeps."""
    try:
        os.write(fifo, b"!")
    except BlockingIOError:
        pass  # full of wake-ups


def woken(fifo: int) -> None:
    """Take back all wake-ups: who does this looks after it."""
    try:
        while os.read(fifo, 65536):
            pass
    except BlockingIOError:
        pass


def _start(state: "StateDir", name: bytes, fifo: int) -> None:
    """Start a worker of its own session, without a terminal; it has the FIFO and its lock.

    Raises:
        OSError: it can't be started.
    """
    log = os.path.join(state.path, LOG)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        if os.stat(log).st_size > LOG_BYTES:
            os.replace(log, log + b".old")
    except FileNotFoundError:
        pass
    words = [*interpreter.words("singlerun.queue.worker"), str(fifo)]
    os.posix_spawn(
        words[0],
        [*map(os.fsencode, words), state.path, name],
        # The worker's jobs are no parts of the run in which this one was added.
        {
            key: value
            for key, value in os.environb.items()
            if key and not key.startswith(b"SINGLERUN_")
        },
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, log, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, fifo, fifo),
        ],
        setsid=True,
    )
