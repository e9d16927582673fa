"""Hooks: shell commands of the user's that learn what became of a run.

    --on-start       its command has started
    --on-conflict    it was refused or skipped
    --on-success     exit status 0
    --on-failure     any other end, also by a signal or a timeout
    --on-finish      either of both, after those

Those of the end run one after the other when all is decided, recorded and the lock is free, so they
can change nothing of it: a hook that fails is a warning, one that does not end is killed.

The one of the start runs beside the command, which must not wait for it. A process of its own
minds it, because this one sleeps until the command has ended. It was forked from this one, but has
neither the lock nor anything else that this one had open, save standard output and error.
"""

import os
import time

from singlerun.errors import said
from singlerun.event import Event, of_end
from singlerun.paths import lift, reason
from singlerun.process.descriptors import POLLIN, close_all_but, poll
from singlerun.render.line import say
from singlerun.render.text import command, names
from singlerun.store.run import REFUSED, SKIPPED
from singlerun.timings import HOOK_GRACE, HOOK_TIMEOUT, KILL_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping
    from typing import NoReturn

    from singlerun.process.signals import Signals
    from singlerun.spec import RunSpec
    from singlerun.store.run import Run
else:
    import _signal

LONGEST_VALUE = 100_000
"""Bytes of a value in a hook's environment; Linux takes 131,072 in one variable (execve(2))."""


def call(
    job: "RunSpec", this: "Run", status: int, signals: "Signals",
    given: "Mapping[bytes, bytes] | None" = None,
) -> bool:  # fmt: skip
    """Run the hooks for what became of a run; return whether a signal interrupted one.

    ``status`` is our exit status, ``given`` the environment if that is not ours.
    """
    if this.state not in {REFUSED, SKIPPED} and this.ended_ns and this.started_ns is None:
        return False  # a signal came while it waited: nothing was refused, and nothing ran
    event = of_end(this, status)
    interrupted = False
    for word in [event.kind] if event.kind == "conflict" else [event.kind, "finish"]:
        if (script := job.hooks.get(word)) is not None:
            env = _environment(job, this, word, event, given)
            interrupted |= _run(script, word, env, signals, names(job.names))
    return interrupted


class Beside:
    """The hook of the start; ``pid`` is that of the process that minds it, a child of ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = lift(os.pidfd_open(pid))
        self._until = time.monotonic() + HOOK_TIMEOUT + HOOK_GRACE + KILL_PATIENCE

    def finish(self, signals: "Signals") -> bool:
        """Wait until the hook has ended, and forget it; return whether a signal interrupted it."""
        interrupted = False
        try:
            if not self._await(self._until, signals.ending_watched):
                interrupted = time.monotonic() < self._until
                _signal.pidfd_send_signal(self._pidfd, _signal.SIGTERM)
                self._await(time.monotonic() + HOOK_GRACE + KILL_PATIENCE, set())
            os.waitpid(self.pid, os.WNOHANG)
        except (ChildProcessError, ProcessLookupError):
            pass  # reaped already, among adopted children
        finally:
            self.forget()
        return interrupted

    def forget(self) -> None:
        """Leave the hook alone: it ends by itself, or is killed."""
        os.close(self._pidfd)

    def _await(self, until: float, interrupting: "set[_signal.Signals]") -> bool:
        while not poll({self._pidfd: POLLIN}, 0):
            left = until - time.monotonic()
            came = _signal.sigtimedwait({_signal.SIGCHLD, *interrupting}, max(0, left))
            if came is None or came.si_signo != _signal.SIGCHLD:
                return False
        return True


def begin(
    job: "RunSpec", this: "Run", signals: "Signals", given: "Mapping[bytes, bytes] | None" = None
) -> Beside:
    """Run the hook of the start beside a command that has started.

    ``given`` is the environment if that is not ours. OSError: too many processes, or open files.
    """
    if given is None:
        from singlerun.process.spawn import environment  # noqa: PLC0415 - only with a hook

        given = environment()
    pid = os.fork()
    if pid == 0:
        _mind(job, this, signals, given)
    return Beside(pid)


def _mind(
    job: "RunSpec", this: "Run", signals: "Signals", given: "Mapping[bytes, bytes]"
) -> "NoReturn":
    """Be the process that runs the hook of the start: it heeds SIGTERM, which the wrapper sends."""
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        close_all_but({1, 2})
        signals.ending_watched = {_signal.SIGTERM}
        event = Event("start", this.names[0], run=this, at_ns=this.started_ns)
        env = _environment(job, this, "start", event, given)
        _run(job.hooks["start"], "start", env, signals, names(job.names))
    except Exception as error:  # noqa: BLE001 - no traceback
        say(f"the --on-start hook could not be run: {said(error)}")
    finally:
        os._exit(0)


def _environment(
    job: "RunSpec", this: "Run", word: str, event: "Event", given: "Mapping[bytes, bytes] | None"
) -> dict[bytes, bytes]:
    """Return the environment of the hook ``--on-word``: the job's, and what happened."""
    if given is None:
        from singlerun.process.spawn import environment  # noqa: PLC0415 - only with a hook

        given = environment()
    env = {key: value for key, value in given.items() if not key.startswith(b"SINGLERUN_")}
    values = {
        "EVENT": word, "NAME": this.names[0], "STATE": this.state, "COMMAND": command(this.argv),
        "RUN_ID": this.id, "EXIT_STATUS": event.exit_status, "SIGNAL": this.signal,
        "ELAPSED": None if this.elapsed_ns is None else f"{this.elapsed_ns / 1e9:.3f}",
        "DETAIL": this.detail, "HOLDER_ID": this.conflict_id,
        "DIR": job.dir or given.get(b"SINGLERUN_DIR"), "JOB_ID": this.job_id,
        "JSON": event.as_text(LONGEST_VALUE),
    }  # fmt: skip
    for key, value in values.items():
        if value is not None:
            encoded = value if isinstance(value, bytes) else os.fsencode(str(value))
            env[b"SINGLERUN_" + key.encode()] = encoded[:LONGEST_VALUE]
    return env


def _run(script: str, event: str, env: dict[bytes, bytes], signals: "Signals", name: str) -> bool:
    """Run a hook; return whether a signal to us ended it."""
    what = f"{name}: --on-{event} hook"
    try:
        pid = os.posix_spawn(
            "/bin/sh", ["sh", "-c", script], env,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setpgroup=0, setsigmask=signals.inherited,
            setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ],
        )  # fmt: skip
    except OSError as error:
        say(f"{what} cannot be started: {reason(error)}")
        return False
    begun = time.monotonic()
    if not _await(pid, HOOK_TIMEOUT, signals):
        timed_out = time.monotonic() >= begun + HOOK_TIMEOUT
        why = f"timed out after {HOOK_TIMEOUT:.0f}s" if timed_out else "was interrupted"
        say(f"{what} {why}")
        _end(pid, what, signals)
        return not timed_out
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        ended = f"exited with status {status}" if status > 0 else f"was killed by signal {-status}"
        say(f"{what} {ended}")
    return False


def _end(pid: int, what: str, signals: "Signals") -> None:
    """End a hook and its process group, which it leads."""
    from singlerun.process.termination import terminate  # noqa: PLC0415 - rare

    def send(number: int) -> None:
        try:
            os.killpg(pid, number)
        except PermissionError:  # it became another user
            pass

    if terminate(send, lambda seconds: _await(pid, seconds, signals), HOOK_GRACE):
        send(_signal.SIGKILL)  # what is left of its group; not reaped yet, so it is the same one
        os.waitpid(pid, 0)
    else:
        say(f"{what} cannot be killed; look at it: ps {pid}")


def _await(pid: int, seconds: float, signals: "Signals") -> bool:
    """Sleep until a child has ended; return False if time or a signal came first."""
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        left = deadline - time.monotonic()
        came = _signal.sigtimedwait({_signal.SIGCHLD, *signals.ending_watched}, max(0, left))
        if came is None or came.si_signo != _signal.SIGCHLD:
            return False
    return True
