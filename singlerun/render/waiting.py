"""The live line of who waits on a terminal: for whom, for how long, and until about when."""

import os
import select
import time

from singlerun.duration import brief
from singlerun.render.refusal import holder
from singlerun.render.text import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.store.base import Run

_ERASE = b"\r\x1b[2K"


class WaitingLine:
    """One line on standard error, drawn over and over; nothing of it is left at the end."""

    def __init__(self, waited_for: tuple[bytes, ...]) -> None:
        self._names = waited_for
        self._drawn = False

    def draw(
        self, pids: list[int], run: "Run | None", usual_ns: int | None, place: int | None
    ) -> None:
        """Show who holds the lock; ``place`` is the waiter's in line, the front being 1."""
        if not _is_in_front():
            return  # somebody else has the terminal, and may be in the middle of a line
        where = f" (#{place} in line)" if place else ""
        free = _probably_free(run, usual_ns, place or 1)
        by = holder(pids, run, usual_ns)
        text = f"waiting for {names(self._names)}{where}{free}: held by {by}"
        _write(_ERASE + _fit(text).encode(errors="replace"))
        self._drawn = True

    def erase(self) -> None:
        """Take the line away."""
        if self._drawn:
            _write(_ERASE)
            self._drawn = False


def _probably_free(run: "Run | None", usual_ns: int | None, place: int) -> str:
    if run is None or run.started_ns is None or usual_ns is None:
        return ""
    left_ns = run.started_ns + usual_ns - time.time_ns()
    if left_ns < 0:
        return f", {brief(-left_ns / 1e9)} over the usual"
    return f", free in about {brief((left_ns + (place - 1) * usual_ns) / 1e9)}"


def _fit(text: str) -> str:
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - wide characters take two

    try:
        width = (os.get_terminal_size(2).columns or 80) - 1  # 0: the terminal doesn't know
    except OSError:
        width = 79
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"


def _is_in_front() -> bool:
    try:
        return os.tcgetpgrp(2) == os.getpgrp()
    except OSError:
        return False


def _write(data: bytes) -> None:
    # One that was stopped (Ctrl-S) must not stop us: the lock may be ours at any moment.
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    if not poll.poll(0):
        return
    try:
        os.write(2, data)
    except OSError:
        pass
