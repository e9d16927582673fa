"""What a job does when its lock is held: wait, refuse, or skip.

Two things can hold a name. One is the kernel lock. The other is a run whose lock was taken from it:
its wrapper was killed and its command had closed the descriptor, or the lock file was deleted under
it. The record knows those, so the lock alone is not enough to start.
"""

import time

from singlerun import reaper
from singlerun.holder import find
from singlerun.lock import wait
from singlerun.owner import DEAD, life
from singlerun.render import refusal
from singlerun.render.line import say
from singlerun.render.text import names
from singlerun.store.base import REFUSED, SKIPPED, STOPPED, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from singlerun.child import Signals
    from singlerun.job import Job
    from singlerun.lock import Hold
    from singlerun.recorder import Recorder
    from singlerun.store.sqlite import SqliteStore

    Living = list[tuple[Run | None, list[int]]]


class Conflict:
    """A job, and the lock that it did not get at the first try, or not for itself alone."""

    def __init__(
        self, job: "Job", this: Run, hold: "Hold", recorder: "Recorder", signals: "Signals"
    ) -> None:
        self._job = job
        self._run = this
        self._hold = hold
        self._recorder = recorder
        self._signals = signals
        self._begun = time.monotonic()
        endless = job.wait_for == float("inf")
        self._deadline = None if endless else self._begun + job.wait_for

    def meet(self) -> int | None:
        """Do what the job asks for; None if the lock is held in the end, else the exit status."""
        try:
            while self._take():
                living = living_owners(self._job, self._hold, self._recorder)
                if not living:
                    return None
                if not self._await(living):
                    self._hold.free()
                    return self._refuse(living)
            return self._refuse([])
        except wait.InterruptedWaitError as interrupted:
            return stop_run(self._run, self._recorder, interrupted.args[0])

    def _take(self) -> bool:
        # Who only looks whether a lock is free (is-running, reap) takes it for a moment, and only
        # while it keeps the store to itself. So nobody is refused because of a look.
        def try_again(store: "SqliteStore") -> bool:
            with store.exclusively():
                return self._hold.try_in_turn()

        taken = self._recorder.attempt(try_again, None)
        if taken is None:
            taken = self._hold.try_in_turn()
        if taken or not self._job.wait_for:
            return taken
        taken = self._wait(self._hold.take)
        if self._hold.out_of_line:
            say(f"waited without a place in line: {self._hold.out_of_line}")
        return taken

    def _await(self, living: "Living") -> bool:
        if not self._job.wait_for:
            return False
        return self._wait(lambda: reaper.await_ends(living))

    def _wait(self, block: "Callable[[], object]") -> bool:
        """Make a call that blocks; tell whether it ended before the deadline."""
        if self._run.id is None:
            self._recorder.attempt(lambda store: store.wait_run(self._run), None)
            if self._job.verbose:
                say(f"waiting for {names(self._job.names)}")
        self._signals.admit_stops()
        try:
            ended = wait.call(block, self._signals.ending_watched, self._deadline)
        except wait.InterruptedWaitError:
            self._hold.abandon()
            raise
        finally:
            self._signals.defer_stops()
        if not ended:
            self._hold.abandon()
        return ended

    def _refuse(self, living: "Living") -> int:
        this, job = self._run, self._job
        if not living:
            former = self._recorder.attempt(
                lambda store: store.open_runs(job.names, job.lock_file), []
            )
            living = [find(former, self._hold.paths)]
        holder, pids = living[0]
        held = this.names
        usual = None
        if holder is not None:
            held = tuple(name for name in this.names if name in holder.names) or this.names
            name = held[0]
            usual = self._recorder.attempt(lambda store: store.usual_ns(name), None)
            this.conflict_id = holder.id
        by = refusal.holder(pids, holder, usual)
        this.detail = f"held by {by}"
        state = SKIPPED if job.skip else REFUSED
        self._recorder.attempt(lambda store: store.refuse_run(this, state), None)
        if not (job.skip or job.quiet):
            waited = time.monotonic() - self._begun if job.wait_for else None
            orphan = holder is not None and life(holder.wrapper) == DEAD
            say(refusal.refusal(held, by, waited=waited, orphan=orphan))
        return job.conflict_status


def living_owners(job: "Job", hold: "Hold", recorder: "Recorder") -> "Living":
    """Give those who own a lock that we have taken; closes the records of those who don't.

    Nearly always there is no former run that was left open, and this costs one query.
    """
    former = recorder.attempt(lambda store: store.open_runs(job.names, job.lock_file), [])
    living: Living = []
    if former:
        living += recorder.attempt(
            lambda store: reaper.settle(store, former, shared=job.shared), []
        )
    created = hold.created
    if created:
        # No lock file and a new store: the state directory may have been deleted under a holder.
        young = recorder.attempt(lambda store: store.is_young(), otherwise=True)
        living += [(None, [pid]) for pid in reaper.deleted_holders(created)] if young else []
    return living


def stop_run(this: Run, recorder: "Recorder", number: int) -> int:
    """Record that a signal came before the command was started; give the exit status."""
    this.signal = number
    this.detail = "stopped before it started"
    recorder.attempt(lambda store: store.refuse_run(this, STOPPED), None)
    return 128 + number
