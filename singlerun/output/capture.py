"""The capture of the command's output, on the wrapper's side; relay.py has the other."""

import fcntl
import os
import sys
import time
from select import POLLIN

from singlerun.errors import StateDirError, ThreadError
from singlerun.output import segments
from singlerun.output.relay import FAILED, GOES_ON, SUCCEEDED, become
from singlerun.paths import lift, reason
from singlerun.process import block
from singlerun.process.descriptors import poll
from singlerun.render.line import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir
    from singlerun.process.child import Child
    from singlerun.process.signals import Signals
    from singlerun.spec import RunSpec
    from singlerun.store.run import Run

PIPE = 1024 * 1024
"""Bytes that the command can be ahead of the relay, where the system allows so many."""


class Capture:
    """The relays of one job, a run each; ``pids`` are those that are our children still."""

    def __init__(self, job: "RunSpec", state: "StateDir | None") -> None:
        self._job = job
        self._state = state
        self.pids: set[int] = set()

    def begin(self, run: "Run") -> "Relay | None":
        """Start a relay for a run that is about to start; None, and no error, if that fails."""
        self.pids = {pid for pid in self.pids if not reaped(pid)}
        writer = self._writer(run) if self._job.log else None
        try:
            relay = Relay(writer, hold_back=self._job.only_failed)
        except OSError as error:  # too many processes, or open files
            say(f"the output is neither kept nor held back: {reason(error)}")
            return None
        finally:
            if writer is not None:
                writer.close()
        if relay.pid:
            self.pids.add(relay.pid)
        return relay

    def end(self, relay: "Relay", command: "Child", outcome: "Outcome", signals: "Signals") -> None:
        """Wait until all has arrived that the command wrote, now that it has ended."""
        patience = None
        # A reader that is stuck must not prolong a job without end that has a timeout.
        if self._job.timeout is not None:
            left = self._job.timeout - outcome.elapsed_ns / 1e9
            patience = max(left, self._job.kill_after)
        elif command.asked_to_end:
            patience = self._job.kill_after
        if relay.end(signals, failed=outcome.exit_status != 0, patience=patience):
            command.asked_to_end = True

    def _writer(self, run: "Run") -> segments.Writer | None:
        try:
            if self._state is None or run.id is None:
                say("the output is not kept: without a record it has no number to be found by")
                return None
            return segments.Writer(self._state, run.id)
        except (StateDirError, OSError) as error:
            say(f"the output is not kept: {segments.why_not(error)}")
            return None


class Relay:
    """The process between a command and our streams, as the wrapper sees it.

    Attributes:
        pid: of the process; None if the command has no stream to relay.
        streams: what the command gets: its descriptors, each with ours.
    """

    def __init__(
        self, writer: segments.Writer | None, *, hold_back: bool = False, source: int | None = None
    ) -> None:
        """Fork it; OSError means too many processes, or open files.

        With ``hold_back`` nothing is passed on until the command has failed. Nothing ever is of
        ``source``, a pipe that the command has already.
        """
        self.pid: int | None = None
        self.streams: dict[int, int] = {}
        opened: list[int] = []
        sources = {} if source is None else {1: source}
        # SQLite puts /dev/null where streams were closed; the command gets them closed (spawn).
        ours = {} if sources else {1: sys.__stdout__, 2: sys.__stderr__}
        for stream in (number for number, file in ours.items() if file is not None):
            if stream == 2 and 1 in sources and os.path.sameopenfile(1, 2):
                self.streams[2] = self.streams[1]
                break
            sources[stream], self.streams[stream] = _pipe(opened)
            try:
                fcntl.fcntl(sources[stream], fcntl.F_SETPIPE_SZ, PIPE)
            except OSError:
                pass  # this user has too much in pipes already (pipe(7))
        if sources:
            control, self._control = _pipe(opened)
            self._answer, answer = _pipe(opened)
            try:
                self.pid = os.fork()
            except OSError:
                for descriptor in opened:
                    os.close(descriptor)
                raise
            if self.pid == 0:
                pass_on = source is None
                become(sources, writer, (control, answer), hold_back=hold_back, pass_on=pass_on)
            for descriptor in (*sources.values(), control, answer):
                os.close(descriptor)

    def started(self) -> None:
        """Close the command's ends of the pipes: it has them now, or will never."""
        for descriptor in set(self.streams.values()):
            os.close(descriptor)
        self.streams = {}

    def end(self, signals: "Signals", *, failed: bool, patience: float | None) -> int:
        """Say that the command has ended, and wait until what it wrote has arrived.

        Return the number of a signal that ended the wait, else 0. If that or ``patience`` seconds
        ended it, the relay goes on alone.
        """
        if self.pid is None:
            return 0
        deadline = None if patience is None else time.monotonic() + patience
        signals.admit_stops()
        try:
            os.write(self._control, FAILED if failed else SUCCEEDED)
            if not self._has_answered(signals, deadline):
                return 0
        except BrokenPipeError:  # it was killed, and its end is read below
            pass
        except block.InterruptedWaitError as interrupted:
            return int(interrupted.args[0])
        finally:
            signals.defer_stops()
        answer = os.read(self._answer, 1)
        for descriptor in (self._control, self._answer):
            os.close(descriptor)
        if not answer:
            say("the output is incomplete: the process that passed it on was killed")
        if answer != GOES_ON:
            reaped(self.pid, 0)
        return 0

    def _has_answered(self, signals: "Signals", deadline: float | None) -> bool:
        """Wait until an answer or the relay's end can be read; return False at the deadline."""
        wanted = {self._answer: POLLIN}
        try:
            return block.call(lambda: poll(wanted), signals.ending_watched, deadline)
        except ThreadError:  # the command has ended, and its status must not be lost
            while not poll(wanted, 0):
                if deadline is not None and time.monotonic() > deadline:
                    return False
                if number := signals.sleep(0.01):
                    raise block.InterruptedWaitError(number) from None
            return True


def _pipe(opened: list[int]) -> tuple[int, int]:
    reading, writing = map(lift, os.pipe2(os.O_CLOEXEC))
    opened += (reading, writing)
    return reading, writing


def reaped(pid: int, options: int = os.WNOHANG) -> bool:
    """Reap a relay; return whether it has ended, however it was reaped."""
    try:
        return os.waitpid(pid, options)[0] != 0
    except ChildProcessError:  # reaped already, among adopted children
        return True
