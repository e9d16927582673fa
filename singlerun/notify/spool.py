"""The spool: what is to be told, a file for each event and target, in the order of their names.

    DIR/notify/          0700
        NUMBER           JSON: the event, its URL, the tail of the output; flocked during a try
        NUMBER.tries     JSON: how often it was tried, and what went wrong last
        NUMBER.watch     a run that is to be told of should it take too long
        sender           a FIFO, flocked by the sender (wakeup.py)

A number is the time in nanoseconds, or that of the file before it and one more, should the clock
have been set back: so what came first is told first. A file appears whole, by link(2), which never
replaces another.
"""

import fcntl
import json
import os
import time
from errno import EEXIST
from math import isfinite

from singlerun import url as urls
from singlerun.errors import StateDirError
from singlerun.paths import lift
from singlerun.render.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from singlerun.event import Event
    from singlerun.paths import StateDir

DIRECTORY = b"notify"
MOST = 1000
"""Files at most: a server that is down for a day must not fill the disk."""
LARGEST = 256 * 1024
"""Bytes of a file that is read; none of ours is so large."""
LONGEST_EVENT = 20_000
"""Characters of an event as JSON: a command line may be long, and there is room for many."""
FIFO = b"sender"
_WATCH, _TRIES = ".watch", ".tries"
_VERSION = 1


def spooled(event: "Event") -> "dict[str, Any]":
    """Return an event as it stands in the spool: its JSON, cut if it is too long."""
    document: dict[str, Any] = json.loads(event.as_text(LONGEST_EVENT))
    return document


def described(entry: "dict[str, Any] | None") -> str:
    """Return what an entry tells, and where, in words that may be shown."""
    if entry is None:
        return "something damaged"
    event = entry["event"]
    what = f"{event.get('event')} of {event.get('name')} to {urls.hidden(entry['url'])}"
    return shown(what)


class SpoolFullError(Exception):
    """As many runs are watched as may be."""


class Spool:
    """The spool of a state directory, opened; StateDirError if it can't be used.

    Attributes:
        dropped: what had to make room for other entries, in words.
    """

    def __init__(self, state: "StateDir", *, create: bool = True) -> None:
        """Open it; raise FileNotFoundError if it is missing, and not to be made."""
        self.dropped: list[str] = []
        self._fd = state.open_directory(DIRECTORY, create=create)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def put(self, entry: "dict[str, Any]", *, watch: bool = False, durable: bool = True) -> str:
        """Add an entry; return its name. ``durable``: it survives a power loss, at two syncs' cost.

        Raises:
            SpoolFullError, OSError: it can't be added.
        """
        made = f".{os.getpid()}-{time.monotonic_ns()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = lift(os.open(made, flags, 0o600, dir_fd=self._fd))
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            rest = memoryview(json.dumps({"version": _VERSION, **entry}).encode())
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if durable:
                os.fsync(descriptor)
            name = self._link(made, _WATCH if watch else "")
            if durable:
                os.fsync(self._fd)
            return name
        finally:
            os.close(descriptor)
            os.unlink(made, dir_fd=self._fd)

    def _link(self, made: str, suffix: str) -> str:
        """Give a file its name: after all others."""
        while True:
            there = self._with_room()
            latest = max((int(name.partition(".")[0]) for name in there), default=0)
            name = f"{max(time.time_ns(), latest + 1):020d}{suffix}"
            try:
                os.link(made, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except OSError as error:
                if error.errno != EEXIST:
                    raise
            else:
                return name

    def _with_room(self) -> list[str]:
        """Make room if the spool is full; return the names in it.

        The oldest goes: what can be delivered has been long ago, and it is the least news.
        """
        while True:
            names, watches = self.names(), self.watches()
            if len(names) + len(watches) < MOST:
                return names + watches
            if not names:
                raise SpoolFullError
            self.dropped.append(described(self.read(names[0])))
            self.remove(names[0])

    def names(self) -> list[str]:
        """Return the names of what is to be told, the first one first."""
        return sorted(name for name in os.listdir(self._fd) if name.isdecimal())

    def watches(self) -> list[str]:
        """Return the names of the runs that are watched."""
        return sorted(
            name
            for name in os.listdir(self._fd)
            if name.endswith(_WATCH) and name.partition(".")[0].isdecimal()
        )

    def read(self, name: str) -> "dict[str, Any] | None":
        """Return an entry, None if it is gone or damaged."""
        try:
            descriptor = self._open(name)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            try:
                entry = json.loads(file.read(LARGEST))
            except (ValueError, RecursionError, OSError):
                return None
        return entry if _is_entry(entry) else None

    def remove(self, name: str) -> None:
        """Remove an entry, with what is noted of its tries."""
        for each in (name, name + _TRIES):
            try:
                os.unlink(each, dir_fd=self._fd)
            except FileNotFoundError:
                pass

    def claim(self, name: str) -> int | None:
        """Lock an entry for one try; return the descriptor, None if it is gone or being tried."""
        try:
            descriptor = self._open(name)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if os.fstat(descriptor).st_nlink == 0:  # delivered in this moment
            os.close(descriptor)
            return None
        return descriptor

    def note_tries(self, name: str, tries: int, refused: int, error: str) -> None:
        """Note how often an entry was tried, how often it was refused for good, and the error."""
        made = f".{os.getpid()}-{time.monotonic_ns()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(lift(os.open(made, flags, 0o600, dir_fd=self._fd)), "w") as file:
            json.dump({"tries": tries, "refused": refused, "error": error}, file)
        os.rename(made, name + _TRIES, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def tries(self, name: str) -> tuple[int, int, str]:
        """Return what ``note_tries`` has noted."""
        try:
            with open(self._open(name + _TRIES), "rb") as file:
                noted = json.loads(file.read(LARGEST))
            return int(noted["tries"]), int(noted["refused"]), str(noted["error"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return 0, 0, ""

    def sweep(self) -> None:
        """Remove what writers that were killed left behind, and notes of what is gone."""
        there = set(os.listdir(self._fd))
        for name in there:
            pid = name[1:].partition("-")[0]
            is_made = name.startswith(".") and pid.isdecimal()
            if (is_made and not os.path.exists(f"/proc/{pid}")) or (
                name.endswith(_TRIES) and name.removesuffix(_TRIES) not in there
            ):
                try:
                    os.unlink(name, dir_fd=self._fd)
                except FileNotFoundError:
                    pass

    def _open(self, name: str) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return lift(os.open(name, flags, dir_fd=self._fd))


def _is_entry(entry: object) -> bool:
    """Return whether this can be an entry: of a damaged file nothing is certain."""
    if not (isinstance(entry, dict) and isinstance(entry.get("event"), dict)):
        return False
    numbers = [entry.get(key, 0) for key in ("written", "overlong")]
    return (
        isinstance(entry.get("url"), str)
        and isinstance(entry["event"].get("run"), (dict, type(None)))
        and all(isinstance(number, int | float) and isfinite(number) for number in numbers)
    )


def existing(state: "StateDir") -> Spool | None:
    """Return the spool, None if nothing was ever written to it; or raise StateDirError."""
    try:
        return Spool(state, create=False)
    except FileNotFoundError:
        return None


def waits(state: "StateDir") -> bool:
    """Return whether anything is in the spool; False where it can't be used."""
    try:
        spool = existing(state)
    except StateDirError:
        return False
    if spool is None:
        return False
    try:
        return bool(spool.names() or spool.watches())
    finally:
        spool.close()
