"""The signals of this process while it runs a command.

They are not caught but blocked, and taken one by one with sigwaitinfo(2): there is no moment in
which one can be missed, or interrupt what must not be interrupted.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT)
"""They go to the command's whole process tree, and begin its grace period. All others but SIGCHLD
go to the command alone, also those that would otherwise end this process and orphan the command; a
fault of our own (SIGSEGV) ends it even so, as the kernel then unblocks the signal."""
STOPPING = {_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU}
"""What a terminal stops a whole group with. We stop after the command has, and not before: else we
could be stopped with the run-log locked, and every other run would wait for us."""

_OURS = {_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD}
SI_KERNEL = 0x80
"""The si_code of a signal that the kernel sent by itself, as for a terminal (sigaction(2))."""


class Signals:
    """The signals of this process while it runs a command: blocked from here on.

    Attributes:
        terminal: whether this process has a controlling terminal.
        watched: those that are taken while a command runs.
        endings, ending_watched: those that ask this process to end; those of them in ``watched``.
        inherited: the mask that this process was started with.
    """

    def __init__(self, *, defer_endings: bool = False) -> None:
        """With ``defer_endings`` what asks us to end stays pending while a command runs."""
        self.terminal = _has_terminal()
        # An ignored signal (nohup) stays ignored, here and in the command.
        self.watched = {
            number for number in _signal.valid_signals() - _OURS
            if _signal.getsignal(number) is not _signal.SIG_IGN
        }  # fmt: skip
        if _signal.getsignal(_signal.SIGCHLD) is _signal.SIG_IGN:
            # Else the kernel discards our child's status (wait(2), notes).
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        self.endings = self.watched & set(ENDING)
        blocked = self.watched | STOPPING | {_signal.SIGCHLD}
        self.inherited = _signal.pthread_sigmask(_signal.SIG_BLOCK, blocked)
        if defer_endings:
            self.watched -= self.endings
        self.ending_watched = self.watched & self.endings

    def pending(self) -> set[int]:
        """Return the signals that ask to end and have come already."""
        return {int(number) for number in self.ending_watched & _signal.sigpending()}

    def ending(self) -> int | None:
        """Return one signal that asks to end and has come already, None if none has."""
        return min(self.pending(), default=None)

    def sleep(self, seconds: float) -> int | None:
        """Sleep, unless a signal asks to end; return its number then."""
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
        """Unblock signals again as before."""
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.inherited)

    def admit_stops(self) -> None:
        """Let Ctrl-Z stop this process, while there is no command that would stop with it."""
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, STOPPING)

    def defer_stops(self) -> None:
        """Stop only when the command does, as before admit_stops."""
        _signal.pthread_sigmask(_signal.SIG_BLOCK, STOPPING)

    def stop(self, number: int) -> None:
        """Stop this process with the signal that stopped the command, until it is continued."""
        os.kill(os.getpid(), number)
        if number in STOPPING:
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, {number})
            _signal.pthread_sigmask(_signal.SIG_BLOCK, {number})


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
