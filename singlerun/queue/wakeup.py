"""Makes sure that a queue has a worker: one, and never none while there is work.

Each name has a FIFO. Its lock (flock) is held by the worker, its bytes wake the worker up.

    an adder     commits the job; then tries the lock
                     got it: there is no worker; starts one that inherits the lock
                     not:    writes a byte, and sees that a worker has begun, and is alive
    a worker     has begun: says so by a second lock, on a byte of the FIFO (F_OFD_SETLK, fcntl(2))
                 finds nothing to do: frees both locks; looks again
                     finds something: tries the lock, goes on if it got it
                     finds nothing:   ends

No wake-up is lost. If an adder cannot take the lock, and a worker that has begun holds it, the job
is committed before that worker frees the lock, and the worker looks again after that: it sees the
job. If the worker sleeps until some time, the byte wakes it; a FIFO keeps bytes as long as any
process has it open. A worker that is killed does neither, so the adder sees whether it is alive.
An adder that holds the lock may fail to start a worker, or be stopped, so the others see whether
one has begun.

No second worker starts. The lock is not free for a moment between the adder that starts a worker
and the worker: it is the same open file description. Prune deletes a FIFO only while it holds its
lock; so an adder that has got it looks whether the file is still there. Should the FIFO be deleted
by others, there may be two workers; each job is claimed in one commit under the name's own lock, so
even they start none twice.

An adder that is killed after its commit loses the wake-up alone: the next one that adds or runs
under that name makes up for it, and so does ``reap``.
"""

import fcntl
import os
import struct
import time

from singlerun.errors import NoWorkerError
from singlerun.paths import CONFIG_VARIABLE, reason
from singlerun.process import interpreter, procfs
from singlerun.process.descriptors import try_lock
from singlerun.render.text import shown
from singlerun.timings import STARTING, STARTING_NAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.paths import StateDir

LOG = b"workers.log"
LOG_BYTES = 1024 * 1024
_LOCK_BYTE_0 = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
"""struct flock, as 64-bit Linux has it."""


def ensure(state: "StateDir", name: bytes, *, dry_run: bool = False) -> bool:
    """Make sure that the queue of a name has a worker; return whether it had none.

    Raises NoWorkerError if none could be started, StateDirError if its FIFO can't be used.
    """
    if dry_run:
        return not has_worker(state, name)
    fifo = state.open_fifo(name)
    try:
        deadline = time.monotonic() + STARTING
        while not try_lock(fifo) or is_deleted(fifo):
            if is_deleted(fifo):
                os.close(fifo)
                fifo = state.open_fifo(name)
                continue
            wake(fifo)
            if has_begun(fifo) and _is_held(fifo):
                return False
            # A killed worker has the lock a moment longer than it is seen to live.
            if time.monotonic() > deadline:
                why = f"another process has been starting it for {STARTING:.0f} s"
                raise NoWorkerError(shown(name), why)
            time.sleep(STARTING_NAP)
        try:
            _start(state, name, fifo)
        except OSError as error:
            raise NoWorkerError(shown(name), reason(error)) from error
        return True
    finally:
        os.close(fifo)


def has_worker(state: "StateDir", name: bytes) -> bool:
    """Return whether the queue of a name has a worker; StateDirError: its FIFO can't be used.

    Its lock is not tried: an adder in that moment would take us for a worker.
    """
    fifo = state.open_fifo(name)
    try:
        return has_begun(fifo) or _is_held(fifo)
    finally:
        os.close(fifo)


def _is_held(fifo: int) -> bool:
    return bool(procfs.holding(os.readlink(f"/proc/self/fd/{fifo}".encode())))


def is_deleted(fifo: int) -> bool:
    """Return whether a FIFO has been deleted since it was opened: then its lock tells nothing."""
    return not os.fstat(fifo).st_nlink


def begin(fifo: int) -> None:
    """Tell adders that the holder of the lock is a worker, which looks into the queue."""
    try:
        fcntl.fcntl(fifo, fcntl.F_OFD_SETLK, _LOCK_BYTE_0)
    except BlockingIOError:  # a worker whose FIFO was deleted and recreated
        pass


def has_begun(fifo: int) -> bool:
    """Return whether a worker has begun."""
    answer = fcntl.fcntl(fifo, fcntl.F_OFD_GETLK, _LOCK_BYTE_0)
    return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)


def unlock(fifo: int) -> None:
    """Stop being the worker of a queue."""
    # In this order: the lock alone means that a worker is being started.
    unlocked = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0)
    fcntl.fcntl(fifo, fcntl.F_OFD_SETLK, unlocked)
    fcntl.flock(fifo, fcntl.LOCK_UN)


def wake(fifo: int) -> None:
    """Let the worker look again if it sleeps."""
    try:
        os.write(fifo, b"!")
    except BlockingIOError:
        pass  # full of wake-ups


def clear(fifo: int) -> None:
    """Remove all wake-ups; to be followed by a look into the queue."""
    try:
        while os.read(fifo, 65536):
            pass
    except BlockingIOError:
        pass


def _start(state: "StateDir", name: bytes, fifo: int) -> None:
    """Start a worker in a session of its own, without a terminal; it has the FIFO and its lock."""
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
        interpreter.environment(CONFIG_VARIABLE),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, log, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, fifo, fifo),
        ],
        setsid=True,
    )
