"""A ``with`` block that holds names, from its begin to its end."""

import os
import threading
import time

from singlerun.api import owed
from singlerun.contention.conflict import excludes
from singlerun.lifecycle import Lifecycle
from singlerun.outcome import Outcome
from singlerun.paths import lift
from singlerun.process import procfs
from singlerun.process.descriptors import is_locked
from singlerun.process.marks import Marks, pennant
from singlerun.recorder import Recorder
from singlerun.store.run import FAILED, STOPPED, SUCCEEDED, Ending, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from singlerun.spec import RunSpec

_blocks: "dict[int, Holding]" = {}
"""What this process holds, the latest last; after a fork, also what the parent held then."""


class Holding:
    """What a ``with`` block holds.

    Attributes:
        names: as text.
        run_id: its id in the run-log, None if it isn't recorded.
        token: a number that grows with each start of that name: a fencing token.
        thread: the thread that it was entered in.
    """

    def __init__(self, life: Lifecycle) -> None:
        life.bind(life.run.wrapper)
        self._life = life
        self._marks = life.marks()
        self.names = tuple(os.fsdecode(name) for name in life.run.names)
        self.run_id = life.run.id
        self.token = self._marks.token
        self.thread = threading.get_ident()
        self._pid = os.getpid()
        self._begun_ns = time.monotonic_ns()
        self._used = procfs.usage()
        self._pennants = _fly(life.locks.paths)
        _blocks[id(self)] = self

    @property
    def environ(self) -> dict[str, str]:
        """The environment, marked as a command's: for what the block starts.

        What carries the marks keeps the name also when this program is killed, records this as the
        run that it is a part of, and is refused instead of waiting for it. The program's own
        environment stays as it is, since all its threads share that.
        """
        return dict(os.environ) | self.marks

    @property
    def marks(self) -> dict[str, str]:
        """The marks alone: SINGLERUN_NAME, SINGLERUN_TOKEN and, if recorded, SINGLERUN_RUN_ID."""
        return {os.fsdecode(k): os.fsdecode(v) for k, v in self._marks.environ().items()}

    def end(self, error: BaseException | None, notices: list[str]) -> None:
        """Record the end, then free the lock; in a forked child only close it."""
        _blocks.pop(id(self), None)
        life = self._life
        for descriptor in self._pennants:
            os.close(descriptor)
        if self._pid != os.getpid():
            life.locks.close()
            return
        try:
            if self.run_id is not None and life.state is not None:
                recorder = Recorder(required=False, tell=notices.append)
                recorder.open(life.state)
                try:
                    owed.end(life.state.path, life.run, self._ending(error), recorder)
                finally:
                    recorder.close()
        finally:
            life.ended()
            life.release()
            if life.state is not None:
                life.state.close()

    def _ending(self, error: BaseException | None) -> Ending:
        status = 1
        if error is None or isinstance(error, GeneratorExit):
            status = 0
        elif isinstance(error, SystemExit):
            code = error.code
            status = 0 if code is None else code & 255 if isinstance(code, int) else 1
        state = FAILED if status else SUCCEEDED
        if isinstance(error, KeyboardInterrupt):
            state = STOPPED
        user, system, peak = procfs.usage()
        outcome = Outcome(
            status, elapsed_ns=time.monotonic_ns() - self._begun_ns,
            user_us=round((user - self._used[0]) * 1e6),
            system_us=round((system - self._used[1]) * 1e6), max_rss_kb=peak,
        )  # fmt: skip
        detail = type(error).__qualname__ if error is not None and status else None
        return Ending(outcome, state, detail)

    def is_around_us(self) -> bool:
        """Return whether what runs now runs in this block: in its thread, or in a fork of it."""
        if self.thread != threading.get_ident():
            return False
        # A forked child can't know otherwise whether its parent has freed a lock.
        return self._pid == os.getpid() or any(map(is_locked, self._life.locks.fds))

    def excludes(self, spec: "RunSpec") -> Run | None:
        """Return its run if a spec would wait for this block, which is around us."""
        # Also where both share the lock: another waiter may be between, and wait for this block.
        return self._life.run if self.is_around_us() and excludes(self._life.run, spec) else None


def around_us() -> Holding | None:
    """Return the innermost block that this thread is in."""
    blocks = [block for block in list(_blocks.values()) if block.is_around_us()]
    return blocks[-1] if blocks else None


def innermost(spec: "RunSpec") -> Run | None:
    """Return the run of a block that is around us, and that a spec would wait for."""
    runs = (block.excludes(spec) for block in list(_blocks.values()))
    return next((run for run in runs if run is not None), None)


def parent_marks() -> Marks | None:
    """Return the marks of the run that this thread is in."""
    outer = around_us()
    if outer is not None and outer.run_id is not None:
        return Marks(b"", outer.run_id, outer.token)
    return Marks.from_environ(os.environb)


def _fly(lock_files: "Iterable[bytes]") -> list[int]:
    """Fly the pennants of lock files; return their descriptors, fewer where there are no more."""
    descriptors = []
    for path in lock_files:
        try:
            descriptors.append(lift(os.memfd_create(pennant(path), os.MFD_CLOEXEC)))
        except OSError:
            break
    return descriptors
