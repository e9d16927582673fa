"""What a job does when its lock is held: wait, refuse, skip, or replace who holds it.

Two things can hold a name. One is the kernel lock. The other is a run whose lock was taken from it:
its wrapper was killed and its command had closed the descriptor, or the lock file was deleted under
it. The record knows those, so the lock alone is not enough to start.

Who replaces stands in line like all others, and ends nobody before it is at the front: so each is
replaced by the next, and none that came later gets in before one that came first.
"""

import os
import time

from singlerun.errors import HeldError
from singlerun.lock import OccupiedError
from singlerun.ownership import reaper
from singlerun.ownership.holder import find, unseen
from singlerun.process import block, procfs
from singlerun.process.identity import DEAD, life
from singlerun.render import refusal
from singlerun.render.line import say
from singlerun.render.text import names
from singlerun.store.base import REFUSED, RUNNING, SKIPPED, STOPPED, Run, marks_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from singlerun.lock import Hold
    from singlerun.ownership.reaper import Living
    from singlerun.process.signals import Signals
    from singlerun.recorder import Recorder
    from singlerun.render.waiting import WaitingLine
    from singlerun.spec import RunSpec
    from singlerun.store.base import Store
    from singlerun.store.sqlite import SqliteStore


DEEPEST = 100
"""Runs within runs that are looked at for one that would wait for itself."""


class _WouldWaitForItselfError(Exception):
    """The run that holds what this one would wait for is the one that started it."""


class Conflict:
    """A job, and the lock that it did not get at the first try, or not for itself alone."""

    def __init__(
        self, job: "RunSpec", this: Run, hold: "Hold", recorder: "Recorder", signals: "Signals"
    ) -> None:
        self._job = job
        self._run = this
        self._hold = hold
        self._recorder = recorder
        self._signals = signals
        self._begun = time.monotonic()
        if job.replace:
            from singlerun.contention.replace import Replacement  # noqa: PLC0415 - unusual

            self._replacement = Replacement(job, this, hold, recorder, signals)
        endless = job.wait_for == float("inf")
        self._deadline = None if endless else self._begun + job.wait_for

    def meet(self) -> int | None:
        """Do what the job asks for; None if the lock is held in the end, else the exit status."""
        try:
            while self._take():
                living = living_owners(self._job, self._hold, self._recorder)
                if not living:
                    return None
                if not self._outlive(living):
                    self._hold.abandon()
                    return self._refuse(living)
            return self._refuse([])
        except block.InterruptedWaitError as interrupted:
            return stop_run(self._run, self._recorder, interrupted.args[0])
        except _WouldWaitForItselfError as error:
            self._hold.free()
            return self._refuse([(error.args[0], [error.args[0].wrapper_pid])], nested=True)
        except OccupiedError:
            return self._coalesce()

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
        if self._job.replace:
            taken = self._wait(self._hold.stand_in_line) and self._replacement.take(self._deadline)
        else:
            only_one = self._job.coalesce
            taken = self._wait(lambda: self._hold.take(unless_occupied=only_one))
        if self._hold.out_of_line:
            say(f"waited without a place in line: {self._hold.out_of_line}")
        return taken

    def _outlive(self, living: "Living") -> bool:
        """Wait for the end of those who own our lock, or bring it about; tell whether it came."""
        if self._job.replace:
            return self._replacement.end(living)
        if not self._job.wait_for or not all(pids for _, pids in living):
            return False
        run, pids = living[0]
        if run is not None and life(run.wrapper) == DEAD and not self._job.quiet:
            # Nobody is there who would end it: whoever waits should know.
            by = refusal.holder(pids, run, None)
            say(refusal.refusal(self._job.names, by, waited=None, orphan=True))
        if self._job.slots:
            return self._wait(lambda: reaper.await_one(living))
        return self._wait(lambda: reaper.await_ends(living))

    def _wait(self, call: "Callable[[], object]") -> bool:
        """Make a call that blocks; tell whether it ended before the deadline."""
        ancestor = self._recorder.attempt(
            lambda store: holding_ancestor(self._job, store, marks_of(os.environb)), None
        )
        if ancestor is not None:
            raise _WouldWaitForItselfError(ancestor)
        if self._run.id is None:
            self._recorder.attempt(lambda store: store.wait_run(self._run), None)
            if self._job.verbose:
                say(f"waiting for {names(self._job.names)}")
        self._signals.admit_stops()
        line = None if self._job.quiet else self._waiting_line()
        tick = None if line is None else lambda: self._draw(line)
        try:
            ended = block.call(call, self._signals.ending_watched, self._deadline, tick)
        except block.InterruptedWaitError:
            self._hold.abandon()
            raise
        finally:
            if line is not None:
                line.erase()
            self._signals.defer_stops()
        if not ended:
            self._hold.abandon()  # before anything is said: that may take its time
        return ended

    def _waiting_line(self) -> "WaitingLine | None":
        if not os.isatty(2):
            return None
        from singlerun.render.waiting import WaitingLine  # noqa: PLC0415 - for people only

        return WaitingLine(self._job.names)

    def _draw(self, line: "WaitingLine") -> None:
        job, hold = self._job, self._hold

        def look(store: "SqliteStore") -> "tuple[Run | None, list[int], int | None]":
            run, pids = find(store.open_runs(job.names, job.lock_file), hold.paths)
            if run is None:
                return None, pids, None
            name = next((name for name in job.names if name in run.names), run.names[0])
            return run, pids, store.usual_ns(name, run.argv)

        run, pids, usual_ns = self._recorder.attempt(look, (None, [], None))
        line.draw(pids, run, usual_ns, hold.place)

    def _coalesce(self) -> int:
        self._run.detail = "somebody waited already"
        self._recorder.refuse(self._run, SKIPPED)
        return 0

    def _refuse(self, living: "Living", *, nested: bool = False) -> int:
        job = self._job
        waited = time.monotonic() - self._begun if job.wait_for else None
        stays = job.replace and self._replacement.has_failed
        error = refused(
            job, self._run, self._hold, self._recorder, living,
            waited=waited, nested=nested, stays=stays,
        )  # fmt: skip
        if job.raises and not job.skip:
            raise error
        if job.verbose or not (job.skip or job.quiet):
            say(str(error))
        return job.conflict_status


def refused(
    job: "RunSpec",
    this: Run,
    hold: "Hold",
    recorder: "Recorder",
    living: "Living",
    *,
    waited: float | None,
    nested: bool = False,
    stays: bool = False,
) -> HeldError:
    """Record that a job is refused; give what there is to say about it.

    ``living`` are those who hold the lock, where that is known already, and ``waited`` the seconds
    for which the job stood in line; ``nested`` if it would wait for itself; ``stays`` if the holder
    was to be replaced and could not be.
    """
    if not living:
        former = recorder.attempt(lambda store: store.open_runs(job.names, job.lock_file), [])
        living = [find(former, hold.paths)]
    run, pids = living[0]
    held = this.names
    usual = None
    if run is not None:
        held = tuple(name for name in this.names if name in run.names) or this.names
        name, argv = held[0], run.argv
        usual = recorder.attempt(lambda store: store.usual_ns(name, argv), None)
        this.conflict_id = run.id
    by = refusal.holder(pids, run, usual)
    if not pids and (claim := unseen(hold.paths)) is not None:
        by = refusal.unseen(claim)
    this.detail = f"held by {by}"
    recorder.refuse(this, SKIPPED if job.skip else REFUSED)
    if nested:
        message = refusal.nested(held, by)
    elif stays:
        message = refusal.irreplaceable(held, by, stranger=run is None)
    else:
        orphan = run is not None and life(run.wrapper) == DEAD
        how = "wait=True" if job.raises else "--wait"
        message = refusal.refusal(held, by, waited=waited, orphan=orphan, slots=job.slots, how=how)
    uid = procfs.user_of(pids[0]) if pids else None
    uid = run.uid if uid is None and run is not None else uid
    return HeldError(
        message,
        names=tuple(os.fsdecode(name) for name in held),
        pids=tuple(pids),
        run_id=None if run is None else run.id,
        user=None if uid is None else refusal.user_name(uid),
        since=None if run is None or run.started_ns is None else run.started_ns / 1e9,
        waited=waited,
    )


def holding_ancestor(job: "RunSpec", store: "Store", marks: tuple[int, int] | None) -> Run | None:
    """Find the run inside which this one was started and which holds what it would wait for.

    The marks in an environment may be stale, so a run counts only if the record has it as open,
    with that token.
    """
    above = store.find(marks[0]) if marks else None
    if above is None or marks is None or above.token != marks[1]:
        return None
    for _ in range(DEEPEST):
        same = above.lock_file == job.lock_file and (
            job.lock_file is not None or set(above.names) & set(job.names)
        )
        # Also one that shares it: somebody else may be before us, and wait for that one.
        if above.state == RUNNING and same:
            return above
        above = store.find(above.parent_id) if above.parent_id is not None else None
        if above is None:
            return None
    return None


def living_owners(job: "RunSpec", hold: "Hold", recorder: "Recorder") -> "Living":
    """Give those who own a lock that we have taken; closes the records of those who don't.

    Nearly always there is no former run that was left open, and this costs one query.
    """
    former = recorder.attempt(lambda store: store.open_runs(job.names, job.lock_file), [])
    living: Living = []
    created = hold.created
    if former:
        living += recorder.attempt(
            lambda store: reaper.settle(
                store,
                former,
                shared=job.shared or bool(job.slots),
                proven=not created,
                slots=job.slots,
            ),
            [],
        )
    if created:
        # No lock file and a new store: the state directory may have been deleted under a holder.
        young = recorder.attempt(lambda store: store.is_young(), otherwise=True)
        living += [(None, [pid]) for pid in reaper.deleted_holders(created)] if young else []
    return living


def start_in_slot(
    job: "RunSpec",
    this: Run,
    hold: "Hold",
    recorder: "Recorder",
    parent: tuple[int, int] | None,
    *,
    heed_pause: bool = True,
) -> bool:
    """Record the start of a run that has a slot, unless as many live as there are slots.

    Of those who live one may have lost its slot (living_owners). So who finds room beside it must
    be seen, by the next who looks, from that very moment.

    Raises:
        PausedError: its name is paused, and ``heed_pause`` is true.
    """
    if job.slots is None:
        recorder.start(this, parent, heed_pause=heed_pause)
        return True

    def start(store: "Store") -> bool:
        with store.exclusively():
            if living_owners(job, hold, recorder):
                return False
            recorder.start(this, parent, heed_pause=heed_pause)
            return True

    started = recorder.attempt(start, None)
    if started is None:  # there is no record: the slots alone count
        recorder.start(this, parent, heed_pause=heed_pause)
    return started is not False


def stop_run(this: Run, recorder: "Recorder", number: int) -> int:
    """Record that a signal came before the command was started; give the exit status."""
    this.signal = number
    this.detail = "stopped before it started"
    recorder.refuse(this, STOPPED)
    return 128 + number
