"""The kept output of a command, written to the streams that it was written to."""

import os
import sys
import time
from select import POLLERR, POLLOUT

from singlerun.process.descriptors import poll
from singlerun.render.line import say
from singlerun.render.reason import reason
from singlerun.render.refusal import clock
from singlerun.render.result import Result
from singlerun.render.text import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.store.run import Run


class Chunk(Result):
    """A piece of kept output; without data it only checks that standard output is still read.

    Attributes:
        stream: 1 or 2.
        data: what the command wrote.
        gap: a line that says what is missing before it, or "".
        at_line_start: whether the piece before it ended with a newline.
    """

    def __init__(
        self, stream: int = 1, data: bytes | memoryview = b"", *, gap: str = "",
        at_line_start: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stream, self.data = stream, memoryview(data)
        self.gap, self.at_line_start = gap, at_line_start

    def print(self) -> None:
        """Write it, byte for byte; BrokenPipeError: the reader of standard output is gone."""
        if self.gap:
            are_one = None not in {sys.stdout, sys.stderr} and os.path.sameopenfile(1, 2)
            if are_one and not self.at_line_start:
                _write(2, memoryview(b"\n"))
            say(self.gap)
        if self.data:
            _write(self.stream, self.data)
        elif poll({1: 0}, 0).get(1, 0) & POLLERR:  # a pipe without a reader
            raise BrokenPipeError


class Heading(Result):
    """The line above the output of one of several runs."""

    def __init__(self, run: "Run", *, is_first: bool) -> None:
        began = clock(run.started_ns or run.asked_ns)
        why = reason(run)
        told = f"run {run.id} of {names(run.names)}, {began}: {run.state}"
        heading = f"==> {told}{f', {why}' if why else ''} <=="
        super().__init__(*([] if is_first else [""]), heading)


class Stamps:
    """Puts before each line of each stream when it was begun, in local time; ``-`` if unknown."""

    def __init__(self) -> None:
        self._is_in_line = {1: False, 2: False}

    def add(self, stream: int, data: bytes | memoryview, at_ns: int | None) -> bytes:
        """Return data of a stream with its lines stamped."""
        if not data:
            return b""
        stamp = stamp_of(at_ns).encode() + b" "
        text = bytes(data)
        ended = text.endswith(b"\n")
        begun = b"" if self._is_in_line[stream] else stamp
        self._is_in_line[stream] = not ended
        lines = (text[:-1] if ended else text).split(b"\n")
        return begun + (b"\n" + stamp).join(lines) + (b"\n" if ended else b"")


def stamp_of(at_ns: int | None) -> str:
    """Return a time as RFC 3339 in local time, to the millisecond."""
    if at_ns is None:
        return "-"
    seconds, rest = divmod(at_ns, 10**9)
    then = time.localtime(seconds)
    zone = time.strftime("%z", then)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', then)}.{rest // 10**6:03}{zone[:3]}:{zone[3:5]}"


def _write(stream: int, data: memoryview) -> None:
    """Write all of it to stream 1 or 2, unless that was closed when we started."""
    if (sys.stdout if stream == 1 else sys.stderr) is None:
        return
    while data:
        try:
            data = data[os.write(stream, data) :]
        except BlockingIOError:
            poll({stream: POLLOUT})
