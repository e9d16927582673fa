"""A lock that was not free at the first try: wait for it, replace its holder, or be refused.

Two things can hold a name: the kernel lock, and a run that has lost it (judge.py), which the record
knows. So the lock alone is not enough to start.
"""

import os
import time

from singlerun.errors import HeldError
from singlerun.lifecycle import RefusedError
from singlerun.lock import OccupiedError
from singlerun.ownership import holder
from singlerun.process import procfs
from singlerun.process.identity import DEAD, life
from singlerun.render import refusal
from singlerun.render.text import names as shown_names
from singlerun.store.run import REFUSED, RUNNING, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lifecycle import Lifecycle
    from singlerun.ownership.judge import Living
    from singlerun.process.marks import Marks
    from singlerun.spec import RunSpec
    from singlerun.store.base import Store
    from singlerun.store.run import Run

DEEPEST = 100
"""Runs within runs that are looked at for one that would wait for itself."""


class Waiter:
    """How a program waits: the command line in threads, a Python program by a second process."""

    has_failed = False
    """Whether there was a holder to replace that could not be stopped."""

    def take(self, deadline: float | None) -> bool:
        """Wait in line and take the locks; return whether that was before the deadline.

        Raises OccupiedError if another process waits already, and the spec wants only one to.
        """
        raise NotImplementedError

    def outlive(self, living: "Living", deadline: float | None) -> bool:
        """Wait for the end of runs that own our locks still; return whether it came in time."""
        raise NotImplementedError

    def outer(self) -> "Run | None":
        """Return the run of this very program that holds what it would wait for."""
        return None


class Conflict:
    """A lifecycle that did not acquire its locks at the first try, or not for itself alone."""

    def __init__(self, life_: "Lifecycle", waiter: Waiter) -> None:
        self._life = life_
        self._spec = life_.spec
        self._waiter = waiter
        self._begun = time.monotonic()
        endless = self._spec.wait_for == float("inf")
        self._deadline = None if endless else self._begun + self._spec.wait_for

    def resolve(self) -> None:
        """Acquire the locks, waiting or replacing if the spec says so.

        Raises RefusedError if they are still held; that is recorded.
        """
        try:
            while self._take():
                living = self._life.former_owners()
                if not living:
                    return
                if not self._outlive(living):
                    self._life.locks.abandon()
                    raise self._refused(living)
            raise self._refused([])
        except OccupiedError:
            self._life.recorder.refuse(self._life.run, SKIPPED, "another run waited already")
            raise RefusedError(None) from None

    def _take(self) -> bool:
        life_ = self._life
        if life_.try_in_turn():
            return True
        if not self._spec.wait_for:
            return False
        self._begin_to_wait()
        taken = self._waiter.take(self._deadline)
        if life_.locks.out_of_line:
            life_.recorder.tell(f"waited without a place in line: {life_.locks.out_of_line}")
        return taken

    def _outlive(self, living: "Living") -> bool:
        """Wait for the end of the runs that own our locks still, or bring it about."""
        spec = self._spec
        pids = [pid for _, found in living for pid in found]
        # Of this very process no end can be awaited.
        awaitable = all(found for _, found in living) and os.getpid() not in pids
        if not spec.replace and not (spec.wait_for and awaitable):
            return False
        self._begin_to_wait()
        run, found = living[0]
        if run is not None and _is_orphan(run) and not (spec.quiet or spec.replace):
            # Nothing will end it by itself, perhaps: its waiter should know.
            by = refusal.holder(found, run, None)
            self._life.recorder.tell(refusal.refusal(spec.names, by, waited=None, orphan=True))
        return self._waiter.outlive(living, self._deadline)

    def _begin_to_wait(self) -> None:
        """Record that the run waits, unless it would wait for itself."""
        life_ = self._life
        outer = self._waiter.outer() or life_.recorder.attempt(
            lambda store: _holding_ancestor(self._spec, store, life_.parent), None
        )
        if outer is not None:
            life_.locks.free()
            raise self._refused([(outer, [outer.wrapper_pid])], nested=True)
        if life_.run.id is None:
            life_.recorder.wait(life_.run)
            if self._spec.verbose:
                life_.recorder.tell(f"waiting for {shown_names(self._spec.names)}")

    def _refused(self, living: "Living", *, nested: bool = False) -> RefusedError:
        """Record that the run is refused; return what there is to say about it.

        ``living`` are the holders, where they are known already; ``nested`` if the run would wait
        for itself.
        """
        spec, this, recorder = self._spec, self._life.run, self._life.recorder
        paths = self._life.locks.paths
        waited = time.monotonic() - self._begun if spec.wait_for else None
        if not living:
            living = holder.find_all(self._life.former_runs(), paths)
        run, pids = living[0]
        held, usual, stop = this.names, None, ""
        if run is not None:
            held = tuple(name for name in this.names if name in run.names) or this.names
            name, argv = held[0], run.argv
            usual = recorder.attempt(lambda store: store.usual_ns(name, argv), None)
            stop = refusal.to_stop(run, usual)
        by = refusal.holder(pids, run, usual, count=len(living))
        if not pids and (claim := holder.unseen(paths)) is not None:
            by = refusal.unseen(claim)
        state = SKIPPED if spec.skip else REFUSED
        recorder.refuse(this, state, f"held by {by}", conflict_id=None if run is None else run.id)
        if nested:
            message = refusal.nested(held, by)
        elif spec.replace and self._waiter.has_failed:
            message = refusal.irreplaceable(held, by, stranger=run is None)
        else:
            message = refusal.refusal(
                held, by, waited=waited, orphan=run is not None and _is_orphan(run),
                slots=spec.slots, how=spec.wait_hint, stop=stop,
            )  # fmt: skip
        return RefusedError(_held_error(message, held, run, pids, waited))


def _is_orphan(run: "Run") -> bool:
    return run.fd is None and life(run.wrapper) == DEAD


def _held_error(
    message: str, held: tuple[bytes, ...], run: "Run | None", pids: list[int], waited: float | None
) -> HeldError:
    uid = procfs.user_of(pids[0]) if pids else None
    uid = run.uid if uid is None and run is not None else uid
    return HeldError(
        message, names=tuple(map(os.fsdecode, held)), pids=tuple(pids),
        run_id=None if run is None else run.id,
        user=None if uid is None else refusal.user_name(uid),
        since=None if run is None or run.started_ns is None else run.started_ns / 1e9,
        waited=waited,
    )  # fmt: skip


def _holding_ancestor(spec: "RunSpec", store: "Store", marks: "Marks | None") -> "Run | None":
    """Return the run inside which this one was started and which holds what it would wait for.

    The marks in an environment may be stale, so a run counts only if the record has it as open,
    with that token.
    """
    above = None if marks is None else store.find(marks.run_id or 0)
    if above is None or marks is None or above.token != marks.token:
        return None
    for _ in range(DEEPEST):
        # Also one that shares it: another waiter may be before us, and wait for that one.
        if above.state == RUNNING and excludes(above, spec):
            return above
        above = None if above.parent_id is None else store.find(above.parent_id)
        if above is None:
            break
    return None


def excludes(run: "Run", spec: "RunSpec") -> bool:
    """Return whether a run holds a name or the file that a spec wants."""
    if spec.lock_file is not None or run.lock_file is not None:
        return run.lock_file == spec.lock_file
    return bool(set(run.names) & set(spec.names))
