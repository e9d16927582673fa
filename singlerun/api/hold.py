"""Holding a name from Python: what the prefix form does around a command, around a block.

It is the life of lifecycle.py, for a program that lives on: nothing here touches its signals, its
environment or its standard streams, starts a thread, or leaves a descriptor or a database open.
What is recorded as the command is the program itself.

A forked child inherits the lock as a command does, so killing the program frees nothing while a
child works on. Only the program gives it up: its ``with`` ends the lock for all children, and the
same ``with`` in a child does nothing.
"""

import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from singlerun import errors
from singlerun.api import owed
from singlerun.api.holding import Holding, innermost, parent_marks
from singlerun.api.waiting import DeputyWaiter
from singlerun.contention import throttle
from singlerun.contention.conflict import Conflict
from singlerun.lifecycle import CrowdedError, Lifecycle, LockLostError, RefusedError
from singlerun.options import RUN_OPTIONS, read_lock_file, read_name, read_path, read_slots
from singlerun.recorder import Recorder
from singlerun.spec import RunSpec
from singlerun.store.run import STOPPED, PausedError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Text = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def hold(
    *names: str | bytes, wait: bool | float = False, shared: bool = False,
    slots: int | None = None, lock_file: Text | None = None,
    dir: Text | None = None,  # noqa: A002 - as the option is called
    require_record: bool = False,
) -> "Guard":  # fmt: skip
    """Hold a name, so that nothing else runs or holds anything under it; as ``singlerun`` does.

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
        HeldError: it is held, or still is after ``wait`` seconds. Also, at once, if this thread, or
            a run inside which this program was started, would wait for itself.
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
    spec = RunSpec(sys.orig_argv or sys.argv or [sys.executable or "python"], given)
    spec.wait_hint = "wait=True"
    return Guard(spec)


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

    def __init__(self, spec: RunSpec) -> None:
        self._spec = spec
        self._entered: list[Holding] = []

    def __enter__(self) -> Holding:
        notices: list[str] = []
        # Whatever is raised between taking and the block, Ctrl-C too, there will be no block.
        taken: list[Holding] = []
        try:
            try:
                _take(self._spec, notices, taken)
            finally:
                _warn(notices)
            self._entered.append(taken[0])
        except BaseException as error:
            for block in taken:
                if block in self._entered:
                    self._entered.remove(block)
                block.end(error, [])
            raise
        return taken[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        mine = [block for block in self._entered if block.thread == threading.get_ident()]
        block = (mine or self._entered)[-1]
        self._entered.remove(block)
        notices: list[str] = []
        try:
            block.end(error, notices)
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


def _take(spec: RunSpec, notices: list[str], taken: list[Holding]) -> None:
    """Take a spec's locks and add the block that holds them to ``taken``."""
    recorder = Recorder(required=spec.require_record, tell=notices.append)
    life = Lifecycle(spec, recorder, parent_marks())
    try:
        if life.locks.needs_freeing:
            raise errors.LockFileError(  # noqa: TRY301 - what was opened is closed below
                os.fsdecode(life.locks.paths[0]),
                "kernel locks can't be trusted there, and a lock file can't be held from Python",
                "name a place on a local file system",
            )
        recorder.open(life.state)
        if life.state is not None:
            owed.record(life.state, recorder)
        conflict = None
        while True:
            try:
                if not life.acquire_at_once():
                    conflict = conflict or Conflict(life, DeputyWaiter(life, innermost))
                    conflict.resolve()
                _begin(life)
            except LockLostError:
                life.release()
                life.ask_again()
            except CrowdedError:
                life.release()
            else:
                taken.append(Holding(life))
                return
    except BaseException as error:
        _give_up(life)
        if isinstance(error, RefusedError):
            raise error.held or error from None
        raise
    finally:
        recorder.close()


def _begin(life: Lifecycle) -> None:
    """Record that a block begins; its process is the program's."""
    try:
        life.begin()
    except PausedError as error:
        raise throttle.paused(life, error.args[0]) from None
    life.recorder.name(life.run, life.run.wrapper)


def _give_up(life: Lifecycle) -> None:
    """Leave nothing of an attempt that did not get to its block."""
    life.release()
    if life.run.id is not None and life.run.ended_ns is None:
        life.recorder.required = False
        life.recorder.refuse(life.run, STOPPED, "stopped before it started")
    if life.state is not None:
        life.state.close()


def _warn(notices: list[str]) -> None:
    """Warn where the program called us."""
    level, frame = 1, sys._getframe()  # noqa: SLF001
    while frame.f_back is not None and frame.f_globals is globals():
        level, frame = level + 1, frame.f_back
    for notice in notices:
        warnings.warn(notice, RuntimeWarning, stacklevel=level)
