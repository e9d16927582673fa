"""The live line of a waiter on a terminal: which run it waits for, and about how long."""

import os
import time
from select import POLLOUT

from singlerun.duration import brief
from singlerun.process.descriptors import poll
from singlerun.render.refusal import holder
from singlerun.render.text import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.store.run import Run

_ERASE = b"\r\x1b[2K"


class WaitingLine:
    """One line on standard error, redrawn in place and erased at the end."""

    def __init__(self, waited_for: tuple[bytes, ...]) -> None:
        self._names = waited_for
        self._drawn = False

    def draw(
        self, pids: list[int], run: "Run | None", usual_ns: int | None, place: int | None
    ) -> None:
        """Show the holder; ``place`` is the waiter's place in line, 1 at the front."""
        if not _is_in_front():
            return  # another job owns the terminal, and may be in the middle of a line
        where = f" (#{place} in line)" if place else ""
        free = _probably_free(run, usual_ns, place or 1)
        by = holder(pids, run, usual_ns)
        text = f"waiting for {names(self._names)}{where}{free}: held by {by}"
        _write(_ERASE + _fit(text).encode(errors="replace"))
        self._drawn = True

    def erase(self) -> None:
        """Erase the line if it was drawn."""
        if self._drawn:
            _write(_ERASE)
            self._drawn = False


def _probably_free(run: "Run | None", usual_ns: int | None, place: int) -> str:
    if run is None or run.started_ns is None or usual_ns is None:
        return ""
    left_ns = run.started_ns + usual_ns - time.time_ns()
    if left_ns < 0:
        return f", {brief(-left_ns / 1e9)} longer than usual"
    return f", free in about {brief((left_ns + (place - 1) * usual_ns) / 1e9)}"


def _fit(text: str) -> str:
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - wide characters take two

    try:
        width = (os.get_terminal_size(2).columns or 80) - 1  # 0 means unknown
    except OSError:
        width = 79
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"


def _is_in_front() -> bool:
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        return False


def _write(data: bytes) -> None:
    # A terminal stopped with Ctrl-S must not block us: we may get the lock at any moment.
    try:
        if poll({2: POLLOUT}, 0):
            os.write(2, data)
    except OSError:
        pass
