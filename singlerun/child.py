"""The command: started, handed its signals, waited for.

Signals are not caught but blocked, and taken one by one with sigwaitinfo(2): there is no moment
in which one can be missed, or interrupt what must not be interrupted.

With a controlling terminal the command stays in our process group, so that the shell, the terminal
and what stands beside it in a pipeline see one job, as without us. What the terminal sends (Ctrl-C,
Ctrl-Z) reaches the command by itself. Without a terminal the command leads a group of its own,
and what is sent to us is sent on to that group.
"""

import os
import sys
import time

from singlerun.errors import CommandNotExecutableError, CommandNotFoundError
from singlerun.outcome import Outcome
from singlerun.owner import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

    from singlerun.family import Family
else:
    import _signal

ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT)
"""They go to the command's whole group, and begin its end."""
TELLING = (
    _signal.SIGUSR1,
    _signal.SIGUSR2,
    _signal.SIGALRM,
    _signal.SIGVTALRM,
    _signal.SIGPROF,
    _signal.SIGIO,
)
"""They go to the command alone."""
STOPPING = {_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU}
"""What a terminal stops a whole group with. We stop when the command has, and not before: else we
could do so with the run-log locked, and everybody else would wait for us."""

_SI_KERNEL = 0x80
"""siginfo's code for what the kernel sent by itself, as a terminal does (sigaction(2))."""


class Signals:
    """The signals of this process while it runs a command: blocked from ``block`` on."""

    def __init__(self) -> None:
        self.terminal = _has_terminal()
        # An ignored signal (nohup) stays ignored, here and in the command.
        watched = [*ENDING, *TELLING, *((_signal.SIGCONT,) if self.terminal else ())]
        self.watched = {
            number for number in watched if _signal.getsignal(number) is not _signal.SIG_IGN
        }
        if _signal.getsignal(_signal.SIGCHLD) is _signal.SIG_IGN:
            # Else the kernel throws our child's status away (wait(2), notes).
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        self.ending_watched = self.watched & set(ENDING)
        self._stopping = STOPPING if self.terminal else set()
        self.inherited = _signal.pthread_sigmask(
            _signal.SIG_BLOCK, self.watched | self._stopping | {_signal.SIGCHLD}
        )

    def pending(self) -> set[int]:
        """Give the signals that ask to end and have come already."""
        return {int(number) for number in self.ending_watched & _signal.sigpending()}

    def ending(self) -> int | None:
        """Give one signal that asks to end and has come already, None if none has."""
        return min(self.pending(), default=None)

    def sleep(self, seconds: float) -> int | None:
        """Sleep, unless a signal asks to end: give its number then."""
        deadline = time.monotonic() + seconds
        self.admit_stops()
        try:
            while (left := deadline - time.monotonic()) > 0:
                came = _signal.sigtimedwait(self.ending_watched, left)
                if came is not None:
                    return came.si_signo
        finally:
            self.defer_stops()
        return self.ending()

    def restore(self) -> None:
        """Let signals in again as before."""
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.inherited)

    def admit_stops(self) -> None:
        """Let Ctrl-Z stop this process, while there is no command that would stop with it."""
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, self._stopping)

    def defer_stops(self) -> None:
        """Stop only when the command does; ends what admit_stops began."""
        _signal.pthread_sigmask(_signal.SIG_BLOCK, self._stopping)

    def stop(self, number: int) -> None:
        """Stop this process with the signal that stopped the command, until it is continued."""
        os.kill(os.getpid(), number)
        if number in self._stopping:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
            _signal.pthread_sigmask(_signal.SIG_BLOCK, {number})


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def environment() -> dict[bytes, bytes]:
    """Give the environment that this process was started with.

    In the C locale, as under cron, Python sets LC_CTYPE for itself (PEP 538); the command must not
    see that.
    """
    given = dict(os.environb)
    given.pop(b"", None)  # an entry "=x" is none that could be handed on
    if given.get(b"LC_CTYPE", b"").upper().endswith(b"UTF-8"):
        try:
            with open("/proc/self/environ", "rb", buffering=0) as file:
                started_with = file.read().split(b"\0")
        except OSError:
            return given
        before = [entry[9:] for entry in started_with if entry.startswith(b"LC_CTYPE=")]
        if before:
            given[b"LC_CTYPE"] = before[0]
        else:
            del given[b"LC_CTYPE"]
    return given


class Child:
    """A command that was started.

    Attributes:
        pid, started: its identity, as in owner.Owner.
        asked_to_end: whether a signal that asks to end came while it ran.
        timed_out: whether it was ended because its time was over.
    """

    def __init__(
        self,
        argv: "list[str]",
        env: "Mapping[bytes, bytes]",
        inherited: "Iterable[int]",
        signals: Signals,
        *,
        marks: tuple[int | None, int],
        kill_after: float,
        adopt: bool = False,
    ) -> None:
        """Start the command; it inherits these descriptors under their numbers.

        ``marks`` are the run's id and token, as its environment tells them; ``kill_after`` are the
        seconds between a signal that asks to end and SIGKILL. With ``adopt`` the command's orphans
        become our children, so that none of them can hide from its end.

        Raises:
            CommandNotFoundError: there is no such command.
            CommandNotExecutableError: it can't be executed.
        """
        self._signals = signals
        self._adopts = adopt and _adopt_orphans()
        signals.admit_stops()  # a Ctrl-Z from before it can be stopped too
        signals.defer_stops()
        self._begun_ns = time.monotonic_ns()
        self.pid = _spawn(argv, env, inherited, signals)
        # What came before it was there did not reach it, whoever sent it.
        self._early = signals.pending()
        self.started = start_time(self.pid)
        self.asked_to_end = False
        self.timed_out = False
        self._deadline: float | None = None
        self._kill_after = kill_after
        self._run_id, self._token = marks
        self._relatives: Family | None = None
        self._interrupted = False

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait for the command's end, passing signals on meanwhile.

        A signal that asks to end, sent by a process, and the end of ``timeout`` seconds give all
        that the command has started ``kill_after`` seconds; then it is killed, also what is left of
        it when the command itself has ended.
        """
        signals = {*self._signals.watched, _signal.SIGCHLD}
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            until = limit if self._deadline is None else self._deadline
            if until is None:
                came = _signal.sigwaitinfo(signals)
            else:
                left = until - time.monotonic()
                timed = _signal.sigtimedwait(signals, max(0, left))
                if timed is None:
                    if self._deadline is None:
                        self.timed_out = True
                        self._ask_to_end(_signal.SIGTERM)
                    else:
                        self._send(_signal.SIGKILL)
                        self._deadline = time.monotonic() + 1  # and again, if it could fork
                    continue
                came = timed
            if came.si_signo != _signal.SIGCHLD:
                self._pass_on(came)
            elif self._has_ended():
                if self._deadline is not None:
                    # Not waited for yet, so its PID can't be given to a stranger's group.
                    self._family().end(self._deadline)
                return self._reap()

    def linger(self, pipe: int) -> None:
        """Wait until nobody has the other end of a pipe any more; pass signals on meanwhile."""
        from singlerun.lock import wait  # noqa: PLC0415 - only when asked to linger

        deadline = None
        while True:
            try:
                if wait.call(lambda: os.read(pipe, 1), self._signals.ending_watched, deadline):
                    return
                self._send(_signal.SIGKILL)
                deadline = None
            except wait.InterruptedWaitError as interrupted:
                self._send(interrupted.args[0])
                deadline = deadline or time.monotonic() + self._kill_after

    def die_alike(self, outcome: Outcome) -> None:
        """Die of Ctrl-C as the command did, so that a shell's loop around us ends with it.

        A shell goes on after a program that survived SIGINT, whatever its exit status.
        """
        if self._interrupted and outcome.signal == _signal.SIGINT:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
            self._signals.restore()
            os.kill(os.getpid(), _signal.SIGINT)

    def _has_ended(self) -> bool:
        if self._adopts:
            self._reap_orphans()
        changed = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        if changed is None:
            return False
        if changed.si_code != os.CLD_STOPPED:
            return True
        self._reap_stop(changed.si_status)
        return False

    def _reap_orphans(self) -> None:
        """Wait for adopted children that have ended, lest they stay in the process table."""
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == self.pid:
                return
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)

    def _reap_stop(self, number: int) -> None:
        """Stop with the command, if a shell is there to notice and to continue us."""
        stopped = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
        if stopped is None or not self._signals.terminal:
            return
        # fg continues us both, us perhaps first: then the stop that we saw is over already.
        if _signal.SIGCONT not in _signal.sigpending():
            self._signals.stop(number)

    def _pass_on(self, came: "_signal.struct_siginfo") -> None:
        number = came.si_signo
        if number in TELLING or number == _signal.SIGCONT:
            os.kill(self.pid, number)
            return
        self.asked_to_end = True
        if number in self._early:
            self._early.discard(number)
        elif self._signals.terminal and came.si_code == _SI_KERNEL:
            self._interrupted = number == _signal.SIGINT
            # The terminal sent it to the whole group; only a hangup is told to the leader alone.
            if number == _signal.SIGHUP and os.getsid(0) == os.getpid():
                self._send(number)
            return
        self._ask_to_end(number)

    def _ask_to_end(self, number: int) -> None:
        self._send(number)
        if self._deadline is None:
            self._deadline = time.monotonic() + self._kill_after

    def _send(self, number: int) -> None:
        self._family().send(number)

    def _family(self) -> "Family":
        if self._relatives is None:
            from singlerun.family import Family  # noqa: PLC0415 - only when something is to end

            self._relatives = Family(
                self.pid,
                run_id=self._run_id,
                token=self._token,
                owns_group=not self._signals.terminal,
                adopted=self._adopts,
            )
        return self._relatives

    def _reap(self) -> Outcome:
        _, status, usage = os.wait4(self.pid, 0)
        elapsed_ns = time.monotonic_ns() - self._begun_ns
        signaled = os.WIFSIGNALED(status)
        return Outcome(
            None if signaled else os.WEXITSTATUS(status),
            os.WTERMSIG(status) if signaled else None,
            elapsed_ns=elapsed_ns,
            user_us=round(usage.ru_utime * 1e6),
            system_us=round(usage.ru_stime * 1e6),
            max_rss_kb=usage.ru_maxrss,
            timed_out=self.timed_out,
        )


def _adopt_orphans() -> bool:
    """Become the parent of orphaned descendants (prctl(2), PR_SET_CHILD_SUBREAPER); tell whether.

    Python has no call for it, and ctypes costs 5 ms: only for who must be able to end everything.
    """
    try:
        import ctypes  # noqa: PLC0415

        return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False


def become(
    argv: "list[str]", env: "Mapping[bytes, bytes]", inherited: "Iterable[int]", signals: Signals
) -> "NoReturn":
    """Replace this process by the command; it keeps these descriptors.

    Raises:
        CommandNotFoundError: there is no such command.
        CommandNotExecutableError: it can't be executed.
    """
    for fd in inherited:
        os.set_inheritable(fd, True)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    signals.restore()
    words = argv
    try:
        if not argv[0]:
            raise CommandNotFoundError("''", "name a command")
        try:
            os.execvpe(words[0], words, env)
        except OSError as error:
            import errno  # noqa: PLC0415 - only when it failed

            if error.errno != errno.ENOEXEC:
                raise
            words = ["/bin/sh", find(argv[0]) or argv[0], *argv[1:]]
            os.execve(words[0], words, env)
    except OSError as error:
        raise _start_error(argv, error) from None


def _spawn(
    argv: "list[str]", env: "Mapping[bytes, bytes]", inherited: "Iterable[int]", signals: Signals
) -> int:
    # dup2 onto itself clears close-on-exec in the child alone (posix_spawn_file_actions_adddup2).
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in inherited]
    # SQLite puts /dev/null where standard streams were closed; the command gets them closed.
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd, stream in enumerate(streams) if stream is None]
    # Python ignores these for itself, and what is ignored would stay so in the command.
    defaults = [_signal.SIGPIPE, _signal.SIGXFSZ]
    group: dict[str, Any] = {} if signals.terminal else {"setpgroup": 0}
    words = argv
    if not argv[0]:
        raise CommandNotFoundError("''", "name a command")
    try:
        while True:
            try:
                return os.posix_spawnp(
                    words[0], words, env,
                    file_actions=actions, setsigmask=signals.inherited, setsigdef=defaults, **group,
                )  # fmt: skip
            except OSError as error:
                import errno  # noqa: PLC0415 - only when it failed

                if error.errno != errno.ENOEXEC or words is not argv:
                    raise
                # A script without "#!": shells and execvp(3) give it to sh, posix_spawnp(3) not.
                words = ["/bin/sh", find(argv[0]) or argv[0], *argv[1:]]
    except OSError as error:
        raise _start_error(argv, error) from None


def find(command: str) -> str | None:
    """Find a command as execvp(3) does: the path of the first such file in PATH, or as given."""
    if "/" in command:
        return command if os.path.exists(command) else None
    for directory in os.environ.get("PATH", "/bin:/usr/bin").split(":"):
        path = os.path.join(directory or ".", command)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _start_error(
    argv: "list[str]", error: OSError
) -> CommandNotFoundError | CommandNotExecutableError:
    import errno  # noqa: PLC0415

    command = argv[0]
    path = find(command)
    if path is None and ("/" not in command or error.errno in {errno.ENOENT, errno.ENOTDIR}):
        # EACCES may also come from a directory in PATH that can't be searched.
        if not _stands_in_path(command):
            return CommandNotFoundError(command, _hint(command))
    elif error.errno == errno.ENOENT:
        return CommandNotExecutableError(
            command,
            "the interpreter in its first line is missing",
            f"look for a wrong path or a CR at its end: head -1 {path} | cat -A",
        )
    if error.errno == errno.E2BIG:
        return CommandNotExecutableError(
            command, "its arguments and environment are too long", "pass them through a file"
        )
    if os.path.isdir(command):
        return CommandNotExecutableError(command, "it is a directory", "name a program in it")
    if error.errno == errno.EACCES:
        return CommandNotExecutableError(
            command, "permission denied", f"if it is a program: chmod +x {command}"
        )
    return CommandNotExecutableError(
        command, (error.strerror or str(error)).lower(), "see execve(2)"
    )


def _hint(command: str) -> str:
    if os.path.isfile(command) and "/" not in command:
        return f"try ./{command}"
    if set(command) & set(" |&;<>$"):
        return "for a shell's syntax: sh -c '...'"
    return "check its spelling and PATH"


def _stands_in_path(command: str) -> bool:
    directories = os.environ.get("PATH", "/bin:/usr/bin").split(":")
    return "/" not in command and any(
        os.path.isfile(os.path.join(directory or ".", command)) for directory in directories
    )
