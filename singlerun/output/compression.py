"""Segments that are compressed, each by itself, once nothing is written to them any more.

    000000000001048571          is read into
    .000000000001048571         which gets its name when it is whole and on the disk
    000000000001048571.z        and only then is the first one deleted

So there is a whole segment at any moment, whatever is killed or loses its power. Where both are
left, they say the same. A segment that was open is read to its end under the name it had.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIX = b".z"
WORTH = 4096
"""What is no larger takes one block on the disk anyway."""
LEVEL = 1
"""Of zlib: lines of a log shrink to a quarter at 140 MB/s; level 6 makes that a fifth at 57."""
NICENESS = 19
"""A start must not wait for a processor because of it."""
_PIECE = 64 * 1024


def is_worth(sizes: "Iterable[int]") -> bool:
    """Return whether one of the segments of these sizes is worth compressing."""
    return any(size > WORTH for size in sizes)


def compress(directory: int) -> None:
    """Compress the segments in an open directory that nothing writes to any more.

    Raises OSError if that can't be done; no segment is lost then.
    """
    for name in sorted(os.fsencode(name) for name in os.listdir(directory)):
        if name.isdigit():
            _compress(directory, name)


def _compress(directory: int, name: bytes) -> None:
    """Put a compressed segment in the place of one that is worth it."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    source = os.open(name, os.O_RDONLY | flags, dir_fd=directory)
    try:
        was = os.fstat(source)
        if not is_worth([was.st_size]):
            return
        making = b"." + name  # one that was left by a dead process is made anew
        target = os.open(
            making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, 0o600, dir_fd=directory
        )
        try:
            is_smaller = _write(source, target) < was.st_size
            os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))
            os.fsync(target)
            if is_smaller:
                os.rename(making, name + SUFFIX, src_dir_fd=directory, dst_dir_fd=directory)
                os.unlink(name, dir_fd=directory)
            else:
                os.unlink(making, dir_fd=directory)
        except OSError:
            os.unlink(making, dir_fd=directory)
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)


def _write(source: int, target: int) -> int:
    """Write an open file, compressed, to another; return how many bytes that has."""
    import zlib  # noqa: PLC0415 - rare

    compressor = zlib.compressobj(LEVEL)
    size = 0
    while True:
        data = os.read(source, _PIECE)
        rest = memoryview(compressor.compress(data) if data else compressor.flush())
        size += len(rest)
        while rest:
            rest = rest[os.write(target, rest) :]
        if not data:
            return size


def expand(data: bytes, most: int) -> tuple[bytes, bool]:
    """Return a compressed segment of ``most`` bytes at most, and whether it is whole.

    Of a damaged one that is what can be read of it.
    """
    import zlib  # noqa: PLC0415 - rare

    decompressor = zlib.decompressobj()
    try:
        expanded = decompressor.decompress(data, most + 1)
        return expanded[:most], decompressor.eof and len(expanded) <= most
    except zlib.error:  # and what came before it in this call is gone: so byte by byte
        decompressor = zlib.decompressobj()
    beginning = bytearray()
    try:
        for at in range(len(data)):
            beginning += decompressor.decompress(data[at : at + 1], most + 1)
    except zlib.error:
        pass
    return bytes(beginning[:most]), False
