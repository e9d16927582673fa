"""Taking the place of whoever holds a lock: ``--replace``.

To be done at the front of the line. What is ended is the run that the record names as the holder,
by its recorded identity; a stranger, such as flock(1) on the same file, is left alone.
"""

import os
import time

from singlerun import ending
from singlerun.holder import is_holding
from singlerun.lock import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.job import Job
    from singlerun.lock import Hold
    from singlerun.reaper import Living
    from singlerun.recorder import Recorder
    from singlerun.signals import Signals
    from singlerun.store.base import Run, Store

STRANGER_AFTER = 2.0
"""Seconds after which a holder that the record doesn't know is not one that has just begun."""


class Replacement:
    """A run that takes the place of others.

    Attributes:
        has_failed: whether there was somebody who could not be ended.
    """

    def __init__(
        self,
        job: "Job",
        this: "Run",
        hold: "Hold",
        recorder: "Recorder",
        signals: "Signals",
    ) -> None:
        self._job = job
        self._run = this
        self._hold = hold
        self._recorder = recorder
        self._signals = signals
        self.has_failed = False

    def take(self, deadline: float | None) -> bool:
        """Take the lock, ending whoever holds it; tell whether it is ours then.

        ``deadline`` (time.monotonic) is for who can't be told yet. Who was asked to end is awaited
        and killed in any case, so that nobody is half replaced.

        Raises:
            InterruptedWaitError: a signal came first.
        """
        patience = time.monotonic() + STRANGER_AFTER
        while not self._hold.try_take_as_first():
            holders = self._recorder.attempt(self._holders, [])
            if holders:
                if not self.end(holders):
                    self._hold.abandon()
                    return False
                patience = time.monotonic() + STRANGER_AFTER
            elif time.monotonic() > min(patience, deadline or patience):
                self.has_failed = True
                self._hold.abandon()
                return False
            # Between the taking of a lock and its record there is a moment; a stranger stays.
            elif number := self._signals.sleep(0.01):
                self._hold.abandon()
                raise wait.InterruptedWaitError(number)
        return True

    def end(self, holders: "Living") -> bool:
        """End these runs; tell whether they have ended.

        Raises:
            InterruptedWaitError: a signal came first.
        """
        self.has_failed = not all(run is not None and self._end(run) for run, _ in holders)
        return not self.has_failed

    def _end(self, run: "Run") -> bool:
        what = f"replaced by run {self._run.id}, PID {os.getpid()}"
        self._recorder.attempt(lambda store: ending.ask(store, run, what), None)
        ended: list[bool] = []
        try:
            wait.call(
                lambda: ended.append(ending.end(run, self._job.kill_after)),
                self._signals.ending_watched,
                None,
            )
        except wait.InterruptedWaitError:
            self._hold.abandon()
            raise
        self._recorder.attempt(lambda store: ending.close(store, run), None)
        return ended[0]

    def _holders(self, store: "Store") -> "Living":
        """Give the runs that keep this job from its lock, as far as the record tells."""
        found: Living = []
        fellows: Living = []
        for run in store.open_runs(self._job.names, self._job.lock_file):
            if run.id == self._run.id:
                continue
            if is_holding(run, self._hold.paths):
                fellow = (
                    run.shared and self._run.shared and bool(run.slots) == bool(self._job.slots)
                )
                (fellows if fellow else found).append((run, []))
        # Of those who have the other slots the oldest must go.
        return found or (fellows[:1] if self._job.slots else [])
