"""The compiled configuration, kept in the state directory, which its user can always write to.

It holds as long as stat(2) shows each file and each directory of drop-ins unchanged. What is
damaged, of another version or not ours is made anew, and what can't be written is no failure.
"""

import fcntl
import marshal
import os
import stat
import sys
import time

from singlerun import __version__, paths
from singlerun.config import files, settings
from singlerun.errors import SinglerunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Stamp = tuple[int, ...] | int
    """Time of change, size and inode of a file, or the error that stat(2) gave."""

FILE = b"config.cache"
_NEW = b"config.cache.new"
_FORMAT = 1
_LARGEST = 1 << 26
_MOST = 4
"""Configurations that are kept: SINGLERUN_CONFIG may name one here and another one there."""
_DIGEST = 16
_UNSETTLED_NS = 2 * 10**9
"""A file that changed so lately may change again without a trace: a time has a granularity."""
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def data(state_path: bytes | None, *, create: bool = False) -> "dict[str, Any]":
    """Return the data of the settings (settings.EMPTY), from the cache if that still holds.

    With ``create``, a state directory that is missing is made, to keep what was read.
    """
    mains = files.main_files()
    if not mains:
        return settings.EMPTY
    kept = [] if state_path is None else _read(state_path)
    known = next((each for each in kept if each[0] == mains), None)
    if known is not None and _is_current(known[1]):
        found: dict[str, Any] = known[2]
        return found
    from singlerun.config import reading  # noqa: PLC0415 - costs tomllib

    begun_ns = time.time_ns()
    stamps = _stamps(mains)
    try:
        fresh, is_lasting = reading.read(mains)
    except OSError as error:  # nothing is wrong with a file: what was known still holds
        if known is None:
            raise
        problem = mains[0], 1, "", f"it cannot be read: {paths.reason(error)}"
        return {**known[2], "problems": [problem], "prior": settings.remembered(known[2])}
    if fresh["problems"] and known is not None:
        fresh["prior"] = settings.remembered(known[2])
    if state_path is not None:
        # Kept even if it has to be read again: once it has become unreadable, it is what was known.
        latest = max((each[1] for _, each in stamps if isinstance(each, tuple)), default=0)
        is_lasting = is_lasting and latest < begun_ns - _UNSETTLED_NS
        ours = [mains, stamps if is_lasting else None, fresh]
        others = [each for each in kept if each is not known]
        kept = [ours, *others[: _MOST - 1]]
        _write(state_path, kept, create=create or _needs_directory(fresh))
    return fresh


def _needs_directory(fresh: "dict[str, Any]") -> bool:
    """Return whether the directory of the cache would not be made by a run."""
    return any("dir" in values for values in fresh["defaults"])


def _magic() -> "tuple[object, ...]":
    """Return what must be the same for compiled data to be understood."""
    here = os.path.dirname(os.path.abspath(__file__))
    sources = [_stamp(os.fsencode(f"{here}/{name}")) for name in ("schema.py", "../options.py")]
    encoding = sys.getfilesystemencoding()
    return _FORMAT, __version__, sys.implementation.cache_tag, encoding, *sources


def _stamp(path: bytes) -> "Stamp":
    try:
        entry = os.stat(path)
    except OSError as error:
        return error.errno or -1
    return entry.st_mtime_ns, entry.st_ctime_ns, entry.st_size, entry.st_ino


def _stamps(mains: list[bytes]) -> "list[tuple[bytes, Stamp]]":
    """Return the stamps of all that is read, taken before it is."""
    found: list[bytes] = []
    for main in mains:
        found += [main, files.drop_in_dir(main)]
    stamps = [(path, _stamp(path)) for path in found]
    for main in mains:
        try:
            stamps += [(path, _stamp(path)) for path in files.drop_ins(main)]
        except OSError:
            pass
    return stamps


def _is_current(stamps: "list[tuple[bytes, Stamp]] | None") -> bool:
    return stamps is not None and all(_stamp(path) == stamp for path, stamp in stamps)


# -- the file ---------------------------------------------------------------------------------


def _checksum(content: bytes) -> bytes:
    try:
        from _blake2 import blake2b  # noqa: PLC0415 - hashlib around it costs 1 ms
    except ImportError:
        from hashlib import blake2b  # noqa: PLC0415

    return blake2b(content, digest_size=_DIGEST).digest()


def _read(state_path: bytes) -> "list[Any]":
    """Return what was kept: files, their stamps and data; none if it is damaged or not ours."""
    try:
        file = os.open(os.path.join(state_path, FILE), os.O_RDONLY | _FLAGS)
    except OSError:
        return []
    try:
        entry = os.fstat(file)
        if not _is_ours(entry) or entry.st_size > _LARGEST:
            return []
        content = os.read(file, entry.st_size)
    except OSError:
        return []
    finally:
        os.close(file)
    # marshal must not see what was damaged, which may crash it.
    if len(content) < _DIGEST or _checksum(content[_DIGEST:]) != content[:_DIGEST]:
        return []
    magic, kept = marshal.loads(content[_DIGEST:])  # noqa: S302 - we have written it
    return kept if magic == _magic() else []


def _is_ours(entry: os.stat_result) -> bool:
    return stat.S_ISREG(entry.st_mode) and _is_private(entry)


def _is_private(entry: os.stat_result) -> bool:
    may_write = entry.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return entry.st_uid == os.geteuid() and not may_write


def _write(state_path: bytes, kept: "Any", *, create: bool) -> None:
    """Keep what was read, if that is possible: replace the file, so that no reader sees a part."""
    whole: Any = (_magic(), kept)
    content = marshal.dumps(whole)
    content = _checksum(content) + content
    directory = -1
    try:
        if create:
            paths.make_private_directory(os.path.abspath(state_path))
        directory = os.open(state_path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if _is_private(os.fstat(directory)):
            _replace(content, directory)
    except (OSError, SinglerunError):
        return
    finally:
        if directory >= 0:
            os.close(directory)


def _replace(content: bytes, directory: int) -> None:
    """Write a new file and put it in place of the old one; leave that to another who does so."""
    file = os.open(_NEW, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=directory)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        entry, named = os.fstat(file), os.stat(_NEW, dir_fd=directory, follow_symlinks=False)
        if entry.st_ino != named.st_ino:  # another has put it in place meanwhile
            return
        os.ftruncate(file, 0)
        if os.write(file, content) == len(content):
            os.rename(_NEW, FILE, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(file)
