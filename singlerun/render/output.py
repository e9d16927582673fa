"""The kept output of a command, written to the streams that it was written to."""

import os
import sys
from select import POLLERR, POLLOUT

from singlerun.process.descriptors import poll
from singlerun.render.line import say
from singlerun.render.result import Result


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


def _write(stream: int, data: memoryview) -> None:
    """Write all of it to stream 1 or 2, unless that was closed when we started."""
    if (sys.stdout if stream == 1 else sys.stderr) is None:
        return
    while data:
        try:
            data = data[os.write(stream, data) :]
        except BlockingIOError:
            poll({stream: POLLOUT})
