"""Where state lives, and how its files are opened so that nobody can have planted them.

DIR/                 0700
    singlerun.db     the run-log, with -wal and -shm beside it
    singlerun.db.lock    flocked around each write to it
    locks/NAME.lock  one file a name; never deleted, never written to
    locks/NAME.soft  its lock file, where one is used (lock/lockfile.py), with NAME.soft.filelock
    lines/NAME/      who waits for it, a file each (lock/line.py)
    logs/RUN_ID/     what a command wrote, if it is kept (kept.py)
    workers/NAME    a FIFO, flocked by who works off its queue (kick.py)
    workers.log     what those had to say
"""

import fcntl
import os
import stat
from errno import EROFS

from singlerun.errors import StateDirError

SYSTEM_DIR = b"/var/lib/singlerun"
HOME_DIR = b".local/state/singlerun"
LOWEST_DESCRIPTOR = 10
"""Shells keep 0 to 9 for scripts, so ours start at ten; ours never stand in for a closed 0 to 2."""

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:@+=,~")
_LONGEST_NAME = 200


def lift(descriptor: int) -> int:
    """Move a descriptor to ten or above, close-on-exec."""
    if descriptor >= LOWEST_DESCRIPTOR:
        return descriptor
    lifted = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)
    os.close(descriptor)
    return lifted


def default_dir() -> bytes:
    """Give the state directory of this user: by the password database, not by HOME or XDG.

    Those differ between cron and a login, and two directories would be two locks.

    Raises:
        StateDirError: the user has no entry in the password database.
    """
    if os.geteuid() == 0:
        return SYSTEM_DIR
    import pwd  # noqa: PLC0415 - only here, and not for root

    try:
        home = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise StateDirError(
            "~/.local/state/singlerun",
            f"user {os.geteuid()} has no home in the password database",
            "name a directory with --dir or SINGLERUN_DIR",
        ) from None
    return os.path.join(os.fsencode(home), HOME_DIR)


def lock_file_name(name: bytes) -> bytes:
    """Give the file name for a lock's name: the name itself where that is safe, else escaped.

    Escaping (``%`` and two hex digits) keeps different names different; a name too long for a file
    name is cut and ended with its BLAKE2b hash.
    """
    escaped = b"".join(b"%c" % byte if byte in _SAFE else b"%%%02X" % byte for byte in name)
    if escaped.startswith(b"."):
        escaped = b"%2E" + escaped[1:]
    if len(escaped) > _LONGEST_NAME:
        import hashlib  # noqa: PLC0415 - rare

        digest = hashlib.blake2b(name, digest_size=16).hexdigest().encode()
        escaped = escaped[: _LONGEST_NAME - 34] + b"%%" + digest
    return escaped + b".lock"


def slot_file_name(lock_file: bytes, slot: int) -> bytes:
    """Give the file name for one of the slots of a lock, whose own file name is given."""
    return b"%%%%%d-%s" % (slot, lock_file)  # no escaped name begins like this


class StateDir:
    """The opened state directory.

    Attributes:
        path: absolute.
        locks, lines: where the lock files and the waiting lines are, absolute.
    """

    __slots__ = ("_fd", "_locks_fd", "lines", "locks", "path")

    def __init__(self, path: bytes, *, create: bool = True) -> None:
        """Open a state directory; made with all its parents if missing and ``create`` is true.

        Raises:
            StateDirError: it can't be made, or can't be trusted.
            FileNotFoundError: it is missing, and ``create`` is false.
        """
        self.path = os.path.abspath(path)
        self.locks = os.path.join(self.path, b"locks")
        self.lines = os.path.join(self.path, b"lines")
        self._fd = _open_directory(self.path, create=create)
        self._locks_fd = _open_directory(self.locks, create=create)

    def close(self) -> None:
        """Close the directory: for who lives on."""
        for descriptor in (self._fd, self._locks_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._fd = self._locks_fd = -1

    def open_lock(self, file: bytes) -> tuple[int, bool]:
        """Open a lock's file; give its descriptor and whether this call created it.

        Raises:
            StateDirError: it can't be made, or was planted.
        """
        return _open_private(file, self._locks_fd, self.locks)

    def stat_lock(self, file: bytes) -> os.stat_result:
        """Look at a lock's file."""
        return os.stat(file, dir_fd=self._locks_fd, follow_symlinks=False)

    def soft_path(self, name: bytes) -> bytes:
        """Give the path of a name's lock file."""
        return os.path.join(self.locks, lock_file_name(name).removesuffix(b".lock") + b".soft")

    def line_path(self, name: bytes) -> bytes:
        """Give the directory of a name's waiting line."""
        return os.path.join(self.lines, lock_file_name(name).removesuffix(b".lock"))

    def line_path_of_file(self, path: bytes) -> bytes:
        """Give the directory of the waiting line for a file that the user chose to lock."""
        # No escaped name begins like this.
        return os.path.join(self.lines, b"%%" + lock_file_name(path).removesuffix(b".lock"))

    def open_fifo(self, name: bytes) -> int:
        """Open the FIFO of a name's queue for reading and writing, made if missing.

        Raises:
            StateDirError: it can't be made, or was planted.
        """
        directory = os.path.join(self.path, b"workers")
        make_private_directory(directory)
        path = os.path.join(directory, lock_file_name(name).removesuffix(b".lock"))
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            try:
                os.mkfifo(path, 0o600)
                os.chmod(path, 0o600)  # whatever the umask
            except FileExistsError:
                pass
            descriptor = lift(os.open(path, flags))
        except OSError as error:
            raise StateDirError(os.fsdecode(path), reason(error), "remove it") from error
        entry = os.fstat(descriptor)
        if not stat.S_ISFIFO(entry.st_mode) or entry.st_uid != os.geteuid():
            os.close(descriptor)
            raise StateDirError(os.fsdecode(path), "it is not a FIFO of ours", "remove it")
        return descriptor

    def open_file(self, name: bytes) -> int:
        """Open a file in the directory itself, made if missing; give its descriptor.

        Raises:
            StateDirError: it can't be made, or was planted.
        """
        return _open_private(name, self._fd, self.path)[0]

    def open_directory(self, name: bytes, *, create: bool = True) -> int:
        """Open a directory below it, made if missing and ``create`` is true; give its descriptor.

        Raises:
            StateDirError: it can't be made, or was planted.
            FileNotFoundError: it is missing, and ``create`` is false.
        """
        return _open_directory(os.path.join(self.path, name), create=create)


def state_path(option: bytes | None) -> bytes:
    """Give the state directory's path: the option, else SINGLERUN_DIR, else the default."""
    return option or os.environb.get(b"SINGLERUN_DIR") or default_dir()


def _open_directory(path: bytes, *, create: bool) -> int:
    shown = os.fsdecode(path)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if create and not os.path.lexists(path):
        try:
            _make_directories(path)
        except OSError as error:
            raise StateDirError(shown, reason(error), _remedy(error)) from error
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        if not create:
            raise
        raise StateDirError(shown, "it vanished while it was made", "try again") from None
    except NotADirectoryError:  # O_DIRECTORY | O_NOFOLLOW says so of a symbolic link too
        if os.path.islink(path):
            target = os.fsdecode(os.path.realpath(path))
            raise StateDirError(
                shown, f"it is a symbolic link to {target}", "name the real directory"
            ) from None
        raise StateDirError(
            shown, "it is not a directory", "name another with --dir or SINGLERUN_DIR"
        ) from None
    except OSError as error:
        raise StateDirError(shown, reason(error), _remedy(error)) from error
    descriptor = lift(descriptor)
    entry = os.fstat(descriptor)
    if entry.st_uid != os.geteuid():
        raise StateDirError(
            shown,
            f"it belongs to user {entry.st_uid}, not to {os.geteuid()}",
            "run as that user, or name another directory with --dir or SINGLERUN_DIR",
        )
    if entry.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateDirError(shown, "others may write to it", f"chmod go-w {shown}")
    return descriptor


def _make_directories(path: bytes) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_directories(parent)
    entry = os.stat(parent)
    if entry.st_mode & stat.S_IWOTH and not entry.st_mode & stat.S_ISVTX:
        shown = os.fsdecode(parent)
        raise StateDirError(os.fsdecode(path), f"anybody may write to {shown}", f"chmod +t {shown}")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # somebody was faster
        return
    os.chmod(path, 0o700)  # whatever the umask


def make_private_directory(path: bytes) -> None:
    """Make a directory in the state directory, and those above it, unless they are there.

    Raises:
        StateDirError: it can't be made.
    """
    try:
        _make_directories(path)
    except OSError as error:
        raise StateDirError(os.fsdecode(path), reason(error), _remedy(error)) from error


def _open_private(name: bytes, directory: int, shown_dir: bytes) -> tuple[int, bool]:
    """Open or create a file of ours for reading and writing; tell whether it was created.

    O_NOFOLLOW refuses a symbolic link, O_NONBLOCK does not hang on a FIFO, and fstat(2) on what
    was opened shows the rest, so nothing can change between look and use.

    Raises:
        StateDirError: it can't be opened, or is not a regular file of ours with one link.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    path = os.fsdecode(os.path.join(shown_dir, name))
    while True:
        created = False
        try:
            try:
                descriptor = os.open(name, flags, dir_fd=directory)
            except FileNotFoundError:
                descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
                created = True
            except OSError as error:
                if error.errno != EROFS:
                    raise
                # Nothing is ever written to a lock file, and flock(2) asks for no right to.
                descriptor = os.open(name, flags & ~os.O_RDWR, dir_fd=directory)
        except FileExistsError:
            continue  # somebody created it between the two
        except OSError as error:
            if os.path.islink(path):
                raise StateDirError(
                    os.fsdecode(shown_dir), f"{path} is a symbolic link", "remove it"
                ) from None
            raise StateDirError(
                os.fsdecode(shown_dir), f"{path}: {reason(error)}", _remedy(error)
            ) from error
        descriptor = lift(descriptor)
        entry = os.fstat(descriptor)
        if created:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            return descriptor, True
        flaw = None
        if not stat.S_ISREG(entry.st_mode):
            flaw = "is not a regular file"
        elif entry.st_uid != os.geteuid():
            flaw = f"belongs to user {entry.st_uid}, not to {os.geteuid()}"
        elif entry.st_nlink > 1:
            flaw = "has a second name (a hard link)"
        if flaw is None:
            return descriptor, False
        os.close(descriptor)
        raise StateDirError(os.fsdecode(shown_dir), f"{path} {flaw}", "remove it")


def reason(error: OSError) -> str:
    """Say in plain words why the system refused."""
    return (error.strerror or str(error)).lower()


def _remedy(error: OSError) -> str:
    import errno  # noqa: PLC0415 - only when something failed

    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "make room, or name another directory with --dir or SINGLERUN_DIR"
    return "make it writable, or name another directory with --dir or SINGLERUN_DIR"
