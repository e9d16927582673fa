"""The command: started, handed its signals, awaited.

With a controlling terminal the command stays in our process group: the shell, the terminal and the
other commands of a pipeline see one job, and what the terminal sends (Ctrl-C, Ctrl-Z) reaches it by
itself. Without one it leads a group of its own, to which what is sent to us is sent on.
"""

import os
import sys
import time

from singlerun.outcome import Outcome
from singlerun.process import spawn
from singlerun.process.identity import start_time
from singlerun.process.signals import ENDING, SI_KERNEL, STOPPING
from singlerun.timings import REMAINS_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable, Mapping

    from singlerun.process.marks import Marks
    from singlerun.process.signals import Signals
    from singlerun.process.termination import Escalation
    from singlerun.process.tree import ProcessTree
else:
    import _signal


PEAK_MARGIN_KB = 1024
"""The kernel counts resident pages per processor, and sums them up exactly only for /proc."""


class Child:
    """A command that was started; ``pid`` and ``started`` are as in identity.Owner.

    Attributes:
        asked_to_end: whether a signal that asks to end came while it ran.
        timed_out: whether it was ended because it timed out.
    """

    def __init__(
        self, argv: "list[str]", env: "Mapping[bytes, bytes]", inherited: "Iterable[int]",
        signals: "Signals", *, marks: "Marks", kill_after: float,
        stop_signal: int = _signal.SIGTERM, adopt: bool = False,
        redirected: "Mapping[int, int] | None" = None, strangers: "Iterable[int]" = (),
        path: str | None = None,
    ) -> None:  # fmt: skip
        """Start the command; it inherits these descriptors under their numbers.

        ``marks`` are those in its environment; ``stop_signal`` is sent when it times out;
        ``kill_after`` is the grace period between a signal that asks to end and SIGKILL. With
        ``adopt`` the command's orphans become our children, so that none of them can hide from its
        end. ``strangers`` are children of ours that are not of its process tree; the rest, and what
        is raised, is as for spawn.spawn.
        """
        self._signals = signals
        self._adopts = adopt and _adopt_orphans()
        signals.admit_stops()  # a Ctrl-Z that came earlier takes effect now
        signals.defer_stops()
        self._our_peak_kb = _peak_kb()
        self._begun_ns = time.monotonic_ns()
        self.pid = spawn.spawn(argv, env, inherited, signals, redirected=redirected, path=path)
        # What came before the command existed did not reach it, whatever sent it.
        self._early = signals.pending()
        self.started = start_time(self.pid)
        self.asked_to_end = False
        self.timed_out = False
        self._kill_after, self._stop_signal = kill_after, stop_signal
        self._marks, self._strangers = marks, strangers
        self._lazy_tree: ProcessTree | None = None
        self._escalation: Escalation | None = None
        self._interrupted = False
        self._until: float | None = None
        self._asked: int | None = None
        self._outcome: Outcome | None = None

    def wait(self, timeout: float | None = None, pipe: int | None = None) -> Outcome:
        """Wait for the command's end, passing signals on meanwhile.

        A signal that asks to end, sent by a process, and the end of ``timeout`` seconds begin the
        grace period of all that the command has started; then it is killed, also what is left of
        it when the command itself has ended. With a ``pipe``, all that has its other end is awaited
        as well.
        """
        signals = {*self._signals.watched, _signal.SIGCHLD}
        came: _signal.struct_siginfo | None
        self._until = None if timeout is None else self._begun_ns / 1e9 + timeout
        while True:
            until = self._until if self._escalation is None else self._escalation.deadline
            if until is None:
                came = _signal.sigwaitinfo(signals)
            else:
                came = _signal.sigtimedwait(signals, max(0, until - time.monotonic()))
            if came is None and self._escalation is not None:
                self._escalation.kill()
            elif came is None:
                self.timed_out = True
                self._ask_to_end(self._stop_signal)
            elif came.si_signo != _signal.SIGCHLD:
                self._pass_on(came)
            elif self._has_ended():
                if self._escalation is not None:
                    self._escalation.finish(self._tree().await_others, REMAINS_PATIENCE)
                if pipe is not None:
                    self._linger(pipe)
                # Not before: its PID could be given to a stranger, and that be signalled.
                return self._reap()

    def last_resort(self, discard: int = -1) -> Outcome:
        """Wait for the command's end by means that can't fail: no import, no descriptor, no /proc.

        Signals go to the command's group; a timeout is kept; what comes out of the pipe ``discard``
        is thrown away, lest the command block on it.
        """
        if self._outcome is not None:
            return self._outcome
        signals = {*self._signals.watched, _signal.SIGCHLD}
        target = self.pid if self._signals.terminal else -self.pid
        kill_at: float | None = None
        asked = self._asked  # what came last may not have been sent
        while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if asked is not None:
                number, asked = asked, None
            else:
                came = _signal.sigtimedwait(signals, 0.05 if discard >= 0 else 0.5)
                number = _signal.SIGCHLD if came is None else came.si_signo
            now = time.monotonic()
            if self._until is not None and now > self._until and kill_at is None:
                self.timed_out, number, kill_at = True, self._stop_signal, now + self._kill_after
            if kill_at is not None and now > kill_at:
                number = _signal.SIGKILL
            if number != _signal.SIGCHLD:
                self.asked_to_end |= number in ENDING and not self.timed_out
                if number in ENDING:
                    kill_at = kill_at or now + self._kill_after
                try:
                    os.kill(target, number)
                except OSError:
                    pass
            _empty(discard)
        return self._reap()

    def _linger(self, pipe: int) -> None:
        """Wait until the other end of a pipe is closed everywhere; pass signals on meanwhile."""
        from singlerun.process import block  # noqa: PLC0415 - only when asked to linger

        deadline = tick = None
        while True:
            try:
                watched = self._signals.ending_watched
                if block.call(lambda: os.read(pipe, 1), watched, deadline, tick):
                    return
                self._send(_signal.SIGKILL)
                # From here on each second: what could fork meanwhile is still there.
                deadline, tick = None, lambda: self._send(_signal.SIGKILL)
            except block.InterruptedWaitError as interrupted:
                self._send(interrupted.args[0])
                if tick is None:
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
        if changed is not None and changed.si_code == os.CLD_STOPPED:
            self._reap_stop(changed.si_status)
            return False
        return changed is not None

    def _reap_orphans(self) -> None:
        """Reap adopted children that have ended, lest they stay in the process table."""
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid == self.pid:
                return
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)

    def _reap_stop(self, number: int) -> None:
        """Stop with the command, if a shell is there to notice and to continue us."""
        stopped = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
        # fg continues us both, us perhaps first: then the stop that we saw is over already.
        over = stopped is None or _signal.SIGCONT in _signal.sigpending()
        if self._signals.terminal and not over:
            self._signals.stop(number)

    def _pass_on(self, came: "_signal.struct_siginfo") -> None:
        number = came.si_signo
        by_terminal = self._signals.terminal and came.si_code == SI_KERNEL
        # The terminal sends to a whole group; only a hangup goes to the session's leader alone.
        reached_it = by_terminal and number not in self._early and (
            os.getpgid(self.pid) == os.getpgrp()
        )  # fmt: skip
        if number in ENDING:
            self.asked_to_end = True
            self._interrupted = by_terminal and number == _signal.SIGINT
            self._early.discard(number)
            if not reached_it:
                self._ask_to_end(number)
            elif number == _signal.SIGHUP and os.getsid(0) == os.getpid():
                self._send(number)
        elif not reached_it:
            self._forward(number)

    def _forward(self, number: int) -> None:
        """Send a signal to the command alone; one of job control to its group, if it has its own.

        In a session of its own that group is orphaned, and the kernel ignores all stop signals but
        SIGSTOP there (setpgid(2)).
        """
        to_group = number in {*STOPPING, _signal.SIGCONT} and not self._signals.terminal
        if number in STOPPING and os.getsid(self.pid) != os.getsid(0):
            number = _signal.SIGSTOP
        try:
            os.kill(-self.pid if to_group else self.pid, number)
        except (ProcessLookupError, PermissionError):  # it became another user, as by sudo
            pass

    def _ask_to_end(self, number: int) -> None:
        self._asked = number
        if self._escalation is None:
            from singlerun.process.termination import Escalation  # noqa: PLC0415 - unusual

            self._escalation = Escalation(self._send, self._kill_after)
        self._escalation.ask(number)

    def _send(self, number: int) -> None:
        self._tree().send(number)

    def _tree(self) -> "ProcessTree":
        if self._lazy_tree is None:
            from singlerun.process.tree import ProcessTree  # noqa: PLC0415 - unusual

            self._lazy_tree = ProcessTree(
                self.pid, self._marks, owns_group=not self._signals.terminal,
                adopted=self._adopts, strangers=self._strangers,
            )  # fmt: skip
        return self._lazy_tree

    def _reap(self) -> Outcome:
        # First the status alone: wait4() imports a module once it has reaped, and may fail then.
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        exited = ended.si_code == os.CLD_EXITED
        self._outcome = Outcome(
            ended.si_status if exited else None, None if exited else ended.si_status,
            elapsed_ns=time.monotonic_ns() - self._begun_ns, timed_out=self.timed_out,
        )  # fmt: skip
        try:
            _, _, usage = os.wait4(self.pid, 0)
        except Exception:  # noqa: BLE001, S110 - what it has used is not worth its status
            pass
        else:
            self._outcome.user_us = round(usage.ru_utime * 1e6)
            self._outcome.system_us = round(usage.ru_stime * 1e6)
            # Until exec the child shares our memory, and the kernel keeps that peak for it: a
            # smaller one of its own does not show, and VmHWM is gone when it has ended.
            if usage.ru_maxrss > self._our_peak_kb + PEAK_MARGIN_KB:
                self._outcome.max_rss_kb = usage.ru_maxrss
        return self._outcome


def _peak_kb() -> int:
    """Return the largest resident set that this process has had, in KiB (VmHWM, proc(5)).

    getrusage(2) would count that of the program before the last exec, too.
    """
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:
            return int(file.read().partition(b"VmHWM:")[2].partition(b"kB")[0])
    except (OSError, ValueError):
        return sys.maxsize  # then the command's is not known either


def _empty(pipe: int) -> None:
    """Throw away what is in a pipe, but only so much at once: signals and a timeout wait for us."""
    try:
        os.set_blocking(pipe, False)
        for _ in range(16):
            if not os.read(pipe, 65536):
                return
    except OSError:
        pass


def _adopt_orphans() -> bool:
    """Become the parent of orphaned descendants (PR_SET_CHILD_SUBREAPER, prctl(2)), if possible.

    Python has no call for it, and ctypes costs 5 ms: only for a command with a timeout.
    """
    try:
        import ctypes  # noqa: PLC0415

        return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        return False
