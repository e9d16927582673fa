"""Holding a name from Python: what the prefix form does around a command, around a block.

    take the lock -> record the start -> the block -> record its end -> free the lock

It is the story of runner.py, with the same locks, lines and records, for a program that goes on
living: nothing here touches its signals, its environment or its standard streams, starts a thread,
or leaves a descriptor or a database open. What is recorded as the command is the program itself.

A forked child inherits the lock as a command does, so whoever kills the program frees nothing while
a child of it works on. It is the program's to give up: its ``with`` ends it for all children, and
the same ``with`` in a child does nothing.
"""

import functools
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from singlerun import errors, runner
from singlerun.contention.conflict import holding_ancestor, living_owners, refused, start_in_slot
from singlerun.lock import Hold
from singlerun.options import RUN_OPTIONS, read_lock_file, read_name, read_path, read_slots
from singlerun.outcome import Outcome
from singlerun.paths import StateDir
from singlerun.process import procfs
from singlerun.process.identity import DEAD, life
from singlerun.recorder import Recorder
from singlerun.render import refusal
from singlerun.spec import RunSpec
from singlerun.store.base import FAILED, REFUSED, STOPPED, SUCCEEDED, PausedError, Run, marks_of
from singlerun.store.sqlite import SqliteStore

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Text = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_held: "dict[int, Holding]" = {}
"""What this process holds, the latest last; after a fork, also what the parent held then."""
_Owed = tuple[bytes, Run, Outcome, str]
_owed: list[_Owed] = []
"""Ends that could not be recorded: of which state directory, and what."""


def hold(
    *names: str | bytes,
    wait: bool | float = False,
    shared: bool = False,
    slots: int | None = None,
    lock_file: Text | None = None,
    dir: Text | None = None,  # noqa: A002 - as the option is called
    require_record: bool = False,
) -> "Guard":
    """Hold a name, so that nobody else runs or holds anything under it; as ``singlerun`` does.

    The lock is taken when a ``with`` block is entered, or a decorated function is called, and it is
    free again when that ends, however it ends; also if the process is killed. What is returned may
    be used many times, and by several threads, of which one at a time gets in::

        with singlerun.hold("import", wait=True):
            ...


        @singlerun.hold("report", wait=60)
        def report(): ...

    Args:
        names: what must be single; of several, all are held or none. With ``lock_file`` one at
            most, which is only shown.
        wait: whether to wait in line, first come first served; a number: at most so many seconds.
        shared: hold as a reader, beside other readers.
        slots: at most so many hold it at once.
        lock_file: lock this very file instead, as flock(1) and ``filelock.FileLock`` do.
        dir: the state directory; default: as for the command line.
        require_record: refuse to hold what can't be recorded. Otherwise a broken run-log is a
            RuntimeWarning.

    ``with`` raises:
        HeldError: somebody else holds it, or does so still after ``wait`` seconds. Also, at once,
            if this thread, or a run inside which this program was started, would wait for itself.
        StateDirError, LockFileError: it can't be locked at all.
        RecordError: it can't be recorded, and ``require_record`` is true.

    Raises:
        UsageError: the arguments make no sense.
    """
    given = {option.dest: option.default for option in RUN_OPTIONS} | {
        "name": tuple(read_name(_text(name)) for name in names),
        "lock_file": None if lock_file is None else read_lock_file(os.fsdecode(lock_file)),
        "dir": None if dir is None else read_path(os.fsdecode(dir)),
        "shared": shared,
        "slots": None if slots is None else read_slots(str(slots)),
        "wait": wait is True,
        "wait_for": None if isinstance(wait, bool) else seconds(wait),
        "require_record": require_record,
    }
    if not names and lock_file is None:
        raise errors.UsageError("hold() needs a name or a lock file")
    job = RunSpec(sys.orig_argv or sys.argv or [sys.executable or "python"], given)
    job.raises = True
    return Guard(job)


def _text(name: object) -> str:
    if not isinstance(name, str | bytes):
        raise TypeError(f'a name is str or bytes, not {type(name).__name__}: hold("name")')
    return os.fsdecode(name)


def seconds(value: float) -> float:
    """Check a number of seconds.

    Raises:
        UsageError: it is negative, or no number.
    """
    if not value >= 0:
        raise errors.UsageError(f"bad duration {value!r}: give seconds, 0 or more")
    return float(value)


class Guard:
    """What holds names while a ``with`` block or a decorated function lasts; made by ``hold``."""

    def __init__(self, job: RunSpec) -> None:
        self._job = job
        self._entered: list[Holding] = []

    def __enter__(self) -> "Holding":
        notices: list[str] = []
        # Whatever is raised between the taking and the block, Ctrl-C too, there will be no block.
        taken: list[Holding] = []
        try:
            try:
                _take(self._job, notices, taken)
            finally:
                _warn(notices)
            self._entered.append(taken[0])
        except BaseException as error:
            for holding in taken:
                if holding in self._entered:
                    self._entered.remove(holding)
                holding._end(error, [])  # noqa: SLF001
            raise
        return taken[0]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        me = threading.get_ident()
        mine = [holding for holding in self._entered if holding._thread == me]  # noqa: SLF001
        holding = (mine or self._entered)[-1]
        self._entered.remove(holding)
        notices: list[str] = []
        try:
            holding._end(error, notices)  # noqa: SLF001
        finally:
            _warn(notices)

    def __call__(self, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """Hold the names anew in each call of a function.

        Raises:
            TypeError: a call of it only makes a coroutine or a generator, which runs later.
        """
        import inspect  # noqa: PLC0415 - only for decorators

        later = (inspect.iscoroutinefunction, inspect.isgeneratorfunction,
                 inspect.isasyncgenfunction, inspect.isclass)  # fmt: skip
        if any(kind(function) for kind in later):
            raise TypeError(
                f"hold() can't decorate {getattr(function, '__qualname__', function)}: only plain"
                " functions are over when their call is; write a with block in it"
            )

        @functools.wraps(function)
        def held(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
            with self:
                return function(*arguments, **named)

        return held


class Holding:
    """What a ``with`` block holds.

    Attributes:
        names: as text.
        run_id: its id in the run-log, None if it isn't recorded.
        token: a number that grows with each start of that name: a fencing token.
    """

    def __init__(self, run: Run, locks: Hold, state: StateDir | None) -> None:
        self.names = tuple(os.fsdecode(name) for name in run.names)
        self.run_id = run.id
        self.token = time.time_ns() // 1000 if run.token is None else run.token
        self._run = run
        self._locks = locks
        self._state = state
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._begun_ns = time.monotonic_ns()
        self._used = procfs.usage()
        _held[id(self)] = self

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
        marks = {"SINGLERUN_NAME": self.names[0], "SINGLERUN_TOKEN": str(self.token)}
        return marks if self.run_id is None else marks | {"SINGLERUN_RUN_ID": str(self.run_id)}

    def _end(self, error: BaseException | None, notices: list[str]) -> None:
        """Record the end, then free the lock; in a forked child only close it."""
        if self._pid != os.getpid():
            _held.pop(id(self), None)
            self._locks.close()
            return
        try:
            _held.pop(id(self), None)
            if self.run_id is not None and self._state is not None:
                recorder = Recorder(required=False, tell=notices.append)
                recorder.open(self._state)
                try:
                    owed = (self._state.path, self._run, *self._outcome(error))
                    _record_end(owed, recorder)
                finally:
                    recorder.close()
        finally:
            self._locks.free()
            if self._state is not None:
                self._state.close()

    def _outcome(self, error: BaseException | None) -> tuple[Outcome, str]:
        status, state = 1, FAILED
        if error is None or isinstance(error, GeneratorExit):
            status, state = 0, SUCCEEDED
        elif isinstance(error, SystemExit):
            code = error.code
            status = 0 if code is None else code & 255 if isinstance(code, int) else 1
            state = FAILED if status else SUCCEEDED
        elif isinstance(error, KeyboardInterrupt):
            state = STOPPED
        if error is not None and status:
            self._run.detail = type(error).__qualname__
        user, system, peak = procfs.usage()
        outcome = Outcome(
            status,
            elapsed_ns=time.monotonic_ns() - self._begun_ns,
            user_us=round((user - self._used[0]) * 1e6),
            system_us=round((system - self._used[1]) * 1e6),
            max_rss_kb=peak,
        )
        return outcome, state

    def _is_around_us(self) -> bool:
        """Tell whether what runs now runs in that block: in its thread, or in a fork of it."""
        if self._thread != threading.get_ident():
            return False
        return self._pid == os.getpid() or any(map(_is_locked, self._locks.fds))


def _is_locked(descriptor: int) -> bool:
    # A forked child can't know otherwise whether its parent has freed a lock.
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb", buffering=0) as file:
            return b"FLOCK" in file.read()
    except OSError:
        return False


def around_us() -> Holding | None:
    """Give the innermost block that this thread is in."""
    blocks = [holding for holding in list(_held.values()) if holding._is_around_us()]  # noqa: SLF001
    return blocks[-1] if blocks else None


def _locks_of(job: RunSpec, state: StateDir | None) -> Hold:
    hold = runner.locks_of(job, state)
    if hold.needs_freeing:
        raise errors.LockFileError(
            os.fsdecode(hold.paths[0]),
            "kernel locks can't be trusted there, and a lock file can't be held from Python",
            "name a place on a local file system",
        )
    return hold


def _take(job: RunSpec, notices: list[str], taken: list[Holding]) -> None:
    """Take a job's locks and add what is held to ``taken``."""
    recorder = Recorder(required=job.require_record, tell=notices.append)
    state = runner.open_state(job, recorder)
    hold: Hold | None = None
    this: Run | None = None
    try:
        hold = _locks_of(job, state)
        recorder.open(state)
        if state is not None:
            _record_owed(state, recorder)
        this, conflict = runner.asked(job), None
        while True:
            if not runner.take_at_once(job, hold, recorder):
                conflict = conflict or _Conflict(job, this, hold, state, recorder)
                conflict.win()
            this.command_pid, this.command_started = this.wrapper_pid, this.wrapper_started
            if _record_start(job, this, hold, recorder):
                if hold.is_current():
                    taken.append(Holding(this, hold, state))
                    return
                # As in runner.py: of two whose lock files differ, one sees the other's run.
                this.detail = "the lock file was deleted in the moment of the start"
                recorder.refuse(this, REFUSED)
                this, conflict = runner.asked(job), None
            hold.free()
    except BaseException:
        if hold is not None:
            hold.free()
        if this is not None and this.id is not None and this.ended_ns is None:
            this.detail = "stopped before it started"
            recorder.required = False
            recorder.refuse(this, STOPPED)
        recorder.close()
        if state is not None:
            state.close()
        raise
    finally:
        recorder.close()


def _record_start(job: RunSpec, this: Run, hold: Hold, recorder: Recorder) -> bool:
    """Record that a block begins; tell whether there is still a slot for it, if it has one."""
    outer = around_us()
    marks = marks_of(os.environb)
    if outer is not None and outer.run_id is not None:
        marks = outer.run_id, outer.token
    waited = this.id is not None
    try:
        if not start_in_slot(job, this, hold, recorder, marks):
            return False
    except PausedError as error:
        this.detail = refusal.paused(error.args[0])
        recorder.refuse(this, REFUSED)
        names = tuple(map(os.fsdecode, this.names))
        raise errors.HeldError(this.detail, names=names) from None
    if waited:
        recorder.attempt(lambda store: store.name_command(this), None)
    return True


def _record_end(owed: _Owed, recorder: Recorder) -> None:
    _, run, outcome, how = owed

    def finish(store: SqliteStore) -> bool:
        store.finish_run(run, outcome, how)
        return True

    done = False
    try:
        done = recorder.attempt(finish, otherwise=False)
    finally:
        if not done:
            _owed.append(owed)


def _record_owed(state: StateDir, recorder: Recorder) -> None:
    """Record the ends that could not be: as long as this process lives, they count as running."""
    for owed in [owed for owed in _owed if owed[0] == state.path]:
        try:
            _owed.remove(owed)
        except ValueError:  # another thread does it
            continue
        _record_end(owed, recorder)


class _Conflict:
    """A lock that was not to be had at the first try; conflict.py does the same for a command."""

    def __init__(
        self, job: RunSpec, this: Run, hold: Hold, state: StateDir | None, recorder: Recorder
    ) -> None:
        self._job = job
        self._run = this
        self._hold = hold
        self._state = state
        self._recorder = recorder
        self._begun = time.monotonic()
        endless = job.wait_for == float("inf")
        self._deadline = None if endless else self._begun + job.wait_for

    def win(self) -> None:
        """Take the lock, waiting if the job says so.

        Raises:
            HeldError: it is still held.
        """
        while True:
            if not self._try() and not self._wait_in_line():
                raise self._refused([])
            living = living_owners(self._job, self._hold, self._recorder)
            if not living:
                return
            if not self._await_ends(living):
                self._hold.abandon()
                raise self._refused(living)

    def _try(self) -> bool:
        def try_again(store: SqliteStore) -> bool:  # not while somebody only looks: conflict.py
            with store.exclusively():
                return self._hold.try_in_turn()

        taken = self._recorder.attempt(try_again, None)
        return self._hold.try_in_turn() if taken is None else taken

    def _wait_in_line(self) -> bool:
        if not self._job.wait_for:
            return False
        self._begin_to_wait()
        from singlerun.api import deputy  # noqa: PLC0415 - only to wait

        taken = deputy.take(self._job, self._hold, self._state, self._deadline)
        if taken and self._hold.out_of_line:
            self._recorder.tell(f"waited without a place in line: {self._hold.out_of_line}")
        return taken

    def _await_ends(self, living: list[tuple[Run | None, list[int]]]) -> bool:
        pids = [pid for _, found in living for pid in found]
        # Of this very process no end can be awaited.
        if not self._job.wait_for or not all(found for _, found in living) or os.getpid() in pids:
            return False
        self._begin_to_wait()
        run, found = living[0]
        if run is not None and life(run.wrapper) == DEAD:
            by = refusal.holder(found, run, None)
            self._recorder.tell(refusal.refusal(self._job.names, by, waited=None, orphan=True))
        left = None if self._deadline is None else max(0, self._deadline - time.monotonic())
        if self._job.slots:
            return procfs.await_one([found[0] for _, found in living], left)
        return procfs.await_end(pids, left)

    def _begin_to_wait(self) -> None:
        """Record that the job waits, unless it would wait for itself."""
        for holding in list(_held.values()):
            if holding._is_around_us() and _exclude(holding._run, self._job):  # noqa: SLF001
                raise self._refused([(holding._run, [holding._pid])], nested=True)  # noqa: SLF001
        outer = around_us()
        marks = marks_of(os.environb)
        if outer is not None and outer.run_id is not None:
            marks = outer.run_id, outer.token
        above = self._recorder.attempt(
            lambda store: holding_ancestor(self._job, store, marks), None
        )
        if above is not None:
            raise self._refused([(above, [above.wrapper_pid])], nested=True)
        if self._run.id is None:
            self._recorder.attempt(lambda store: store.wait_run(self._run), None)

    def _refused(
        self, living: list[tuple[Run | None, list[int]]], *, nested: bool = False
    ) -> errors.HeldError:
        waited = time.monotonic() - self._begun if self._job.wait_for else None
        return refused(
            self._job, self._run, self._hold, self._recorder, living, waited=waited, nested=nested
        )


def _exclude(run: Run, job: RunSpec) -> bool:
    # Also where both share it: somebody between them may wait for the first.
    return run.lock_file == job.lock_file and (
        job.lock_file is not None or bool(set(run.names) & set(job.names))
    )


def _warn(notices: list[str]) -> None:
    """Warn where the program called us."""
    level, frame = 1, sys._getframe()  # noqa: SLF001
    while frame.f_back is not None and frame.f_globals is globals():
        level, frame = level + 1, frame.f_back
    for notice in notices:
        warnings.warn(notice, RuntimeWarning, stacklevel=level)
