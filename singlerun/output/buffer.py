"""The output of a command in memory, bounded; and the frames that it consists of there and on disk.

A frame is a byte for the stream, four for the length, and so many bytes of what the command wrote.
A frame of the stream TIME says when the frames after it were written. Frames stand in segments of
limited size, each of which begins with a time. The first FIRST and the latest LAST segments stay,
those between are dropped.
"""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Data = bytes | bytearray | memoryview

SEGMENT = 1024 * 1024
"""Bytes of a segment at most, frames included."""
FIRST, LAST = 1, 9
"""How many segments are kept from the beginning and from the end."""

TIME = 3
"""Where a stream is named: no stream, but nanoseconds since the epoch, in eight bytes."""
GRAIN_NS = 1_000_000
"""Frames that were written within so short a time have one time: a thousand times a second cost 13
KB, and less than what they are of."""

_HEADER = 5
_MARK = _HEADER + 8


class Frames:
    """Parses the frames of a segment, also where they come in pieces.

    Attributes:
        offset: of the next byte, among all that were written.
        used: how many bytes of the segment were parsed.
        at_ns: when the latest part was written; None if that was kept without times.
    """

    def __init__(self, start: int) -> None:
        self.offset = start
        self.used = 0
        self.at_ns: int | None = None
        self._stream = self._left = 0

    def parse(self, data: "Data") -> "Iterator[tuple[int, memoryview, int]]":
        """Yield the parts in the next piece of a segment: stream, bytes, and their offset."""
        rest = memoryview(data)
        while True:
            if not self._left:
                if len(rest) < _HEADER or rest[0] not in {1, 2, TIME}:
                    return  # not complete yet; or zeros, as a power loss leaves them
                if rest[0] == TIME:
                    if len(rest) < _MARK:
                        return
                    self.at_ns = int.from_bytes(rest[_HEADER:_MARK], "big")
                    self.used += _MARK
                    rest = rest[_MARK:]
                    continue
                self._stream = rest[0]
                self._left = int.from_bytes(rest[1:_HEADER], "big")
                self.used += _HEADER
                rest = rest[_HEADER:]
            part = rest[: self._left]
            if not part:
                return
            offset = self.offset
            self.offset += len(part)
            self.used += len(part)
            self._left -= len(part)
            rest = rest[len(part) :]
            yield self._stream, part, offset


class _Segment:
    """A segment in memory; ``start`` is how many bytes were written before it."""

    def __init__(self, start: int, data: bytearray) -> None:
        self.start, self.data, self.used = start, data, 0


class Buffer:
    """Output in memory, within the bound.

    Attributes:
        total: how many bytes were appended.
        segments: those that are kept.
    """

    def __init__(self) -> None:
        self.total = 0
        self.segments: list[_Segment] = []
        self._marked_ns = 0

    def append(self, stream: int, data: "Data") -> None:
        """Append what was written just now to a stream, 1 or 2."""
        rest = memoryview(data)
        now = time.time_ns()
        while rest:
            is_new = not 0 <= now - self._marked_ns < GRAIN_NS
            needed = _HEADER + (_MARK if is_new else 0)
            if not self.segments or self.segments[-1].used + needed >= SEGMENT:
                self._begin_segment()
                is_new = True
            segment = self.segments[-1]
            if is_new:
                mark = b"%c%b%b" % (TIME, (8).to_bytes(4, "big"), now.to_bytes(8, "big"))
                segment.data[segment.used : segment.used + _MARK] = mark
                segment.used += _MARK
                self._marked_ns = now
            body = segment.used + _HEADER
            part = rest[: SEGMENT - body]
            segment.data[segment.used : body] = b"%c%b" % (stream, len(part).to_bytes(4, "big"))
            segment.used = body + len(part)
            segment.data[body : segment.used] = part
            self.total += len(part)
            rest = rest[len(part) :]

    def _begin_segment(self) -> None:
        # Fresh memory from the system costs more than what is written into it.
        is_full = len(self.segments) == FIRST + LAST
        memory = self.segments.pop(FIRST).data if is_full else bytearray(SEGMENT)
        self.segments.append(_Segment(self.total, memory))

    def read(self) -> "Iterator[tuple[int, memoryview, int]]":
        """Yield all of it: stream, bytes, and how many are missing before them."""
        at = 0
        for segment in self.segments:
            used = memoryview(segment.data)[: segment.used]
            for stream, part, offset in Frames(segment.start).parse(used):
                yield stream, part, offset - at
                at = offset + len(part)
