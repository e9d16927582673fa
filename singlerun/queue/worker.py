"""Works off the queue of a name: one job after the other, under the name's lock.

    look -> nothing:  end     (wakeup.py tells why nothing is lost then)
         -> later:    sleep   until then, or until a wake-up
         -> now:      take the name's lock in turn; claim a job, run it, record its end and claim
                      the next in one commit; free the lock when another process waits in line

A job is claimed, and its run recorded as started, in a durable commit before its command starts. So
it starts at most once: whatever happens after that commit, a crash or a power loss, makes it lost,
or tried again if it was given retries.
"""

import os
import signal
import sys
import time
from select import POLLIN

from singlerun.errors import RecordError, SinglerunError, ThreadError, said
from singlerun.lifecycle import LOCK_LOST, Lifecycle
from singlerun.ownership import reaper
from singlerun.paths import StateDir
from singlerun.process import block, identity
from singlerun.process.descriptors import close_all_but, poll, try_lock
from singlerun.process.signals import Signals
from singlerun.pruning import background
from singlerun.queue import wakeup
from singlerun.queue.execution import Executor, spec_of
from singlerun.recorder import Recorder
from singlerun.render.line import say
from singlerun.store.queue import NotAnnouncedError
from singlerun.store.run import FAILED, TIMED_OUT
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import LONGEST_SLEEP, STORE_DELAYS, WITHOUT_THREAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    from singlerun.store.queue import Job
    from singlerun.store.run import Ending

    Result = TypeVar("Result")


class Worker:
    """The worker of one queue; it has the lock of the name's FIFO (wakeup.py)."""

    def __init__(self, state: StateDir, name: bytes, fifo: int, *, end_job: bool = False) -> None:
        """``end_job``: a signal that asks to end is for the running job, too."""
        self._state, self._name, self._fifo = state, name, fifo
        self._queue = SqliteQueue(state)
        recorder = Recorder(required=True)
        recorder.use(self._queue)
        self._life = Lifecycle(spec_of(name, {}, state), recorder, None)
        # While a job runs, signals that end us stay pending until it has ended.
        self._signals = Signals(defer_endings=not end_job)
        self._this = identity.this_process()
        self._executor = Executor(self._life, self._signals, self)
        self._announced: int | None = None
        self._has_worked = False

    def drain(self, *, stay: bool = False) -> None:
        """Work until there is nothing to do, or a signal comes; with ``stay`` only until that.

        Raises RecordError, StateDirError or LockFileError if it can't go on.
        """
        left_open = self._persist(lambda: self._queue.open_runs((self._name,)))
        has_lost = any(run.job_id is not None for run in left_open)
        wakeup.begin(self._fifo)
        while not self._is_to_end():
            wakeup.clear(self._fifo)
            seconds = self._persist(lambda: self._queue.look(self._name))
            try:
                if seconds == 0 or has_lost:  # what is lost may be tried again
                    has_lost = False
                    self._run_jobs()
                elif seconds is not None or stay:
                    self._sleep(LONGEST_SLEEP if seconds is None else seconds)
                else:
                    wakeup.unlock(self._fifo)
                    looked = self._persist(lambda: self._queue.look(self._name))
                    if looked is None:
                        self._tell_empty()
                    if looked is None or not try_lock(self._fifo):
                        return
                    wakeup.begin(self._fifo)
            except block.InterruptedWaitError:
                return

    def announce(self) -> None:
        """Name the next job durably, if possible: its claim needs no sync then."""
        try:
            self._announced = self._queue.announce(self._name)
        except RecordError as error:
            say(str(error))

    def retract(self) -> None:
        """Take the announcement back, if there is one."""
        if self._announced is not None:
            try:
                self._queue.retract(self._announced)
            except RecordError as error:
                say(str(error))
            self._announced = None

    def _sleep(self, seconds: float) -> None:
        """Sleep so long, or until a wake-up; raise InterruptedWaitError if a signal came first."""
        self._executor.leave_directory()
        until = min(seconds, LONGEST_SLEEP)
        self._block(lambda: poll({self._fifo: POLLIN}, until), seconds)

    def _is_to_end(self) -> bool:
        return self._executor.was_signalled or bool(self._signals.endings & signal.sigpending())

    def _run_jobs(self) -> None:
        """Take the name's lock, and run jobs until another process waits for it."""
        self._acquire()
        try:
            job = self._persist(lambda: self._queue.claim(self._name, self._this))
            while job is not None:
                assert job.run is not None
                self._life.run = job.run
                if not self._is_current(job):
                    self._queue.give_back(job, LOCK_LOST)
                    return
                job = self._run(job)
        finally:
            self.retract()
            self._life.release()
            self._executor.leave_directory()
        background.start_in_time(self._state)

    def _is_current(self, job: "Job") -> bool:
        """Return whether a job that is claimed may start; give it back if that can't be told.

        Raises:
            OSError: it can't.
        """
        try:
            return self._life.is_current()
        except OSError as error:
            self._queue.give_back(job, said(error))
            raise

    def _acquire(self) -> None:
        """Take the name's lock in turn, also from what a dead wrapper left behind."""
        locks = self._life.locks
        while True:
            if not locks.try_in_turn():
                try:
                    if not self._block(locks.take):
                        continue
                except block.InterruptedWaitError:
                    locks.abandon()
                    raise
            living = self._persist(self._life.former_owners)
            if not living:
                return
            self._block(lambda owners=living: reaper.await_ends(owners))  # type: ignore[misc]

    def _block(self, call: "Callable[[], object]", seconds: float = WITHOUT_THREAD) -> bool:
        """Make a blocking call; if there can be no thread for it, sleep a while and return False.

        The queue must not be left without its worker because its user has too many processes.
        Raises InterruptedWaitError if a signal came first.
        """
        endings = self._signals.endings
        try:
            return block.call(call, endings, None)
        except ThreadError:
            came = signal.sigtimedwait(endings, min(seconds, WITHOUT_THREAD))
        if came is not None:
            raise block.InterruptedWaitError(came.si_signo)
        return False

    def _run(self, job: "Job") -> "Job | None":
        """Run a job that is claimed, and record its end; claim the next unless it is to wait."""
        ending = self._executor.perform(job)
        self._has_worked = True
        # What a job left behind has inherited the lock. We can free it now, but after our death in
        # the next job nothing could: so that one gets the lock anew. And what is claimed is to
        # start at once, so hooks must not come between; they find the lock free.
        spec = self._executor.spec
        pauses = self._is_to_end() or self._executor.left_lock_behind or spec.end_hooks
        tells = spec.tells_end(ending.outcome.exit_status)
        following, freed = self._persist(
            lambda: self._finish(
                job, ending, alone=pauses or tells or self._life.locks.is_awaited()
            )
        )
        self._life.ended()
        for name in sorted(freed - {self._name}):
            self._wake(name)
        if (spec.end_hooks or tells) and job.run is not None:
            self._life.release()
        if tells and job.run is not None and not _is_tried_again(job):
            self._life.harmless("cannot notify", lambda: self._tell_end(job, ending))
        if spec.end_hooks and (run := job.run) is not None:
            self._life.harmless(
                "a hook could not be run",
                lambda: self._executor.call_hooks(run, ending.outcome.exit_status),
            )
        return following

    def _tell_end(self, job: "Job", ending: "Ending") -> None:
        """Notify of the end of a job, which is not tried again."""
        assert job.run is not None
        from singlerun.notify import teller  # noqa: PLC0415 - rare

        status = ending.outcome.exit_status
        teller.run_ended(self._life, self._executor.spec, job.run, status)

    def _tell_empty(self) -> None:
        """Notify that the queue has been worked off, by the rules of the latest job."""
        spec = self._executor.spec

        def tell() -> None:
            from singlerun.notify import teller  # noqa: PLC0415 - rare

            teller.queue_empty(self._state, spec, self._name)

        if self._has_worked and spec.tells("queue-empty"):
            self._life.harmless("cannot notify", tell)
        self._has_worked = False

    def _finish(
        self, job: "Job", ending: "Ending", *, alone: object
    ) -> "tuple[Job | None, frozenset[bytes]]":
        """Record the end of a job, and claim the next unless the end stands ``alone``."""
        if alone:
            return None, self._queue.finish(job, ending)
        announced, self._announced = self._announced, None
        if announced is not None:
            try:
                return self._queue.finish_and_claim_announced(job, ending, self._this, announced)
            except NotAnnouncedError:  # one of a higher priority has come
                self._queue.retract(announced)
        return self._queue.finish_and_claim(job, ending, self._this)

    def _wake(self, name: bytes) -> None:
        try:
            wakeup.ensure(self._state, name)
        except SinglerunError as error:  # a job of ours may be claimed already: that goes first
            say(str(error))

    def _persist(self, use: "Callable[[], Result]") -> "Result":
        """Use the run-log; try again for a while before RecordError is raised."""
        for delay in STORE_DELAYS:
            try:
                return use()
            except RecordError as error:
                say(str(error))
            time.sleep(delay)
        return use()


def _is_tried_again(job: "Job") -> bool:
    """Return whether a job that has ended will be tried again (store/followers.py)."""
    failed = job.run is not None and job.run.state in {FAILED, TIMED_OUT}
    return failed and job.tries <= job.retries


def main() -> "NoReturn":
    """Be the worker that ``wakeup.ensure`` starts: arguments are FIFO, directory and name."""
    fifo = int(sys.argv[1])
    path, name = map(os.fsencode, sys.argv[2:4])
    # What the starting process had open is none of our business, and may be waited for.
    close_all_but({0, 1, 2, fifo})
    os.set_inheritable(fifo, False)
    os.chdir("/")
    try:
        Worker(StateDir(path), name, fifo).drain()
        status = 0
    except Exception as error:  # noqa: BLE001 - no traceback
        say(f"the worker of queue {os.fsdecode(name)}: {said(error)}")
        status = 125
    os._exit(status)
