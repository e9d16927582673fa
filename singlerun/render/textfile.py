"""Puts text in the place of a file, all of it or none: readers see the old one or the new one."""

import os
import stat
from errno import EEXIST, EISDIR

MODE = 0o644
"""For a reader that is another user, such as node_exporter."""


def replace(path: bytes, data: bytes) -> None:
    """Write a file that others may read, whatever the umask, and have it on the disk.

    Raises OSError if that fails; then what was there is left as it was.
    """
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        # Another file would take the place of /dev/stdout.
        raise OSError(EEXIST if not os.path.isdir(path) else EISDIR, "it is not a regular file")
    # Readers that take *.prom must not take this one.
    new = path + b".%d.new" % os.getpid()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(new, flags, 0o600)
    except FileExistsError:  # of a process that was killed
        os.unlink(new)
        descriptor = os.open(new, flags, 0o600)
    try:
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fchmod(descriptor, MODE)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(new, path)
    except BaseException:
        os.unlink(new)
        raise
