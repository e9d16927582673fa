"""Symbolic links that another user may have planted.

In /tmp a user may point a link anywhere, and root would create or lock the file it points to. With
fs.protected_symlinks set the kernel follows no link in a sticky, world-writable directory unless
the link belongs to the process's user or to the directory's owner (proc_sys_fs(5)). Here the same
holds whether it is set or not, and for the links in the middle of a path too.
"""

import os
import stat
from errno import ELOOP

from singlerun.errors import LockFileError

_MOST = 40
"""Links in one path, as in the kernel (path_resolution(7))."""


def resolve(path: bytes) -> bytes:
    """Return an absolute path without symbolic links; what is missing of it stays as it is.

    Raises LockFileError if it leads through a link that may have been planted, or in a circle.
    """
    rest, real, links = path.split(b"/")[::-1], b"/", 0
    while rest:
        part = rest.pop()
        if part in {b"", b"."}:
            continue
        if part == b"..":
            real = os.path.dirname(real)
            continue
        real, target = os.path.join(real, part), _target(os.path.join(real, part))
        if target is None:
            continue
        links += 1
        if links > _MOST:
            raise LockFileError(os.fsdecode(path), os.strerror(ELOOP), "name another file")
        rest += target.split(b"/")[::-1]
        real = b"/" if target.startswith(b"/") else os.path.dirname(real)
    return real


def _target(path: bytes) -> bytes | None:
    """Return where a symbolic link leads, None if it is no link."""
    try:
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            return None
        link = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # missing, or opening it will show what is wrong
        return None
    try:
        entry = os.fstat(link)
        if not stat.S_ISLNK(entry.st_mode):  # replaced meanwhile
            return None
        directory = os.stat(os.path.dirname(path))
        shared = stat.S_ISVTX | stat.S_IWOTH
        trusted = {os.geteuid(), directory.st_uid}
        if directory.st_mode & shared == shared and entry.st_uid not in trusted:
            why = f"it is a symbolic link of user {entry.st_uid} where any user may create one"
            raise LockFileError(os.fsdecode(path), why, "name the file that it leads to")
        return os.readlink(b"", dir_fd=link)
    finally:
        os.close(link)
