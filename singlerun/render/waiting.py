"""The live line of a waiter on a terminal: which run it waits for, and about how long."""

import os
import sys
import time
from select import POLLOUT

from singlerun.duration import brief
from singlerun.process.descriptors import poll
from singlerun.render.refusal import holder
from singlerun.render.text import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.store.run import Run

LEAST_NAME, LEAST_HOLDER = 12, 16
"""Cells that names and holder keep before the time when it will be free is left out."""
_ERASE = b"\r\x1b[2K"


class WaitingLine:
    """One line on standard error, redrawn in place and erased at the end."""

    def __init__(self, waited_for: tuple[bytes, ...]) -> None:
        self._names = waited_for
        self._drawn = False

    def draw(
        self, pids: list[int], run: "Run | None", usual_ns: int | None, place: int | None, *,
        count: int = 1,
    ) -> None:  # fmt: skip
        """Show the holder, the oldest of ``count``; ``place`` is the waiter's, 1 at the front."""
        if not _is_in_front():
            return  # another job owns the terminal, and may be in the middle of a line
        free = _probably_free(run, usual_ns, place or 1)
        where = f" (#{place} in line)" if place else ""
        by = holder(pids, run, usual_ns, count=count)
        line = fit(names(self._names), where, free, by, _width())
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        _write(_ERASE + line.encode(encoding, "replace"))
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


def _width() -> int:
    try:
        return (os.get_terminal_size(2).columns or 80) - 1  # 0 means unknown
    except OSError:
        return 79


def fit(what: str, where: str, free: str, by: str, width: int) -> str:
    """Return the line, cut to the width: long names leave room for the place and the holder."""
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - wide characters take two

    def cut(text: str, size: int) -> str:
        return text if cell_len(text) <= size else set_cell_size(text, max(0, size - 1)) + "…"

    room = width - cell_len(f"waiting for {where}: held by ")
    if room - len(free) >= min(cell_len(what), LEAST_NAME) + min(cell_len(by), LEAST_HOLDER):
        room -= len(free)
    else:
        free = ""
    what = cut(what, max(LEAST_NAME, room - min(cell_len(by), LEAST_HOLDER)))
    return cut(f"waiting for {what}{where}{free}: held by {by}", width)


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
