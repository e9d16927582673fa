"""One of our own streams, written to without ever blocking where that is possible.

Whether a write may block belongs to the open file, which other processes share, so it must not be
changed. A pipe is opened a second time instead, and a socket has a flag for each write. Terminals
and files are written to as they are.
"""

import os
import stat
from select import POLLOUT

from singlerun.process.descriptors import poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 256 * 1024
"""Bytes written at once, at most."""
ATOMIC = 4096
"""Bytes that a pipe takes without blocking once poll(2) says that it takes any (PIPE_BUF)."""


class Sink:
    """A stream of ours.

    Attributes:
        fd: its descriptor.
        also: another descriptor that is to be closed with it, or -1.
        is_nameless: whether it is a pipe that cannot find another reader later.
    """

    def __init__(self, number: int) -> None:
        self.fd = number
        self.also = -1
        self.is_nameless = False
        kind = os.fstat(number).st_mode
        self._at_once = AT_ONCE
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
        """Write some of it; return how much. BlockingIOError: nothing can be now, OSError: ever."""
        return self._write(data)

    def write_all(self, data: "memoryview | bytes") -> None:
        """Write all of it, and wait for that; raise OSError if it cannot be written."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.write(rest) :]
            except BlockingIOError:
                poll({self.fd: POLLOUT})

    def close(self) -> None:
        """Close it, so that its reader sees the end."""
        os.close(self.fd)
        if self.also >= 0:
            os.close(self.also)

    def _write_file(self, data: memoryview) -> int:
        if self._at_once == ATOMIC and not poll({self.fd: POLLOUT}, 0):
            raise BlockingIOError
        return os.write(self.fd, data[: self._at_once])
