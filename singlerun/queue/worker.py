"""Works off the queue of a name: one job after the other, under the name's lock.

    look -> nothing:  end     (wakeup.py tells why nothing is lost then)
         -> later:    sleep   until then, or until somebody wakes us
         -> now:      take the name's lock in turn; claim a job, run it, record its end and claim
                      the next in one commit; free the lock when somebody else stands in line

A job is claimed, and its run recorded as started, in a durable commit before its command starts. So
it starts at most once: whatever happens after that commit, a crash or a power loss, makes it lost,
or tried again if it was given retries.
"""

import os
import select
import signal
import sys
import time

from singlerun import hooks, lock
from singlerun.contention.conflict import living_owners
from singlerun.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    RecordError,
    SinglerunError,
    StateDirError,
)
from singlerun.options import Words
from singlerun.outcome import Outcome
from singlerun.output import segments
from singlerun.output.capture import Pump
from singlerun.output.relay import close_all_but
from singlerun.ownership import reaper
from singlerun.paths import StateDir, lift
from singlerun.process import block, identity
from singlerun.process.child import Child
from singlerun.process.signals import ENDING, Signals
from singlerun.process.spawn import find
from singlerun.queue import wakeup
from singlerun.recorder import Recorder
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.spec import RunSpec
from singlerun.store.base import STOPPED, Run
from singlerun.store.sqlite_queue import SqliteQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    from singlerun.store.queue import Context, Job

    Result = TypeVar("Result")

LONGEST_SLEEP = 60.0
"""Seconds after which the clock is looked at again: it may have been set, or the machine slept."""
BRIEF = 0.005
"""Seconds after which the process of a command is recorded. Until then its marks tell what is left
of it, should we be killed; and a thousand short jobs need not pay for a thousand commits more."""
SILENT = 0.05
"""Seconds for which a command is watched before its output gets a process of its own, unless it
writes something."""
DELAYS = (0.1, 0.5, 2.0, 5.0, 15.0, 30.0)
"""Seconds between tries to use a run-log that can't be used: a full disk, a stopped process."""


class Worker:
    """One that works off the queue of a name; it has the lock of the name's FIFO (wakeup.py)."""

    def __init__(self, state: StateDir, name: bytes, fifo: int, *, end_job: bool = False) -> None:
        """``end_job``: a signal that asks to end is for the running job, too."""
        self._state = state
        self._name = name
        self._fifo = fifo
        self._queue = SqliteQueue(state)
        self._recorder = Recorder(required=True)
        self._recorder.use(self._queue)
        self._hold = lock.of_names((name,), state, shared=False)
        self._signals = Signals()
        self._endings = self._signals.ending_watched
        self._is_told_to_end = False
        if not end_job:
            # While a job runs nobody takes them: they stay pending until it has ended.
            self._signals.watched -= set(ENDING)
            self._signals.ending_watched = set()
        self._this = identity.this_process()
        self._null = lift(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        self._prepared: Context | None = None
        self._env: dict[bytes, bytes] = {}
        self._policy = self._policy_of({})
        self._pumps: set[int] = set()
        self._found: dict[str, str | None] = {}
        self._is_shared = False
        self._was_brief = False

    def drain(self, *, stay: bool = False) -> None:
        """Work until there is nothing to do, or a signal comes; with ``stay`` only until that.

        Raises:
            RecordError, StateDirError, LockFileError: it can't go on.
        """
        orphaned = self._persist(lambda: self._queue.open_runs((self._name,)))
        has_lost = any(run.job_id is not None for run in orphaned)
        while not self._is_to_end():
            wakeup.woken(self._fifo)
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
                    if looked is None or not wakeup.try_lock(self._fifo):
                        return
            except block.InterruptedWaitError:
                return

    def _sleep(self, seconds: float) -> None:
        """Sleep so long, or until somebody wakes us.

        Raises:
            InterruptedWaitError: a signal came first.
        """
        os.chdir("/")  # a job's directory must not be kept busy
        self._prepared = None
        poll = select.poll()
        poll.register(self._fifo, select.POLLIN)
        until = min(seconds, LONGEST_SLEEP) * 1000
        block.call(lambda: poll.poll(until), self._endings, None)

    def _is_to_end(self) -> bool:
        return self._is_told_to_end or bool(self._endings & signal.sigpending())

    def _run_jobs(self) -> None:
        """Take the name's lock, and run jobs until somebody else waits for it.

        Raises:
            InterruptedWaitError: a signal came before that.
        """
        self._take()
        try:
            run = self._new_run()
            job = self._persist(lambda: self._queue.claim(self._name, run))
            while job is not None:
                if not self._hold.is_current():  # as in runner.py
                    why = "the lock file was deleted in the moment of the start"
                    self._queue.give_back(job, why)
                    return
                job = self._run(job)
        finally:
            self._try(self._queue.retract)
            self._hold.free()
            os.chdir("/")  # a job's directory may be on what somebody wants to unmount

    def _take(self) -> None:
        """Take the name's lock in turn, also from what a dead singlerun left behind.

        Raises:
            InterruptedWaitError: a signal came first.
        """
        endings = self._endings
        while True:
            if not self._hold.try_in_turn():
                try:
                    block.call(self._hold.take, endings, None)
                except block.InterruptedWaitError:
                    self._hold.abandon()
                    raise
            living = self._persist(lambda: living_owners(self._policy, self._hold, self._recorder))
            if not living:
                return
            block.call(lambda owners=living: reaper.await_ends(owners), endings, None)  # type: ignore[misc]

    def _run(self, job: "Job") -> "Job | None":
        """Run a job that is claimed, and record its end; claim the next unless it is to wait."""
        outcome, state = self._perform(job)
        # What a job left behind has inherited the lock. We can free it now, but nobody could if we
        # were killed in the next job: so that one gets the lock anew. And what is claimed is to
        # start at once, so hooks must not come between; they find the lock free.
        pauses = self._is_to_end() or self._is_shared or self._policy.hooks
        going_on = not (pauses or self._hold.is_awaited())
        following = self._new_run() if going_on else None
        claimed = self._persist(
            lambda: self._queue.finish_and_claim(job, outcome, state, following)
        )
        for name in self._queue.names_of_followers():
            if name != self._name:
                self._kick(name)
        if self._policy.hooks and job.run is not None:
            self._hold.free()
            env = self._env | {b"SINGLERUN_DIR": self._state.path}
            status = outcome.exit_status
            if hooks.call(self._policy, job.run, status, self._signals, env):
                self._is_told_to_end = True
        return claimed

    def _kick(self, name: bytes) -> None:
        try:
            wakeup.ensure(self._state, name)
        except SinglerunError as error:  # a job of ours may be claimed already: that goes before
            say(str(error))

    def _perform(self, job: "Job") -> tuple[Outcome, str]:
        """Run a job's command; give how it ended, and the state of its run."""
        run = job.run
        assert run is not None
        assert run.token is not None
        assert job.context is not None
        try:
            self._prepare(job.context)
        except OSError as error:
            run.detail = f"{shown(job.context.cwd)}: {(error.strerror or '').lower()}"
            outcome = Outcome(126)
            return outcome, outcome.state
        env = self._env | {
            b"SINGLERUN_NAME": self._name,
            b"SINGLERUN_RUN_ID": b"%d" % (run.id or 0),
            b"SINGLERUN_TOKEN": b"%d" % run.token,
            b"SINGLERUN_JOB_ID": b"%d" % (job.id or 0),
        }
        reading, writing = map(lift, os.pipe2(os.O_CLOEXEC))
        # Who has the lock has this too: it ends with the last of them.
        watching, watched = map(lift, os.pipe2(os.O_CLOEXEC))
        marks = (run.id, run.token)
        policy = self._policy
        argv = [os.fsdecode(word) for word in job.argv]
        try:
            command = Child(
                argv,
                env,
                [*self._hold.fds, watched],
                self._signals,
                marks=marks,
                kill_after=policy.kill_after,
                adopt=policy.timeout is not None,
                redirected={0: self._null, 1: writing, 2: writing},
                strangers=self._pumps,
                path=self._find(argv[0]),
            )
        except (CommandNotFoundError, CommandNotExecutableError) as error:
            os.close(reading)
            os.close(watching)
            run.detail = shown(str(error))
            outcome = Outcome(error.exit_status)
            return outcome, outcome.state
        finally:
            os.close(writing)
            os.close(watched)
        run.command_pid, run.command_started = command.pid, command.started
        self._hold.note(marks, (command.pid, command.started))
        pump = self._watch(command, reading, run)
        outcome = command.wait(policy.timeout)
        if pump is None:
            pump = self._last_pump_for(reading, run)
        if pump is not None:
            patience = policy.kill_after if outcome.timed_out or command.asked_to_end else None
            if pump.end(self._signals, failed=True, patience=patience):
                self._is_told_to_end = True
        self._is_shared = not _has_ended(watching)
        os.close(watching)
        if command.asked_to_end:
            self._is_told_to_end = True
        asked_to_end = command.asked_to_end and outcome.exit_status != 0
        return outcome, STOPPED if asked_to_end else outcome.state

    def _prepare(self, context: "Context") -> None:
        """Become what a context asks for: directory, file mode mask, PATH.

        Raises:
            OSError: its directory can't be entered.
        """
        os.chdir(context.cwd)
        if context is self._prepared:
            return
        os.umask(context.umask)
        self._env = dict(entry.split(b"=", 1) for entry in context.env)
        # A command is looked for in the PATH of who starts it.
        os.environb[b"PATH"] = self._env.get(b"PATH", b"/usr/bin:/bin")
        self._policy = self._policy_of(context.options)
        self._prepared = context
        self._found.clear()

    def _find(self, command: str) -> str | None:
        """Find a command once for all jobs: ten directories of PATH are ten calls to execve(2)."""
        path = self._found.get(command)
        if path is None or not os.access(path, os.X_OK):
            path = self._found[command] = find(command)
        return path

    def _policy_of(self, options: dict[str, object]) -> RunSpec:
        values = Words().values | options | {"name": (self._name,)}
        return RunSpec(["singlerun"], values)

    def _new_run(self) -> Run:
        return Run(names=(self._name,), argv=(), wrapper=self._this, uid=os.getuid(), asked_ns=0)

    def _watch(self, command: Child, reading: int, run: Run) -> Pump | None:
        """Record the process of a command that goes on, and keep its output; None if it ended."""
        pidfd = os.pidfd_open(command.pid)
        try:
            if self._was_brief:  # then this one may be, too
                self._try(lambda: self._queue.announce(self._name))
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            came = dict(poll.poll(BRIEF * 1000))
            self._was_brief = bool(came)
            if not came:
                self._try(self._queue.retract)
                self._try(lambda: self._queue.name_command(run))
                poll.register(reading, select.POLLIN)
                came = dict(poll.poll(SILENT * 1000))
        finally:
            os.close(pidfd)
        if pidfd in came and not came.get(reading, 0) & select.POLLIN:
            return None
        return self._pump(reading, run)

    def _try(self, use: "Callable[[], object]") -> None:
        """Use the run-log if it can be used: a command runs, and that goes before."""
        try:
            use()
        except RecordError as error:
            say(str(error))

    def _last_pump_for(self, reading: int, run: Run) -> Pump | None:
        """Keep what a command wrote in its last moment, and what it left behind may write."""
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        came = dict(poll.poll(0)).get(reading, 0)
        if came & select.POLLHUP and not came & select.POLLIN:
            os.close(reading)
            return None
        return self._pump(reading, run)

    def _pump(self, reading: int, run: Run) -> Pump:
        writer = None
        try:
            writer = segments.Writer(self._state, run.id or 0)
        except (StateDirError, OSError) as error:
            say(f"the output of run {run.id} is not kept: {segments.why_not(error)}")
        self._pumps -= {pid for pid in self._pumps if _is_over(pid)}  # a command knows the set
        os.set_blocking(reading, False)
        pump = Pump(writer, pass_on=False, source=reading)
        if pump.pid is not None:
            self._pumps.add(pump.pid)
        return pump

    def _persist(self, use: "Callable[[], Result]") -> "Result":
        """Use the run-log; try again for a while if it can't be used.

        Raises:
            RecordError: it still can't.
        """
        for delay in DELAYS:
            try:
                return use()
            except RecordError as error:
                say(str(error))
            time.sleep(delay)
        return use()


def _has_ended(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


def _is_over(child: int) -> bool:
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def main() -> "NoReturn":
    """Be the worker that ``wakeup.ensure`` starts: arguments are FIFO, directory and name."""
    fifo = int(sys.argv[1])
    path, name = map(os.fsencode, sys.argv[2:4])
    # What the process had open that started us is none of our business, and may be waited for.
    close_all_but({0, 1, 2, fifo})
    os.set_inheritable(fifo, False)
    os.chdir("/")
    try:
        Worker(StateDir(path), name, fifo).drain()
        status = 0
    except (SinglerunError, OSError) as error:
        say(f"the worker of {os.fsdecode(name)}: {error}")
        status = 125
    os._exit(status)
