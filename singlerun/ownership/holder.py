"""The holder of a name: the kernel is asked first, then the record, and /proc is searched last."""

import os

from singlerun import lock
from singlerun.lock import claims
from singlerun.lock.filesystem import distrusted
from singlerun.lock.line import position
from singlerun.ownership.judge import ORPHAN, judge, survivors
from singlerun.paths import lock_file_name
from singlerun.process import procfs
from singlerun.process.identity import DEAD, UNKNOWN
from singlerun.store.run import RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock.claims import Claim
    from singlerun.ownership.judge import Living
    from singlerun.paths import StateDir
    from singlerun.store.run import Run
    from singlerun.store.sqlite import SqliteStore


def find(former: "list[Run]", paths: list[bytes]) -> "tuple[Run | None, list[int]]":
    """Return the holder of a lock: its run, if the record knows it, and its PIDs, the best first.

    ``former`` are the open runs of that lock, ``paths`` its files.
    """
    for run in former:
        if run.state != RUNNING:
            continue
        verdict = judge(run)
        if verdict.state in {RUNNING, ORPHAN}:
            # It lingers, or has only just begun: what still works comes first.
            lingers = verdict.pids == [run.wrapper_pid] and run.command_pid != run.wrapper_pid
            return run, [*(survivors(run) if lingers else ()), *verdict.pids]
    for path in paths:
        holders = procfs.holding(path)
        for claim in claims.read(path):
            holders += claims.fate(claim)[1]
        if holders:
            return None, holders
    return None, []


def find_all(former: "list[Run]", paths: list[bytes]) -> "Living":
    """Return all holders of a lock, the oldest first, as ``find`` does the first; at least one."""
    found = [find([run], []) for run in former]
    return [holding for holding in found if holding[0] is not None] or [find([], paths)]


def unseen(paths: list[bytes]) -> "Claim | None":
    """Return a claim on a lock file whose owner can't be seen from here, a held one first."""
    found = [claim for path in paths for claim in claims.read(path)]
    found = [claim for claim in found if claims.fate(claim)[0] == UNKNOWN]
    return max(found, key=lambda claim: claim.held, default=None)


def of_file(path: bytes, store: "SqliteStore | None") -> "Living":
    """Return the holders of a file that users chose to lock, as of_name does."""
    return _all([] if store is None else store.open_runs(lock_file=path), [path], store)


def of_name(name: bytes, state: "StateDir", store: "SqliteStore | None") -> "Living":
    """Return the holders of a name: none, one, or several that share it.

    The lock is taken for a moment, and only while the store is kept to ourselves: a run that fails
    to get it because of that tries again under the same guard, and is not refused (lifecycle.py).
    Raises RecordError or StateDirError or LockFileError if the answer can't be had.
    """
    former = [] if store is None else [
        run for run in store.open_runs() if name in run.names and run.state == RUNNING
    ]  # fmt: skip
    paths = [os.path.join(state.locks, lock_file_name(name)), state.soft_path(name)]
    if store is not None:
        # A run under --lock-file has its name for people only; the file is in its record.
        latest = store.runs(name, limit=1)
        paths += {run.lock_file for run in (*former, *latest) if run.lock_file is not None}
    return _all(former, paths, store)


def _all(former: "list[Run]", paths: list[bytes], store: "SqliteStore | None") -> "Living":
    """Return all holders of a lock, of which there are several if it is shared."""
    held = [path for path in paths if os.path.exists(path) and _is_held(path, store)]
    found: Living = [find([run], []) for run in former]
    known = [holding for holding in found if holding[0] is not None]
    return known or ([find([], held)] if held else [])


def is_free(paths: list[bytes]) -> bool:
    """Return whether what these files lock is free, without healing anything."""
    return not any(os.path.exists(path) and _is_taken(path) for path in paths)


def _is_held(path: bytes, store: "SqliteStore | None") -> bool:
    if store is None:
        return _is_taken(path)
    with store.exclusively():
        return _is_taken(path)


def _is_taken(path: bytes) -> bool:
    if claims.exist(path):
        if any(claims.fate(claim)[0] != DEAD for claim in claims.read(path)):
            return True
        if distrusted(path):
            return False  # its kernel lock, if it has one, tells nothing
    hold = lock.of_file(path, None, shared=False, lock_type=lock.FLOCK)
    try:
        return not hold.try_take()
    finally:
        hold.free()


def locks_of(run: "Run", state: "StateDir") -> lock.LockSet:
    """Return the locks that a recorded run took."""
    if run.lock_file is not None:
        soft = claims.exist(run.lock_file) and not run.shared
        lock_type = lock.LOCKFILE if soft else lock.FLOCK
        return lock.of_file(run.lock_file, state, shared=run.shared, lock_type=lock_type)
    soft = any(claims.exist(state.soft_path(name)) for name in run.names) and not run.shared
    lock_type = lock.LOCKFILE if soft else lock.AUTO
    return lock.of_names(run.names, state, shared=run.shared, lock_type=lock_type)


def place_of(run: "Run", state: "StateDir") -> int | None:
    """Return a waiting run's place in the longest of its lines, the front being 1."""
    if run.lock_file is not None:
        lines = [state.line_path_of_file(run.lock_file)]
    else:
        lines = [state.line_path(name) for name in run.names]
    places = [place for line in lines if (place := position(line, run.wrapper_pid))]
    return max(places, default=None)
