"""Whether an open run lives: as an orphan, as a zombie, or as it is recorded.

A run is over when its lock can be taken and nothing that it started is found alive. The lock alone
does not tell: a command may have closed its descriptor (sudo, Python's subprocess), or the lock
file may have been deleted under its holder.
"""

from singlerun.process import procfs
from singlerun.process.identity import ALIVE, DEAD, UNKNOWN, here, life
from singlerun.store.run import RUNNING, SUCCEEDED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from singlerun.process.procfs import Snapshot
    from singlerun.store.base import Store
    from singlerun.store.run import Run

    Living = list[tuple[Run | None, list[int]]]

ORPHAN, ZOMBIE = "orphan", "zombie"


class Verdict:
    """What is known of a run.

    Attributes:
        state: as ``ps`` shows it: the recorded one, orphan, or zombie.
        pids: the processes that prove it, the most telling first.
    """

    def __init__(self, run: "Run", state: str, pids: list[int]) -> None:
        self.run, self.state, self.pids = run, state, pids


def survivors(run: "Run", snapshot: "Snapshot | None" = None) -> list[int]:
    """Return the live processes of a run that was started: its command first, then all it marked.

    A ``snapshot`` must have been taken after the wrapper's death, if that is to be concluded from.
    """
    if run.fd is not None:
        return keepers(run)
    found = []
    if run.command is not None and life(run.command) == ALIVE:
        found.append(run.command.pid)
    of_this_boot = run.wrapper.place.boot_id == here().boot_id
    if run.id is not None and run.token is not None and of_this_boot:
        marked = (snapshot or procfs.Snapshot()).marked(run.id, run.token)
        found += [pid for pid in marked if pid not in found]
    return found


def keepers(run: "Run") -> list[int]:
    """Return the processes that have the lock which a run left to a descriptor of its caller.

    Here the kernel's lock is all that there is: the caller may close its descriptor and live on.
    """
    path = run.lock_file or b""
    found = [*procfs.holding(path), *procfs.holding(path, deleted=True)]
    return sorted(found, key=lambda pid: pid != run.wrapper_pid)


def judge(run: "Run", snapshot: "Snapshot | None" = None) -> Verdict:
    """Judge an open run; one of another host or PID namespace is as recorded."""
    wrapper = life(run.wrapper)
    if wrapper == UNKNOWN:
        return Verdict(run, run.state, [])
    if run.fd is not None:
        kept = keepers(run)
        return Verdict(run, RUNNING if kept else SUCCEEDED, kept)
    if wrapper == ALIVE:
        if run.command is None:
            return Verdict(run, run.state, [run.wrapper_pid])
        if life(run.command) == ALIVE:
            return Verdict(run, run.state, [run.command.pid])
        # It lingers: what still works comes before the wrapper, which only waits for it.
        return Verdict(run, run.state, [*survivors(run, snapshot), run.wrapper_pid])
    left = [] if run.state == WAITING else survivors(run, snapshot)
    return Verdict(run, ORPHAN if left else ZOMBIE, left)


def judge_all(runs: "Sequence[Run]") -> list[Verdict]:
    """Judge open runs by one walk of /proc, which begins after the wrappers' deaths were seen."""
    dead = {id(run) for run in runs if life(run.wrapper) == DEAD}
    snapshot = procfs.Snapshot() if dead else None
    return [judge(run, snapshot if id(run) in dead else None) for run in runs]


def look_at(store: "Store", runs: "Sequence[Run]") -> list[Verdict]:
    """Judge runs, ended ones too, as they are now: an end may have been recorded meanwhile."""
    verdicts = {id(verdict.run): verdict for verdict in judge_all([r for r in runs if is_open(r)])}
    found = []
    for run in runs:
        verdict = verdicts.get(id(run)) or Verdict(run, run.state, [])
        if verdict.state == ZOMBIE:
            now = store.find(run.id or 0) or run
            verdict = Verdict(now, ZOMBIE if is_open(now) else now.state, [])
        found.append(verdict)
    return found


def is_open(run: "Run") -> bool:
    """Return whether the end of a run has not been recorded."""
    return run.ended_ns is None


def is_holding(run: "Run", paths: list[bytes]) -> bool:
    """Return whether an open run holds the lock of these files, or what it started still does."""
    state = judge(run).state
    if state == WAITING:
        # Between two tries a run is recorded as waiting, and holds the lock.
        return any(run.wrapper_pid in procfs.holding(path) for path in paths)
    return state in {RUNNING, ORPHAN}
