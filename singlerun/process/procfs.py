"""What /proc tells about other processes: who carries a mark, who has a file open, who is kin.

Most functions walk all of /proc (4 to 16 ms at some 500 processes), so none of those is called on
the way of a run that meets nothing unusual.
"""

import os

from singlerun.process.identity import stat_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def pids() -> "Iterator[int]":
    """Give the PIDs of all other processes."""
    me = os.getpid()
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if name.isdecimal() and int(name) != me:
            yield int(name)


def is_live(pid: int) -> bool:
    """Tell whether there is such a process, and it is more than an entry in the process table."""
    try:
        return stat_fields(pid)[0] not in {b"Z", b"X"}
    except (OSError, IndexError):
        return False


def marked(run_id: int | None, token: int) -> list[int]:
    """Give the PIDs of the processes that a run started, by its marks in their environment.

    A run that could not be recorded has no id, only a token.

    It finds those that closed the lock's descriptor (sudo, Python's subprocess) or that left the
    process group. The environment of other users' processes can't be read, save by root.
    """
    marks = [b"\0SINGLERUN_TOKEN=%d\0" % token]
    if run_id is not None:
        marks.append(b"\0SINGLERUN_RUN_ID=%d\0" % run_id)
    found = []
    for pid in pids():
        try:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
                environment = b"\0" + file.read() + b"\0"
        except OSError:
            continue
        if all(mark in environment for mark in marks):
            found.append(pid)
    return found


def holding(path: bytes, *, deleted: bool = False) -> list[int]:
    """Give the PIDs of the processes through which the file at ``path`` is flocked.

    /proc/locks names who took a lock, which may be dead; /proc/PID/fdinfo shows the lock at each
    process that has it through an inherited descriptor too. ``deleted``: only look for a file
    that stood at this path and was deleted since.
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
    # Who works before who only watches: nobody's parent among them first.
    parents = {parent_of(pid) for pid in found}
    return sorted(found, key=lambda pid: pid in parents)


def _holds(pid: int, number: str, wanted: bytes) -> bool:
    try:
        if os.readlink(b"/proc/%d/fd/%s" % (pid, number.encode())) != wanted:
            return False
        with open(f"/proc/{pid}/fdinfo/{number}", "rb", buffering=0) as file:
            return b"FLOCK" in file.read()
    except OSError:  # closed meanwhile; the process may have others
        return False


def parent_of(pid: int) -> int:
    """Give a process's parent, 0 if it is gone."""
    try:
        return int(stat_fields(pid)[1])
    except (OSError, IndexError):
        return 0


def _live() -> "Iterator[tuple[int, list[bytes]]]":
    """Give the live processes, each with its fields in /proc/PID/stat."""
    for pid in pids():
        try:
            fields = stat_fields(pid)
        except OSError:
            continue
        if len(fields) > 2 and fields[0] not in {b"Z", b"X"}:
            yield pid, fields


def group(leader: int) -> list[int]:
    """Give the PIDs of the live processes whose process group is ``leader``."""
    return [pid for pid, fields in _live() if int(fields[2]) == leader]


def descendants(ancestors: "Iterable[int]") -> list[int]:
    """Give the PIDs of the live children of these processes, their children, and so on."""
    children: dict[int, list[int]] = {}
    for pid, fields in _live():
        children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    parents = list(ancestors)
    while parents:
        # Taken out, so that nobody is gone over twice who is both an ancestor and a descendant.
        born = children.pop(parents.pop(), [])
        found += born
        parents += born
    return found


def command_line(pid: int) -> list[bytes]:
    """Give a process's arguments, or its name in brackets; nothing if it can't be read."""
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
    """Give the user id that a process runs under, None if it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def await_one(waited: "Iterable[int]", timeout: float | None = None) -> bool:
    """Sleep until one of these processes has ended, as await_end does; tell whether so."""
    import select  # noqa: PLC0415 - as below

    poll = select.poll()
    pidfds = []
    try:
        for pid in waited:
            try:
                pidfds.append(os.pidfd_open(pid))
            except ProcessLookupError:
                return True
            poll.register(pidfds[-1], select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def await_end(waited: "Iterable[int]", timeout: float | None) -> bool:
    """Sleep until all these processes have ended, at most ``timeout`` seconds; tell whether so.

    pidfd_open(2): a pidfd becomes readable when its process ends. One that is gone already, or
    whose PID is used again, is not waited for by mistake for longer than ``timeout``.
    """
    import select  # noqa: PLC0415 - only an unusual run waits for strangers
    import time  # noqa: PLC0415

    deadline = None if timeout is None else time.monotonic() + timeout
    for pid in waited:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            left = None if deadline is None else max(0, deadline - time.monotonic()) * 1000
            if not poll.poll(left):
                return False
        finally:
            os.close(descriptor)
    return True


def usage() -> tuple[float, float, int]:
    """Give this process's CPU seconds, those of the children it waited for included; and KiB."""
    import resource  # noqa: PLC0415 - rare

    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (
        own.ru_utime + children.ru_utime,
        own.ru_stime + children.ru_stime,
        max(own.ru_maxrss, children.ru_maxrss),
    )
