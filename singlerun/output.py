"""The command's output on its way through us: kept, held back, passed on.

The command writes into pipes, and a process of ours that does nothing else empties them: the pump.

    read what the command wrote -> keep it -> hold it back, or pass it on to our own streams

A process of its own, so that kill -9 of the wrapper does not break the command's pipes, and what
the command left behind neither keeps the wrapper waiting nor loses its output. It ends when nobody
has the pipes open any more, and no signal ends it before. It has let go of all else that the
wrapper has open: it must never be who holds the lock.

Where standard output and standard error are one file (2>&1, a terminal) one pipe stands for both,
so the order between them stays exact. Otherwise neither waits for the other.

A reader that is slow slows the command down, as without us: the pump reads no more than it could
pass on. A reader that is gone is noticed, and the command's pipe closed, so that its next write
ends it as without us.

When the command has ended the wrapper asks for what is in the pipes at that moment to be passed on
(and no more: what was left behind may write for ever), and tells whether the command failed. The
answer comes when that is done. If the wrapper dies first, what was held back is printed: it may be
the only trace.
"""

import fcntl
import os
import select
import stat
import sys
import termios
import time

from singlerun import kept
from singlerun.errors import StateDirError
from singlerun.lock import wait
from singlerun.paths import lift, reason
from singlerun.render.line import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable
    from typing import NoReturn

    from singlerun.child import Child
    from singlerun.job import Job
    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir
    from singlerun.signals import Signals
    from singlerun.store.base import Run
else:
    import _signal

PIPE = 1024 * 1024
"""Bytes that the command can be ahead of the pump, where the system allows so many."""
CHUNK = 256 * 1024
"""Bytes read at once, at most."""
ATOMIC = 4096
"""Bytes that a pipe takes without blocking once poll(2) says that it takes any (PIPE_BUF)."""

_FAILED, _SUCCEEDED = b"f", b"s"
_GOES_ON, _ENDS = b"g", b"e"


class Outputs:
    """The pumps of one job, one for each time that its command is run.

    Attributes:
        pids: those that are our children still.
    """

    def __init__(self, job: "Job", state: "StateDir | None") -> None:
        self._job = job
        self._state = state
        self.pids: set[int] = set()

    def begin(self, run: "Run") -> "Pump":
        """Make the way for the output of one run, about to be started."""
        self.pids = {pid for pid in self.pids if not _reaped(pid)}
        writer = self._writer(run) if self._job.log else None
        pump = Pump(writer, hold_back=self._job.only_failed)
        if pump.pid:
            self.pids.add(pump.pid)
        return pump

    def end(self, pump: "Pump", command: "Child", outcome: "Outcome", signals: "Signals") -> None:
        """Wait until all has arrived that the command wrote, which has ended."""
        patience = None
        # A reader that is stuck must not keep a job for ever whose time is limited.
        if self._job.timeout is not None:
            left = self._job.timeout - outcome.elapsed_ns / 1e9
            patience = max(left, self._job.kill_after)
        elif command.asked_to_end:
            patience = self._job.kill_after
        failed = outcome.exit_status != 0
        if pump.end(signals, failed=failed, patience=patience):
            command.asked_to_end = True

    def _writer(self, run: "Run") -> kept.Writer | None:
        try:
            if self._state is None or run.id is None:
                say("the output is not kept: without a record there is no number to find it by")
                return None
            return kept.Writer(self._state, run.id)
        except (StateDirError, OSError) as error:
            say(f"the output is not kept: {kept.why_not(error)}")
            return None


class Pump:
    """The process between a command and our streams, as the wrapper sees it.

    Attributes:
        pid: of the process; None if the command has no stream that it could stand behind.
        streams: what the command gets: its descriptor to ours.
    """

    def __init__(
        self, writer: kept.Writer | None, *, hold_back: bool = False, pass_on: bool = True
    ) -> None:
        """Fork it.

        With ``hold_back`` nothing is passed on until the command is known to have failed; without
        ``pass_on`` nothing ever is.
        """
        self.pid: int | None = None
        self.streams: dict[int, int] = {}
        sources: dict[int, int] = {}
        for stream in _streams(pass_on=pass_on):
            if stream == 2 and pass_on and 1 in sources and _is_same(1, 2):
                self.streams[2] = self.streams[1]
                break
            sources[stream], self.streams[stream] = _pipe()
            try:
                fcntl.fcntl(sources[stream], fcntl.F_SETPIPE_SZ, PIPE)
            except OSError:
                pass  # this user has too many pipes already (pipe(7))
            os.set_blocking(sources[stream], False)  # this end alone: not the command's
        if sources:
            control, self._control = _pipe()
            self._answer, answer = _pipe()
            ours = {*sources.values(), control, answer, *(writer.fds if writer else ())}
            held = kept.Held() if hold_back else None
            self.pid = os.fork()
            if self.pid == 0:
                _be_pump(sources, writer, (control, answer), ours, held=held, pass_on=pass_on)
            for descriptor in (*sources.values(), control, answer):
                os.close(descriptor)
        if writer is not None:
            writer.close()

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
            os.write(self._control, _FAILED if failed else _SUCCEEDED)
            arrived = wait.call(
                lambda: answers.append(os.read(self._answer, 1)), signals.ending_watched, deadline
            )
        except BrokenPipeError:
            answers.append(b"")
            arrived = True
        except wait.InterruptedWaitError as interrupted:
            return int(interrupted.args[0])
        finally:
            signals.defer_stops()
        if not arrived:
            return 0
        for descriptor in (self._control, self._answer):
            os.close(descriptor)
        if answers == [b""]:
            say("the output is incomplete: the process that passed it on was killed")
        if answers != [_GOES_ON]:
            _reaped(self.pid, 0)
        return 0


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


# -- in the pump ------------------------------------------------------------------------------


def _be_pump(
    sources: dict[int, int],
    writer: kept.Writer | None,
    wrapper: tuple[int, int],
    ours: set[int],
    *,
    held: kept.Held | None,
    pass_on: bool,
) -> "NoReturn":
    """Be the pump, in the forked process."""
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        sinks = {stream: _Sink(stream) for stream in sources} if pass_on else {}
        if list(sinks) == [1]:
            sinks[1].also = 2  # standard error, or what SQLite has put there
        _close_all_but(ours | {1, 2})
        channels = [
            _Channel(stream, source, sinks.get(stream)) for stream, source in sources.items()
        ]
        _Work(channels, writer, held, wrapper).do()
    except BaseException as error:  # noqa: BLE001 - no traceback, and never back into the wrapper
        say(f"the output is incomplete: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _close_all_but(wanted: set[int]) -> None:
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        descriptors = list(range(os.sysconf("SC_OPEN_MAX")))
    for descriptor in descriptors:
        if descriptor not in wanted:
            try:
                os.close(descriptor)
            except OSError:
                pass


class _Sink:
    """One of our own streams, written to without ever blocking where that can be had.

    Whether a write may block belongs to the open file, which others share, so it must not be
    changed. A pipe is opened a second time instead, and a socket has a flag for each write.
    Terminals and files are written to as they are.

    Attributes:
        fd: of the stream.
        also: another descriptor that is to be closed with it, or -1.
        is_nameless: whether it is a pipe that can't find another reader later.
    """

    def __init__(self, number: int) -> None:
        self.fd = number
        self.also = -1
        self.is_nameless = False
        kind = os.fstat(number).st_mode
        self._at_once = CHUNK
        self._write: Callable[[memoryview], int] = self._write_file
        if stat.S_ISSOCK(kind):
            from _socket import MSG_DONTWAIT, socket  # noqa: PLC0415 - only where it is one

            send = socket(fileno=number).send
            self._write = lambda data: send(data, MSG_DONTWAIT)
        elif stat.S_ISFIFO(kind):
            self.is_nameless = os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                again = os.open(f"/proc/self/fd/{number}", flags)
            except OSError:
                self._at_once = ATOMIC  # made by another user; or there is no reader
            else:
                os.dup2(again, number)

    def write(self, data: memoryview) -> int:
        """Write some of it; give how much.

        Raises:
            BlockingIOError: nothing can be written now.
            OSError: nothing can be written any more.
        """
        return self._write(data)

    def write_all(self, data: "memoryview | bytes") -> None:
        """Write all of it, and wait for that.

        Raises:
            OSError: it can't be written.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.write(rest) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.fd, select.POLLOUT)
                poll.poll()

    def close(self) -> None:
        """Let go of it, so that its reader sees the end."""
        os.close(self.fd)
        if self.also >= 0:
            os.close(self.also)

    def _write_file(self, data: memoryview) -> int:
        if self._at_once == ATOMIC:
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError
        return os.write(self.fd, data[: self._at_once])


class _Channel:
    """A pipe of the command's, and where what comes out of it goes.

    Attributes:
        stream: 1 or 2; 1 also for both in one.
        source: the pipe; -1 when it has ended, or its reader has.
        sink: None if nothing is passed on.
        pending: what was read and has not been passed on yet.
        asked: how many bytes must be read before the wrapper gets its answer; None if it has not
            asked.
    """

    def __init__(self, stream: int, source: int, sink: _Sink | None) -> None:
        self.stream = stream
        self.source = source
        self.sink = sink
        self.pending = memoryview(b"")
        self.asked: int | None = None
        self._buffer = memoryview(bytearray(CHUNK))

    def ask(self) -> None:
        """Note how much is in the pipe now."""
        self.asked = 0
        if self.source >= 0:
            self.asked = self._waiting()

    def has_delivered(self) -> bool:
        """Tell whether what was asked for has been passed on."""
        return not self.pending and not self.asked

    def read(self) -> memoryview:
        """Give what has come; nothing if that is nothing yet, or the end."""
        size = CHUNK if self.asked is None else min(CHUNK, self.asked)
        try:
            count = os.readv(self.source, [self._buffer[:size]])
        except BlockingIOError:
            return self._buffer[:0]
        if not count:
            self.close()
        if self.asked is not None:
            self.asked -= count
        return self._buffer[:count]

    def close(self) -> None:
        """Have no more to do with the command's end."""
        os.close(self.source)
        self.source = -1
        self.asked = None if self.asked is None else 0

    def discard(self) -> None:
        """Pass nothing on any more."""
        if self.sink is not None:
            self.sink.close()
            self.sink = None

    def _waiting(self) -> int:
        return int.from_bytes(fcntl.ioctl(self.source, termios.FIONREAD, bytes(4)), sys.byteorder)


class _Work:
    """What a pump does, from its first byte to its end."""

    def __init__(
        self,
        channels: list[_Channel],
        writer: kept.Writer | None,
        held: kept.Held | None,
        wrapper: tuple[int, int],
    ) -> None:
        self._channels = channels
        self._writer = writer
        self._held = held
        self._control, self._answer = wrapper
        self._verdict: bytes | None = None

    def do(self) -> None:
        """Pump until the command's pipes have ended and the wrapper has its answer, or is gone."""
        while self._control >= 0 or any(
            channel.source >= 0 or channel.pending for channel in self._channels
        ):
            came = self._await()
            for channel in self._channels:
                self._serve(channel, came)
            if self._control in came and self._verdict is None:
                self._hear()
            if self._verdict and all(channel.has_delivered() for channel in self._channels):
                self._conclude()
            self._let_go()

    def _await(self) -> dict[int, int]:
        poll = select.poll()
        if self._control >= 0 and self._verdict is None:
            poll.register(self._control, select.POLLIN)
        for channel in self._channels:
            if channel.pending and channel.sink:
                poll.register(channel.sink.fd, select.POLLOUT)
            elif channel.source >= 0:
                if channel.asked != 0:
                    poll.register(channel.source, select.POLLIN)
                if channel.sink and channel.sink.is_nameless:
                    poll.register(channel.sink.fd, 0)  # tells when its reader is gone
        return dict(poll.poll())

    def _serve(self, channel: _Channel, came: dict[int, int]) -> None:
        sink = channel.sink
        if channel.pending:
            if sink and sink.fd in came:
                self._pass_on(channel)
        elif sink and came.get(sink.fd, 0) & select.POLLERR:
            self._break(channel)
        elif channel.source in came:
            data = channel.read()
            self._keep(channel.stream, data)
            if self._held:
                self._held.append(channel.stream, data)
            elif sink:
                channel.pending = data
                self._pass_on(channel)

    def _keep(self, stream: int, data: memoryview) -> None:
        if self._writer is None:
            return
        try:
            self._writer.append(stream, data)
        except OSError as error:
            self._stop_keeping(error)

    def _stop_keeping(self, error: OSError) -> None:
        say(f"the output is not kept any further: {kept.why_not(error)}")
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _pass_on(self, channel: _Channel) -> None:
        assert channel.sink is not None
        try:
            channel.pending = channel.pending[channel.sink.write(channel.pending) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(channel, error)

    def _break(self, channel: _Channel, error: OSError | None = None) -> None:
        """Let the command see that its reader is gone; keep what it wrote before it can."""
        if error is not None and not isinstance(error, BrokenPipeError):
            say(f"the output cannot be passed on: {reason(error)}")
        channel.pending = channel.pending[:0]
        channel.sink = None
        channel.asked = None
        channel.ask()
        while channel.asked:
            self._keep(channel.stream, channel.read())
        if channel.source >= 0:
            channel.close()

    def _let_go(self) -> None:
        """Close our streams that nothing more will be written to: somebody may read to the end."""
        for channel in self._channels:
            if channel.source < 0 and not channel.pending and not self._held:
                channel.discard()

    def _hear(self) -> None:
        """Hear from the wrapper how the command ended, or that the wrapper itself has."""
        self._verdict = os.read(self._control, 1) or None
        if self._verdict is None:
            os.close(self._control)
            self._control = -1
            self._print_held()
            return
        for channel in self._channels:
            channel.ask()

    def _conclude(self) -> None:
        """Answer the wrapper: what the command wrote has arrived."""
        if self._verdict == _FAILED:
            self._print_held()
        elif self._held:
            self._held = None
            for channel in self._channels:
                channel.discard()
        if self._writer is not None:
            try:
                self._writer.end()
            except OSError as error:
                self._stop_keeping(error)
        for channel in self._channels:
            channel.asked = None
        goes_on = any(channel.source >= 0 for channel in self._channels)
        try:
            os.write(self._answer, _GOES_ON if goes_on else _ENDS)
        except OSError:
            pass  # the wrapper did not wait for it
        os.close(self._control)
        self._control = -1
        self._verdict = None

    def _print_held(self) -> None:
        """Print what was held back, each part where it belongs."""
        held, self._held = self._held, None
        if held is None:
            return
        channels = {channel.stream: channel for channel in self._channels}
        mark = channels.get(2, self._channels[0])
        last = b"\n"
        for stream, data, missing in held.read():
            if missing:
                if mark.stream == 1 and last != b"\n":  # both streams are one
                    self._print(mark, b"\n")
                self._print(mark, f"singlerun: {kept.left_out(missing)}\n".encode())
            self._print(channels[stream], data)
            last = bytes(data[-1:])

    def _print(self, channel: _Channel, data: "memoryview | bytes") -> None:
        if channel.sink is not None:
            try:
                channel.sink.write_all(data)
            except OSError as error:
                self._break(channel, error)
