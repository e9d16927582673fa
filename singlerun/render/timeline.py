"""Lanes of runs over a period, on a terminal and as JSON; pages and pictures: render/picture.py."""

import os
import time

from singlerun.render import style
from singlerun.render.lanes import KINDS, PAUSED, at, lanes, ticks
from singlerun.render.result import Result
from singlerun.render.text import shown
from singlerun.store.run import FAILED, REFUSED, RUNNING, STOPPED, SUCCEEDED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from singlerun.ownership.judge import Verdict
    from singlerun.render.lanes import Lane
    from singlerun.store.run import Pause

GLYPHS = {
    PAUSED: "═", WAITING: "░", SUCCEEDED: "█", RUNNING: "▓", STOPPED: "▒", REFUSED: "○",
    FAILED: "✗",
}  # fmt: skip
PLAIN_GLYPHS = {
    PAUSED: "=", WAITING: ".", SUCCEEDED: "#", RUNNING: ">", STOPPED: "s", REFUSED: "o",
    FAILED: "X",
}  # fmt: skip
MOST_LANES = 50
WIDEST_NAME = 30
GRAINS = 1000
"""Into so many parts a period is divided: less than that is not shown apart."""
_LABEL = 10
"""Columns that a label of the axis takes, with the gap behind it."""


class Timeline(Result):
    """The lanes of a period; at most ``limit`` of them are drawn, those with the most runs."""

    def __init__(
        self, runs: "Sequence[Verdict]", pauses: "Sequence[Pause]", since_ns: int, until_ns: int,
        *, name: bytes | None = None, limit: int = MOST_LANES, errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._runs, self._pauses, self.name = runs, pauses, name
        self.since_ns, self.until_ns = since_ns, until_ns
        grain_ns = max(1, (until_ns - since_ns) // GRAINS)
        all_lanes = lanes(runs, pauses, min(time.time_ns(), until_ns), grain_ns, name)
        chosen = sorted(all_lanes, key=lambda lane: -len(lane.runs))[:limit]
        self.lanes = [lane for lane in all_lanes if lane in chosen]

        self._is_saved = False
        if left_out := len(all_lanes) - len(self.lanes):
            what = f"{len(self.lanes)} of {left_out + len(self.lanes)} names are shown"
            how = f"those with the most runs; to see all: --limit {left_out + len(self.lanes)}"
            self.errors.append(f"{what}, {how}")

    def save(self, path: bytes, text: str) -> None:
        """Write a page or picture of it to a file, instead of drawing it; ``-``: standard output.

        Raises OSError if it can't be written.
        """
        self._is_saved = True
        if path != b"-":
            with open(os.fsdecode(path), "wb") as file:
                file.write(text.encode())
        else:
            self._lines = (*self._lines, text.rstrip("\n"))

    @property
    def title(self) -> str:
        """What the picture shows."""
        what = "all names" if self.name is None else shown(self.name)
        return f"{what}, {at(self.since_ns)} to {at(self.until_ns)}"

    def lines(self) -> "Iterator[str]":
        if self._is_saved:
            yield from self._lines
            return
        if not self.lanes:
            what = "" if self.name is None else f" of {shown(self.name)}"
            yield f"No runs{what} in this period; to look further back: --since 7d"
            return
        yield from _drawing(self.lanes, self.since_ns, self.until_ns)

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {
            "since": at_utc(self.since_ns), "until": at_utc(self.until_ns),
            "runs": json.runs(self._runs),
            "pauses": [
                {"name": os.fsdecode(pause.name), "since": at_utc(pause.since_ns),
                 "until": pause.until_ns and at_utc(pause.until_ns)}
                for pause in self._pauses
            ],
        }  # fmt: skip


def at_utc(time_ns: int) -> str:
    """Return a time as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ns // 10**9))


def _drawing(found: "list[Lane]", since_ns: int, until_ns: int) -> "Iterator[str]":
    width = style.width()
    names = [shown(lane.name) for lane in found]
    name_width = min(max(map(style.cells, names)), WIDEST_NAME, max(8, width // 4))
    summaries = [lane.summary() for lane in found]
    beside = max(map(len, summaries)) if width >= 80 else 0
    beside = min(beside, width // 3)
    size = max(10, width - name_width - 2 - (beside + 2 if beside else 0))
    glyphs = GLYPHS if style.is_unicode() else PLAIN_GLYPHS
    scale = _Scale(since_ns, until_ns, size)
    yield " " * (name_width + 2) + _axis(scale)
    empty = _ruled(scale)
    drawn: set[str] = set()
    for lane, name, summary in zip(found, names, summaries, strict=True):
        cells = _cells(lane, scale)
        drawn.update(filter(None, cells))
        row = _row(cells, empty, glyphs)
        tail = f"  {style.fit(summary, beside).rstrip()}" if beside else ""
        yield f"{style.fit(name, name_width)}  {row}{tail}".rstrip()
    yield ""
    yield from _legend([kind for kind in KINDS if kind in drawn], glyphs, width)


def _legend(kinds: list[str], glyphs: dict[str, str], width: int) -> "Iterator[str]":
    """Yield what the glyphs mean, in as many lines as it takes."""
    line, used = "", 0
    for kind in kinds:
        size = len(kind) + 2
        if used and used + 3 + size > width:
            yield line
            line, used = "", 0
        gap = " " * 3 if used else ""
        line += f"{gap}{style.paint(glyphs[kind], style.COLOURS[kind])} {kind}"
        used += len(gap) + size
    yield line


class _Scale:
    """Columns of a period."""

    def __init__(self, since_ns: int, until_ns: int, size: int) -> None:
        self.since_ns, self.until_ns, self.size = since_ns, until_ns, size

    def column(self, time_ns: int) -> int:
        """Return the column of a moment, the nearest if it is outside."""
        at_ = (time_ns - self.since_ns) * self.size // (self.until_ns - self.since_ns)
        return min(max(at_, 0), self.size - 1)

    def ticks(self) -> "Sequence[tuple[int, str]]":
        """Return the columns of round times, each with its label."""
        most = max(1, self.size // _LABEL)
        return [(self.column(moment), label)
                for moment, label in ticks(self.since_ns, self.until_ns, most)]  # fmt: skip


def _axis(scale: _Scale) -> str:
    line = ""
    for column, label in scale.ticks():
        if column >= len(line) and column + len(label) <= scale.size:
            line = line.ljust(column) + label + " "
    return line.rstrip()


def _ruled(scale: _Scale) -> list[str]:
    """Return an empty row, with a mark where each label of the axis begins."""
    row = [" "] * scale.size
    for column, _ in scale.ticks():
        row[column] = "·" if style.is_unicode() else ":"
    return row


def _cells(lane: "Lane", scale: _Scale) -> list[str]:
    """Return what is drawn in each column: of several kinds the most telling one."""
    cells = [""] * scale.size
    for mark in lane.marks:  # the most telling ones come last
        if mark.end_ns < scale.since_ns or mark.begin_ns > scale.until_ns:
            continue
        first, last = scale.column(mark.begin_ns), scale.column(mark.end_ns)
        cells[first : last + 1] = [mark.kind] * (last + 1 - first)
    return cells


def _row(cells: list[str], empty: list[str], glyphs: dict[str, str]) -> str:
    """Return the glyphs of a row, those of a kind that stand together in one colour."""
    row, begin = "", 0
    while begin < len(cells):
        kind, end = cells[begin], begin
        while end < len(cells) and cells[end] == kind:
            end += 1
        row += (
            style.paint(glyphs[kind] * (end - begin), style.COLOURS[kind])
            if kind
            else "".join(empty[begin:end])
        )
        begin = end
    return row
