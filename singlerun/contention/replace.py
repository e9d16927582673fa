"""Taking the place of whoever holds a lock: ``--replace``.

To be done at the front of the line. What is ended is the run that the record names as the holder,
by its recorded identity; a stranger, such as flock(1) on the same file, is left alone.
"""

import os
import time

from singlerun.ownership import stop
from singlerun.ownership.holder import is_holding
from singlerun.process import block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock import Hold
    from singlerun.ownership.reaper import Living
    from singlerun.process.signals import Signals
    from singlerun.recorder import Recorder
    from singlerun.spec import RunSpec
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
        job: "RunSpec",
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
                raise block.InterruptedWaitError(number)
        return True

    def end(self, holders: "Living") -> bool:
        """End these runs; tell whether they have ended.

        Raises:
            InterruptedWaitError: a signal came first.
        """
        if self._job.slots:  # of those who have the other slots the oldest must go
            spared = [holder for holder in holders if self._is_fellow(holder[0])][1:]
            holders = [holder for holder in holders if holder not in spared]
        self.has_failed = not all(run is not None and self._end(run) for run, _ in holders)
        return not self.has_failed

    def _end(self, run: "Run") -> bool:
        detail = stop.by_whom(f"replaced by run {self._run.id}, PID {os.getpid()}")
        asked = self._recorder.attempt(lambda store: store.ask_to_end(run, detail), None)
        if asked is False:
            return True  # it has ended by itself, and whatever its process does now is not ours
        ended: list[bool] = []
        store = self._recorder.another()  # made here, connected in the thread that uses it
        try:
            block.call(
                lambda: ended.append(
                    stop.end(
                        run,
                        self._job.kill_after,
                        lambda: store is not None and stop.is_over(store, run),
                    )
                ),
                self._signals.ending_watched,
                None,
            )
        except block.InterruptedWaitError:
            self._hold.abandon()
            raise
        if not ended[0]:
            self._recorder.attempt(lambda store: store.ask_to_end(run, None), None)
        self._recorder.attempt(lambda store: stop.close(store, run), None)
        return ended[0]

    def _holders(self, store: "Store") -> "Living":
        """Give the runs that keep this job from its lock, as far as the record tells."""
        found: Living = []
        fellows: Living = []
        for run in store.open_runs(self._job.names, self._job.lock_file):
            if run.id == self._run.id:
                continue
            if is_holding(run, self._hold.paths):
                (fellows if self._is_fellow(run) else found).append((run, []))
        return found or (fellows if self._job.slots else [])

    def _is_fellow(self, run: "Run | None") -> bool:
        """Tell whether a run shares the lock with us: a reader with readers, a slot with slots."""
        if run is None or not (run.shared and self._run.shared):
            return False
        return bool(run.slots) == bool(self._job.slots)
