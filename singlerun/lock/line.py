"""The waiting line of a lock: first come, first served, asleep in the kernel.

A line is a directory with one ticket per waiter: a file named after the moment of arrival
(CLOCK_MONOTONIC, nanoseconds) and the PID, flocked by the waiter for as long as it waits. The
kernel unlocks the ticket of a waiter that dies, so a ticket that can be locked is dead.

    join    create a ticket and lock it; start over if another process took it for dead in between
    wait    sleep on the nearest ticket before mine until its waiter has left or died; look again;
            with none left before mine, sleep on the lock itself
    leave   with the lock held: delete my ticket, then unlock it

Each waiter sleeps on one other, so an end wakes one, not all. Only the front sleeps on the lock,
and it keeps its ticket until it has the lock, so a lock is never free without a waiter to be seen.
A run that does not wait looks at the line before it tries the lock: a live ticket is a refusal.

Joining and looking take no lock that a stopped process could keep from others: a ticket is locked
by its own waiter alone, and looked at with shared locks. A waiter bears the same name in all of its
lines, so they all sort alike and no two waiters stand before each other. Exclusion does not rest
on the line but on the lock alone.

If a line is deleted under its waiters, the next one to join finds their open tickets in /proc and
links them into the new directory. Until then the line looks empty.
"""

import fcntl
import os
import time
from errno import ELOOP

from singlerun.errors import StateDirError
from singlerun.paths import lift, make_private_directory, reason, remedy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DELETED = b" (deleted)"
"""What /proc/PID/fd appends to the path of a deleted file (proc(5))."""


class OccupiedError(Exception):
    """Another waiter is in line already."""


class Line:
    """The line of one lock. The directory is made by the first waiter."""

    def __init__(self, path: bytes) -> None:
        self.path = path

    def live(self) -> "Iterator[bytes]":
        """Yield the names of the live tickets in order; delete the dead ones on the way.

        Raises StateDirError if the line can't be read, as all do that look through it.
        """
        try:
            for name in names(self.path):
                if self._is_live(name):
                    yield name
        except OSError as error:
            raise StateDirError(os.fsdecode(self.path), reason(error), remedy(error)) from error

    def trim(self) -> None:
        """Delete the dead tickets at the end of the line, which no waiter behind them deletes."""
        try:
            for name in reversed(names(self.path)):
                if self._is_live(name):
                    break
        except OSError:  # tidiness is no reason to fail
            pass

    def issue(self, name: bytes) -> int:
        """Create and lock a ticket; return its descriptor, or -1 if it was taken for dead.

        Raises StateDirError if it can't be created.
        """
        path = os.path.join(self.path, name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = -1
        try:
            try:
                descriptor = lift(os.open(path, flags, 0o600))
            except FileNotFoundError:
                self._make()
                descriptor = lift(os.open(path, flags, 0o600))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except (FileExistsError, FileNotFoundError):  # a thread's, or the line was deleted again
            return -1
        except BlockingIOError:  # the process that looks at it is about to delete it
            pass
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise StateDirError(os.fsdecode(self.path), reason(error), remedy(error)) from error
        os.close(descriptor)
        return -1

    def await_before(self, name: bytes) -> bool:
        """Sleep until the nearest ticket before this one is gone; return whether there was one."""
        before = [other for other in names(self.path) if other < name]
        if not before:
            return False
        descriptor = self._open(before[-1])
        if descriptor >= 0:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        self.delete(before[-1])  # dead, or deleted by its owner
        if descriptor >= 0:
            os.close(descriptor)
        return True

    def delete(self, name: bytes) -> None:
        """Delete a ticket."""
        try:
            os.unlink(os.path.join(self.path, name))
        except FileNotFoundError:
            pass

    def shut(self) -> int:
        """Lock the directory until the returned descriptor is closed: only for ``unless_occupied``.

        Raises StateDirError if it can't be made or locked.
        """
        while True:
            try:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                gate = lift(os.open(self.path, flags))
            except FileNotFoundError:
                self._make()
                continue
            except OSError as error:
                raise StateDirError(os.fsdecode(self.path), reason(error), remedy(error)) from error
            fcntl.flock(gate, fcntl.LOCK_EX)
            if os.fstat(gate).st_nlink:
                return gate
            os.close(gate)  # the directory was deleted, and another may have taken its place

    def _is_live(self, name: bytes) -> bool:
        """Return whether a ticket's waiter is alive; delete a dead one.

        With its lock held: a waiter that has just created it cannot lock it then, and starts over.
        """
        descriptor = self._open(name)
        try:
            if descriptor >= 0:
                # Shared, so that two that look at a dead one don't take each other for its waiter.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self.delete(name)
        except BlockingIOError:
            return True
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return False

    def _open(self, name: bytes) -> int:
        """Open a ticket; return -1 if it is gone."""
        path, flags = os.path.join(self.path, name), os.O_RDWR | os.O_CLOEXEC
        try:
            return lift(os.open(path, flags | os.O_NOFOLLOW))
        except FileNotFoundError:
            return -1
        except OSError as error:
            if error.errno != ELOOP:
                raise
        try:
            # A link to a deleted ticket, unless that descriptor is another file's by now.
            if not os.readlink(os.readlink(path)).endswith(b"/" + name + _DELETED):
                return -1
            return lift(os.open(path, flags))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return -1

    def _make(self) -> None:
        """Make the directory, with links to the live tickets of one that was deleted."""
        former = list(_deleted_tickets(os.path.realpath(self.path) + b"/"))
        make_private_directory(self.path)
        for name, opened in former:
            try:
                os.symlink(opened, os.path.join(self.path, name))
            except OSError:  # another waiter was faster
                pass


class Lines:
    """The lines of all locks of one process, and its tickets there."""

    def __init__(self, lines: list[Line]) -> None:
        # One order for all processes: those that lock the directories must not deadlock.
        self._lines = sorted(lines, key=lambda line: line.path)
        self._tickets: list[tuple[Line, bytes, int]] = []
        self._abandoned = False

    def are_empty(self) -> bool:
        """Return whether no process waits."""
        return not any(True for line in self._lines for _ in line.live())

    def sweep(self) -> None:
        """Delete the tickets of the dead."""
        for line in self._lines:
            for _ in line.live():
                pass

    def trim(self) -> None:
        """Delete the tickets of the dead at the ends of the lines."""
        for line in self._lines:
            line.trim()

    def position(self) -> int | None:
        """Return this process's position in the longest line, the front being 1."""
        places = [place for line in self._lines if (place := position(line.path, os.getpid()))]
        return max(places, default=None)

    def join(self, *, unless_occupied: bool = False, pid: int | None = None) -> None:
        """Join all lines; ``pid`` is the process that the tickets are for, if it is another.

        Raises OccupiedError if another process waits, and ``unless_occupied`` is true,
        StateDirError if a ticket can't be created.
        """
        gates: list[int] = []
        try:
            # Of several that come at once one must see no other, so each looks and joins alone.
            gates.extend(line.shut() for line in self._lines if unless_occupied)
            if unless_occupied and not self.are_empty():
                raise OccupiedError  # noqa: TRY301 - after the gates are open again
            while not self._issue(pid or os.getpid()):
                self.leave()
        except BaseException:
            self.leave()
            raise
        finally:
            for gate in gates:
                os.close(gate)

    def _issue(self, pid: int) -> bool:
        """Create a ticket in each line; return whether all were."""
        name = b"%019d-%d" % (time.monotonic_ns(), pid)
        for line in self._lines:
            descriptor = line.issue(name)
            if descriptor < 0:
                return False
            self._tickets.append((line, name, descriptor))
            if self._abandoned:
                line.delete(name)
        return True

    def wait(self) -> None:
        """Sleep until no process stands before this one in any line."""
        for line, name, _ in self._tickets:
            while line.await_before(name):
                pass

    def leave(self) -> None:
        """Leave all lines."""
        while self._tickets:
            line, name, descriptor = self._tickets.pop()
            line.delete(name)
            os.close(descriptor)

    def abandon(self) -> None:
        """Leave no ticket, though another thread may just join or leave; the process is to end."""
        self._abandoned = True
        for line, name, _ in list(self._tickets):
            line.delete(name)


def names(path: bytes) -> list[bytes]:
    """Return the names of all tickets in a line, in order."""
    try:
        return sorted(filter(_is_ticket, os.listdir(path)))
    except FileNotFoundError:
        return []


def position(path: bytes, pid: int) -> int | None:
    """Return the position of a process in a line, the front being 1; None if it isn't there."""
    try:
        pids = [name.partition(b"-")[2] for name in names(path)]
    except OSError:
        return None
    mine = b"%d" % pid
    return pids.index(mine) + 1 if mine in pids else None


def _is_ticket(name: bytes) -> bool:
    arrival, dash, pid = name.partition(b"-")
    return bool(dash) and arrival.isdigit() and pid.isdigit()


def _deleted_tickets(prefix: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """Yield the names of deleted tickets that are still locked, and their paths in /proc."""
    try:
        with open("/proc/locks", "rb") as file:
            pids = {words[4] for words in map(bytes.split, file) if words[1] == b"FLOCK"}
    except OSError:
        return
    for pid in pids:
        directory = b"/proc/%b/fd/" % pid
        try:
            numbers = os.listdir(directory)
        except OSError:
            continue
        for path in [directory + number for number in numbers]:
            try:
                target = os.readlink(path)
                if not target.startswith(prefix) or not target.endswith(_DELETED):
                    continue
                with open(path.replace(b"/fd/", b"/fdinfo/"), "rb") as file:
                    if b"FLOCK" not in file.read():
                        continue  # opened by the waiter behind it
            except OSError:
                continue
            name = target[len(prefix) : -len(_DELETED)]
            if _is_ticket(name):
                yield name, path
