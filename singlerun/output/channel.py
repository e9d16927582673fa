"""A pipe of the command's, and the stream of ours that its content is passed on to."""

import fcntl
import os
import sys
import termios
from select import POLLHUP, POLLIN

from singlerun.process.descriptors import poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.output.sink import Sink

CHUNK = 256 * 1024
"""Bytes read at once, at most."""


class Channel:
    """The way from a pipe to a sink.

    Attributes:
        stream: 1 or 2; 1 also for both in one.
        source: the pipe; -1 after its end, or after that of its reader.
        sink: None if nothing is passed on.
        pending: what was read and has not been passed on yet.
        asked: how many bytes are to be read before the wrapper's answer; None: it has not asked.
    """

    def __init__(self, stream: int, source: int, sink: "Sink | None") -> None:
        self.stream, self.source, self.sink = stream, source, sink
        self.pending = memoryview(b"")
        self.asked: int | None = None
        self._buffer = memoryview(bytearray(CHUNK))

    def ask(self) -> None:
        """Note how much is in the pipe now."""
        self.asked = 0
        if self.source >= 0:
            size = fcntl.ioctl(self.source, termios.FIONREAD, bytes(4))
            self.asked = int.from_bytes(size, sys.byteorder)

    def has_delivered(self) -> bool:
        """Return whether what was asked for has been passed on."""
        return not self.pending and not self.asked

    def read(self) -> memoryview:
        """Return what poll(2) says has arrived; nothing at the end."""
        size = CHUNK if self.asked is None else min(CHUNK, self.asked)
        count = os.readv(self.source, [self._buffer[:size]])
        if not count:
            self.close()
        if self.asked is not None:
            self.asked -= count
        return self._buffer[:count]

    def is_at_end(self) -> bool:
        """Return whether the pipe is empty, and no process could write to it any more."""
        return poll({self.source: POLLIN}, 0) == {self.source: POLLHUP}

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.source)
        self.source = -1
        self.asked = None if self.asked is None else 0

    def discard(self) -> None:
        """Close the sink; nothing is passed on any more."""
        if self.sink is not None:
            self.sink.close()
            self.sink = None
