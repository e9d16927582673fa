"""A view that is drawn again and again: ``--watch``.

On a terminal it has the other screen, as an editor does, so that what was there comes back. A frame
is one write that overwrites the one before it, so nothing flickers; what does not fit is counted.
"""

import os
import signal
import sys
import time

from singlerun.paths import reason
from singlerun.render import table
from singlerun.render.line import say
from singlerun.render.result import show
from singlerun.render.style import is_terminal
from singlerun.timings import REDRAW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from rich.console import Console

    from singlerun.render.result import Result

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""The other screen without a cursor, where long lines are not wrapped; and back."""
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2K", "\x1b[J"
_BLOCKED = {signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH}
"""Signals that are taken between two frames only, so that none is torn."""


class _EndedError(Exception):
    """A signal asks this process to end."""


def watch(look: "Callable[[], Result]") -> int:
    """Show what ``look`` returns every second until a signal comes; return the exit status."""
    if not is_terminal() or os.environ.get("TERM", "dumb") == "dumb":
        while not (status := show(look())):
            time.sleep(REDRAW)
        return status
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        _write(_ENTER)
        _draw_again_and_again(look)
    except _EndedError as ended:
        number = ended.args[0]
    except OSError as error:
        say(f"cannot write the output: {reason(error)}")
        return 125
    finally:
        _write(_LEAVE)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.kill(os.getpid(), number)
    return 128 + int(number)


def _draw_again_and_again(look: "Callable[[], Result]") -> "NoReturn":
    from rich.console import Console  # noqa: PLC0415 - only for people

    console = Console(highlight=False)
    while True:
        result = look()
        width, height = _size()  # now, and not as COLUMNS says, which no change of size reaches
        lines = frame(result, console, width, height)
        below = "\r\n" + _CLEAR_BELOW if len(lines) < height else ""
        # Cleared before it is written: after its last column a full line would lose that.
        _write(_HOME + "\r\n".join(_CLEAR_LINE + line for line in lines) + below)
        came = signal.sigtimedwait(_BLOCKED, REDRAW)
        if came is None or came.si_signo == signal.SIGWINCH:
            continue
        if came.si_signo != signal.SIGTSTP:
            raise _EndedError(came.si_signo)
        _write(_LEAVE)
        os.kill(os.getpid(), signal.SIGSTOP)
        _write(_ENTER)


def frame(result: "Result", console: "Console", width: int, height: int) -> list[str]:
    """Return the lines of a result that fill a terminal at most, with their escape sequences.

    The header of the table stays, and the last line says how many rows do not fit.
    """
    rows = result.rows()
    above = [table.cut(line, width) for line in result.heading()]
    below = [table.cut(line, width) for line in (*result.errors, *result.left_out())]
    if not rows:
        below.insert(0, table.cut(result.empty, width))
    room = max(1, height - len(above) - 1 - len(below))
    if len(rows) > room:
        room = max(1, room - 1)
        below.insert(0, table.cut(f"… and {len(rows) - room} more rows", width))
    fitted = table.fitted(result.columns, rows[:room], width, result.spare)
    with console.capture() as capture:
        for line in fitted:
            console.print(line, soft_wrap=True)
    shown = capture.get().splitlines()
    # In a very low window the table goes before what is around it.
    above = above[: max(0, height - len(shown) - len(below))]
    return [*above, *shown, *below][:height]


def _size() -> tuple[int, int]:
    """Return the columns and lines of the terminal; one that does not tell is 80 by 24."""
    width, height = os.get_terminal_size(1)
    return width or 80, height or 24


def _write(text: str) -> None:
    """Write to the terminal, all of it in one piece."""
    data = text.encode(sys.stdout.encoding, "backslashreplace")
    while data:
        data = data[os.write(1, data) :]
