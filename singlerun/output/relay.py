"""The relay: the process between the command and our streams, which keeps, holds back, passes on.

    read what the command wrote -> keep it -> hold it back, or pass it on to our own streams

It is a process of its own, so that kill -9 of the wrapper does not break the command's pipes, and
so that what the command left behind neither keeps the wrapper waiting nor loses its output. It ends
when no process has the pipes open any more, and no signal ends it before. It closes all else that
the wrapper has open: it must never hold the lock. At last, when neither the wrapper nor a reader
waits for it any more, it compresses what was kept.

Where standard output and standard error are one file (2>&1, a terminal) one pipe stands for both,
so the order between them stays exact. Otherwise neither waits for the other.

A slow reader slows the command down, as without us: the relay reads no more than it could pass on.
When a reader is gone, the relay notices and closes the command's pipe, so that the command's next
write fails as without us.

When the command has ended, the wrapper asks for what is in the pipes at that moment to be passed on
(and no more: what was left behind may write for ever), and says whether the command failed. The
answer comes when that is done. If the wrapper dies first, what was held back is printed: it may be
the only trace.
"""

import os
import select
import time

from singlerun.output import segments
from singlerun.output.buffer import Buffer
from singlerun.output.channel import Channel
from singlerun.output.compression import NICENESS
from singlerun.output.sink import Sink
from singlerun.paths import reason
from singlerun.process.descriptors import close_all_but, poll
from singlerun.render.line import say
from singlerun.timings import FLUSH

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal

FLUSH_SHARE = 15
"""A slow disk is written to for one part of the time in so many."""

FAILED, SUCCEEDED = b"f", b"s"
"""What the wrapper says of the command."""
GOES_ON, ENDS = b"g", b"e"
"""The relay's answer, when all has arrived: whether it goes on, because a process may still write
or because there is something to compress."""


def become(
    sources: dict[int, int], writer: segments.Writer | None, wrapper: tuple[int, int], *,
    hold_back: bool, pass_on: bool,
) -> "NoReturn":  # fmt: skip
    """Be the relay, in a process that was forked for it; ``sources`` are the command's pipes by
    their stream, ``wrapper`` two more: one tells how the command ended, one is for the answer.
    """
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        sinks = {stream: Sink(stream) for stream in sources} if pass_on else {}
        if list(sinks) == [1]:
            sinks[1].also = 2  # standard error, or what SQLite has put there
        close_all_but({1, 2, *sources.values(), *wrapper, *(writer.fds if writer else ())})
        channels = [Channel(stream, pipe, sinks.get(stream)) for stream, pipe in sources.items()]
        _Relay(channels, writer, wrapper, hold_back=hold_back).run()
    except BaseException as error:  # noqa: BLE001 - no traceback, and never back into the wrapper
        say(f"the output is incomplete: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


class _Relay:
    """The work of a relay, from its first byte to its end."""

    def __init__(
        self, channels: list[Channel], writer: segments.Writer | None, wrapper: tuple[int, int], *,
        hold_back: bool,
    ) -> None:  # fmt: skip
        self._channels = channels
        self._writer = writer
        self._held = None
        if hold_back:
            self._held = Buffer() if writer is None else writer.buffer
        self._flush_at = 0.0
        self._control, self._answer = wrapper
        self._verdict: bytes | None = None

    def run(self) -> None:
        """Relay until the command's pipes have ended and the wrapper has its answer, or is gone."""
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
            self._close_finished()
            if time.monotonic() >= self._flush_at:
                self._flush()
        self._flush()
        self._compress()

    def _await(self) -> dict[int, int]:
        wanted = {}
        if self._control >= 0 and self._verdict is None:
            wanted[self._control] = select.POLLIN
        for channel in self._channels:
            if channel.pending and channel.sink:
                wanted[channel.sink.fd] = select.POLLOUT
            elif channel.source >= 0:
                if channel.asked != 0:
                    wanted[channel.source] = select.POLLIN
                if channel.sink and channel.sink.is_nameless:
                    wanted[channel.sink.fd] = 0  # tells when its reader is gone
        left = None
        if self._writer is not None and not self._writer.is_flushed():
            left = max(0, self._flush_at - time.monotonic())
        return poll(wanted, left)

    def _serve(self, channel: Channel, came: dict[int, int]) -> None:
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
        held = self._held if self._writer is None else self._writer.buffer
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
        say(f"the output is not kept any further: {reason(error)}")
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _compress(self) -> None:
        """Compress what was kept, which no process waits for; it stays as it is if that fails."""
        if self._writer is None or not self._writer.is_compressible():
            return
        close_all_but({*self._writer.fds})
        try:
            os.nice(NICENESS)
            self._writer.compress()
        except OSError:
            pass

    def _pass_on(self, channel: Channel) -> None:
        assert channel.sink is not None
        try:
            channel.pending = channel.pending[channel.sink.write(channel.pending) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._break(channel, error)

    def _break(self, channel: Channel, error: OSError | None = None) -> None:
        """Let the command see that its reader is gone; keep what it wrote before."""
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

    def _close_finished(self) -> None:
        """Close our streams that nothing more is written to: a reader may wait for the end."""
        if self._control >= 0:
            return  # the wrapper has them open too, and there may be something to say
        for channel in self._channels:
            if channel.source < 0 and not channel.pending:
                channel.discard()

    def _hear(self) -> None:
        """Read from the wrapper how the command ended, or that the wrapper itself has."""
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
        # Then the wrapper does not wait for our end.
        goes_on |= self._writer is not None and self._writer.is_compressible()
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
        self, channel: Channel, data: "memoryview | bytes", broken: dict[int, OSError]
    ) -> None:
        if channel.sink is not None and channel.stream not in broken:
            try:
                channel.sink.write_all(data)
            except OSError as error:
                broken[channel.stream] = error
