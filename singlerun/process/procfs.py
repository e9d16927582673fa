"""What /proc says about other processes: their marks, their locks, their parents.

A walk of all of /proc takes 4 to 16 ms at some 500 processes, so none happens in a run that meets
nothing unusual, and questions asked at the same moment share a Snapshot. Where /proc belongs to
another PID namespace, it is as if there were no other process.
"""

import os
import time

from singlerun.process import marks
from singlerun.process.descriptors import POLLIN, poll
from singlerun.process.identity import has_ended, has_proc, stat_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singlerun.process.marks import Marks


class Snapshot:
    """One walk of /proc; each file in it is read once, when a question first needs it."""

    def __init__(self) -> None:
        self._pids = list(pids())
        self._live: dict[int, list[bytes]] | None = None
        self._marks: dict[int, frozenset[bytes]] | None = None

    def live(self) -> dict[int, list[bytes]]:
        """Return the fields of /proc/PID/stat of the live processes, by their PID."""
        if self._live is None:
            self._live = {}
            for pid in self._pids:
                try:
                    fields = stat_fields(pid)
                except OSError:
                    continue
                if not has_ended(pid, fields):
                    self._live[pid] = fields
        return self._live

    def marked(self, run_id: int | None, token: int) -> list[int]:
        """Return the PIDs of the processes that a run started, by its marks (marks.py).

        Without an id the token alone counts. Marks find what has closed the lock's descriptor
        (sudo, Python's subprocess) or left the process group. The environment of other users'
        processes can be read by root only.
        """
        wanted = {b"SINGLERUN_TOKEN=%d" % token}
        if run_id is not None:
            wanted.add(b"SINGLERUN_RUN_ID=%d" % run_id)
        return [pid for pid, entries in self._all_marks().items() if wanted <= entries]

    def _all_marks(self) -> dict[int, frozenset[bytes]]:
        if self._marks is None:
            found = ((pid, _marks_of(pid)) for pid in self._pids)
            self._marks = {pid: entries for pid, entries in found if entries}
        return self._marks

    def marked_with(self, lock_file: bytes) -> "list[tuple[int, Marks | None]]":
        """Return the processes whose marks name a lock file, with those of a recorded run.

        Without marks there are those that fly its pennant.
        """
        wanted, found = os.path.realpath(lock_file), []
        for pid, entries in self._all_marks().items():
            if wanted in marks.locks_of(entries):
                env = dict(entry.partition(b"=")[::2] for entry in entries)
                found.append((pid, marks.Marks.from_environ(env)))
        link = f"/memfd:{marks.pennant(wanted)} (deleted)".encode()
        return found + [(pid, None) for pid in self._pids if _has_open(pid, link)]

    def group(self, leader: int) -> list[int]:
        """Return the PIDs of the live processes whose process group is ``leader``."""
        return [pid for pid, fields in self.live().items() if int(fields[2]) == leader]

    def descendants(self, ancestors: "Iterable[int]") -> list[int]:
        """Return the PIDs of the live children of these processes, their children, and so on."""
        children: dict[int, list[int]] = {}
        for pid, fields in self.live().items():
            children.setdefault(int(fields[1]), []).append(pid)
        found: list[int] = []
        parents = list(ancestors)
        while parents:
            # Popped, so that a process which is both ancestor and descendant is visited once.
            born = children.pop(parents.pop(), [])
            found += born
            parents += born
        return found


def marked(run_id: int | None, token: int) -> list[int]:
    """Return the PIDs of the processes that a run started, as Snapshot.marked does."""
    return Snapshot().marked(run_id, token)


def holding(path: bytes, *, deleted: bool = False) -> list[int]:
    """Return the PIDs of the processes through which the file at ``path`` is flocked.

    /proc/locks names the process that took a lock, which may be dead; /proc/PID/fdinfo shows the
    lock at each process that has it, through an inherited descriptor too. With ``deleted`` it is a
    file that stood at this path and was deleted since.
    """
    wanted = os.path.realpath(path) + (b" (deleted)" if deleted else b"")
    found = []
    for pid in pids():
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        if any(_holds(pid, number, wanted) for number in numbers):
            found.append(pid)
    # A process that works comes before one that only waits for it: parents last.
    parents = {_parent_of(pid) for pid in found}
    return sorted(found, key=lambda pid: pid in parents)


def pids() -> "Iterator[int]":
    """Yield the PIDs of all other processes; none where /proc counts them differently."""
    try:
        names = os.listdir("/proc") if has_proc() else []
    except OSError:
        return
    me = os.getpid()
    yield from (int(name) for name in names if name.isdecimal() and int(name) != me)


def _parent_of(pid: int) -> int:
    try:
        return int(stat_fields(pid)[1])
    except (OSError, IndexError):
        return 0


def command_line(pid: int) -> list[bytes]:
    """Return a process's arguments, or its name in brackets; nothing if it cannot be read."""
    if not has_proc():
        return []
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            line = file.read()
        if line:
            return line.removesuffix(b"\0").split(b"\0")
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            return [b"[" + file.read().strip() + b"]"]
    except OSError:
        return []


def user_of(pid: int) -> int | None:
    """Return the user id that a process runs under, None if it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid if has_proc() else None
    except OSError:
        return None


def _marks_of(pid: int) -> frozenset[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            environ = file.read()
    except OSError:
        return frozenset()
    entries = environ.split(b"\0") if b"SINGLERUN_TOKEN=" in environ else ()
    return frozenset(entry for entry in entries if entry.startswith(b"SINGLERUN_"))


def _has_open(pid: int, link: bytes) -> bool:
    try:
        return any(
            os.readlink(b"/proc/%d/fd/%s" % (pid, number)) == link
            for number in os.listdir(b"/proc/%d/fd" % pid)
        )
    except OSError:  # gone, another user's, or it closed one just now
        return False


def _holds(pid: int, number: str, wanted: bytes) -> bool:
    try:
        if os.readlink(b"/proc/%d/fd/%s" % (pid, number.encode())) != wanted:
            return False
        with open(f"/proc/{pid}/fdinfo/{number}", "rb", buffering=0) as file:
            return b"FLOCK" in file.read()
    except OSError:  # closed meanwhile; the process may have others
        return False


def await_one(waited: "Iterable[int]", timeout: float | None = None) -> bool:
    """Sleep until one of these processes has ended, as await_end does; return whether one has."""
    pidfds: dict[int, int] = {}
    try:
        for pid in waited:
            pidfds[os.pidfd_open(pid)] = POLLIN
        return bool(poll(pidfds, timeout))
    except ProcessLookupError:
        return True
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def await_end(waited: "Iterable[int]", timeout: float | None) -> bool:
    """Sleep until all these processes have ended, at most ``timeout`` seconds; return whether so.

    A pidfd becomes readable when its process ends (pidfd_open(2)). A PID that is used again is not
    waited for by mistake for longer than ``timeout``.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    for pid in waited:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            left = None if deadline is None else max(0, deadline - time.monotonic())
            if not poll({descriptor: POLLIN}, left):
                return False
        finally:
            os.close(descriptor)
    return True


def usage() -> tuple[float, float, int]:
    """Return this process's user and system CPU seconds and peak KiB, reaped children included."""
    import resource  # noqa: PLC0415 - rare

    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    peak = max(own.ru_maxrss, children.ru_maxrss)
    return own.ru_utime + children.ru_utime, own.ru_stime + children.ru_stime, peak
