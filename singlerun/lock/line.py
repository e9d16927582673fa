"""The waiting line of a lock: first come, first served, asleep in the kernel.

A line is a directory with a ticket for each waiter: a file with a number in its name, flocked by
the waiter for as long as it waits. The kernel frees a dead waiter's ticket, so nobody judges who
still waits: a ticket that can be locked is dead.

    join    with the gate shut (a flock on the directory): take the next number, lock its file
    wait    sleep on the nearest ticket before mine until its waiter has left or died; look again;
            when there is none before mine, sleep on the lock itself
    leave   once the lock is mine: delete my ticket, and let go of it

Each waiter sleeps on one other, so an end wakes one, not all. Only the front sleeps on the lock,
and keeps its ticket until it has it, so the lock is never free without somebody being seen in line.
Who does not wait must look at the line before it tries the lock: a live ticket is a refusal.

Numbers are given with the gate shut, so a ticket before mine was locked before mine was made; one
that isn't locked is dead, at every moment. Safety does not rest on the line but on the lock alone.

Who waits for several locks shuts the gates of all their lines before it joins any, so any two
waiters stand in the same order in all lines that they share, and none waits for one behind it.
"""

import fcntl
import os

from singlerun.errors import StateDirError
from singlerun.paths import lift, make_private_directory, reason

_DIGITS = 12


class Line:
    """The line of one lock. The directory is made by the first who waits."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._fd = -1

    def is_empty(self) -> bool:
        """Tell whether nobody waits; tickets of the dead are cleared away."""
        try:
            if not os.listdir(self.path):
                return True
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StateDirError(os.fsdecode(self.path), reason(error), "remove it") from error
        self.shut()
        try:
            return not self.tickets()
        finally:
            self.open()

    def trim(self) -> None:
        """Clear away the tickets of the dead at the end of the line, where nobody would do it.

        Who stands behind a dead one deletes its ticket; behind the last of the dead stands nobody.
        """
        try:
            if not os.listdir(self.path):
                return
            gate = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            # Never asleep: if the gate is shut already, who joins clears all of the dead away.
            fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in reversed(self.names()):
                if not os.fstat(gate).st_nlink or self._is_live(name):
                    break
                self.delete(name)
        except OSError:  # tidiness is no reason to fail
            pass
        finally:
            os.close(gate)

    def shut(self) -> None:
        """Shut the gate: nobody else joins, or judges who is dead, until it is opened."""
        while True:
            if self._fd < 0:
                make_private_directory(self.path)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                try:
                    self._fd = lift(os.open(self.path, flags))
                except FileNotFoundError:
                    continue  # deleted meanwhile
                except OSError as error:
                    raise StateDirError(
                        os.fsdecode(self.path), reason(error), "remove it"
                    ) from error
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            if os.fstat(self._fd).st_nlink:
                return
            self.open()  # the directory was deleted, and another may have taken its place

    def open(self) -> None:
        """Open the gate."""
        os.close(self._fd)
        self._fd = -1

    def tickets(self) -> list[bytes]:
        """Give the names of the live tickets in order; delete the dead. The gate must be shut."""
        live = []
        for name in self.names():
            if self._is_live(name):
                live.append(name)
            else:
                self.delete(name)
        return live

    def _is_live(self, name: bytes) -> bool:
        """Tell whether somebody stands there with a ticket. The gate must be shut."""
        descriptor = self._try_open(name)
        if descriptor < 0:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def names(self) -> list[bytes]:
        """Give the names of all tickets in order."""
        try:
            return sorted(filter(_is_ticket, os.listdir(self.path)))
        except FileNotFoundError:
            return []

    def issue(self, pid: int) -> "Ticket":
        """Join: make a ticket with the next number, and lock it. The gate must be shut.

        ``pid`` is the process that the place is for.
        """
        names = self.names()
        number = int(names[-1].partition(b"-")[0]) + 1 if names else 1
        name = b"%0*d-%d" % (_DIGITS, number, pid)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = lift(os.open(name, flags, 0o600, dir_fd=self._fd))
        except OSError as error:
            raise StateDirError(
                os.fsdecode(self.path), reason(error), "make room, and make it writable"
            ) from error
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Ticket(self, name, descriptor)

    def await_before(self, name: bytes) -> bool:
        """Sleep until the nearest ticket before this one is gone; False if there is none."""
        before = [other for other in self.names() if other < name]
        if not before:
            return False
        descriptor = self._try_open(before[-1])
        if descriptor >= 0:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            self.delete(before[-1])  # dead, or deleted by its owner
            os.close(descriptor)
        return True

    def delete(self, name: bytes) -> None:
        """Delete a ticket's file."""
        try:
            os.unlink(os.path.join(self.path, name))
        except FileNotFoundError:
            pass

    def _try_open(self, name: bytes) -> int:
        try:
            return lift(os.open(os.path.join(self.path, name), os.O_RDWR | os.O_CLOEXEC))
        except FileNotFoundError:
            return -1


def _is_ticket(name: bytes) -> bool:
    return name[:_DIGITS].isdigit() and name[_DIGITS : _DIGITS + 1] == b"-"


class Ticket:
    """A place in one line."""

    __slots__ = ("_fd", "_line", "_name")

    def __init__(self, line: Line, name: bytes, descriptor: int) -> None:
        self._line = line
        self._name = name
        self._fd = descriptor

    def wait(self) -> None:
        """Sleep until nobody stands before it."""
        while self._line.await_before(self._name):
            pass

    def leave(self) -> None:
        """Give the place up."""
        self.abandon()
        os.close(self._fd)

    def abandon(self) -> None:
        """Delete the ticket; the place itself is given up with the end of this process.

        For who can't tell whether another thread is about to leave.
        """
        self._line.delete(self._name)


class Place:
    """A place in the lines of several locks."""

    __slots__ = ("_tickets",)

    def __init__(self, tickets: list[Ticket]) -> None:
        self._tickets = tickets

    def wait(self) -> None:
        """Sleep until nobody stands before it in any line."""
        for ticket in self._tickets:
            ticket.wait()

    def leave(self) -> None:
        """Leave all lines."""
        for ticket in self._tickets:
            ticket.leave()

    def abandon(self) -> None:
        """Leave all lines with the end of this process, and leave no ticket behind."""
        for ticket in self._tickets:
            ticket.abandon()


class OccupiedError(Exception):
    """Somebody stands in line already."""


def join(lines: list[Line], *, unless_occupied: bool = False, pid: int | None = None) -> Place:
    """Join these lines at one moment. They must be given in an order that is the same for all.

    Raises:
        OccupiedError: somebody stands in one of them, and ``unless_occupied`` is true.
        StateDirError: a line or a ticket can't be made.
    """
    shut: list[Line] = []
    try:
        for line in lines:
            line.shut()
            shut.append(line)
        # This clears the dead away, too, so that numbers can begin anew.
        waiting = [line.tickets() for line in lines]
        if unless_occupied and any(waiting):
            raise OccupiedError
        return Place([line.issue(pid or os.getpid()) for line in lines])
    finally:
        for line in shut:
            line.open()


def position(path: bytes, pid: int) -> int | None:
    """Tell at which place of a line a process stands, the front being 1; None if it doesn't."""
    try:
        names = sorted(filter(_is_ticket, os.listdir(path)))
    except OSError:
        return None
    pids = [name.partition(b"-")[2] for name in names]
    mine = b"%d" % pid
    return pids.index(mine) + 1 if mine in pids else None
