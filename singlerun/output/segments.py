"""What a command wrote, kept: bounded, and readable while it is still written.

    DIR/logs/RUN_ID/            0700; flocked by its writer for as long as more may come
        000000000000000000      segments, 0600, called by how many bytes were written before them
        000000000001048571
        ended                   the command has ended; what it left behind may write still

A segment is a row of frames: a byte for the stream, four for the length, and so many bytes of what
the command wrote. The first FIRST and the latest LAST segments stay, those between are deleted. As
each name tells what came before it, a reader knows to the byte how much is missing.

A frame that was torn, by a crash or a power loss, ends what can be read, and nothing before it is
lost. Nothing is synced: a power loss costs the latest seconds of output, never the run.

The directory appears under its name when it is locked already, so who sees it without a writer
knows that nothing more will come.
"""

import fcntl
import os
import stat

from singlerun.errors import StateDirError
from singlerun.paths import lift, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.paths import StateDir

    Data = bytes | bytearray | memoryview

SEGMENT = 1024 * 1024
"""Bytes of a segment at most, frames included."""
FIRST, LAST = 1, 9
"""How many segments are kept from the beginning and from the end."""

_HEADER = 5
_DIGITS = 18
_ENDED = b"ended"


class _Frames:
    """Takes frames apart, also where they come in pieces."""

    def __init__(self, start: int) -> None:
        self.offset = start  # of the next byte, among all that were written
        self.used = 0  # bytes of the segment that were understood
        self._stream = self._left = 0

    def take(self, data: "Data") -> "Iterator[tuple[int, memoryview, int]]":
        """Give the parts in the next piece of a segment: stream, bytes, and their offset."""
        rest = memoryview(data)
        while True:
            if not self._left:
                if len(rest) < _HEADER or rest[0] not in {1, 2}:
                    return  # not complete yet; or zeros, as a power loss leaves them
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


class _Row:
    """A segment in memory; ``start`` is how many bytes were written before it."""

    __slots__ = ("buffer", "start", "used")

    def __init__(self, start: int, buffer: bytearray) -> None:
        self.start = start
        self.buffer = buffer
        self.used = 0


class Held:
    """Output in memory, within the bound.

    Attributes:
        total: how many bytes have come.
    """

    def __init__(self) -> None:
        self.total = 0
        self.rows: list[_Row] = []

    def append(self, stream: int, data: "Data") -> None:
        """Add what was written to a stream, 1 or 2."""
        rest = memoryview(data)
        while rest:
            if not self.rows or self.rows[-1].used + _HEADER >= SEGMENT:
                self._begin_row()
            row = self.rows[-1]
            body = row.used + _HEADER
            part = rest[: SEGMENT - body]
            row.buffer[row.used : body] = b"%c%b" % (stream, len(part).to_bytes(4, "big"))
            row.used = body + len(part)
            row.buffer[body : row.used] = part
            self.total += len(part)
            rest = rest[len(part) :]

    def read(self) -> "Iterator[tuple[int, memoryview, int]]":
        """Give all of it: stream, bytes, and how many are missing before them."""
        at = 0
        for row in self.rows:
            for stream, part, offset in _Frames(row.start).take(memoryview(row.buffer)[: row.used]):
                yield stream, part, offset - at
                at = offset + len(part)

    def _begin_row(self) -> None:
        if len(self.rows) < FIRST + LAST:
            buffer = bytearray(SEGMENT)
        else:
            # Fresh memory from the system costs more than what is written into it.
            buffer = self.rows.pop(FIRST).buffer
        self.rows.append(_Row(self.total, buffer))


class Writer:
    """Output in memory on its way to the disk.

    What comes faster than it is flushed, and would be deleted soon, is never written at all.

    Attributes:
        held: where output is added.
    """

    def __init__(self, state: "StateDir", run_id: int) -> None:
        """Begin to keep the output of a run.

        Raises:
            StateDirError, OSError: it can't be kept there.
        """
        self.held = Held()
        self._written: dict[int, int] = {}  # by a row's start: how much of it is on the disk
        self._fd = -1
        os.close(state.open_directory(b"logs"))
        making = b"logs/.%d-%d" % (run_id, os.getpid())
        self._directory = state.open_directory(making)
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (former := _open(state, run_id)) is not None:
                # Of a run in a run-log that was lost: the next one began again with number 1.
                _remove(former, os.path.join(state.path, path_of(run_id)))
            os.rename(os.path.join(state.path, making), os.path.join(state.path, path_of(run_id)))
        except (OSError, StateDirError):
            os.rmdir(os.path.join(state.path, making))
            os.close(self._directory)
            raise

    @property
    def fds(self) -> list[int]:
        """The descriptors that it has open."""
        return [self._directory, *([self._fd] if self._fd >= 0 else [])]

    def is_flushed(self) -> bool:
        """Tell whether all that was added is on the disk."""
        rows = self.held.rows
        return not rows or self._written.get(rows[-1].start) == rows[-1].used

    def flush(self) -> None:
        """Bring to the disk what was added; delete there what has no place any more.

        Raises:
            OSError: it can't be written; then nothing more must be.
        """
        rows = self.held.rows
        for start in self._written.keys() - {row.start for row in rows}:
            # Deleted, not written over: somebody may be reading it.
            try:
                os.unlink(_segment(start), dir_fd=self._directory)
            except FileNotFoundError:
                pass
            del self._written[start]
        for row in rows:
            written = self._written.get(row.start)
            if written is None:
                self._open_segment(row.start)
                written = 0
            rest = memoryview(row.buffer)[written : row.used]
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._written[row.start] = row.used

    def end(self) -> None:
        """Tell readers that the command has ended; what it left behind may go on writing.

        Raises:
            OSError: that can't be told.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(_ENDED, flags, 0o600, dir_fd=self._directory))

    def close(self) -> None:
        """Leave it: nothing more will come, unless another process writes to it too."""
        for fd in self.fds:
            os.close(fd)
        self._fd = self._directory = -1

    def _open_segment(self, start: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = lift(os.open(_segment(start), flags, 0o600, dir_fd=self._directory))
        os.fchmod(descriptor, 0o600)  # whatever the umask
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = descriptor


class Reader:
    """Output on the disk, whole or still growing."""

    def __init__(self, path: bytes, directory: int) -> None:
        self._path = path
        self._directory = directory
        self._segment = b""
        self._fd = -1
        self._frames = _Frames(0)
        self._at = 0

    def is_over(self) -> bool:
        """Tell whether the command has ended, or nobody is left who could write.

        Who asks this first and reads then has all that the command wrote.
        """
        try:
            os.stat(_ENDED, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return not _is_written(self._directory)
        return True

    def read(self) -> "Iterator[tuple[int, memoryview, int]]":
        """Give what has come since the last time: stream, bytes, and how many are missing before.

        Raises:
            StateDirError: it can't be read.
        """
        while True:
            # Looked for first: where there is a next segment, this one doesn't grow any more.
            behind = [name for name in self._names() if name > self._segment]
            yield from self._read_segment()
            if not behind or not self._open_first(behind):
                return

    def _names(self) -> list[bytes]:
        names = (os.fsencode(name) for name in os.listdir(self._directory))
        return sorted(name for name in names if len(name) == _DIGITS and name.isdigit())

    def _read_segment(self) -> "Iterator[tuple[int, memoryview, int]]":
        if self._fd < 0:
            return
        while True:
            try:
                data = os.pread(self._fd, SEGMENT, self._frames.used)
            except OSError as error:
                raise self._error(self._segment, reason(error)) from error
            before = self._frames.used
            for stream, part, offset in self._frames.take(data):
                yield stream, part, offset - self._at
                self._at = offset + len(part)
            if self._frames.used == before:
                return

    def _open_first(self, names: list[bytes]) -> bool:
        """Open the first of these segments that is still there; tell whether one was."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        for name in names:
            try:
                descriptor = lift(os.open(name, flags, dir_fd=self._directory))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._error(name, reason(error)) from error
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise self._error(name, "it is not a regular file")
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = descriptor
            self._segment = name
            self._frames = _Frames(int(name))
            return True
        return False

    def _error(self, name: bytes, why: str) -> StateDirError:
        return StateDirError(os.fsdecode(os.path.join(self._path, name)), why, "remove it")


def _segment(start: int) -> bytes:
    return b"%0*d" % (_DIGITS, start)


def path_of(run_id: int) -> bytes:
    """Give where a run's output is kept, in the state directory."""
    return b"logs/%d" % run_id


def reader(state: "StateDir", run_id: int) -> Reader | None:
    """Give what is kept of a run's output; None if nothing is.

    Raises:
        StateDirError: it can't be trusted.
    """
    directory = _open(state, run_id)
    path = os.path.join(state.path, path_of(run_id))
    return None if directory is None else Reader(path, directory)


def left_out(count: int) -> str:
    """Say that something is missing at this place."""
    return f"{count} bytes of the output are left out here"


def why_not(error: OSError | StateDirError) -> str:
    """Say why output can't be kept."""
    return reason(error) if isinstance(error, OSError) else str(error)


def _open(state: "StateDir", run_id: int) -> int | None:
    try:
        os.close(state.open_directory(b"logs", create=False))
        return state.open_directory(path_of(run_id), create=False)
    except FileNotFoundError:
        return None


def _is_written(directory: int) -> bool:
    try:
        fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(directory, fcntl.LOCK_UN)
    return False


def _remove(directory: int, path: bytes) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in os.listdir(directory):
            os.unlink(name, dir_fd=directory)
        os.rmdir(path)
    except BlockingIOError:  # what writes there still would not be helped by that
        raise
    except OSError as error:
        raise StateDirError(os.fsdecode(path), reason(error), "remove it") from error
    finally:
        os.close(directory)
