"""Closes the records of dead owners: while their lock is held, and on proof of death alone."""

from singlerun.errors import RecordError
from singlerun.ownership import holder, stop
from singlerun.ownership.judge import ORPHAN, ZOMBIE, Verdict, judge, judge_all, survivors
from singlerun.process import procfs
from singlerun.process.identity import ALIVE, DEAD, UNKNOWN, life
from singlerun.store.run import LOST, RELEASED, STOPPED, SUCCEEDED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from singlerun.ownership.judge import Living
    from singlerun.paths import StateDir
    from singlerun.store.base import Store
    from singlerun.store.run import Run

DIED_WAITING = "died while it waited"
DIED = "died without recording an exit status"


def settle(
    store: "Store", former: "list[Run]", *, shared: bool, proven: bool, slots: int | None = None
) -> "Living":
    """Close the former open runs of a lock that is ours now; return those that live, with PIDs.

    To be called with the lock held: that a former owner is gone is proven by the lock, and by it
    alone where the owner can't be seen from here. That needs the very file that the owner locked:
    ``proven`` tells whether it is, or was made anew. A shared lock, or a slot, proves nothing of
    its other holders, so there only what is seen to be dead is closed. If as many live as there are
    ``slots``, although we have one, one of them has lost its lock, and counts nevertheless.
    """
    living: Living = []
    fellows: Living = []
    for run in former:
        wrapper = life(run.wrapper)
        if run.state == WAITING:
            if wrapper == DEAD:
                _try_to_close(store, run, STOPPED, DIED_WAITING)
            continue
        if run.fd is not None and proven and not shared and slots is None:
            _try_to_close(store, run, SUCCEEDED, RELEASED)
            continue
        # Readers share with readers, a slot's holder with those of the others.
        shares = shared or slots is not None
        fellow = shares and run.shared and (run.slots is None) == (slots is None)
        if (wrapper == ALIVE and run.fd is None) or (fellow and wrapper == UNKNOWN):
            # What works is named first, and what records its end is awaited last.
            pids = list(dict.fromkeys([*judge(run).pids, run.wrapper_pid]))
        else:
            pids = survivors(run)
            if not pids and (proven or wrapper == DEAD):
                over = (LOST, DIED) if run.fd is None else (SUCCEEDED, RELEASED)
                _try_to_close(store, run, *over)
                continue
        (fellows if fellow else living).append((run, pids))
    if slots is not None and len(fellows) >= slots:
        living += fellows
    return living


def _try_to_close(store: "Store", run: "Run", state: str, detail: str) -> None:
    try:
        store.close_run(run, state, detail)
    except RecordError:  # a full disk: it is closed another time, but the living count now
        pass


def await_ends(living: "Living", timeout: float | None = None) -> bool:
    """Sleep until all these processes have ended; return False after ``timeout`` seconds."""
    return procfs.await_end([pid for _, pids in living for pid in pids], timeout)


def await_one(living: "Living", timeout: float | None = None) -> bool:
    """Sleep until one of these runs has ended; return False after ``timeout`` seconds."""
    return procfs.await_one([pids[-1] for _, pids in living], timeout)


def deleted_holders(created: list[bytes]) -> list[int]:
    """Return the processes that still hold lock files which were deleted and recreated."""
    return [pid for path in created for pid in procfs.holding(path, deleted=True)]


def strays(store: "Store | None", paths: "Sequence[bytes]") -> list[int]:
    """Return the processes of runs that the record does not know, and that hold these lock files.

    ``settle`` judges a run that the record knows, and one that has ended left them on purpose.
    """
    snapshot = procfs.Snapshot()
    found = []
    for path in paths:
        for pid, marks in snapshot.marked_with(path):
            run = None if store is None or marks is None else store.find(marks.run_id or 0)
            if run is None or marks is None or run.token != marks.token:
                found.append(pid)
    return found


class Reaped:
    """What became of an open run.

    Attributes:
        run, state: the run, and the state that it has now.
        action: what was done, or would be: one of those below.
        pids: the processes that it was done to, or that prevent it.
    """

    def __init__(self, run: "Run", state: str, action: str, pids: "Sequence[int]" = ()) -> None:
        self.run, self.state, self.action, self.pids = run, state, action, tuple(pids)


CLOSED, WOULD_CLOSE = "closed", "would close"
LEFT, KILLED, WOULD_KILL = "left alone", "killed", "would kill"
UNKILLABLE, HALF_KILLED, STILL_HELD = "could not be killed", "partly killed", "still held"


def reap(
    store: "Store", state: "StateDir", names: tuple[bytes, ...] = (), *,
    dry_run: bool = False, kill_orphans: bool = False,
) -> "Iterator[Reaped]":  # fmt: skip
    """Close the open runs of dead owners, of some names or all; yield those and the orphans.

    Each is closed while its locks are held, so a run that starts meanwhile is never closed; and
    each by itself, so a reaper that is killed leaves nothing half done. Raises RecordError or
    StateDirError or LockFileError if a run can't be closed.
    """
    found = [run for run in store.open_runs() if not names or set(names) & set(run.names)]
    for verdict in judge_all(found):
        # Killing an orphan takes its time: look again at what is next.
        run = store.find(verdict.run.id or 0)
        if run is None or run.ended_ns is not None or run.state != verdict.run.state:
            continue
        if verdict.state == ORPHAN:
            if kill_orphans:
                yield _kill(store, state, verdict, dry_run=dry_run)
            else:
                yield Reaped(run, ORPHAN, LEFT, verdict.pids)
        elif verdict.state in {ZOMBIE, SUCCEEDED} or life(run.wrapper) == UNKNOWN:
            closed = _close(store, state, run, dry_run=dry_run)
            if closed is not None:
                yield closed


def _kill(store: "Store", state: "StateDir", orphan: Verdict, *, dry_run: bool) -> Reaped:
    run = orphan.run
    if dry_run:
        return Reaped(run, ORPHAN, WOULD_KILL, orphan.pids)
    if not stop.kill_survivors(run):
        return Reaped(run, ORPHAN, UNKILLABLE, orphan.pids)
    _close(store, state, run, dry_run=False)  # unless a waiter was faster, and did it
    now = store.find(run.id or 0)
    if now is not None and now.ended_ns is None:
        return Reaped(run, ORPHAN, HALF_KILLED, orphan.pids)
    return Reaped(run, LOST, KILLED, orphan.pids)


def _close(store: "Store", state: "StateDir", run: "Run", *, dry_run: bool) -> Reaped | None:
    done = WOULD_CLOSE if dry_run else CLOSED
    if run.state == WAITING:
        # It never held the lock; that it is dead is seen, or it is left alone.
        if life(run.wrapper) != DEAD:
            return None
        if not dry_run:
            store.close_run(run, STOPPED, DIED_WAITING)
        return Reaped(run, STOPPED, done)
    locks = holder.locks_of(run, state)
    # Under the guard no run is refused because of this moment's lock (lifecycle.py).
    with store.exclusively():
        try:
            if not (holder.is_free(locks.paths) if dry_run else locks.try_take()):
                holders = [pid for path in locks.paths for pid in procfs.holding(path)]
                if not holders or life(run.wrapper) == UNKNOWN:
                    return None  # it runs where it can't be seen from here
                return Reaped(run, ZOMBIE, STILL_HELD, holders)
            if dry_run:
                return Reaped(run, ZOMBIE, done)
            # Of a run that has a slot this lock, a shared one, proves nothing: it counts by itself.
            slots = None if run.slots is None else 1
            if settle(store, [run], shared=run.shared, proven=not locks.created, slots=slots):
                return None  # it lives after all
            return Reaped(run, LOST if run.fd is None else SUCCEEDED, done)
        finally:
            locks.free()
