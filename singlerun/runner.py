"""The story of a run, from the lock to the exit status.

    take the lock -> record the start -> start the command -> record its process
                  -> wait for its end -> record the end -> free the lock

The order is the promise: an onlooker sees no gap. The command inherits the lock, so the death of
this process frees nothing while the command lives (lifecycle.py has the law).
"""

import os

from singlerun.errors import (
    HeldError,
    NoWorkerError,
    SinglerunError,
    StateDirError,
    UsageError,
    said,
)
from singlerun.lifecycle import (
    CrowdedError,
    Lifecycle,
    LockLostError,
    RefusedError,
    is_time_to_prune,
)
from singlerun.outcome import Outcome
from singlerun.paths import StateDir, lift, state_path
from singlerun.process import identity, spawn
from singlerun.process.child import Child
from singlerun.process.marks import Marks
from singlerun.process.signals import Signals
from singlerun.recorder import Recorder
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.store.run import FAILED, STOPPED, Ending, PausedError, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.hooks import Beside
    from singlerun.output.capture import Capture, Relay
    from singlerun.spec import RunSpec


class Report:
    """What became of a spec.

    Attributes:
        run: the latest try; None before there was one.
        held: why it was not started, if it was refused and there is something to say about it.
    """

    def __init__(self, exit_status: int, run: Run | None, held: HeldError | None = None) -> None:
        self.exit_status, self.run, self.held = exit_status, run, held


class _SignalledError(Exception):
    """A signal came before the command was started: its number is the first argument."""


def run(spec: "RunSpec") -> Report:
    """Run a command under its lock.

    Raises SinglerunError if the lock can't be had at all, the command can't be started, or a
    required record can't be kept.
    """
    if spec.queue:
        from singlerun.queue import add  # noqa: PLC0415 - rare

        number = add.enqueue_command(spec)
        if spec.verbose:
            _tell(spec, f"queued as job {number}")
        return Report(0, None)
    signals = Signals()
    recorder = Recorder(required=spec.require_record)
    life = Lifecycle(spec, recorder, Marks.from_environ(os.environb))
    if spec.become and life.locks.needs_freeing:
        raise UsageError("--exec leaves no process that could remove the lock file")
    recorder.open(life.state)
    capture = None
    if spec.log or spec.only_failed:
        from singlerun.output.capture import Capture  # noqa: PLC0415 - rare

        capture = Capture(spec, life.state)
    try:
        return _Runner(life, signals, capture).run()
    except Exception:
        life.locks.forsake()
        raise


class _Runner:
    """One command line, from its first try to its last."""

    def __init__(self, life: Lifecycle, signals: Signals, capture: "Capture | None") -> None:
        self._life, self._signals, self._capture = life, signals, capture
        self._spec, self._recorder = life.spec, life.recorder
        self._attempts = 0
        self._first: Run | None = None
        self._beside: Beside | None = None
        self._last: tuple[Run, int] | None = None
        # Children of ours that are not of the command's process tree.
        self._strangers: set[int] = set()

    def run(self) -> Report:
        """Run the command as often as the spec says."""
        spec, life = self._spec, self._life
        if spec.jitter and (number := self._signals.sleep(jitter_of(spec))):
            return Report(128 + number, None)
        try:
            while True:
                try:
                    self._acquire()
                    return self._supervise() if spec.lock_fd is None else self._hand_over()
                except LockLostError:
                    life.release()
                    life.ask_again()
                except CrowdedError:
                    life.release()
        except RefusedError as refused:
            return self._refused(refused.held)
        except _SignalledError as signalled:
            return self._signalled(signalled.args[0])

    def _acquire(self) -> None:
        if self._life.acquire_at_once():
            return
        from singlerun.contention.conflict import Conflict  # noqa: PLC0415 - unusual
        from singlerun.contention.waiting import InterruptibleWaiter  # noqa: PLC0415
        from singlerun.process.block import InterruptedWaitError  # noqa: PLC0415

        try:
            Conflict(self._life, InterruptibleWaiter(self._life, self._signals)).resolve()
        except InterruptedWaitError as interrupted:
            raise _SignalledError(interrupted.args[0]) from None

    def _supervise(self) -> Report:
        """Run the command, again if the spec asks for it; all under one hold of the lock."""
        spec, life = self._spec, self._life
        while True:
            self._check_signals()
            if self._attempts == 0:
                self._check_limits()
            command, outcome = self._attempt()
            self._attempts += 1
            status = outcome.exit_status
            delay = spec.delay_before_next(status, self._attempts)
            if delay is None or command.asked_to_end or life.run.state == STOPPED:
                life.release()
                self._tell(life.run, status)
                self._prune()
                command.die_alike(outcome)
                return Report(status, life.run)
            if spec.verbose:
                _tell(spec, f"exit status {status}, retrying in {delay:g} s")
            self._last = life.run, status
            life.ask_again(delay)
            self._recorder.wait(life.run)
            if number := self._signals.sleep(delay):
                raise _SignalledError(number)

    def _hand_over(self) -> Report:
        """Leave the lock to the caller, whose descriptor it is on."""
        spec, life = self._spec, self._life
        assert spec.lock_fd is not None
        self._check_limits()
        self._begin()
        caller = os.getppid()
        keeper = identity.Owner(identity.here(), caller, identity.start_time(caller))
        life.hand_over(keeper, spec.lock_fd[0])
        return Report(0, life.run)

    def _check_limits(self) -> None:
        if self._spec.min_interval or self._spec.max_starts:
            from singlerun.contention import throttle  # noqa: PLC0415 - rare

            throttle.check_limits(self._life)

    def _attempt(self) -> tuple[Child, Outcome]:
        """Run the command once."""
        spec, life = self._spec, self._life
        self._begin()
        self._first = self._first or life.run
        try:
            command, pipe, relay = self._start()
        except Exception as error:
            status = error.exit_status if isinstance(error, SinglerunError) else 125
            life.end(Ending(Outcome(status), FAILED, shown(said(error))))
            life.release()
            self._tell(life.run, status)
            raise
        if spec.verbose:
            _tell(spec, f"started PID {command.pid}, run {life.run.id}")
        outcome = life.watch(command, lambda: self._await(command, pipe, relay))
        if outcome.timed_out and not spec.quiet:
            _tell(spec, f"timed out after {spec.timeout:g} s")
        stopped = command.asked_to_end and outcome.exit_status != 0
        if life.end(Ending(outcome, STOPPED if stopped else None)):
            life.harmless("the queue", self._wake_workers)
        if spec.verbose:
            seconds = outcome.elapsed_ns / 1e9
            _tell(spec, f"exit status {outcome.exit_status} after {seconds:.3f} s")
        return command, outcome

    def _begin(self) -> None:
        try:
            self._life.begin(heed_pause=self._attempts == 0)
        except PausedError as error:
            from singlerun.contention import throttle  # noqa: PLC0415 - rare

            raise throttle.paused(self._life, error.args[0]) from None
        self._check_signals()  # recording may have taken its time

    def _start(self) -> "tuple[Child, list[int], Relay | None]":
        """Start the command; the locks are its own then.

        With --linger all that inherit the lock inherit a pipe too, which ends with the last.
        """
        spec, life = self._spec, self._life
        env, marks = spawn.environment(), life.marks()
        marks.apply(env)
        life.note()
        pipe = [lift(end) for end in os.pipe2(os.O_CLOEXEC)] if spec.linger else []
        relay = None if self._capture is None else self._capture.begin(life.run)
        self._strangers |= set() if self._capture is None else self._capture.pids
        try:
            if spec.become:  # the command keeps the lock as long as it or a child of it lives
                self._recorder.name(life.run, life.run.wrapper)
                spawn.become(spec.argv, env, life.locks.fds, self._signals)
            command = Child(
                spec.argv, env, [*life.locks.fds, *pipe[1:]], self._signals, marks=marks,
                kill_after=spec.kill_after, stop_signal=spec.signal,
                adopt=spec.timeout is not None,
                redirected=None if relay is None else relay.streams,
                strangers=self._strangers,
            )  # fmt: skip
        finally:
            if relay is not None:
                relay.started()
        life.bind(identity.Owner(identity.here(), command.pid, command.started))
        return command, pipe, relay

    def _await(self, command: Child, pipe: list[int], relay: "Relay | None") -> Outcome:
        """Record the command's process, and wait for its end."""
        life = self._life
        owner = life.run.command
        assert owner is not None
        life.note(owner)
        self._recorder.name(life.run, owner)
        if self._spec.tells_start(lost=life.lost):
            life.harmless("cannot notify", self._tell_start)
        for writing in pipe[1:]:
            os.close(writing)
        if "start" in self._spec.hooks and self._attempts == 0:
            life.harmless("a hook could not be run", self._begin_hook)
        outcome = command.wait(self._spec.timeout, pipe[0] if pipe else None)
        if relay is not None and self._capture is not None:
            # What it wrote arrives before its end is told.
            self._capture.end(relay, command, outcome, self._signals)
        return outcome

    def _check_signals(self) -> None:
        if number := self._signals.ending():
            raise _SignalledError(number)

    def _refused(self, held: HeldError | None) -> Report:
        spec = self._spec
        if held is not None and (spec.verbose or not (spec.skip or spec.quiet)):
            say(str(held))
        status = 0 if held is None else spec.conflict_status
        self._tell(self._life.run, status)
        return Report(status, self._life.run, None if spec.skip else held)

    def _signalled(self, number: int) -> Report:
        """Record that a signal came before the command was started."""
        run = self._life.run
        self._recorder.refuse(run, STOPPED, "stopped before it started", signal=number)
        self._life.release()
        if self._last is not None:
            self._tell(*self._last)
        return Report(128 + number, run)

    def _begin_hook(self) -> None:
        from singlerun import hooks  # noqa: PLC0415 - rare

        self._beside = hooks.begin(self._spec, self._life.run, self._signals)
        self._strangers.add(self._beside.pid)

    def _tell(self, run: Run, status: int) -> None:
        """Notify of what became of a run, which is recorded, and run the hooks."""

        def notify() -> None:
            from singlerun.notify import teller  # noqa: PLC0415 - rare

            teller.run_ended(self._life, self._spec, run, status, self._first)

        def call() -> None:
            from singlerun import hooks  # noqa: PLC0415 - rare

            if self._beside is not None:
                self._beside.finish(self._signals)
            hooks.call(self._spec, run, status, self._signals)

        spec, started = self._spec, run.started_ns is not None
        told = spec.tells_end(status) if started else spec.tells("refused")
        if told or (self._life.lost and spec.tells("lost")):
            self._life.harmless("cannot notify", notify)
        if self._spec.hooks:
            self._life.harmless("a hook could not be run", call)

    def _prune(self) -> None:
        """Start a prune in the background, if that was not done for a while."""
        state = self._life.state
        try:
            if state is not None and is_time_to_prune(state):
                from singlerun.pruning import background  # noqa: PLC0415 - once an hour

                background.start(state)
        except (OSError, SinglerunError, ImportError):  # a read-only disk: another run will do it
            pass

    def _tell_start(self) -> None:
        """Notify that the command has started, and that former runs were found dead."""
        from singlerun.notify import teller  # noqa: PLC0415 - rare

        teller.run_started(self._life, self._spec, self._strangers)

    def _wake_workers(self) -> None:
        """Make sure that the jobs which waited for us have a worker, should theirs be dead."""
        from singlerun.queue import wakeup  # noqa: PLC0415 - rare

        for name in self._spec.names:
            try:
                wakeup.ensure(StateDir(state_path(self._spec.dir)), name)
            except (StateDirError, NoWorkerError) as error:
                self._recorder.tell(str(error))


def jitter_of(spec: "RunSpec") -> float:
    """Return the seconds of this host and name: less than the jitter, and always the same."""
    from hashlib import blake2b  # noqa: PLC0415 - rare

    seed = os.fsencode(identity.here().host) + b"\0" + spec.names[0]
    digest = blake2b(seed, digest_size=7).digest()
    return (spec.jitter or 0.0) * int.from_bytes(digest, "big") / 2**56


def _tell(spec: "RunSpec", what: str) -> None:
    say(f"{' + '.join(os.fsdecode(name) for name in spec.names)}: {what}")
