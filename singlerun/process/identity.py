"""The identity of a process, by which no later process can be mistaken for it.

A PID alone is none, since it is used again. A PID, its start time, the PID namespace that counts it
and the boot that all belong to are one (proc(5), "starttime"; the boot id is in random(4)). Start
times have ticks of 10 ms, so a signal goes through a pidfd that was opened before the check.
"""

import os

ALIVE, DEAD, UNKNOWN = "alive", "dead", "unknown"


class Place:
    """Where a process lives: the host, its boot, and the PID namespace."""

    __slots__ = ("boot_id", "host", "pid_ns")

    def __init__(self, host: str, boot_id: str, pid_ns: int) -> None:
        self.host, self.boot_id, self.pid_ns = host, boot_id, pid_ns


class Owner:
    """A process at a place. ``started`` is in clock ticks since boot, None if unreadable."""

    __slots__ = ("pid", "place", "started")

    def __init__(self, place: Place, pid: int, started: int | None) -> None:
        self.place, self.pid, self.started = place, pid, started


_here: Place | None = None
_has_proc: bool | None = None


def here() -> Place:
    """Return the place of this process; without a /proc it has no boot id, and namespace 0."""
    global _here  # noqa: PLW0603 - needed several times a run, and always the same
    if _here is None:
        try:
            with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
                boot_id = file.read(64).strip().decode("ascii", "replace")
            pid_ns = os.stat("/proc/self/ns/pid").st_ino + (_time_namespace() << 20)
        except OSError:
            boot_id, pid_ns = "", 0
        _here = Place(os.uname().nodename, boot_id if has_proc() else "", pid_ns)
    return _here


def _time_namespace() -> int:
    # Start times are shifted in a time namespace (time_namespaces(7)), so it is another place.
    try:
        return os.stat("/proc/self/ns/time").st_ino
    except OSError:
        return 0


def has_proc() -> bool:
    """Return whether there is a /proc that counts processes as this process does.

    After ``unshare --pid`` without ``--mount-proc`` its numbers name processes of another PID
    namespace, and none of them may be used.
    """
    global _has_proc  # noqa: PLW0603 - as above
    if _has_proc is None:
        try:
            _has_proc = os.readlink("/proc/self") == str(os.getpid())
        except OSError:
            _has_proc = False
    return _has_proc


def stat_fields(pid: int | str) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third, "state", on; or raise OSError."""
    if not has_proc():
        raise FileNotFoundError
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        # The second field is the name of the program in brackets, and may hold brackets itself.
        return file.read(4096).rpartition(b")")[2].split()


def start_time(pid: int | str) -> int | None:
    """Return a process's start time in clock ticks since boot, None if it cannot be read."""
    try:
        return int(stat_fields(pid)[19])
    except (OSError, IndexError):
        return None


def this_process() -> Owner:
    """Return the identity of the calling process."""
    return Owner(here(), os.getpid(), start_time("self"))


def life(owner: Owner) -> str:
    """Return whether an owner is ALIVE, DEAD or UNKNOWN; never by age.

    UNKNOWN is what cannot be seen from here: another host, another PID namespace, a boot that
    cannot be read. DEAD is proven: another boot of this host, no such process, another start time,
    or an entry in the process table that only waits to be reaped.
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
        # With /proc mounted hidepid=2 other users' processes are not in it: EPERM means alive.
        try:
            os.kill(owner.pid, 0)
        except ProcessLookupError:
            return DEAD
        except (OSError, OverflowError):
            pass
        return ALIVE
    ended = has_ended(owner.pid, fields)
    return DEAD if ended or owner.started not in {None, int(fields[19])} else ALIVE


def has_ended(pid: int, fields: list[bytes]) -> bool:
    """Return whether these fields of /proc/PID/stat are those of a process that has ended."""
    if len(fields) < 20:  # it ended while it was read
        return True
    if fields[0] not in {b"Z", b"X"}:
        return False
    try:
        # The first thread of a process may end before the others, and looks the same then.
        return len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True
