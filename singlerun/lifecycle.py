"""The life of a hold: acquired, begun, ended, released. Command, job and Python block all live it.

    acquire    the locks are ours, and nothing of a former owner lives
    begin      the start is recorded, and the lock files are still the ones at their paths
    bind       the command has started, or the block has: the locks are its own now
    end        its end is recorded
    release    the locks are free

The law: from bind() to end() nothing of ours frees, raises or exits. release() does nothing then;
an error while the command runs is told, and the command waited for all the same (watch()).
"""

import os
import time

from singlerun import lock
from singlerun.errors import HeldError, StateDirError, said
from singlerun.paths import StateDir, state_path
from singlerun.process import identity
from singlerun.process.marks import Marks
from singlerun.store.run import LOST, REFUSED, Ending, Run
from singlerun.timings import PRUNE_EVERY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from singlerun.outcome import Outcome
    from singlerun.ownership.judge import Living
    from singlerun.process.child import Child
    from singlerun.recorder import Recorder
    from singlerun.spec import RunSpec
    from singlerun.store.base import Store
    from singlerun.store.sqlite import SqliteStore


class LockLostError(Exception):
    """The lock file was deleted before the start was recorded: another may hold a new one."""


class CrowdedError(Exception):
    """Others have started since there was a free slot: as many live as there are slots."""


class RefusedError(Exception):
    """The run is not started, and that is recorded; ``held`` is what there is to say, or None."""

    def __init__(self, held: HeldError | None) -> None:
        super().__init__(held)
        self.held = held


class Lifecycle:
    """What one spec holds, from the first try to the release.

    Attributes:
        state: the state directory; None if it can't be used and the lock doesn't need it.
        locks: what is held.
        parent: the marks of the run inside which this one was asked for.
        run: the present try; a spec with retries has several.
        lost: former runs that were found dead, and closed as lost.
    """

    def __init__(self, spec: "RunSpec", recorder: "Recorder", parent: Marks | None) -> None:
        """Open what the spec needs.

        Raises SinglerunError if the lock can't be had at all, or a required record can't be kept.
        """
        self.spec, self.recorder, self.parent = spec, recorder, parent
        self.state = _open_state(spec, recorder)
        self.locks = _locks_of(spec, self.state)
        self.run = _new_run(spec)
        self.lost: list[Run] = []
        self._is_bound = False

    # -- acquire -----------------------------------------------------------------------------

    def acquire_at_once(self) -> bool:
        """Take locks that are free, if no former run of them was left open; return whether so."""
        if len(self.locks.paths) > 1:
            return False  # would hold some of them for a moment: only where that refuses no other
        if not self.locks.try_in_turn() or self.locks.created or self.locks.suspects:
            return False
        return not self.former_runs()

    def try_in_turn(self) -> bool:
        """Take locks that are free and that no other process waits for; return whether so.

        A process that only looks whether a lock is free (is-running, reap) takes it for a moment,
        and keeps the store to itself meanwhile. So no run is refused because of a look.
        """

        def try_again(store: "SqliteStore") -> bool:
            with store.exclusively():
                return self.locks.try_in_turn()

        taken = self.recorder.attempt(try_again, None)
        return self.locks.try_in_turn() if taken is None else taken

    def former_owners(self) -> "Living":
        """Return the runs that own our locks still, and close the records of those that don't.

        The lock alone does not tell: the wrapper may have been killed and the command have closed
        the descriptor, or the lock file may have been deleted. Nearly always no former run was left
        open, and this costs one query.
        """
        from singlerun.ownership import reaper  # noqa: PLC0415 - a lock that was free needs no look

        spec, attempt, created = self.spec, self.recorder.attempt, self.locks.created
        former = self.former_runs()
        living: Living = []
        if former:
            how = {"shared": spec.shared or bool(spec.slots), "proven": not created}
            living += attempt(
                lambda store: reaper.settle(store, former, **how, slots=spec.slots), []
            )
            self.lost += [run for run in former if run.state == LOST]
        if created:
            # No lock file, a new store: the state directory may have been deleted under a holder.
            young = attempt(lambda store: store.is_young(), otherwise=True)
            living += [(None, [pid]) for pid in reaper.deleted_holders(created)] if young else []
        paths = [] if spec.shared or spec.slots else [*created, *self.locks.suspects]
        if not living and paths:
            # Or moved; or the holder could not be recorded. Then only its marks name the lock.
            strays = attempt(lambda store: reaper.strays(store, paths), None)
            strays = reaper.strays(None, paths) if strays is None else strays
            living += [(None, [pid]) for pid in strays]
            if not living and self.locks.suspects:
                self.locks.suspect(suspected=False)
        return living

    def former_runs(self) -> list[Run]:
        """Return the runs of these locks whose end is not recorded."""
        names, file = self.spec.names, self.spec.lock_file
        return self.recorder.attempt(lambda store: store.open_runs(names, file), [])

    # -- begin -------------------------------------------------------------------------------

    def begin(self, *, heed_pause: bool = True) -> None:
        """Record that the run starts, durably against a crash of ours.

        Raises:
            PausedError: its name is paused, and ``heed_pause`` is true.
            CrowdedError, LockLostError: it must not start now; nothing is left of the attempt.
            RecordError: it can't be recorded, and a record is required.
        """
        if self.spec.slots is None:
            self.recorder.start(self.run, self.parent, heed_pause=heed_pause)
        else:
            self._begin_in_slot(heed_pause=heed_pause)
        if self.run.id is None:
            self.locks.suspect(suspected=True)
        if not self.is_current():
            self.recorder.refuse(self.run, REFUSED, LOCK_LOST)
            raise LockLostError

    def is_current(self) -> bool:
        """Return whether the files that we locked are still the ones at their paths.

        To be asked once the start is recorded: a process that takes a lock looks for open runs
        after it. So of two whose lock files differ, because one was deleted, one sees the other.
        """
        return self.locks.is_current()

    def _begin_in_slot(self, *, heed_pause: bool) -> None:
        # One of those who live may have lost its slot (former_owners). So a run that finds room
        # beside it must be seen, by the next that looks, from that very moment.
        def start(store: "Store") -> bool:
            with store.exclusively():
                if self.former_owners():
                    return False
                self.recorder.start(self.run, self.parent, heed_pause=heed_pause)
                return True

        if self.recorder.attempt(start, None) is False:
            raise CrowdedError
        if self.run.started_ns is None:  # there is no record: the slots alone count
            self.recorder.start(self.run, self.parent, heed_pause=heed_pause)

    def marks(self) -> Marks:
        """Return the marks of the run that has begun."""
        assert self.run.token is not None
        return Marks(self.run.names[0], self.run.id, self.run.token, self.locks.paths)

    def hand_over(self, keeper: identity.Owner, fd: int) -> None:
        """Leave the lock to the process that has the locked descriptor; this one may end."""
        self.recorder.hand_over(self.run, keeper, fd)
        self._is_bound = True

    def note(self, command: identity.Owner | None = None) -> None:
        """Note the run beside a lock file, and the process of its command once it has started.

        Raises LockFileError if the run can't be noted, so nothing must be started.
        """
        started = None if command is None else (command.pid, command.started)
        self.locks.note((self.run.id, self.run.token or 0), started)

    # -- bind, watch, end, release -------------------------------------------------------------

    def bind(self, command: identity.Owner) -> None:
        """Leave the locks to the command, which has started: only its end frees them now."""
        self._is_bound = True
        self.run.apply(self.run.is_named(command))
        self.recorder.required = False  # too late to refuse

    def watch(
        self, command: "Child", wait: "Callable[[], Outcome]",
        output: "Callable[[], int]" = lambda: -1,
    ) -> "Outcome":  # fmt: skip
        """Wait for the command's end, whatever else fails; ``wait`` does it properly.

        ``output`` returns the command's output, or -1 where something else reads it by then.
        """
        try:
            return wait()
        except Exception as error:  # noqa: BLE001 - the law
            self.recorder.tell(f"{said(error)}; waiting for the command all the same")
            return command.last_resort(output())

    def harmless(self, what: str, call: "Callable[[], object]") -> None:
        """Make a call whose failure changes nothing: it is told."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the law
            self.recorder.tell(f"{what}: {said(error)}")

    def end(self, ending: Ending) -> bool:
        """Record the end of the run; return whether jobs wait in the queue of its name.

        What fails is told: it must not cost the status of a command that has ended.
        """
        try:
            return self.recorder.finish(self.run, ending)
        except Exception as error:  # noqa: BLE001 - the law
            self.recorder.tell(f"the end could not be recorded: {said(error)}")
            return False
        finally:
            self.ended()

    def ended(self) -> None:
        """Note that the end was recorded by another verb."""
        self._is_bound = False
        if self.run.id is None:  # what it left behind is not suspected
            self.locks.suspect(suspected=False)

    def release(self) -> None:
        """Free the locks, unless a command owns them."""
        if not self._is_bound:
            self.locks.free()

    def ask_again(self, delay: float | None = None) -> None:
        """Begin another try, which is to start after a ``delay`` in seconds."""
        self.run = _new_run(self.spec)
        if delay is not None:
            self.run.not_before_ns = time.time_ns() + round(delay * 1e9)


PRUNED = b"pruned"
"""The file in the state directory that is touched when a prune is started."""


def is_time_to_prune(state: StateDir) -> bool:
    """Return whether a prune was last started long ago, and touch the file that tells.

    A missing one is made. Raises OSError or StateDirError if that fails.
    """
    path = os.path.join(state.path, PRUNED)
    try:
        touched = os.stat(path, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        os.close(state.open_file(PRUNED))
        return False
    if abs(time.time() - touched) < PRUNE_EVERY:  # it lies in the future if the clock was set back
        return False
    os.utime(path, follow_symlinks=False)
    return True


LOCK_LOST = "the lock file was deleted in the moment of the start"


def _open_state(spec: "RunSpec", recorder: "Recorder") -> StateDir | None:
    try:
        return StateDir(state_path(spec.dir))
    except StateDirError as error:
        if spec.lock_file is None:
            raise
        # A file of the user's is locked without us, only the record needs the directory.
        recorder.failed(error)
        return None


def _locks_of(spec: "RunSpec", state: StateDir | None) -> lock.LockSet:
    shared, slots, kind = spec.shared, spec.slots, spec.lock_type
    if spec.lock_fd is not None:
        return lock.of_descriptor(*spec.lock_fd, state, shared=shared)
    if spec.lock_file is not None:
        return lock.of_file(spec.lock_file, state, shared=shared, slots=slots, lock_type=kind)
    assert state is not None
    return lock.of_names(spec.names, state, shared=shared, slots=slots, lock_type=kind)


def _new_run(spec: "RunSpec") -> Run:
    try:
        cwd = os.getcwdb()
    except FileNotFoundError:
        cwd = None
    return Run(
        names=spec.names, argv=tuple(os.fsencode(word) for word in spec.argv),
        wrapper=identity.this_process(), uid=os.getuid(), asked_ns=time.time_ns(),
        lock_file=spec.lock_file, cwd=cwd, shared=spec.shared or spec.slots is not None,
        slots=spec.slots,
    )  # fmt: skip
