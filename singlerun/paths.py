"""Where state lives, and how its files are opened so that none can have been planted.

DIR/                 0700
    singlerun.db     the run-log, with -wal and -shm beside it
    singlerun.db.lock    flocked around each write to it
    locks/NAME.lock  one file a name; never written to; deleted when idle (pruning/files.py)
    locks/NAME.soft  its lock file, where one is used (lock/lockfile.py), with NAME.soft.filelock
    lines/NAME/      its waiting line, a file for each waiter (lock/line.py)
    logs/RUN_ID/     the output of a command, if it is kept (output/segments.py)
    workers/NAME     a FIFO, flocked by the worker of its queue (queue/wakeup.py)
    workers.log      the messages of the workers
    config.cache     the configuration, compiled (config/cache.py)
    notify/          what is to be told, a file for each event and target (notify/spool.py)
    notify.log       what was told, and what could not be
    pruned           touched when prune was last started, flocked while it works
"""

import fcntl
import os
import stat
from errno import EDQUOT, EIO, EMFILE, ENFILE, ENOLCK, ENOMEM, ENOSPC, EROFS

from singlerun.errors import StateDirError

SYSTEM_DIR = b"/var/lib/singlerun"
HOME_DIR = b".local/state/singlerun"
SYSTEM_CONFIG = b"/etc/singlerun"
HOME_CONFIG = b".config/singlerun"
CONFIG_VARIABLE = b"SINGLERUN_CONFIG"
"""Names the one configuration file that is read; none is read if it is empty."""
LOWEST_DESCRIPTOR = 10
"""Shells leave 0 to 9 to scripts, so ours start at ten; none takes the place of a closed 0 to 2."""

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:@+=,~")
_LONGEST_NAME = 200
SCARCITY = {EDQUOT, EIO, EMFILE, ENFILE, ENOLCK, ENOMEM, ENOSPC}
"""Errors that say nothing against a file itself."""
_ELSEWHERE = "name another directory with --dir or SINGLERUN_DIR"


def lift(descriptor: int) -> int:
    """Move a descriptor to ten or above, close-on-exec; if it can't be moved, it is closed."""
    if descriptor >= LOWEST_DESCRIPTOR:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LOWEST_DESCRIPTOR)
    finally:
        os.close(descriptor)


def default_dir() -> bytes:
    """Return the state directory of this user: by the password database, not by HOME or XDG.

    The latter differ between cron and a login, and two directories would be two locks. Raises
    StateDirError if the user has no entry in the password database.
    """
    if os.geteuid() == 0:
        return SYSTEM_DIR
    if (home := _home()) is None:
        why = f"user {os.geteuid()} has no home in the password database"
        advice = "name a directory with --dir or SINGLERUN_DIR"
        raise StateDirError("~/.local/state/singlerun", why, advice)
    return os.path.join(home, HOME_DIR)


def _home() -> bytes | None:
    import pwd  # noqa: PLC0415 - only here

    try:
        return os.fsencode(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def config_dirs() -> list[bytes]:
    """Return where configuration is looked for, the user's own last; they may be missing."""
    home = _home()
    own = [] if home is None else [os.path.join(home, HOME_CONFIG)]
    return [SYSTEM_CONFIG, *own]


def is_configured() -> bool:
    """Return whether there may be a configuration: the plain form asks, and imports none if not."""
    chosen = os.environb.get(CONFIG_VARIABLE)
    if chosen is not None:
        return chosen != b""
    return any(map(os.path.lexists, config_dirs()))


def lock_file_name(name: bytes) -> bytes:
    """Return the file name for a lock's name: the name itself where that is safe, else escaped.

    Escaping (``%`` and two hex digits) keeps different names different; a name too long for a file
    name is cut and ends in its BLAKE2b hash.
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
    """Return the file name for one of the slots of a lock, by the lock's own file name."""
    return b"%%%%%d-%s" % (slot, lock_file)  # no escaped name begins like this


class StateDir:
    """The opened state directory.

    What opens something in it raises StateDirError if that cannot be made, or was planted.

    Attributes:
        path: its absolute path.
        locks, lines: the absolute paths of the lock files and of the waiting lines.
        locks_fd: the opened directory of the lock files.
        is_exchangeable: whether another user may put a different directory in its place.
    """

    def __init__(self, path: bytes, *, create: bool = True) -> None:
        """Open a state directory; if missing and ``create`` is true, make it with all its parents.

        Raises StateDirError if it cannot be trusted, FileNotFoundError if it is missing otherwise.
        """
        self.path = os.path.abspath(path)
        self.locks = os.path.join(self.path, b"locks")
        self.lines = os.path.join(self.path, b"lines")
        self._fd = _open_directory(self.path, create=create)
        self.locks_fd = -1
        try:
            self.locks_fd = _open_directory(self.locks, create=create)
        except BaseException:
            self.close()
            raise
        self.is_exchangeable = _is_exchangeable(os.path.realpath(self.path))

    def close(self) -> None:
        """Close the directory: for a process that goes on without it."""
        for descriptor in (self._fd, self.locks_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._fd = self.locks_fd = -1

    def open_lock(self, file: bytes) -> tuple[int, bool]:
        """Open a lock's file; return its descriptor and whether this call created it."""
        return _open_private(file, self.locks_fd, self.locks)

    def stat_lock(self, file: bytes) -> os.stat_result:
        """Return the status of a lock's file."""
        return os.stat(file, dir_fd=self.locks_fd, follow_symlinks=False)

    def soft_path(self, name: bytes) -> bytes:
        """Return the path of a name's lock file."""
        return os.path.join(self.locks, lock_file_name(name).removesuffix(b".lock") + b".soft")

    def line_path(self, name: bytes) -> bytes:
        """Return the directory of a name's waiting line."""
        return os.path.join(self.lines, lock_file_name(name).removesuffix(b".lock"))

    def line_path_of_file(self, path: bytes) -> bytes:
        """Return the directory of the waiting line for a file that the user chose to lock."""
        # No escaped name begins like this.
        return os.path.join(self.lines, b"%%" + lock_file_name(path).removesuffix(b".lock"))

    def open_fifo(self, name: bytes, directory: bytes = b"workers") -> int:
        """Open a FIFO, such as that of a name's queue, for reading and writing; make it if missing.

        It is in a directory below this one.
        """
        directory = os.path.join(self.path, directory)
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
            why = f"it is not a FIFO of user {os.geteuid()}"
            raise StateDirError(os.fsdecode(path), why, "remove it")
        return descriptor

    def open_file(self, name: bytes) -> int:
        """Open a file in the directory itself, and make it if missing; return its descriptor."""
        return _open_private(name, self._fd, self.path)[0]

    def open_directory(self, name: bytes, *, create: bool = True) -> int:
        """Open a directory below it; if missing make it, or raise FileNotFoundError."""
        return _open_directory(os.path.join(self.path, name), create=create)


def state_path(option: bytes | None) -> bytes:
    """Return the state directory's path: the option, else SINGLERUN_DIR, else the default."""
    return option or os.environb.get(b"SINGLERUN_DIR") or default_dir()


def _open_directory(path: bytes, *, create: bool) -> int:
    shown = os.fsdecode(path)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if create and not os.path.lexists(path):
        make_private_directory(path)
    try:
        descriptor = lift(os.open(path, flags))
    except FileNotFoundError:
        if not create:
            raise
        raise StateDirError(shown, "it was deleted while it was being made", "try again") from None
    except NotADirectoryError:  # O_DIRECTORY | O_NOFOLLOW says so of a symbolic link too
        why, advice = "it is not a directory", "name another with --dir or SINGLERUN_DIR"
        if os.path.islink(path):
            why = f"it is a symbolic link to {os.fsdecode(os.path.realpath(path))}"
            advice = "name the real directory"
        raise StateDirError(shown, why, advice) from None
    except OSError as error:
        raise StateDirError(shown, reason(error), remedy(error)) from error
    entry = os.fstat(descriptor)
    why = advice = ""
    if entry.st_uid != os.geteuid():
        why = f"it belongs to user {entry.st_uid}, not to {os.geteuid()}"
        advice = f"run as that user, or {_ELSEWHERE}"
    elif entry.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        why, advice = "others may write to it", f"chmod go-w {shown}"
    if why:
        os.close(descriptor)
        raise StateDirError(shown, why, advice)
    return descriptor


def _is_exchangeable(path: bytes) -> bool:
    while path != b"/":
        path = os.path.dirname(path)
        try:
            entry = os.stat(path)
        except OSError:  # moved just now
            return True
        is_shared = entry.st_mode & stat.S_IWOTH and not entry.st_mode & stat.S_ISVTX
        if is_shared or entry.st_uid not in {0, os.geteuid()}:
            return True
    return False


def _make_directories(path: bytes) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_directories(parent)
    entry = os.stat(parent)
    if entry.st_mode & stat.S_IWOTH and not entry.st_mode & stat.S_ISVTX:
        shown, above = os.fsdecode(path), os.fsdecode(parent)
        raise StateDirError(shown, f"any user may write to {above}", f"chmod +t {above}")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # another process was faster
        return
    try:
        os.chmod(path, 0o700)  # whatever the umask
    except FileNotFoundError:  # an empty line is deleted by prune, and its waiter finds that out
        pass


def make_private_directory(path: bytes) -> None:
    """Make a directory in the state directory, and those above it, if missing; or StateDirError."""
    try:
        _make_directories(path)
    except OSError as error:
        raise StateDirError(os.fsdecode(path), reason(error), remedy(error)) from error


def _open_private(name: bytes, directory: int, shown_dir: bytes) -> tuple[int, bool]:
    """Open or create a file of ours for reading and writing; return whether it was created, too.

    O_NOFOLLOW refuses a symbolic link, O_NONBLOCK does not hang on a FIFO, and fstat(2) on what
    was opened shows the rest, so nothing can change between check and use.
    """
    shown = os.fsdecode(shown_dir)
    path = os.fsdecode(os.path.join(shown_dir, name))
    try:
        descriptor, created = _open_or_create(name, directory)
        descriptor = lift(descriptor)
    except OSError as error:
        if os.path.islink(path):
            raise StateDirError(shown, f"{path} is a symbolic link", "remove it") from None
        raise StateDirError(shown, f"{path}: {reason(error)}", remedy(error)) from error
    if created:
        os.fchmod(descriptor, 0o600)  # whatever the umask
        return descriptor, True
    flaw = _flaw(os.fstat(descriptor))
    if flaw is None:
        return descriptor, False
    os.close(descriptor)
    raise StateDirError(shown, f"{path} {flaw}", "remove it")


def _open_or_create(name: bytes, directory: int) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    while True:
        try:
            return os.open(name, flags, dir_fd=directory), False
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != EROFS:
                raise
            # A lock file is never written to, and flock(2) does not ask for the right to.
            return os.open(name, flags & ~os.O_RDWR, dir_fd=directory), False
        try:
            return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory), True
        except FileExistsError:  # another process created it between the two
            continue


def _flaw(entry: os.stat_result) -> str | None:
    """Return why a file cannot be one of ours, None if it can."""
    if not stat.S_ISREG(entry.st_mode):
        return "is not a regular file"
    if entry.st_uid != os.geteuid():
        return f"belongs to user {entry.st_uid}, not to {os.geteuid()}"
    return "has a second name (a hard link)" if entry.st_nlink > 1 else None


def reason(error: OSError) -> str:
    """Return in plain words why the system refused."""
    return (error.strerror or str(error)).lower()


def remedy(error: OSError) -> str:
    """Return what to do about it."""
    if error.errno in {ENOSPC, EDQUOT}:
        return f"make room, or {_ELSEWHERE}"
    if error.errno in {EMFILE, ENFILE}:
        return "allow more open files: see ulimit -n"
    if error.errno in SCARCITY:
        return "see dmesg(1)"
    return f"make it writable, or {_ELSEWHERE}"
