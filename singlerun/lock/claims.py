"""Claims on a lock file: whether their owners live, and how they are broken.

A lock file at PATH, in the way of filelock's StrictSoftFileLock, is a directory
PATH.filelock/claims with a file for each claim: a process that tries to take the lock, or holds it,
by host, PID and start. The kernel frees none of them, so a dead owner's claim stays, and filelock
itself never judges it.

    alive     its process lives, or a process that singlerun started for it
    dead      proven: this boot of this machine no longer has that process, nor one that it
              started; or the machine was booted since
    unknown   all else (another host, another PID namespace), and it counts as held

A claim names its host by name only, and two machines may share a name. So beside its claim
singlerun keeps a note in PATH.filelock, with the machine's own id, and with what it started, which
a command can't close as it could a descriptor. The name of a claim is used once, so breaking a dead
one can't hit the next.
"""

import os

from singlerun.process import identity, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from filelock import StrictSoftFileLock

DIRECTORY = b".filelock"
NOTE = b"note-"
MARK = "?pidns-"
"""Separates a host's name from a PID namespace."""
SUFFIX = b".soft"
"""The suffix of a name's lock file; the file of its kernel lock ends in .lock."""
_NOTE_BYTES = 160
# Fixed by the kernel (linux/proc_ns.h): the namespaces that all others are made from.
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_FIRST_TIME_NAMESPACE = 0xEFFFFFFA


class Claim:
    """One process's claim on the lock file ``path``.

    Attributes:
        token: 32 hexadecimal digits, of this claim alone.
        names: the files that make it up.
        held: whether it has the lock, or only tries to take it.
        pid, host, start: its owner, as filelock wrote it.
    """

    def __init__(self, path: bytes, token: str, pid: int, host: str, start: int | None) -> None:
        self.path, self.token = path, token
        self.pid, self.host, self.start = pid, host, start
        self.names: list[str] = []
        self.held = False

    @property
    def note(self) -> bytes:
        """The path of its note."""
        return note_path(self.path, self.token)


def note_path(path: bytes, token: str) -> bytes:
    """Return the path of a claim's note."""
    return os.path.join(path + DIRECTORY, NOTE + token.encode())


def exist(path: bytes) -> bool:
    """Return whether a lock file at this path was ever taken."""
    return os.path.isdir(path + DIRECTORY)


def read(path: bytes) -> list[Claim]:
    """Return the claims on a lock file; filelock.SoftFileLockProtocolError: they can't be read."""
    if not exist(path):
        return []
    found: dict[str, Claim] = {}
    for record in _lock(path).claims:
        claim = Claim(path, record.token, record.pid, record.hostname, record.start)
        claim = found.setdefault(record.token, claim)
        claim.names.append(record.name)
        claim.held |= record.state == "held"
    return list(found.values())


def _lock(path: bytes) -> "StrictSoftFileLock":
    from filelock import StrictSoftFileLock  # noqa: PLC0415 - 48 ms

    return StrictSoftFileLock(os.fsdecode(path))


def break_(claim: Claim) -> None:
    """Delete a claim that is dead, or that a person has judged; raise OSError if it can't be."""
    lock = _lock(claim.path)
    # While the older of the two is there, the lock can't be mistaken for free.
    for name in sorted(claim.names):
        try:
            lock.force_break(name)
        except FileNotFoundError:  # another process was faster
            pass
    forget_note(claim.note)


def fate(claim: Claim) -> tuple[str, list[int]]:
    """Return whether a claim's owner is ALIVE, DEAD or UNKNOWN, and the PIDs that keep it alive."""
    # In a time namespace start times differ from those that other processes wrote.
    is_shifted = _namespace("time") not in {None, _FIRST_TIME_NAMESPACE}
    other = _namespace_of(claim.host) != _namespace_of(_our_host())
    if claim.start is None or is_shifted or other:
        return identity.UNKNOWN, []
    boot, ticks = divmod(claim.start, 2**64)
    here = identity.here()
    if not boot or not here.boot_id:
        return identity.UNKNOWN, []
    try:
        note = _read_note(claim)
    except (OSError, ValueError):
        return identity.UNKNOWN, []
    if boot != int(here.boot_id.replace("-", ""), 16):
        same = claim.host == _our_host() and note is not None and note.machine == _machine()
        return (identity.DEAD if same else identity.UNKNOWN), []
    life = identity.life(identity.Owner(here, claim.pid, ticks))
    if life != identity.DEAD:
        return life, [claim.pid]
    if claim.host != _our_host():
        return identity.UNKNOWN, []
    if not _namespace_of(claim.host) and _is_elsewhere(claim.pid, ticks):
        return identity.UNKNOWN, []
    left = [] if note is None else note.survivors()
    return (identity.ALIVE, left) if left else (identity.DEAD, [])


def _our_host() -> str:
    """Return this host as filelock names it: printable, with the PID namespace if not the first."""
    name = "".join(
        chr(byte) if 0x21 <= byte < 0x7F and byte != ord("?") else f"?{byte:02x}"
        for byte in os.fsencode(os.uname().nodename)
    )
    namespace = _namespace("pid")
    return name + ("" if namespace == _FIRST_PID_NAMESPACE else f"{MARK}{namespace:x}")


def _namespace_of(host: str) -> str:
    return host.partition(MARK)[2]


def _namespace(kind: str) -> int | None:
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return None


def _is_elsewhere(pid: int, ticks: int) -> bool:
    """Return whether this PID is of a live process in another PID namespace.

    Older versions of filelock don't write the namespace, and a container may bear its host's name.
    """
    return any(
        identity.start_time(other) == ticks and _innermost_pid(other) == pid
        for other in procfs.pids()
        if other != pid
    )


def _innermost_pid(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            lines = file.read().split(b"\n")
    except OSError:
        return None
    return next((int(line.split()[-1]) for line in lines if line.startswith(b"NSpid:")), None)


def _machine() -> str:
    """Return this machine's id; empty if it has none, which no note says."""
    try:
        with open("/etc/machine-id", "rb", buffering=0) as file:
            return file.read(64).strip().decode("ascii", "replace")
    except OSError:
        return ""


class Note:
    """What singlerun notes beside its claim.

    Attributes:
        machine: the id of the machine, "-" if it has none.
        run_id, token: the marks in the command's environment, 0 where there are none yet.
        pid, started: the command's process, 0 before it is started.
    """

    def __init__(
        self, machine: str, run_id: int = 0, token: int = 0, pid: int = 0, started: int = 0
    ) -> None:
        self.machine = machine
        self.run_id, self.token = run_id, token
        self.pid, self.started = pid, started

    def survivors(self) -> list[int]:
        """Return the live processes of the run: the command first, then all with its marks."""
        found = []
        if self.pid:
            command = identity.Owner(identity.here(), self.pid, self.started or None)
            found += [self.pid] if identity.life(command) == identity.ALIVE else []
        if self.token:
            marked = procfs.marked(self.run_id or None, self.token)
            found += [pid for pid in marked if pid not in found]
        return found


def write_note(
    path: bytes, marks: tuple[int | None, int] | None = None,
    command: tuple[int, int | None] | None = None, *, mode: int = 0o666,
) -> None:  # fmt: skip
    """Write this machine, a run's marks, and its command's process; raise OSError if that fails."""
    words = (_machine() or "-", *(marks or (0, 0)), *(command or (0, 0)))
    line = "1 " + " ".join(str(word or 0) for word in words)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    try:
        # In one piece and always of one size, so that half of it is never read.
        os.pwrite(descriptor, line.encode().ljust(_NOTE_BYTES) + b"\n", 0)
    finally:
        os.close(descriptor)


def forget_note(path: bytes) -> None:
    """Delete a note."""
    try:
        os.unlink(path)
    except OSError:  # it says nothing without its claim
        pass


def _read_note(claim: Claim) -> Note | None:
    """Return a claim's note; None if it has none, like other programs' claims.

    Raises OSError or ValueError if it can't be read, or belongs to another user than the claim.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(claim.note, flags)
    except FileNotFoundError:
        return None
    try:
        claimed = os.path.join(claim.path + DIRECTORY, b"claims", os.fsencode(claim.names[0]))
        if os.fstat(descriptor).st_uid != os.stat(claimed, follow_symlinks=False).st_uid:
            raise ValueError("it belongs to another user")
        words = os.read(descriptor, 2 * _NOTE_BYTES).decode("ascii").split()
        version, machine, run_id, token, pid, started = words
        if version != "1":
            raise ValueError("it is of another version")
        return Note(machine, int(run_id), int(token), int(pid), int(started))
    finally:
        os.close(descriptor)


def _notes(path: bytes) -> set[bytes]:
    """Return the paths of all notes beside the claims on a lock file."""
    directory = path + DIRECTORY
    if not os.path.isdir(directory):
        return set()
    names = [name for name in os.listdir(directory) if name.startswith(NOTE)]
    return {os.path.join(directory, name) for name in names}


class Swept:
    """What became of a claim: ``state`` is dead, broken or unknown."""

    def __init__(self, claim: Claim, state: str) -> None:
        self.claim, self.state = claim, state


BROKEN = "broken"


def sweep(paths: "Iterable[bytes]", *, dry_run: bool) -> "Iterator[Swept]":
    """Break the claims of dead owners on these lock files; yield them, and those of unknown ones.

    Notes whose claims are gone are deleted. Raises OSError if claims can't be read or broken.
    """
    for path in paths:
        notes = _notes(path)
        found = read(path)
        for claim in found:
            state, _ = fate(claim)
            if state == identity.DEAD and not dry_run:
                break_(claim)
                state = BROKEN
            if state != identity.ALIVE:
                yield Swept(claim, state)
        if not dry_run:
            # Seen before the claims were read, and a note is made after its claim.
            for note in notes - {claim.note for claim in found}:
                forget_note(note)


def with_token(paths: "Iterable[bytes]", digits: str) -> list[Claim]:
    """Return the claims on these lock files whose tokens begin with these digits."""
    return [claim for path in paths for claim in read(path) if claim.token.startswith(digits)]


def of_directory(directory: bytes) -> "Iterator[bytes]":
    """Yield the paths of the names' lock files that were ever taken in a directory."""
    for entry in sorted(os.listdir(directory)):
        path = os.path.join(directory, entry)
        if entry.endswith(SUFFIX + DIRECTORY) and os.path.isdir(path):
            yield path.removesuffix(DIRECTORY)
