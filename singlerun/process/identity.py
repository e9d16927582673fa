"""Who holds something: a process, named so that no later process can be mistaken for it.

A PID alone is no identity, since it is used again. A PID, its start time, the PID namespace that
counts it and the boot that all of them belong to are one (proc(5), "starttime"; the boot id is in
random(4)). Start times have ticks of 10 ms, so a signal goes through a pidfd that was opened
before the identity was checked.
"""

import os

ALIVE, DEAD, UNKNOWN = "alive", "dead", "unknown"


class Place:
    """Where a process lives: the host, its boot, and the PID namespace."""

    __slots__ = ("boot_id", "host", "pid_ns")

    def __init__(self, host: str, boot_id: str, pid_ns: int) -> None:
        self.host = host
        self.boot_id = boot_id
        self.pid_ns = pid_ns


class Owner:
    """A process at a place. ``started`` is in clock ticks since boot, None where unreadable."""

    __slots__ = ("pid", "place", "started")

    def __init__(self, place: Place, pid: int, started: int | None) -> None:
        self.place = place
        self.pid = pid
        self.started = started


_here: Place | None = None


def here() -> Place:
    """Give the place of this process; an empty boot id and namespace 0 where there is no /proc."""
    global _here  # noqa: PLW0603 - asked several times a run, the same each time
    if _here is None:
        try:
            with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
                boot_id = file.read(64).strip().decode("ascii", "replace")
            pid_ns = os.stat("/proc/self/ns/pid").st_ino
            pid_ns += _time_namespace() << 20
        except OSError:
            boot_id, pid_ns = "", 0
        if _is_foreign_proc():
            boot_id = ""
        _here = Place(os.uname().nodename, boot_id, pid_ns)
    return _here


def _time_namespace() -> int:
    # Start times are shifted in a time namespace (time_namespaces(7)), so it is another place.
    try:
        return os.stat("/proc/self/ns/time").st_ino
    except OSError:
        return 0


def _is_foreign_proc() -> bool:
    # unshare --pid without --mount-proc: /proc counts PIDs otherwise than we do.
    try:
        return os.readlink("/proc/self") != str(os.getpid())
    except OSError:
        return True


def stat_fields(pid: int | str) -> list[bytes]:
    """Give the fields of /proc/PID/stat from the third, "state", on.

    Raises:
        OSError: there is no such process, or it can't be read.
    """
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        # The second field is the name of the program in brackets, and may hold brackets itself.
        return file.read(4096).rpartition(b")")[2].split()


def start_time(pid: int | str) -> int | None:
    """Give a process's start time in clock ticks since boot, None if it can't be read."""
    try:
        return int(stat_fields(pid)[19])
    except (OSError, IndexError):
        return None


def this_process() -> Owner:
    """Name the calling process."""
    return Owner(here(), os.getpid(), start_time("self"))


def life(owner: Owner) -> str:
    """Tell whether an owner is ALIVE, DEAD or UNKNOWN; never by age.

    UNKNOWN is what can't be seen from here: another host, another PID namespace, a boot that can't
    be read. DEAD is proven: another boot of this host, no such process, another start time, or a
    zombie in the sense of the process table (one that is dead but not yet waited for).
    """
    place = here()
    if not owner.place.boot_id or not place.boot_id:
        return UNKNOWN
    if owner.place.boot_id != place.boot_id:
        return DEAD if owner.place.host == place.host else UNKNOWN
    if owner.place.pid_ns != place.pid_ns:
        return UNKNOWN
    try:
        fields = stat_fields(owner.pid)
    except OSError:
        return _life_by_signal(owner.pid)
    if len(fields) < 20:  # it ended while it was read
        return DEAD
    if owner.started is not None and int(fields[19]) != owner.started:
        return DEAD
    return DEAD if fields[0] in {b"Z", b"X"} and not _has_threads(owner.pid) else ALIVE


def _has_threads(pid: int) -> bool:
    # The first thread of a process may end before the others; it looks like a zombie then.
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def _life_by_signal(pid: int) -> str:
    # With /proc mounted hidepid=2 other users' processes are not in it: EPERM means alive.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return DEAD
    except (OSError, OverflowError):
        pass
    return ALIVE
