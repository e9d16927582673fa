"""Taking the place of whoever holds a lock: ``--replace``.

To be done at the front of the line. What is ended is the run that the record names as the holder,
by its recorded identity; a stranger, such as flock(1) on the same file, is left alone.
"""

import os
import time

from singlerun import ending, processes, reaper
from singlerun.lock.wait import InterruptedWaitError
from singlerun.store.base import RUNNING, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from singlerun.job import Job
    from singlerun.lock import Hold
    from singlerun.reaper import Living
    from singlerun.recorder import Recorder
    from singlerun.signals import Signals
    from singlerun.store.base import Run, Store

STRANGER_AFTER = 2.0
"""Seconds after which a holder that the record doesn't know is not one that has just begun."""


class Replacement:
    """A run that takes the place of others."""

    def __init__(
        self,
        job: "Job",
        this: "Run",
        hold: "Hold",
        recorder: "Recorder",
        *,
        signals: "Signals",
        wait: "Callable[[Callable[[], object]], bool]",
    ) -> None:
        """``wait`` makes a call that blocks, and tells whether it ended in time."""
        self._job = job
        self._run = this
        self._hold = hold
        self._recorder = recorder
        self._signals = signals
        self._wait = wait

    def take(self) -> bool:
        """Take the lock, ending whoever holds it; tell whether it is ours then.

        Raises:
            InterruptedWaitError: a signal came first.
        """
        seen = time.monotonic()
        while not self._hold.try_take_as_first():
            holders = self._recorder.attempt(self._holders, [])
            if holders:
                if not self.end(holders):
                    self._hold.abandon()
                    return False
                seen = time.monotonic()
            elif time.monotonic() > seen + STRANGER_AFTER:
                self._hold.abandon()
                return False
            # Between the taking of a lock and its record there is a moment; a stranger stays.
            elif number := self._signals.sleep(0.01):
                self._hold.abandon()
                raise InterruptedWaitError(number)
        return True

    def end(self, holders: "Living") -> bool:
        """End these runs; tell whether they have ended."""
        return all(run is not None and self._end(run) for run, _ in holders)

    def _end(self, run: "Run") -> bool:
        detail = ending.by_whom(f"replaced by run {self._run.id}, PID {os.getpid()}")
        self._recorder.attempt(lambda store: store.ask_to_end(run, detail), None)
        ended: list[bool] = []
        if not self._wait(lambda: ended.append(ending.end(run, self._job.kill_after))):
            return False
        self._recorder.attempt(lambda store: ending.close(store, run), None)
        return ended[0]

    def _holders(self, store: "Store") -> "Living":
        """Give the runs that keep this job from its lock, as far as the record tells."""
        found: Living = []
        fellows: Living = []
        holding = {pid for path in self._hold.paths for pid in processes.holding(path)}
        for run in store.open_runs(self._job.names, self._job.lock_file):
            if run.id == self._run.id:
                continue
            state, pids = reaper.state_of(run)
            # Between two tries a run is recorded as waiting, and holds the lock.
            between = state == WAITING and run.wrapper_pid in holding
            if state in {RUNNING, reaper.ORPHAN} or between:
                fellow = (
                    run.shared and self._run.shared and bool(run.slots) == bool(self._job.slots)
                )
                (fellows if fellow else found).append((run, pids))
        # Of those who have the other slots the oldest must go.
        return found or (fellows[:1] if self._job.slots else [])
