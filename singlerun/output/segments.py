"""What is kept of a command's output on disk: bounded, and readable while it is still written.

    DIR/logs/RUN_ID/            0700; flocked by its writer for as long as more may come
        000000000000000000      segments, 0600, named by how many bytes were written before them
        000000000001048571.z    one that is compressed
        ended                   the command has ended; what it left behind may write still

buffer.py says what a segment consists of and which are kept. As each name says what came before it,
a reader knows to the byte how much is missing. When nothing can write any more, the segments are
compressed (compression.py).

A frame that was torn, by a crash or a power loss, ends what can be read, and nothing before it is
lost. Nothing is synced: a power loss costs the latest seconds of output, never the run.

The directory appears under its name when it is locked already, so if a reader sees it without a
writer, nothing more will come.
"""

import fcntl
import os
import stat

from singlerun.errors import DamagedOutputError, StateDirError
from singlerun.output import compression
from singlerun.output.buffer import SEGMENT, Buffer, Frames
from singlerun.paths import lift, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.paths import StateDir

_DIGITS = 18
_ENDED = b"ended"


class Writer:
    """Output in memory on its way to the disk.

    What comes faster than it is flushed, and would be deleted soon, is never written at all. Output
    is appended to ``buffer``.
    """

    def __init__(self, state: "StateDir", run_id: int) -> None:
        """Begin to keep the output of a run; StateDirError or OSError: it cannot be kept there."""
        self.buffer = Buffer()
        self._written: dict[int, int] = {}  # by a segment's start: how much of it is on disk
        self._fd = -1
        os.close(state.open_directory(b"logs"))
        making = b"logs/.%d-%d" % (run_id, os.getpid())
        self._directory = state.open_directory(making)
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (former := _open(state, run_id)) is not None:
                # Left from a run-log that was lost: the next one began again with number 1.
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
        """Return whether all that was appended is on disk."""
        kept = self.buffer.segments
        return not kept or self._written.get(kept[-1].start) == kept[-1].used

    def flush(self) -> None:
        """Write to the disk what was appended; delete there what is not kept any more.

        Raises OSError if it cannot be written; then nothing more must be.
        """
        kept = self.buffer.segments
        for start in self._written.keys() - {segment.start for segment in kept}:
            # Deleted, not overwritten: it may be being read.
            try:
                os.unlink(_segment(start), dir_fd=self._directory)
            except FileNotFoundError:
                pass
            del self._written[start]
        for segment in kept:
            written = self._written.get(segment.start)
            if written is None:
                self._open_segment(segment.start)
                written = 0
            rest = memoryview(segment.data)[written : segment.used]
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._written[segment.start] = segment.used

    def end(self) -> None:
        """Mark that the command has ended (else OSError); what it left behind may go on writing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(_ENDED, flags, 0o600, dir_fd=self._directory))

    def is_compressible(self) -> bool:
        """Return whether compressing what is kept is worth it."""
        return compression.is_worth(segment.used for segment in self.buffer.segments)

    def compress(self) -> None:
        """Compress what is kept, to which nothing will be added; OSError: not all of it could be.

        It is locked meanwhile, and can be read.
        """
        compression.compress(self._directory)

    def close(self) -> None:
        """Close it: nothing more will come, unless another process writes to it too."""
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
    """Output on the disk, whole or still growing.

    Attributes:
        at_ns: when the part was written that was yielded last; None if that is not known.
    """

    def __init__(self, path: bytes, directory: int) -> None:
        self._path = path
        self._directory = directory
        self._segment = b""
        self._fd = -1
        self._expanded: bytes | None = None
        self._damaged: list[bytes] = []
        self._frames = Frames(0)
        self._at = 0

    @property
    def at_ns(self) -> int | None:
        return self._frames.at_ns

    def is_over(self) -> bool:
        """Return whether the command has ended, or no process is left that could write.

        A caller that asks first and reads then has all that the command wrote.
        """
        try:
            os.stat(_ENDED, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            try:
                fcntl.flock(self._directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            fcntl.flock(self._directory, fcntl.LOCK_UN)
        return True

    def read(self) -> "Iterator[tuple[int, memoryview, int]]":
        """Yield what has come since the last time: stream, bytes, and how many are missing before.

        Raises StateDirError if it cannot be read, DamagedOutputError at the end if some of it could
        not.
        """
        while True:
            # Listed first: if there is a next segment, this one does not grow any more.
            behind = [name for name in self._names() if name > self._segment]
            yield from self._read_segment()
            if not behind or not self._open_first(behind):
                break
        if self._damaged:
            damaged, self._damaged = self._damaged, []
            file = os.path.join(self._path, damaged[0] + compression.SUFFIX)
            raise DamagedOutputError(os.fsdecode(file))

    def _names(self) -> list[bytes]:
        files = (os.fsencode(name) for name in os.listdir(self._directory))
        names = {name.removesuffix(compression.SUFFIX) for name in files}
        return sorted(name for name in names if len(name) == _DIGITS and name.isdigit())

    def _read_segment(self) -> "Iterator[tuple[int, memoryview, int]]":
        if self._fd < 0:
            return
        while True:
            if self._expanded is not None:
                data = self._expanded[self._frames.used :]
            else:
                data = self._pread(SEGMENT, self._frames.used)
            before = self._frames.used
            for stream, part, offset in self._frames.parse(data):
                yield stream, part, offset - self._at
                self._at = offset + len(part)
            if self._frames.used == before:
                return

    def _pread(self, most: int, at: int) -> bytes:
        try:
            return os.pread(self._fd, most, at)
        except OSError as error:
            raise self._error(self._segment, reason(error)) from error

    def _open_first(self, names: list[bytes]) -> bool:
        """Open the first of these segments that is still there; return whether one was."""
        for name in names:
            # In this order: what is compressed meanwhile is deleted after that.
            for file in (name, name + compression.SUFFIX):
                descriptor = self._open(file)
                if descriptor is None:
                    continue
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd = descriptor
                self._segment = name
                self._frames = Frames(int(name))
                self._expanded = None
                if file != name:
                    self._expand()
                return True
        return False

    def _open(self, file: bytes) -> int | None:
        """Open a file of the directory, None if there is none."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = lift(os.open(file, flags, dir_fd=self._directory))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(file, reason(error)) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._error(file, "it is not a regular file")
        return descriptor

    def _expand(self) -> None:
        """Expand a compressed segment, as far as that can be done."""
        self._expanded, is_whole = compression.expand(self._pread(2 * SEGMENT, 0), SEGMENT)
        if not is_whole:
            self._damaged.append(self._segment)

    def _error(self, name: bytes, why: str) -> StateDirError:
        return StateDirError(os.fsdecode(os.path.join(self._path, name)), why, "remove it")


def _segment(start: int) -> bytes:
    return b"%0*d" % (_DIGITS, start)


def sweep(state: "StateDir") -> None:
    """Delete the directories of writers that died before theirs appeared under its name.

    Raises:
        StateDirError: one can't be deleted.
    """
    try:
        logs = state.open_directory(b"logs", create=False)
    except FileNotFoundError:
        return
    try:
        made = [os.fsencode(name) for name in os.listdir(logs) if name.startswith(".")]
    finally:
        os.close(logs)
    for name in made:
        pid = name.rpartition(b"-")[2]
        # It is locked by its writer, but for the moment in which it is made.
        if pid.isdigit() and not os.path.exists(b"/proc/" + pid):
            path = os.path.join(b"logs", name)
            try:
                _remove(state.open_directory(path, create=False), os.path.join(state.path, path))
            except (FileNotFoundError, BlockingIOError):  # it has just got its name
                pass


def path_of(run_id: int) -> bytes:
    """Return where a run's output is kept, in the state directory."""
    return b"logs/%d" % run_id


def reader(state: "StateDir", run_id: int) -> Reader | None:
    """Return a reader of what is kept of a run's output, None if nothing is; or StateDirError."""
    directory = _open(state, run_id)
    path = os.path.join(state.path, path_of(run_id))
    return None if directory is None else Reader(path, directory)


def last_write_ns(state: "StateDir", run_id: int) -> int | None:
    """Return when output of a run was last written, None if nothing is kept."""
    directory = os.path.join(state.path, path_of(run_id))
    try:
        entries = [entry.stat() for entry in os.scandir(directory) if entry.name != _ENDED]
    except OSError:
        return None
    return max((entry.st_mtime_ns for entry in entries), default=None)


def left_out(count: int) -> str:
    """Return the line that marks missing output."""
    return f"{count} bytes of the output are left out here"


def why_not(error: OSError | StateDirError) -> str:
    """Return why output cannot be kept."""
    return reason(error) if isinstance(error, OSError) else str(error)


def _open(state: "StateDir", run_id: int) -> int | None:
    try:
        os.close(state.open_directory(b"logs", create=False))
        return state.open_directory(path_of(run_id), create=False)
    except FileNotFoundError:
        return None


def _remove(directory: int, path: bytes) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in os.listdir(directory):
            os.unlink(name, dir_fd=directory)
        os.rmdir(path)
    except BlockingIOError:  # something still writes there
        raise
    except OSError as error:
        raise StateDirError(os.fsdecode(path), reason(error), "remove it") from error
    finally:
        os.close(directory)
