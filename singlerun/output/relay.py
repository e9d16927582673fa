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

from singlerun.output import segments
from singlerun.paths import reason
from singlerun.render.line import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import NoReturn
else:
    import _signal

CHUNK = 256 * 1024
"""Bytes read at once, at most."""
ATOMIC = 4096
"""Bytes that a pipe takes without blocking once poll(2) says that it takes any (PIPE_BUF)."""
FLUSH = 0.05
"""Seconds after which what is to be kept is on the disk. To write there every byte of a gigabyte,
each for the moment until it is deleted, would halve the rate."""
FLUSH_SHARE = 15
"""A slow disk is written to for one part of the time in so many."""

FAILED, SUCCEEDED = b"f", b"s"
"""What the wrapper says of the command."""
GOES_ON, ENDS = b"g", b"e"
"""The pump's answer, when all has arrived: whether somebody may write still."""


def be(
    sources: dict[int, int],
    writer: segments.Writer | None,
    wrapper: tuple[int, int],
    *,
    hold_back: bool,
    pass_on: bool,
) -> "NoReturn":
    """Be the pump, in a process that was forked for it.

    ``sources`` are the command's pipes by their stream; ``wrapper`` are the ends of two more, from
    which the pump hears how the command ended, and to which it answers.
    """
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        sinks = {stream: _Sink(stream) for stream in sources} if pass_on else {}
        if list(sinks) == [1]:
            sinks[1].also = 2  # standard error, or what SQLite has put there
        close_all_but({1, 2, *sources.values(), *wrapper, *(writer.fds if writer else ())})
        channels = [
            _Channel(stream, source, sinks.get(stream)) for stream, source in sources.items()
        ]
        _Work(channels, writer, wrapper, hold_back=hold_back).do()
    except BaseException as error:  # noqa: BLE001 - no traceback, and never back into the wrapper
        say(f"the output is incomplete: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def close_all_but(wanted: set[int]) -> None:
    """Close all descriptors of this process but these."""
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
        """Give what has come, which poll(2) must have told of; nothing at the end."""
        size = CHUNK if self.asked is None else min(CHUNK, self.asked)
        count = os.readv(self.source, [self._buffer[:size]])
        if not count:
            self.close()
        if self.asked is not None:
            self.asked -= count
        return self._buffer[:count]

    def is_at_end(self) -> bool:
        """Tell whether nothing is in the pipe, and nobody could write to it any more."""
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        return poll.poll(0) == [(self.source, select.POLLHUP)]

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
        writer: segments.Writer | None,
        wrapper: tuple[int, int],
        *,
        hold_back: bool,
    ) -> None:
        self._channels = channels
        self._writer = writer
        self._held = None
        if hold_back:
            self._held = segments.Held() if writer is None else writer.held
        self._flush_at = 0.0
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
            if time.monotonic() >= self._flush_at:
                self._flush()
        self._flush()

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
        left = None
        if self._writer is not None and not self._writer.is_flushed():
            left = max(0, self._flush_at - time.monotonic()) * 1000
        return dict(poll.poll(left))

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
            if sink and not self._held:
                channel.pending = data
                self._pass_on(channel)

    def _keep(self, stream: int, data: memoryview) -> None:
        held = self._held if self._writer is None else self._writer.held
        if held:
            held.append(stream, data)

    def _flush(self) -> None:
        if self._writer is None:
            return
        begun = time.monotonic()
        try:
            self._writer.flush()
        except OSError as error:
            self._stop_keeping(error)
        now = time.monotonic()
        self._flush_at = now + max(FLUSH, (now - begun) * FLUSH_SHARE)

    def _stop_keeping(self, error: OSError) -> None:
        say(f"the output is not kept any further: {segments.why_not(error)}")
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
        if self._control >= 0:
            return  # the wrapper has them open too, and there may be something to say
        for channel in self._channels:
            if channel.source < 0 and not channel.pending:
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
        self._flush()
        if self._verdict == FAILED:
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
            if channel.source >= 0 and channel.is_at_end():
                channel.close()
        goes_on = any(channel.source >= 0 for channel in self._channels)
        try:
            os.write(self._answer, GOES_ON if goes_on else ENDS)
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
        broken: dict[int, OSError] = {}
        last = b"\n"
        for stream, data, missing in held.read():
            if missing:
                line = f"singlerun: {segments.left_out(missing)}\n".encode()
                if mark.stream == 1 and last != b"\n":  # both streams are one
                    line = b"\n" + line
                self._print(mark, line, broken)
            self._print(channels[stream], data, broken)
            last = bytes(data[-1:])
        for stream, error in broken.items():
            self._break(channels[stream], error)

    def _print(
        self, channel: _Channel, data: "memoryview | bytes", broken: dict[int, OSError]
    ) -> None:
        if channel.sink is not None and channel.stream not in broken:
            try:
                channel.sink.write_all(data)
            except OSError as error:
                broken[channel.stream] = error
