"""Excerpts of kept output: since a time, the last lines."""

from collections import deque

from singlerun.errors import SinglerunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.output.segments import Reader


class Piece:
    """A piece of kept output.

    Attributes:
        stream: 1 or 2.
        data: what the command wrote.
        missing: how many bytes are missing before it.
        at_ns: when it was written; None if that is not known.
    """

    __slots__ = ("at_ns", "data", "missing", "stream")

    def __init__(
        self, stream: int, data: bytes | memoryview, missing: int = 0, at_ns: int | None = None
    ) -> None:
        self.stream, self.data = stream, memoryview(data)
        self.missing, self.at_ns = missing, at_ns


class Excerpt:
    """What is to be read of kept output, again and again while it grows.

    Attributes:
        is_timeless: whether something that was read has no time.
    """

    def __init__(
        self, reader: "Reader", *, since_ns: int | None = None, tail: int | None = None
    ) -> None:
        """Leave out what was written before ``since_ns``, unless it was kept without times.

        Of what is there already, only the last lines are read, as many as ``tail`` says.
        """
        self._reader, self._since_ns, self._tail = reader, since_ns, tail
        self.is_timeless = False

    def read(self) -> "Iterator[Piece]":
        """Yield what has come since the last time.

        Raises StateDirError if it cannot be read, DamagedOutputError at the end if some of it could
        not.
        """
        if self._tail is None:
            yield from self._pieces()
            return
        pieces, problem = deque[tuple[Piece, int]](), None
        lines, tail = 0, self._tail
        self._tail = None
        try:
            for piece in self._pieces():
                pieces.append((piece, bytes(piece.data).count(b"\n")))
                lines += pieces[-1][1]
                # One newline more, which the first of the last lines begins after.
                while (rest := lines - pieces[0][1]) > tail:
                    pieces.popleft()
                    lines = rest
        except SinglerunError as error:
            problem = error
        yield from _last([piece for piece, _ in pieces], lines, tail)
        if problem is not None:
            raise problem

    def _pieces(self) -> "Iterator[Piece]":
        for stream, data, missing in self._reader.read():
            at_ns = self._reader.at_ns
            self.is_timeless |= at_ns is None
            if self._since_ns is None or at_ns is None or at_ns >= self._since_ns:
                yield Piece(stream, data, missing, at_ns)


def _last(pieces: list[Piece], lines: int, count: int) -> "Iterator[Piece]":
    """Yield the last lines of pieces that have so many newlines."""
    if not pieces or not count:
        return
    ends_with_line = bytes(pieces[-1].data[-1:]) == b"\n"
    # The newlines of the lines before; what follows the last newline is a line, too.
    skipped = lines - count + (0 if ends_with_line else 1)
    for piece in pieces:
        if skipped <= 0:
            yield piece
            continue
        data = bytes(piece.data)
        at = 0
        while skipped > 0 and (end := data.find(b"\n", at)) >= 0:
            at = end + 1
            skipped -= 1
        if skipped <= 0 and at < len(data):
            yield Piece(piece.stream, data[at:], 0, piece.at_ns)
