"""Hooks: shell commands of the user's that are told how a run ended.

    --on-conflict    it was refused or skipped
    --on-success     exit status 0
    --on-failure     any other, also by a signal or because its time was over
    --on-finish      either of both, after those

They run when all is decided, recorded and the lock is free, one after the other, and can change
nothing of it: a hook that fails is a warning, one that does not end is killed.
"""

import os
import time

from singlerun.render.line import say
from singlerun.render.text import command, names
from singlerun.store.base import REFUSED, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping

    from singlerun.process.signals import Signals
    from singlerun.spec import RunSpec
    from singlerun.store.base import Run
else:
    import _signal

LONGEST_COMMAND = 100_000
"""Bytes of a command that a hook is told; Linux takes 131,072 in one variable (execve(2))."""
LONGEST = 30.0
"""Seconds that a hook may take."""
GRACE = 2.0
"""Seconds between TERM and KILL for a hook that takes longer."""


def call(
    job: "RunSpec",
    this: "Run",
    status: int,
    signals: "Signals",
    given: "Mapping[bytes, bytes] | None" = None,
) -> bool:
    """Run the hooks that a job has for what became of its run; tell whether a signal ended one.

    ``status`` is our exit status, ``given`` the environment if that is not ours.
    """
    if this.state in {REFUSED, SKIPPED}:
        events = ["conflict"]
    elif this.ended_ns is not None and this.started_ns is None:
        return False  # a signal came while it waited: nothing was refused, and nothing ran
    else:
        events = ["failure" if status else "success", "finish"]
    interrupted = False
    for event in events:
        script = job.hooks.get(event)
        if script is not None:
            env = _environment(job, this, event, status, given)
            interrupted |= _run(script, event, env, signals, names(job.names))
    return interrupted


def _environment(
    job: "RunSpec", this: "Run", event: str, status: int, given: "Mapping[bytes, bytes] | None"
) -> dict[bytes, bytes]:
    """Give a hook's environment: the job's, and what happened."""
    if given is None:
        from singlerun.process.spawn import environment  # noqa: PLC0415 - only with a hook

        given = environment()
    env = {key: value for key, value in given.items() if not key.startswith(b"SINGLERUN_")}
    told = {
        "EVENT": event,
        "NAME": this.names[0],
        "STATE": this.state,
        "COMMAND": command(this.argv),
        "RUN_ID": this.id,
        "EXIT_STATUS": status,
        "SIGNAL": this.signal,
        "ELAPSED": None if this.elapsed_ns is None else f"{this.elapsed_ns / 1e9:.3f}",
        "DETAIL": this.detail,
        "HOLDER_ID": this.conflict_id,
        "DIR": job.dir or given.get(b"SINGLERUN_DIR"),
        "JOB_ID": this.job_id,
    }
    for key, value in told.items():
        if value is not None:
            told_as = value if isinstance(value, bytes) else os.fsencode(str(value))
            env[b"SINGLERUN_" + key.encode()] = told_as[:LONGEST_COMMAND]
    return env


def _run(script: str, event: str, env: dict[bytes, bytes], signals: "Signals", name: str) -> bool:
    """Run a hook; tell whether a signal to us ended it."""
    what = f"{name}: --on-{event}"
    try:
        pid = os.posix_spawn(
            "/bin/sh", ["sh", "-c", script], env,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setpgroup=0, setsigmask=signals.inherited,
            setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ],
        )  # fmt: skip
    except OSError as error:
        say(f"{what} could not be started: {(error.strerror or str(error)).lower()}")
        return False
    begun = time.monotonic()
    if not _await(pid, LONGEST, signals):
        interrupted = time.monotonic() < begun + LONGEST
        say(f"{what} was ended: it took longer than {LONGEST:.0f} s, or a signal came")
        os.killpg(pid, _signal.SIGTERM)
        _await(pid, GRACE, signals)
        os.killpg(pid, _signal.SIGKILL)
        os.waitpid(pid, 0)
        return interrupted
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        ended = f"exited with {status}" if status > 0 else f"was ended by signal {-status}"
        say(f"{what} {ended}")
    return False


def _await(pid: int, seconds: float, signals: "Signals") -> bool:
    """Sleep until a child has ended; tell whether that was before the time was over."""
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        left = deadline - time.monotonic()
        came = _signal.sigtimedwait({_signal.SIGCHLD, *signals.ending_watched}, max(0, left))
        if came is None or came.si_signo != _signal.SIGCHLD:
            return False
    return True
