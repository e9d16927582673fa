"""Blocking calls that have no timeout of their own and must not miss a signal.

A thread makes the call while this one sleeps in sigtimedwait(2). A handler and EINTR would not do:
a signal that arrives after the last check and before the call goes to sleep is lost.
"""

import _thread
import os
import time

from singlerun.errors import ThreadError
from singlerun.timings import TICK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable
else:
    import _signal

WAKE = int(_signal.SIGCHLD)


class InterruptedWaitError(Exception):
    """A signal came while waiting: its number is the first argument."""


def call(
    block: "Callable[[], object]", watched: "Iterable[int]", deadline: float | None,
    tick: "Callable[[], object] | None" = None,
) -> bool:  # fmt: skip
    """Make a blocking call; return whether it ended before the deadline (time.monotonic).

    ``tick`` is called every second meanwhile. ``watched`` are signals that are blocked in this
    thread. After a timeout or a signal the call still sleeps in its thread, so the process must not
    go on to rely on what it would do. Raises InterruptedWaitError if one of the watched signals
    came first, ThreadError if no thread can be started, so the call was not made, Exception if what
    the call raised.
    """
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            block()
            ended.append(None)
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that waits
            ended.append(error)
        os.kill(os.getpid(), WAKE)

    signals = {*watched, WAKE}
    came: _signal.struct_siginfo | None
    try:
        _thread.start_new_thread(run, ())
    except RuntimeError as error:
        raise ThreadError(f"cannot wait: {error}; too many processes (ulimit -u)?") from None
    while not ended:
        left = float("inf") if deadline is None else max(0, deadline - time.monotonic())
        pause = left if tick is None else min(TICK, left)
        if pause == float("inf"):
            came = _signal.sigwaitinfo(signals)
        else:
            came = _signal.sigtimedwait(signals, pause)
        if came is None:
            if tick is None or pause == left:
                break
            tick()
        elif came.si_signo != WAKE:
            raise InterruptedWaitError(came.si_signo)
    if ended and ended[0] is not None:
        raise ended[0]
    return bool(ended)  # also what ended just after the deadline
