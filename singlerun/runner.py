"""The story of a run, from the lock to the exit status.

    take the lock -> record the start -> start the command -> record its process
                  -> wait for its end -> record the end -> free the lock

The order is the promise. The start is recorded under the lock and before the command starts, the
end before the lock is free, so whoever looks sees no gap. The command inherits the lock, so whoever
kills this process frees nothing while the command lives.
"""

import os
import time

from singlerun import child, lock, owner
from singlerun.errors import CommandNotExecutableError, CommandNotFoundError, StateDirError
from singlerun.outcome import Outcome
from singlerun.paths import StateDir, lift, state_path
from singlerun.recorder import Recorder
from singlerun.render.line import say
from singlerun.store.base import STOPPED, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.job import Job


def run(job: "Job") -> int:
    """Run a job's command under its lock; give the exit status.

    Raises:
        SinglerunError: the lock can't be had at all, the command can't be started, or a required
            record can't be kept.
    """
    signals = child.Signals()
    recorder = Recorder(required=job.require_record)
    state = _state(job, recorder)
    if job.lock_file is not None:
        hold = lock.of_file(job.lock_file, state, shared=job.shared)
    else:
        assert state is not None
        hold = lock.of_names(job.names, state, shared=job.shared)
    recorder.open(state)
    this = _asked(job)
    if not _take_at_once(job, hold, recorder):
        from singlerun.conflict import Conflict  # noqa: PLC0415 - unusual

        status = Conflict(job, this, hold, recorder, signals).meet()
        if status is not None:
            return status
    return _supervise(job, this, hold, recorder, signals)


def _state(job: "Job", recorder: Recorder) -> StateDir | None:
    path = state_path(job.dir)
    try:
        return StateDir(path)
    except StateDirError as error:
        if job.lock_file is None:
            raise
        # A file of the user's is locked without us, only the record needs the directory.
        recorder.failed(error)
        return None


def _asked(job: "Job") -> Run:
    try:
        cwd = os.getcwdb()
    except FileNotFoundError:
        cwd = None
    return Run(
        names=job.names,
        argv=tuple(os.fsencode(word) for word in job.argv),
        wrapper=owner.this_process(),
        uid=os.getuid(),
        asked_ns=time.time_ns(),
        lock_file=job.lock_file,
        cwd=cwd,
        shared=job.shared,
    )


def _take_at_once(job: "Job", hold: lock.Hold, recorder: Recorder) -> bool:
    """Take a lock that nobody holds, of which no former run was left open."""
    if not hold.try_in_turn() or hold.created:
        return False
    return not recorder.attempt(lambda store: store.open_runs(job.names, job.lock_file), [])


def _supervise(
    job: "Job", this: Run, hold: lock.Hold, recorder: Recorder, signals: child.Signals
) -> int:
    if number := signals.ending():
        from singlerun.conflict import stop_run  # noqa: PLC0415 - unusual

        return stop_run(this, recorder, number)
    env = child.environment()
    recorder.attempt(lambda store: store.start_run(this, _parent(env)), None)
    _mark(env, this)
    # Whoever inherits the lock inherits this pipe too; it ends when the last of them has.
    pipe = [lift(end) for end in os.pipe2(os.O_CLOEXEC)] if job.linger else []
    try:
        command = child.Child(job.argv, env, [*hold.fds, *pipe[1:]], signals)
    except (CommandNotFoundError, CommandNotExecutableError) as error:
        outcome = Outcome(error.exit_status)
        this.detail = str(error)
        _record_end(this, outcome, outcome.state, recorder)
        hold.free()
        raise
    # From here on only the command's end may free the lock: an error of ours must not.
    this.command_pid, this.command_started = command.pid, command.started
    recorder.required = False  # too late to refuse
    recorder.attempt(lambda store: store.name_command(this), None)
    if job.verbose:
        _tell(job, f"started PID {command.pid}, run {this.id}")
    outcome = command.wait()
    if pipe:
        os.close(pipe[1])
        command.linger(pipe[0])
    asked_to_end = command.asked_to_end and outcome.exit_status != 0
    _record_end(this, outcome, STOPPED if asked_to_end else outcome.state, recorder)
    if job.verbose:
        _tell(job, f"exit status {outcome.exit_status} after {outcome.elapsed_ns / 1e9:.3f} s")
    hold.free()
    command.die_alike(outcome)
    return outcome.exit_status


def _record_end(this: Run, outcome: Outcome, state: str, recorder: Recorder) -> None:
    recorder.attempt(lambda store: store.finish_run(this, outcome, state), None)


def _parent(env: "dict[bytes, bytes]") -> tuple[int, int] | None:
    """Give id and token of the run that this one is started in, by its marks."""
    try:
        marks = int(env[b"SINGLERUN_RUN_ID"]), int(env[b"SINGLERUN_TOKEN"])
    except (KeyError, ValueError):
        return None
    return marks if min(marks) > 0 and max(marks) < 2**63 else None


def _mark(env: "dict[bytes, bytes]", this: Run) -> None:
    env[b"SINGLERUN_NAME"] = this.names[0]
    token = time.time_ns() // 1_000_000 if this.token is None else this.token
    env[b"SINGLERUN_TOKEN"] = b"%d" % token
    if this.id is None:  # without a record there is no id, and the outer run's isn't ours
        env.pop(b"SINGLERUN_RUN_ID", None)
    else:
        env[b"SINGLERUN_RUN_ID"] = b"%d" % this.id


def _tell(job: "Job", what: str) -> None:
    say(f"{' + '.join(os.fsdecode(name) for name in job.names)}: {what}")
