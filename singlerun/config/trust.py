"""Which files a configuration may be read from: those that only root and its user can change.

A configuration has commands in it, so a file that another user can write to, or put another in the
place of, is not even opened. As ssh(1) does, this counts a group as others.
"""

import os
import stat
from errno import ELOOP

_MOST_LINKS = 40
"""As in the kernel (path_resolution(7))."""
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
LARGEST = 1 << 20
"""Bytes of one file."""


class UntrustedError(Exception):
    """A file is not to be read: why, and what to do about it."""

    def __str__(self) -> str:
        return "; ".join(self.args)


def read(path: bytes) -> bytes:
    """Return the content of a file.

    Raises UntrustedError if another user might have written it, OSError if it can't be read.
    """
    real = _resolve(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    file = os.open(real, flags)
    try:
        entry = os.fstat(file)
        if not stat.S_ISREG(entry.st_mode):
            raise UntrustedError("it is not a regular file", "put a file in its place")
        _check(real, entry)
        content = b""
        while more := os.read(file, LARGEST + 1 - len(content)):
            content += more
        if len(content) > LARGEST:
            raise UntrustedError(f"it is larger than {LARGEST >> 20} MB", "make it shorter")
        return content
    finally:
        os.close(file)


def check_directory(path: bytes) -> None:
    """Raise UntrustedError if another user can change what is in a directory."""
    _resolve(path)


def _resolve(path: bytes) -> bytes:
    """Return a path without symbolic links, after a look at each directory on the way."""
    rest, real, links = path.split(b"/")[::-1], b"/", 0
    _check(real, os.lstat(real))
    while rest:
        part = rest.pop()
        if part in {b"", b"."}:
            continue
        if part == b"..":
            real = os.path.dirname(real)
            continue
        step = os.path.join(real, part)
        entry = os.lstat(step)
        if not stat.S_ISLNK(entry.st_mode):
            real = step
            if stat.S_ISDIR(entry.st_mode):
                _check(real, entry)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(ELOOP, os.strerror(ELOOP))
        _check(step, entry)
        target = os.readlink(step)
        rest += target.split(b"/")[::-1]
        real = b"/" if target.startswith(b"/") else real
    return real


def _check(path: bytes, entry: os.stat_result) -> None:
    """Raise UntrustedError if another user than root can change what a path leads to."""
    shown, user = os.fsdecode(path), os.geteuid()
    if entry.st_uid not in {0, user}:
        owner = "root" if user == 0 else f"root or user {user}"
        why = f"{shown} belongs to user {entry.st_uid}, not to {owner}"
        raise UntrustedError(why, f"if it is in order: chown {user} {shown}")
    if stat.S_ISLNK(entry.st_mode):  # has no permissions of its own
        return
    is_sticky = stat.S_ISDIR(entry.st_mode) and entry.st_mode & stat.S_ISVTX
    if entry.st_mode & _OTHERS and not is_sticky:
        raise UntrustedError(f"others may write to {shown}", f"chmod go-w {shown}")
