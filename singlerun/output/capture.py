"""The command's output: kept, held back, passed on, as the wrapper sees it; relay.py does it."""

import fcntl
import os
import select
import sys
import time

from singlerun.errors import StateDirError, ThreadError
from singlerun.output import relay, segments
from singlerun.paths import lift, reason
from singlerun.process import block
from singlerun.render.line import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir
    from singlerun.process.child import Child
    from singlerun.process.signals import Signals
    from singlerun.spec import RunSpec
    from singlerun.store.base import Run

PIPE = 1024 * 1024
"""Bytes that the command can be ahead of the pump, where the system allows so many."""


class Outputs:
    """The pumps of one job, one for each time that its command is run.

    Attributes:
        pids: those that are our children still.
    """

    def __init__(self, job: "RunSpec", state: "StateDir | None") -> None:
        self._job = job
        self._state = state
        self.pids: set[int] = set()

    def begin(self, run: "Run") -> "Pump | None":
        """Make the way for the output of one run, about to be started.

        None if it can't be made, which must not keep the command from its start.
        """
        self.pids = {pid for pid in self.pids if not _reaped(pid)}
        writer = self._writer(run) if self._job.log else None
        try:
            begun = Pump(writer, hold_back=self._job.only_failed)
        except OSError as error:  # too many processes, or open files
            say(f"the output is neither kept nor held back: {reason(error)}")
            return None
        finally:
            if writer is not None:
                writer.close()
        if begun.pid:
            self.pids.add(begun.pid)
        return begun

    def end(self, begun: "Pump", command: "Child", outcome: "Outcome", signals: "Signals") -> None:
        """Wait until all has arrived that the command wrote, which has ended."""
        patience = None
        # A reader that is stuck must not keep a job for ever whose time is limited.
        if self._job.timeout is not None:
            left = self._job.timeout - outcome.elapsed_ns / 1e9
            patience = max(left, self._job.kill_after)
        elif command.asked_to_end:
            patience = self._job.kill_after
        failed = outcome.exit_status != 0
        if begun.end(signals, failed=failed, patience=patience):
            command.asked_to_end = True

    def _writer(self, run: "Run") -> segments.Writer | None:
        try:
            if self._state is None or run.id is None:
                say("the output is not kept: without a record there is no number to find it by")
                return None
            return segments.Writer(self._state, run.id)
        except (StateDirError, OSError) as error:
            say(f"the output is not kept: {segments.why_not(error)}")
            return None


class Pump:
    """The process between a command and our streams, as the wrapper sees it.

    Attributes:
        pid: of the process; None if the command has no stream that it could stand behind.
        streams: what the command gets: its descriptor to ours.
    """

    def __init__(
        self,
        writer: segments.Writer | None,
        *,
        hold_back: bool = False,
        pass_on: bool = True,
        source: int | None = None,
    ) -> None:
        """Fork it.

        With ``hold_back`` nothing is passed on until the command is known to have failed; without
        ``pass_on`` nothing ever is. ``source`` is a pipe that the command has already.
        """
        self.pid: int | None = None
        self.streams: dict[int, int] = {}
        sources: dict[int, int] = {}
        if source is not None:
            sources[1] = source
        for stream in () if sources else _streams(pass_on=pass_on):
            if stream == 2 and pass_on and 1 in sources and _is_same(1, 2):
                self.streams[2] = self.streams[1]
                break
            sources[stream], self.streams[stream] = _pipe()
            try:
                fcntl.fcntl(sources[stream], fcntl.F_SETPIPE_SZ, PIPE)
            except OSError:
                pass  # this user has too many pipes already (pipe(7))
        if sources:
            control, self._control = _pipe()
            self._answer, answer = _pipe()
            self.pid = os.fork()
            if self.pid == 0:
                relay.be(sources, writer, (control, answer), hold_back=hold_back, pass_on=pass_on)
            for descriptor in (*sources.values(), control, answer):
                os.close(descriptor)

    def started(self) -> None:
        """Let go of the command's ends of the pipes: it has them now, or will never."""
        for descriptor in set(self.streams.values()):
            os.close(descriptor)
        self.streams = {}

    def end(self, signals: "Signals", *, failed: bool, patience: float | None) -> int:
        """Tell that the command has ended, and wait until what it wrote has arrived.

        Give the number of a signal that ended the waiting, else 0. Whether that or ``patience``
        seconds ended it, the pump goes on alone.
        """
        if self.pid is None:
            return 0
        answers: list[bytes] = []
        deadline = None if patience is None else time.monotonic() + patience
        signals.admit_stops()
        try:
            os.write(self._control, relay.FAILED if failed else relay.SUCCEEDED)
            arrived = self._await_answer(answers, signals, deadline)
        except BrokenPipeError:
            answers.append(b"")
            arrived = True
        except block.InterruptedWaitError as interrupted:
            return int(interrupted.args[0])
        finally:
            signals.defer_stops()
        if not arrived:
            return 0
        for descriptor in (self._control, self._answer):
            os.close(descriptor)
        if answers == [b""]:
            say("the output is incomplete: the process that passed it on was killed")
        if answers != [relay.GOES_ON]:
            _reaped(self.pid, 0)
        return 0

    def _await_answer(
        self, answers: list[bytes], signals: "Signals", deadline: float | None
    ) -> bool:
        def read() -> None:
            answers.append(os.read(self._answer, 1))

        try:
            return block.call(read, signals.ending_watched, deadline)
        except ThreadError:  # the command has ended, and its status must not be lost
            poll = select.poll()
            poll.register(self._answer, select.POLLIN)
            while not poll.poll(0):
                if deadline is not None and time.monotonic() > deadline:
                    return False
                if number := signals.sleep(0.01):
                    raise block.InterruptedWaitError(number) from None
            read()
            return True


def _streams(*, pass_on: bool) -> "Iterable[int]":
    """Give the streams of the command that there will be."""
    if not pass_on:
        return (1, 2)
    # SQLite puts /dev/null where streams were closed; the command gets them closed (program.spawn).
    ours = {1: sys.__stdout__, 2: sys.__stderr__}
    return [number for number, stream in ours.items() if stream is not None]


def _is_same(one: int, other: int) -> bool:
    return os.path.sameopenfile(one, other)


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    return lift(reading), lift(writing)


def _reaped(pid: int, options: int = os.WNOHANG) -> bool:
    try:
        return os.waitpid(pid, options)[0] != 0
    except ChildProcessError:  # waited for already, among adopted children
        return True
