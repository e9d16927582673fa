"""Taking the place of a lock's holder: ``--replace``.

A replacer stands in line like all other waiters, and stops no run before it is at the front, so
that replacers follow each other in the order in which they came. It stops the run that the record
names as the holder, by its recorded identity; a stranger, such as flock(1) on the same file, is
left alone.
"""

import os
import time

from singlerun.errors import RecordError
from singlerun.ownership import judge, stop
from singlerun.process import block
from singlerun.render.refusal import by_us
from singlerun.timings import STRANGER_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lifecycle import Lifecycle
    from singlerun.ownership.judge import Living
    from singlerun.process.signals import Signals
    from singlerun.store.base import Store
    from singlerun.store.run import Run


class Replacement:
    """A run that takes the place of others; ``has_failed`` if one of them could not be stopped.

    Its verbs raise block.InterruptedWaitError if a signal comes first.
    """

    def __init__(self, life: "Lifecycle", signals: "Signals") -> None:
        self._life = life
        self._spec = life.spec
        self._signals = signals
        self.has_failed = False

    def take(self, deadline: float | None) -> bool:
        """Take the locks, stopping their holders; return whether they are ours then.

        ``deadline`` (time.monotonic) is for a holder that isn't known yet. One that was signalled
        is awaited and killed in any case, so that no holder is half replaced.
        """
        locks = self._life.locks
        patience = time.monotonic() + STRANGER_AFTER
        while not locks.try_take_as_first():
            holders = self._life.recorder.attempt(self._holders, [])
            if holders:
                if not self.end(holders):
                    locks.abandon()
                    return False
                patience = time.monotonic() + STRANGER_AFTER
            elif time.monotonic() > min(patience, deadline or patience):
                self.has_failed = True
                locks.abandon()
                return False
            # Between taking a lock and recording that there is a moment; a stranger stays.
            elif number := self._signals.sleep(0.01):
                locks.abandon()
                raise block.InterruptedWaitError(number)
        return True

    def end(self, holders: "Living") -> bool:
        """Stop these runs; return whether they have ended."""
        if self._spec.slots:  # of those that hold the other slots the oldest must go
            spared = [holder for holder in holders if self._is_fellow(holder[0])][1:]
            holders = [holder for holder in holders if holder not in spared]
        self.has_failed = not all(run is not None and self._stop(run) for run, _ in holders)
        return not self.has_failed

    def _stop(self, run: "Run") -> bool:
        spec, recorder = self._spec, self._life.recorder
        store = recorder.another()  # made here, connected in the thread that uses it
        if store is None:
            return False
        detail = by_us(f"replaced by run {self._life.run.id}, PID {os.getpid()}")
        became: list[str] = []
        try:
            block.call(
                lambda: became.append(stop.stop(store, run, detail, spec.kill_after, spec.signal)),
                self._signals.ending_watched, None,
            )  # fmt: skip
        except block.InterruptedWaitError:
            self._life.locks.abandon()
            raise
        except RecordError as error:
            recorder.failed(error)
        return became not in ([], [stop.UNSTOPPABLE])

    def _holders(self, store: "Store") -> "Living":
        """Return the runs that keep this one from its lock, as far as the record tells."""
        holders: Living = [
            (run, []) for run in store.open_runs(self._spec.names, self._spec.lock_file)
            if run.id != self._life.run.id and judge.is_holding(run, self._life.locks.paths)
        ]  # fmt: skip
        others = [holder for holder in holders if not self._is_fellow(holder[0])]
        return others or (holders if self._spec.slots else [])

    def _is_fellow(self, run: "Run | None") -> bool:
        """Return whether a run shares the lock with ours: readers do, and so do slots."""
        if run is None or not (run.shared and self._life.run.shared):
            return False
        return bool(run.slots) == bool(self._spec.slots)
