"""The end of a run, seen from outside: brought about by ``stop`` and ``--replace``, or awaited.

    SIGTERM to the run's wrapper, noting by which user -> await the end -> SIGKILL what is left

A wrapper that gets SIGTERM hands it to all that it has started, and records the end itself. With
that the run is over, though its process may live on: for its hooks, or, after a block of a program,
for what comes next. Where the wrapper is dead or hangs, its command is ended without it, and its
record is closed here. What to signal is decided by the recorded identity, never by a pattern.
"""

import time

from singlerun.errors import RecordError
from singlerun.ownership import judge
from singlerun.process import procfs, termination
from singlerun.process.identity import ALIVE, DEAD, UNKNOWN, life, start_time
from singlerun.process.signals import ENDING
from singlerun.store.run import (
    LOST,
    REFUSED,
    RELEASED,
    SKIPPED,
    STOPPED,
    SUCCEEDED,
    TIMED_OUT,
    WAITING,
)
from singlerun.timings import KILL_AFTER, LONGEST_NAP, LOOK, RECORDING, SHORTEST_NAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Collection

    from singlerun.store.base import Store
    from singlerun.store.run import Run
else:
    import _signal

STOPPED_NOW, HAD_ENDED, UNSTOPPABLE = "stopped", "ended by itself", "could not be stopped"


def stop(
    store: "Store", run: "Run", detail: str, kill_after: float = KILL_AFTER,
    number: int = _signal.SIGTERM,
) -> str:  # fmt: skip
    """Stop a run: a signal, SIGKILL after the grace period; return which of the above it became.

    A signal that asks a wrapper to end goes to it, any other to what it has started.

    Nothing is touched that can't be judged from here (another host or PID namespace), and what may
    not be signalled is left.
    """
    attempt = _Attempt(store, run, number)
    if not store.ask_to_end(run, detail, attempt.begin):
        return HAD_ENDED
    if not attempt.was_allowed:
        return UNSTOPPABLE
    if not attempt.finish(kill_after):
        store.take_back(run)
        return UNSTOPPABLE
    _close(store, run)
    return STOPPED_NOW


def is_over(store: "Store", run: "Run") -> bool:
    """Return whether the end of a run is recorded; not if that can't be told."""
    try:
        now = store.find(run.id or 0)
    except RecordError:
        return False
    return now is not None and now.asked_ns == run.asked_ns and now.ended_ns is not None


def kill_survivors(run: "Run", grace: float = KILL_AFTER, number: int = _signal.SIGTERM) -> bool:
    """End what is left of a run; return whether all of it ended."""
    targets = termination.Targets(lambda: _survivors(run))
    try:
        return termination.terminate(targets.send, targets.await_end, grace, number=number)
    except PermissionError:
        return False


def await_end(store: "Store", run: "Run", deadline: float | None) -> "Run | None":
    """Sleep until a run has ended; return it as it is then, None if the deadline came first.

    A run whose processes died without recording its end is returned as lost. ``deadline`` is by
    time.monotonic. Raises RecordError if the record can't be read.
    """
    nap = SHORTEST_NAP
    while run.ended_ns is None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return None
        (verdict,) = judge.look_at(store, [run])
        run, pids = verdict.run, verdict.pids
        if verdict.state == judge.ZOMBIE:
            run.apply({"state": LOST})
            return run
        if verdict.state == SUCCEEDED:  # not recorded before another run takes the lock
            run.apply(run.is_closed(SUCCEEDED, RELEASED))
            return run
        pause = nap if left is None else min(nap, left)
        if pids and run.command and pids[0] == run.command.pid != run.wrapper_pid:
            procfs.await_end(pids, left)
            nap = SHORTEST_NAP
        else:
            # Only its wrapper is there, which can outlive the run (it waits, records the end,
            # lingers, tries again, calls hooks), or a program that holds a name for a while.
            if pids:
                procfs.await_end(pids[-1:], pause)
            else:
                time.sleep(pause)
            nap = min(2 * nap, LONGEST_NAP)
        run = store.find(run.id or 0) or run
    return run


def exit_status_of(run: "Run") -> int:
    """Return the exit status of a run that has ended; 125 if its end was not recorded."""
    if run.state in {REFUSED, SKIPPED}:
        return 75 if run.state == REFUSED else 0
    if run.state in {SUCCEEDED, TIMED_OUT}:
        return 0 if run.state == SUCCEEDED else 124
    if run.signal is not None:
        return 128 + run.signal
    return 125 if run.exit_code is None else run.exit_code


class _Attempt:
    """Stopping one run."""

    def __init__(self, store: "Store", run: "Run", number: int = _signal.SIGTERM) -> None:
        self._store = store
        self._run = run
        self._number = number
        # Whether its processes can be seen from here, and may be signalled.
        self.was_allowed = life(run.wrapper) != UNKNOWN
        # Looked for beforehand: begin() keeps the store to itself.
        first = self._first() if self.was_allowed else ()
        self._started = {pid: start_time(pid) for pid in first}

    def begin(self) -> bool:
        """Signal the processes that it is for; return whether that was allowed."""
        try:
            termination.send_each(
                self._started,
                (self._number, _signal.SIGCONT),  # a stopped process must go on to end
                lambda pids: {pid for pid in pids if start_time(pid) == self._started[pid]},
            )
        except PermissionError:
            self.was_allowed = False
        return self.was_allowed

    def finish(self, kill_after: float) -> bool:
        """Wait for the end, and bring it about; return whether it came."""
        run = self._run
        if self._has_wrapper():
            if not self._await(kill_after):
                # The wrapper's grace period may be longer than ours, and it may hang: then what it
                # has started goes first, and the wrapper last.
                _kill(lambda: _survivors(run) - {run.wrapper_pid})
                if not self._await(RECORDING):
                    _kill(lambda: {run.wrapper_pid} if self._has_wrapper() else set())
                    if not self._await(RECORDING):
                        return False
            if is_over(self._store, run):
                return True
        if run.state == WAITING:
            return True
        if run.job_id is not None and life(run.wrapper) == ALIVE:
            # A job is recorded as started a moment before there is a process of it.
            deadline = time.monotonic() + RECORDING
            while time.monotonic() <= deadline:
                if _survivors(run) or is_over(self._store, run):
                    break
                time.sleep(SHORTEST_NAP)
        return kill_survivors(run, kill_after, self._number)

    def _has_wrapper(self) -> bool:
        # A worker has more to do; the end of its command is all that is asked for.
        return life(self._run.wrapper) == ALIVE and self._run.job_id is None

    def _first(self) -> set[int]:
        """Return the processes that the signal is for."""
        run = self._run
        if not self._has_wrapper():
            return set() if run.state == WAITING else _survivors(run)
        # After --exec, and in a program that holds a name, what runs is the wrapper itself.
        itself = run.command_pid == run.wrapper_pid
        if not itself and self._number not in ENDING:
            if started := _survivors(run) - {run.wrapper_pid}:
                return started
            self._number = _signal.SIGTERM  # it waits, for its lock or to try again
        return {run.wrapper_pid} | (_survivors(run) if itself else set())

    def _await(self, seconds: float) -> bool:
        """Sleep until the wrapper has ended or the end is recorded; return whether so."""
        deadline = time.monotonic() + seconds
        while self._has_wrapper() and not is_over(self._store, self._run):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            procfs.await_end([self._run.wrapper_pid], min(left, LOOK))
        return True


def _survivors(run: "Run") -> set[int]:
    """Return what is left of a run, and the process group of its command."""
    snapshot = procfs.Snapshot()
    found = set(judge.survivors(run, snapshot))
    if run.command_pid is not None and run.command_pid in found:
        found.update(snapshot.group(run.command_pid), snapshot.descendants([run.command_pid]))
    return found


def _close(store: "Store", run: "Run") -> None:
    """Close the record of a run that was stopped, unless its wrapper did."""
    now = store.find(run.id or 0)
    if now is not None and now.ended_ns is None and life(now.wrapper) == DEAD:
        store.close_run(now, STOPPED, now.detail or "stopped")


def _kill(find: "Callable[[], Collection[int]]") -> None:
    try:
        termination.Targets(find).send(_signal.SIGKILL)
    except PermissionError:
        pass
