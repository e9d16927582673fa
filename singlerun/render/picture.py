"""A timeline as one page for a browser (HTML) and as a picture (SVG), complete in themselves.

No script, and nothing that is loaded from elsewhere, which the page's policy forbids too. Names,
commands and reasons come from outside: all text goes through ``_text``.
"""

from html import escape

from singlerun.duration import brief
from singlerun.render.lanes import KINDS, PAUSED, at, ticks
from singlerun.render.reason import reason
from singlerun.render.text import cut, shown
from singlerun.store.run import FAILED, REFUSED, RUNNING, STOPPED, SUCCEEDED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.ownership.judge import Verdict
    from singlerun.render.lanes import Lane, Mark
    from singlerun.render.timeline import Timeline

HEIGHT = 26
"""Of a lane, in pixels."""
_BARS = {
    PAUSED: (0, 26), WAITING: (11, 4), SUCCEEDED: (5, 16), RUNNING: (5, 16), STOPPED: (8, 10),
    FAILED: (1, 24),
}  # fmt: skip
"""Top and height of a bar: the kinds differ in more than colour."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SVG = 'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif" font-size="13"'
MOST_TICKS = 8
MOST_ROWS = 50
"""Runs of a lane that are listed below it."""
WIDTH, NAMES_WIDTH, TOP = 1000, 220, 56
"""Of a picture, in pixels: all of it, its names, and what stands above the lanes."""
LONGEST_NAME = 120
SHORT_NAME = 26

_COLOURS = """
:root { --paper: #fff; --ink: #1b1f24; --faint: #667; --line: #d5d9de; --paused: #b9e3ee;
  --waiting: #b58900; --succeeded: #2da05a; --running: #3b82c4; --stopped: #a06bc4;
  --refused: #c76b00; --failed: #cf222e; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e6e8eb; --faint: #9aa4b0; --line: #333a43; --paused: #1d4b58;
    --waiting: #e3b341; --succeeded: #3fb96b; --running: #58a6ff; --stopped: #c297e8;
    --refused: #ff9d3d; --failed: #ff6b6b; } }
"""
_MARKS = "\n".join(
    [
        *(f".{kind} {{ fill: var(--{kind}); stroke: var(--{kind}); }}" for kind in KINDS),
        ".refused { fill: var(--paper); stroke-width: 2; }",
        ".running { stroke-dasharray: 3 2; fill-opacity: .6; }",
        ".tick { stroke: var(--line); }",
    ]
)
_PICTURE_STYLE = "text { fill: var(--ink); } .faint { fill: var(--faint); }"
_PAGE_STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 90rem; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.15rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: 0 0 .5rem;
  list-style: none; color: var(--faint); font-size: .87rem; }
.legend svg { width: 18px; height: 26px; vertical-align: middle; }
.lane, .axis { display: grid; grid-template-columns: minmax(9rem, 18%) minmax(0, 1fr);
  gap: 0 .75rem; }
.axis { position: sticky; top: 0; background: var(--paper); padding: .3rem 0; z-index: 1;
  border-bottom: 1px solid var(--line); }
.axis div { grid-column: 2; position: relative; height: 1.2rem; color: var(--faint);
  font-size: .8rem; }
.axis span { position: absolute; white-space: nowrap; padding-left: 3px;
  border-left: 1px solid var(--line); }
.lane { border-bottom: 1px solid var(--line); padding: .25rem 0; align-items: center; }
.lane h2 { font-size: .95rem; font-weight: 600; margin: 0; overflow: hidden; white-space: nowrap;
  text-overflow: ellipsis; }
.lane > svg { width: 100%; height: 26px; display: block; overflow: visible; }
details { grid-column: 2; font-size: .85rem; color: var(--faint); }
summary { cursor: pointer; padding: .15rem 0; }
.runs { overflow-x: auto; }
table { border-collapse: collapse; color: var(--ink); }
td, th { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0;
  white-space: nowrap; }
td:last-child { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
@media (max-width: 40rem) {
  .lane, .axis { grid-template-columns: minmax(0, 1fr); }
  .axis div, details { grid-column: 1; }
  .axis .odd { display: none; }
  summary { padding: .45rem 0; }
  tr { display: flex; flex-wrap: wrap; gap: 0 .8rem; padding: .3rem 0;
    border-top: 1px solid var(--line); }
  tr:first-child { display: none; }
  td { padding: 0; }
  td:last-child { flex-basis: 100%; }
  td:last-child:empty { display: none; } }
"""


def page(timeline: "Timeline") -> str:
    """Return a page with a lane for each name and, below it, its runs in words."""
    title = _text(f"singlerun: {cut(timeline.title, 2 * LONGEST_NAME)}")
    scale = _Scale(timeline.since_ns, timeline.until_ns, 0, 100, "%")
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{title}</title>\n<style>{_COLOURS}{_MARKS}{_PAGE_STYLE}</style>",
        f"<h1>{title}</h1>\n{_page_legend(timeline.lanes)}",
    ]
    if not timeline.lanes:
        parts.append("<p>No runs in this period.</p>")
    else:
        labels = "".join(
            f'<span class="{"odd" if number % 2 else "even"}" style="left: {x}">{_text(label)}'
            "</span>"
            for number, (x, label) in enumerate(scale.ticks())
        )
        parts.append(f'<div class="axis"><div>{labels}</div></div>')
    parts += [part for lane in timeline.lanes for part in _page_lane(lane, scale)]
    return "\n".join([*parts, "</html>", ""])


def picture(timeline: "Timeline") -> str:
    """Return a picture with a lane for each name."""
    scale = _Scale(timeline.since_ns, timeline.until_ns, NAMES_WIDTH, WIDTH - NAMES_WIDTH - 20, "")
    bottom = TOP + HEIGHT * len(timeline.lanes)
    height = bottom + 40
    title = _text(f"singlerun: {cut(timeline.title, LONGEST_NAME)}")
    parts = [
        f'<svg {_SVG} viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>{title}</title>\n<style>{_COLOURS}{_MARKS}{_PICTURE_STYLE}</style>",
        '<rect width="100%" height="100%" style="fill: var(--paper)"/>',
        f'<text x="10" y="22">{title}</text>',
    ]
    for x, label in scale.ticks():
        parts.append(
            f'<line class="tick" x1="{x}" x2="{x}" y1="{TOP - 14}" y2="{bottom}"/>'
            f'<text class="faint" x="{x}" dx="3" y="{TOP - 5}" font-size="11">{_text(label)}</text>'
        )
    for number, lane in enumerate(timeline.lanes):
        name = shown(lane.name)
        top = TOP + HEIGHT * number
        parts.append(
            f'<g transform="translate(0 {top})"><text x="10" y="18">{_title(name)}'
            f"{_text(cut(name, SHORT_NAME))}</text>{''.join(_marks(lane, scale))}</g>"
        )
    drawn = _kinds(timeline.lanes)
    for number, kind in enumerate(drawn):
        parts.append(
            f'<g transform="translate({10 + number * 120} {bottom + 8})">{_sample(kind)}'
            f'<text class="faint" x="24" y="18">{kind}</text></g>'
        )
    return "\n".join([*parts, "</svg>", ""])


# -- parts --------------------------------------------------------------------------------------


class _Scale:
    """Positions of moments, as SVG and CSS write them: numbers, or per cent."""

    def __init__(self, since_ns: int, until_ns: int, left: int, size: int, unit: str) -> None:
        self._since_ns, self._until_ns = since_ns, until_ns
        self._left, self._size, self._unit = left, size, unit

    def _at(self, time_ns: int) -> float:
        inside = min(max(time_ns, self._since_ns), self._until_ns)
        share = (inside - self._since_ns) / (self._until_ns - self._since_ns)
        return self._left + share * self._size

    def x(self, time_ns: int) -> str:
        """Return the position of a moment; one outside the period is at its nearer end."""
        return f"{self._at(time_ns):.3f}{self._unit}"

    def width(self, begin_ns: int, end_ns: int) -> str:
        """Return the width of a time."""
        return f"{self._at(end_ns) - self._at(begin_ns):.3f}{self._unit}"

    def shows(self, mark: "Mark") -> bool:
        """Return whether a mark lies in the period."""
        return mark.end_ns >= self._since_ns and mark.begin_ns <= self._until_ns

    def ticks(self) -> "list[tuple[str, str]]":
        """Return the positions of round times and their labels."""
        found = ticks(self._since_ns, self._until_ns, MOST_TICKS)
        return [(self.x(moment), label) for moment, label in found]


def _marks(lane: "Lane", scale: _Scale) -> "Iterator[str]":
    for mark in filter(scale.shows, lane.marks):
        x, tip = scale.x(mark.begin_ns), _title(mark.title)
        if mark.kind == REFUSED:
            yield f'<circle class="refused" cx="{x}" cy="{HEIGHT // 2}" r="4">{tip}</circle>'
            continue
        top, height = _BARS[mark.kind]
        width = scale.width(mark.begin_ns, mark.end_ns)
        yield (
            f'<rect class="{mark.kind}" x="{x}" y="{top}" width="{width}" height="{height}">'
            f"{tip}</rect>"
        )


def _page_lane(lane: "Lane", scale: _Scale) -> "Iterator[str]":
    name = shown(lane.name)
    yield f'<section class="lane"><h2 title="{_text(name)}">{_text(cut(name, LONGEST_NAME))}</h2>'
    yield f'<svg role="img" aria-label="{_text(lane.summary())}">'
    yield "".join(
        f'<line class="tick" x1="{x}" x2="{x}" y1="0" y2="{HEIGHT}"/>' for x, _ in scale.ticks()
    )
    yield from _marks(lane, scale)
    yield f"</svg><details><summary>{_text(lane.summary())}</summary>"
    latest = lane.runs[: -MOST_ROWS - 1 : -1]
    rows = "".join(f"<tr>{''.join(map(_cell, _row(seen)))}</tr>" for seen in latest)
    yield (
        '<div class="runs"><table><tr><th>Run<th>Began<th>State<th>Took<th>Why</tr>'
        f"{rows}</table></div>"
    )
    if len(latest) < len(lane.runs):
        yield f"<p>The latest {len(latest)} of {len(lane.runs)} runs.</p>"
    yield "</details></section>"


def _row(seen: "Verdict") -> tuple[str, ...]:
    run = seen.run
    took = "-"
    if run.elapsed_ns is not None:
        took = brief(run.elapsed_ns / 1e9)
    return str(run.id), at(run.started_ns or run.asked_ns), seen.state, took, reason(run)


def _cell(text: str) -> str:
    return f"<td>{_text(text)}</td>"


def _kinds(found: "list[Lane]") -> list[str]:
    drawn = {mark.kind for lane in found for mark in lane.marks}
    return [kind for kind in KINDS if kind in drawn]


def _page_legend(found: "list[Lane]") -> str:
    items = "".join(f"<li><svg>{_sample(kind)}</svg> {kind}</li>" for kind in _kinds(found))
    return f'<ul class="legend">{items}</ul>'


def _sample(kind: str) -> str:
    if kind == REFUSED:
        return f'<circle class="refused" cx="9" cy="{HEIGHT // 2}" r="4"/>'
    top, height = _BARS[kind]
    return f'<rect class="{kind}" x="1" y="{top}" width="16" height="{height}"/>'


def _title(text: str) -> str:
    return f"<title>{_text(text)}</title>"


def _text(text: str) -> str:
    return escape(text, quote=True)
