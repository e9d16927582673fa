"""The story of a run, from the lock to the exit status.

    take the lock -> record the start -> start the command -> record its process
                  -> wait for its end -> record the end -> free the lock

The order is the promise. The start is recorded under the lock and before the command starts, the
end before the lock is free, so whoever looks sees no gap. The command inherits the lock, so whoever
kills this process frees nothing while the command lives.
"""

import os
import time

from singlerun import lock
from singlerun.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    NoWorkerError,
    StateDirError,
    UsageError,
)
from singlerun.outcome import Outcome
from singlerun.paths import StateDir, lift, state_path
from singlerun.process import identity, spawn
from singlerun.process.child import Child
from singlerun.process.signals import Signals
from singlerun.recorder import Recorder
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.store.base import REFUSED, STOPPED, PausedError, Run, marks_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.output.capture import Outputs
    from singlerun.spec import RunSpec


class _LockLostError(Exception):
    """The lock file was deleted before the start was recorded: another may hold a new one."""


class _CrowdedError(Exception):
    """Others have started since there was room: as many live as there are slots."""


class _StoppedError(Exception):
    """A signal came before the command was started: its number is the first argument."""


def run(job: "RunSpec") -> int:
    """Run a job's command under its lock; give the exit status.

    Raises:
        SinglerunError: the lock can't be had at all, the command can't be started, or a required
            record can't be kept.
    """
    if job.queue:
        return _enqueue(job)
    signals = Signals()
    recorder = Recorder(required=job.require_record)
    state = open_state(job, recorder)
    hold = locks_of(job, state)
    if job.become and hold.needs_freeing:
        raise UsageError("--exec leaves nobody who could remove the lock file")
    recorder.open(state)
    outputs = None
    if job.log or job.only_failed:
        from singlerun.output.capture import Outputs  # noqa: PLC0415 - rare

        outputs = Outputs(job, state)
    try:
        return _run(job, hold, recorder, signals, outputs=outputs)
    except Exception:
        hold.forsake()
        raise


def _run(
    job: "RunSpec",
    hold: lock.Hold,
    recorder: Recorder,
    signals: Signals,
    *,
    outputs: "Outputs | None",
) -> int:
    if job.jitter and (number := signals.sleep(jitter_of(job))):
        return 128 + number
    this, conflict = asked(job), None
    while True:
        if not take_at_once(job, hold, recorder):
            from singlerun.contention.conflict import Conflict  # noqa: PLC0415 - unusual

            conflict = conflict or Conflict(job, this, hold, recorder, signals)
            status = conflict.meet()
            if status is not None:
                return _call_hooks(job, this, status, signals)
        try:
            return _supervise(job, this, hold, recorder, signals, outputs=outputs)
        except _LockLostError:
            hold.free()
            this, conflict = asked(job), None
        except _CrowdedError:
            hold.free()
            if this is not job.latest:  # between two tries
                this, conflict = job.latest, None


def _enqueue(job: "RunSpec") -> int:
    """Put a job in the queue of its name instead."""
    from singlerun.queue import add, wakeup  # noqa: PLC0415
    from singlerun.store.queue import Job  # noqa: PLC0415

    queued = Job(
        name=job.names[0],
        argv=tuple(os.fsencode(word) for word in job.argv),
        retries=job.retries,
        retry_delay=job.retry_delay,
    )
    marks = marks_of(os.environb)
    queued.parent_id = marks[0] if marks else None
    context = add.context_here(options=job.kept)
    state = StateDir(state_path(job.dir))
    (number,) = add.add(state, [queued], context)
    if job.verbose:
        _tell(job, f"queued as job {number}")
    wakeup.ensure(state, job.names[0])
    return 0


def open_state(job: "RunSpec", recorder: Recorder) -> StateDir | None:
    """Open the state directory; None if it can't be used and the lock doesn't need it."""
    path = state_path(job.dir)
    try:
        return StateDir(path)
    except StateDirError as error:
        if job.lock_file is None:
            raise
        # A file of the user's is locked without us, only the record needs the directory.
        recorder.failed(error)
        return None


def locks_of(job: "RunSpec", state: StateDir | None) -> lock.Hold:
    """Give the locks that a job needs."""
    if job.lock_file is not None:
        return lock.of_file(
            job.lock_file, state, shared=job.shared, slots=job.slots, lock_type=job.lock_type
        )
    assert state is not None
    return lock.of_names(
        job.names, state, shared=job.shared, slots=job.slots, lock_type=job.lock_type
    )


def jitter_of(job: "RunSpec") -> float:
    """Give the seconds of this host and name: less than the jitter, and always the same."""
    from hashlib import blake2b  # noqa: PLC0415 - rare

    digest = blake2b(
        os.fsencode(identity.here().host) + b"\0" + job.names[0], digest_size=7
    ).digest()
    return (job.jitter or 0.0) * int.from_bytes(digest, "big") / 2**56


def asked(job: "RunSpec") -> Run:
    """Give a new run of a job, which nothing has recorded yet."""
    try:
        cwd = os.getcwdb()
    except FileNotFoundError:
        cwd = None
    run = Run(
        names=job.names,
        argv=tuple(os.fsencode(word) for word in job.argv),
        wrapper=identity.this_process(),
        uid=os.getuid(),
        asked_ns=time.time_ns(),
        lock_file=job.lock_file,
        cwd=cwd,
        shared=job.shared or job.slots is not None,
        slots=job.slots,
    )
    job.latest = run
    return run


def take_at_once(job: "RunSpec", hold: lock.Hold, recorder: Recorder) -> bool:
    """Take a lock that nobody holds, of which no former run was left open."""
    if len(hold.paths) > 1:
        return False  # holds some of them for a moment: only where that is in nobody's way
    if not hold.try_in_turn() or hold.created:
        return False
    return not recorder.attempt(lambda store: store.open_runs(job.names, job.lock_file), [])


def _supervise(
    job: "RunSpec",
    this: Run,
    hold: lock.Hold,
    recorder: Recorder,
    signals: Signals,
    *,
    outputs: "Outputs | None",
) -> int:
    """Run the command, again if the job asks for it; all under one hold of the lock."""
    number = signals.ending()
    attempts = 0
    last: tuple[Run, int] | None = None
    while not number:
        if job.min_interval or job.max_starts:
            from singlerun.contention.throttle import refuse_early  # noqa: PLC0415 - rare

            if attempts == 0 and refuse_early(job, this, recorder):
                hold.free()
                return _call_hooks(job, this, job.conflict_status, signals)
        try:
            command, outcome = _attempt(
                job, this, hold, recorder, signals, outputs=outputs, heed_pause=attempts == 0
            )
        except PausedError as error:
            from singlerun.contention.throttle import refuse_paused  # noqa: PLC0415 - rare

            refuse_paused(job, this, recorder, error.args[0])
            hold.free()
            return _call_hooks(job, this, job.conflict_status, signals)
        except _StoppedError as stopped:
            number = stopped.args[0]
            break
        attempts += 1
        delay = job.delay_before_next(outcome.exit_status, attempts)
        if delay is None or command.asked_to_end:
            hold.free()
            _call_hooks(job, this, outcome.exit_status, signals)
            command.die_alike(outcome)
            return outcome.exit_status
        if job.verbose:
            _tell(job, f"exit status {outcome.exit_status}, again in {delay:g} s")
        this, last = asked(job), (this, outcome.exit_status)
        _record_wait(this, recorder)
        number = signals.sleep(delay)
    from singlerun.contention.conflict import stop_run  # noqa: PLC0415 - unusual

    status = stop_run(this, recorder, number)
    hold.free()
    if last is not None:
        _call_hooks(job, *last, signals)
    return status


def _attempt(
    job: "RunSpec",
    this: Run,
    hold: lock.Hold,
    recorder: Recorder,
    signals: Signals,
    *,
    outputs: "Outputs | None",
    heed_pause: bool,
) -> tuple[Child, Outcome]:
    """Run the command once."""
    env = spawn.environment()
    if job.slots is None:
        recorder.start(this, marks_of(env), heed_pause=heed_pause)
    else:
        from singlerun.contention.conflict import start_in_slot  # noqa: PLC0415 - rare

        if not start_in_slot(job, this, hold, recorder, marks_of(env), heed_pause=heed_pause):
            raise _CrowdedError
    marks = _mark(env, this)
    if not hold.is_current():
        # Who takes a lock looks for open runs after it, and we look at the lock after our run is
        # recorded. So of two whose lock files differ, because one was deleted, one sees the other.
        this.detail = "the lock file was deleted in the moment of the start"
        recorder.refuse(this, REFUSED)
        raise _LockLostError
    if number := signals.ending():  # recording may have taken its time
        raise _StoppedError(number)
    hold.note(marks)
    if job.become:
        this.command_pid, this.command_started = this.wrapper_pid, this.wrapper_started
        recorder.attempt(lambda store: store.name_command(this), None)
    # Whoever inherits the lock inherits this pipe too; it ends when the last of them has.
    pipe = [lift(end) for end in os.pipe2(os.O_CLOEXEC)] if job.linger else []
    pump = None if outputs is None else outputs.begin(this)
    try:
        if job.become:  # the command keeps the lock as long as it or a child of it lives
            spawn.become(job.argv, env, hold.fds, signals)
        command = Child(
            job.argv,
            env,
            [*hold.fds, *pipe[1:]],
            signals,
            marks=marks,
            kill_after=job.kill_after,
            adopt=job.timeout is not None,
            redirected=None if pump is None else pump.streams,
            strangers=() if outputs is None else outputs.pids,
        )
    except (CommandNotFoundError, CommandNotExecutableError) as error:
        outcome = Outcome(error.exit_status)
        this.detail = shown(str(error))
        recorder.finish(this, outcome, outcome.state)
        hold.free()
        _call_hooks(job, this, error.exit_status, signals)
        raise
    finally:
        if pump is not None:
            pump.started()
    # From here on only the command's end may free the lock: an error of ours must not.
    this.command_pid, this.command_started = command.pid, command.started
    hold.note(marks, (command.pid, command.started))
    recorder.required = False  # too late to refuse
    recorder.attempt(lambda store: store.name_command(this), None)
    if job.verbose:
        _tell(job, f"started PID {command.pid}, run {this.id}")
    outcome = command.wait(job.timeout)
    if pipe:
        os.close(pipe[1])
        command.linger(pipe[0])
        outcome.elapsed_ns = command.elapsed_ns()
    if pump is not None and outputs is not None:  # what it wrote arrives before its end is told
        outputs.end(pump, command, outcome, signals)
    if outcome.timed_out and not job.quiet:
        _tell(job, f"ended after {job.timeout:g} s, its time was over")
    asked_to_end = command.asked_to_end and outcome.exit_status != 0
    if recorder.finish(this, outcome, STOPPED if asked_to_end else outcome.state):
        _kick_queues(job, recorder)
    if job.verbose:
        _tell(job, f"exit status {outcome.exit_status} after {outcome.elapsed_ns / 1e9:.3f} s")
    return command, outcome


def _record_wait(this: Run, recorder: Recorder) -> None:
    recorder.attempt(lambda store: store.wait_run(this), None)


def _kick_queues(job: "RunSpec", recorder: Recorder) -> None:
    """See to it that the jobs which waited for us are worked off, should their worker be dead."""
    from singlerun.queue import wakeup  # noqa: PLC0415 - rare

    for name in job.names:
        try:
            wakeup.ensure(StateDir(state_path(job.dir)), name)
        except (StateDirError, NoWorkerError) as error:
            recorder.tell(str(error))


def _call_hooks(job: "RunSpec", this: Run, status: int, signals: Signals) -> int:
    if job.hooks:
        from singlerun import hooks  # noqa: PLC0415 - rare

        hooks.call(job, this, status, signals)
    return status


def _mark(env: "dict[bytes, bytes]", this: Run) -> tuple[int | None, int]:
    """Mark the command's environment; give the run's id and token as it tells them."""
    env[b"SINGLERUN_NAME"] = this.names[0]
    token = time.time_ns() // 1000 if this.token is None else this.token
    env[b"SINGLERUN_TOKEN"] = b"%d" % token
    if this.id is None:  # without a record there is no id, and the outer run's isn't ours
        env.pop(b"SINGLERUN_RUN_ID", None)
    else:
        env[b"SINGLERUN_RUN_ID"] = b"%d" % this.id
    return this.id, token


def _tell(job: "RunSpec", what: str) -> None:
    say(f"{' + '.join(os.fsdecode(name) for name in job.names)}: {what}")
