"""Closes the records of dead owners, and finds what is left of their commands.

A run is over for us when its lock can be taken and nothing that it started can be found alive.
The lock alone does not tell: a command may have closed the descriptor that it inherited (sudo,
Python's subprocess), or the lock file may have been deleted under its holder.
"""

import os

from singlerun.errors import RecordError
from singlerun.process import identity, procfs
from singlerun.store.base import LOST, STOPPED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from singlerun.paths import StateDir
    from singlerun.store.base import Run, Store

    Living = list[tuple[Run | None, list[int]]]

ORPHAN, ZOMBIE = "orphan", "zombie"
GRACE = 10.0
"""Seconds between TERM and KILL for an orphan."""


def survivors(run: "Run") -> list[int]:
    """Give the live processes of a run that was started: its command first, then all it marked."""
    found = []
    if run.command is not None and identity.life(run.command) == identity.ALIVE:
        found.append(run.command.pid)
    if run.id is not None and run.token is not None and _is_here(run):
        marked = procfs.marked(run.id, run.token)
        found += [pid for pid in marked if pid not in found]
    return found


def _is_here(run: "Run") -> bool:
    return run.boot_id == identity.here().boot_id


def state_of(run: "Run") -> tuple[str, list[int]]:
    """Judge an open run: its state as ``ps`` shows it, and the PIDs that prove it.

    A run whose owner can't be judged from here (another host or PID namespace) counts as recorded.
    """
    life = identity.life(run.wrapper)
    if life == identity.UNKNOWN:
        return run.state, []
    if life == identity.ALIVE:
        if run.command is None:
            return run.state, [run.wrapper_pid]
        if identity.life(run.command) == identity.ALIVE:
            return run.state, [run.command.pid]
        # It lingers: rather name what still works than who waits for it.
        return run.state, [*survivors(run), run.wrapper_pid]
    if run.state == WAITING:
        return ZOMBIE, []
    left = survivors(run)
    return (ORPHAN, left) if left else (ZOMBIE, [])


def look_at(store: "Store", run: "Run") -> "tuple[Run, str, list[int]]":
    """Judge a run as ``state_of`` does, an ended one too; give it as it is now.

    Who was read as open and is seen to be dead may have recorded its end in between.
    """
    if run.ended_ns is None:
        state, pids = state_of(run)
        if state != ZOMBIE:
            return run, state, pids
        run = store.find(run.id or 0) or run
    return run, run.state if run.ended_ns is not None else ZOMBIE, []


def settle(
    store: "Store", former: "list[Run]", *, shared: bool, proven: bool, slots: int | None = None
) -> "Living":
    """Close the former open runs of a lock that is ours now; give those that live, with their PIDs.

    To be called with the lock held: that its owner is gone is proven by the lock, and by it alone
    where the owner can't be seen from here. That needs the very file that the owner locked:
    ``proven`` tells whether it is, or was made anew. A shared lock, or a slot, proves nothing of
    its other holders, so there only what is seen to be dead is closed. If as many live as there are
    ``slots``, although we have one, somebody has lost its lock, and counts nevertheless.
    """
    living: Living = []
    fellows: Living = []
    for run in former:
        life = identity.life(run.wrapper)
        if run.state == WAITING:
            if life == identity.DEAD:
                _try_to_close(store, run, STOPPED, "died while it waited")
            continue
        # Readers share with readers, who has a slot with those who have the others.
        shares = shared or slots is not None
        fellow = shares and run.shared and (run.slots is None) == (slots is None)
        if life == identity.ALIVE or (fellow and life == identity.UNKNOWN):
            # What works is named first, and who records its end is awaited last.
            pids = list(dict.fromkeys([*state_of(run)[1], run.wrapper_pid]))
            (fellows if fellow else living).append((run, pids))
            continue
        left = survivors(run)
        if not left and (proven or life == identity.DEAD):
            _try_to_close(store, run, LOST, "its processes are gone without a word")
        else:
            (fellows if fellow else living).append((run, left))
    if slots is not None and len(fellows) >= slots:
        living += fellows
    return living


def _try_to_close(store: "Store", run: "Run", state: str, detail: str) -> None:
    try:
        store.close_run(run, state, detail)
    except RecordError:  # a full disk: it is closed another time, but who lives must be told now
        pass


def kill(run: "Run", pids: list[int], grace: float = GRACE) -> bool:
    """End what is left of a run: TERM, after ``grace`` seconds KILL; tell whether all of it ended.

    Each process gets its signal through a pidfd that was opened before its identity was checked,
    so none that has taken over a PID meanwhile can be hit.
    """
    import signal  # noqa: PLC0415 - rare
    import time  # noqa: PLC0415

    deadline = time.monotonic() + grace
    number = signal.SIGTERM
    told: set[int] = set()
    while left := {*pids, *survivors(run)}:
        if run.command_pid in left and run.command_pid is not None:
            left.update(procfs.group(run.command_pid))
        if not _signal_all(run, left - told, number):
            return False
        told |= left
        procfs.await_end(left, min(1, max(0.01, deadline - time.monotonic())))
        # Who is asked to end may start others instead: look, and send, until none is left.
        pids = [pid for pid in left if procfs.is_live(pid)]
        if time.monotonic() > deadline:
            if number == signal.SIGKILL:
                return not pids
            number, told, deadline = signal.SIGKILL, set(), deadline + GRACE
    return True


def _signal_all(run: "Run", pids: set[int], number: int) -> bool:
    """Send a signal to processes of a run; tell whether that is allowed."""
    import signal  # noqa: PLC0415

    pidfds = {}
    try:
        for pid in pids:
            try:
                pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        still = set(survivors(run))
        if run.command_pid in still and run.command_pid is not None:
            still.update(procfs.group(run.command_pid))
        for pid, pidfd in pidfds.items():
            if pid not in still:
                continue
            try:
                signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                continue
            except PermissionError:
                return False
        return True
    finally:
        for pidfd in pidfds.values():
            os.close(pidfd)


def await_ends(living: "Sequence[tuple[Run | None, list[int]]]") -> None:
    """Sleep until all these processes have ended."""
    for _, pids in living:
        procfs.await_end(pids, None)


def await_one(living: "Sequence[tuple[Run | None, list[int]]]") -> None:
    """Sleep until one of these has ended."""
    procfs.await_one([pids[-1] for _, pids in living])


def deleted_holders(created: list[bytes]) -> list[int]:
    """Give the processes that still hold lock files which were deleted and have been made anew."""
    return [pid for path in created for pid in procfs.holding(path, deleted=True)]


class Reaped:
    """What became of an open run: the state that it has now, and a line that tells it."""

    __slots__ = ("message", "state")

    def __init__(self, state: str, message: str) -> None:
        self.state = state
        self.message = message


def reap(
    store: "Store",
    state: "StateDir",
    names: tuple[bytes, ...] = (),
    *,
    dry_run: bool = False,
    kill_orphans: bool = False,
) -> "Iterator[tuple[Run, Reaped]]":
    """Close the open runs of dead owners, of some names or all; give those and the orphans.

    Each is closed while its locks are held, so a run that starts meanwhile is never closed; and
    each by itself, so whoever kills the reaper leaves nothing half done.

    Raises:
        RecordError, StateDirError, LockFileError: a run can't be closed.
    """
    for seen in store.open_runs():
        if names and not set(names) & set(seen.names):
            continue
        # Ending an orphan takes its time: look again at what is next.
        run = store.find(seen.id or 0)
        if run is None or run.ended_ns is not None:
            continue
        what, pids = state_of(run)
        if what == ORPHAN and kill_orphans:
            yield run, _end(store, state, run, pids, dry_run=dry_run)
        elif what == ORPHAN:
            message = f"an orphan, its PID {pids[0]} lives; end it: singlerun reap --kill-orphans"
            yield run, Reaped(ORPHAN, message)
        elif what == ZOMBIE or (
            what == run.state and identity.life(run.wrapper) == identity.UNKNOWN
        ):
            closed = _close(store, state, run, dry_run=dry_run)
            if closed is not None:
                yield run, closed


def _end(
    store: "Store", state: "StateDir", run: "Run", pids: list[int], *, dry_run: bool
) -> Reaped:
    listed = ", ".join(map(str, pids))
    if dry_run:
        return Reaped(ORPHAN, f"an orphan, would end PID {listed}")
    if not kill(run, pids):
        return Reaped(ORPHAN, f"an orphan, PID {listed} could not be ended")
    _close(store, state, run, dry_run=False)  # unless whoever waited was faster, and did it
    now = store.find(run.id or 0)
    if now is not None and now.ended_ns is None:
        return Reaped(ORPHAN, f"an orphan, ended PID {listed}, but something of it still lives")
    return Reaped(LOST, f"an orphan, ended PID {listed}, closed as lost")


def _close(store: "Store", state: "StateDir", run: "Run", *, dry_run: bool) -> Reaped | None:
    from singlerun.ownership import holder  # noqa: PLC0415 - it asks the reaper too

    if run.state == WAITING:
        # It never held the lock; that it is dead is seen, or it is left alone.
        if identity.life(run.wrapper) != identity.DEAD:
            return None
        if not dry_run:
            store.close_run(run, STOPPED, "died while it waited")
        return Reaped(STOPPED, "a zombie that waited, " + ("would close" if dry_run else "closed"))
    hold = holder.hold_of(run, state)
    # Under the guard nobody is refused because of this moment's lock (conflict.py).
    with store.exclusively():
        try:
            if not (holder.is_free(hold.paths) if dry_run else hold.try_take()):
                holders = [pid for path in hold.paths for pid in procfs.holding(path)]
                if not holders or identity.life(run.wrapper) == identity.UNKNOWN:
                    return None  # it runs where it can't be seen from here
                listed = ", ".join(map(str, holders))
                return Reaped(ZOMBIE, f"a zombie whose lock is still held, by PID {listed}")
            if dry_run:
                return Reaped(ZOMBIE, "a zombie, would close it as lost")
            if settle(store, [run], shared=run.shared, proven=not hold.created):
                return None  # it lives after all
            return Reaped(LOST, "a zombie, closed as lost")
        finally:
            hold.free()
