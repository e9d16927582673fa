"""The end of processes: SIGTERM, a grace period, then SIGKILL until nothing is left.

A signal goes through a pidfd that was opened before the identity of its process was checked, so
none reaches a process that took over a PID meanwhile.
"""

import os
import time
from errno import EMFILE, ENFILE

from singlerun.process import procfs
from singlerun.timings import KILL_PATIENCE, LONGEST_PAUSE, SHORTEST_PAUSE, TREE_LOOK, TREE_NAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Collection, Iterable

    Find = Callable[[], Collection[int]]
    Send = Callable[[int], object]
    AwaitEnd = Callable[[float], bool]
else:
    import _signal

EMPTY_LOOKS = 3
"""Looks in a row that must find no process before it counts as none."""
BATCH = 16
"""Pidfds open at once, so that a large tree can be ended under a low ``ulimit -n``."""


class Escalation:
    """SIGTERM, a grace period, then SIGKILL again and again.

    Attributes:
        deadline: when (time.monotonic) SIGKILL is due next; None until a process was asked to end.
    """

    def __init__(self, send: "Send", grace: float) -> None:
        """``send`` sends a signal to all processes that there are at that moment."""
        self._send, self._grace, self._pause = send, grace, SHORTEST_PAUSE
        self.deadline: float | None = None

    def ask(self, number: int = _signal.SIGTERM) -> None:
        """Send a signal that asks to end; the first one begins the grace period."""
        self._send(number)
        if self.deadline is None:
            self.deadline = time.monotonic() + self._grace

    def kill(self) -> None:
        """Send SIGKILL, and make the next one due."""
        self._send(_signal.SIGKILL)
        self.deadline = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def finish(self, await_end: "AwaitEnd", patience: float = KILL_PATIENCE) -> bool:
        """Carry on until nothing is left; return False if that takes too long after SIGKILL.

        ``await_end`` sleeps at most so many seconds; it returns whether all has ended, and may
        return early, but must not do so at once each time.
        """
        assert self.deadline is not None
        limit = None
        while not await_end(max(0, self.deadline - time.monotonic())):
            now = time.monotonic()
            if limit is not None and now >= limit:
                return False
            if now >= self.deadline:
                self.kill()
                limit = limit or time.monotonic() + patience
        return True


def terminate(
    send: "Send", await_end: "AwaitEnd", grace: float, *,
    number: int = _signal.SIGTERM, patience: float = KILL_PATIENCE,
) -> bool:  # fmt: skip
    """End processes and wait for that; return whether all have ended.

    Raises PermissionError if ``send`` may not signal one of them.
    """
    escalation = Escalation(send, grace)
    escalation.ask(number)
    return escalation.finish(await_end, patience)


class Targets:
    """A set of processes that are to end, and may start others until they do.

    ``terminate(targets.send, targets.await_end, grace)`` ends them.
    """

    def __init__(self, find: "Find") -> None:
        """``find`` returns the PIDs of those that are alive now."""
        self._find = find
        self._number = 0
        self._sent: set[int] = set()

    def send(self, number: int) -> None:
        """Send a signal to all of them, as send_each does."""
        self._number = number
        self._sent = set()
        self._send_to(self._find())

    def await_end(self, seconds: float) -> bool:
        """Wait as await_none does; what appears meanwhile is sent the latest signal, too."""
        return await_none(self._find, seconds, self._send_to)

    def _send_to(self, pids: "Iterable[int]") -> None:
        new = set(pids) - self._sent
        self._sent |= new
        send_each(new, (self._number,), lambda _: self._find())


def await_none(
    find: "Find", seconds: float, meet: "Callable[[Collection[int]], object] | None" = None
) -> bool:
    """Sleep until ``find`` returns no process, at most so many seconds; return whether it did.

    ``meet`` is called with what each look finds.
    """
    deadline = time.monotonic() + seconds
    gone: set[int] = set()
    empty = 0
    # A program that replaces itself by forking may slip through one walk of /proc, between the
    # parent, which has ended, and the child, which was not listed yet.
    while empty < EMPTY_LOOKS:
        left = set(find())
        empty = 0 if left else empty + 1
        if not left:
            continue
        if meet is not None:
            meet(left)
        if (remaining := deadline - time.monotonic()) <= 0:
            return False
        if left <= gone:
            time.sleep(min(TREE_NAP, remaining))
        gone = left if procfs.await_end(left, min(TREE_LOOK, remaining)) else set()
    return True


def send_each(
    pids: "Iterable[int]", numbers: "Collection[int]",
    confirm: "Callable[[Collection[int]], Collection[int]]",
) -> None:  # fmt: skip
    """Send signals to each of these processes that is confirmed to be meant.

    ``confirm`` is called with some at a time, whose pidfds are open, and returns those that are the
    right processes; it may return others, too. Raises PermissionError after all were signalled, if
    one of them may not be.
    """
    refused = None
    waiting = list(pids)
    while waiting:
        pidfds = _open_batch(waiting)
        try:
            for pid in pidfds.keys() & set(confirm(pidfds.keys()) if pidfds else ()):
                try:
                    for number in numbers:
                        _signal.pidfd_send_signal(pidfds[pid], number)
                except ProcessLookupError:
                    continue
                except PermissionError as error:
                    refused = error
        finally:
            for pidfd in pidfds.values():
                os.close(pidfd)
    if refused is not None:
        raise refused


def _open_batch(waiting: list[int]) -> dict[int, int]:
    """Take some PIDs off a list; return the pidfds of those that there still are.

    Raises OSError if not even two descriptors are left, one of which a look at /proc needs.
    """
    pidfds: dict[int, int] = {}
    while waiting and len(pidfds) < BATCH:
        try:
            pidfds[waiting[-1]] = os.pidfd_open(waiting[-1])
        except ProcessLookupError:
            pass
        except OSError as error:
            if pidfds:
                last, pidfd = pidfds.popitem()
                os.close(pidfd)
                waiting.append(last)
            if error.errno in {EMFILE, ENFILE} and pidfds:
                break
            for pidfd in pidfds.values():
                os.close(pidfd)
            raise
        waiting.pop()
    return pidfds
