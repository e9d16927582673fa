"""Timelines: what a lane shows, how it fits a terminal, and that pages and pictures are safe."""

import re
import time
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from screens import golden

from singlerun.outcome import Outcome
from singlerun.ownership.judge import Verdict
from singlerun.process.identity import Owner, Place
from singlerun.render import lanes, picture, style
from singlerun.render.timeline import Timeline
from singlerun.store.run import (
    FAILED,
    LOST,
    REFUSED,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    WAITING,
    Pause,
    Run,
)

SECOND = 10**9
HOUR = 3600 * SECOND
NOON = 1_789_992_000 * SECOND
"""2026-09-21T12:00:00Z."""
HOSTILE = b'</title></svg><script>alert("1")</script>&\x1b[31m\xff\xe2\x80\xae'


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def columns(monkeypatch):
    """Return a function that sets the width and whether there are block characters."""

    def set_to(count, *, is_unicode=True):
        monkeypatch.setenv("COLUMNS", str(count))
        monkeypatch.setattr(style, "is_unicode", lambda: is_unicode)

    return set_to


def a_run(state, begin, end, *names, waited=0.0, detail=None, argv=(b"rsync", b"-a")):
    """Return a verdict on a run; times are hours after noon."""
    run = Run(
        names=names or (b"x",), argv=argv, wrapper=Owner(Place("host", "boot", 1), 12, 1), uid=0,
        asked_ns=NOON + round((begin - waited) * HOUR),
    )  # fmt: skip
    run.id, run.state, run.detail = 7, state, detail
    if state not in {REFUSED, WAITING}:
        run.started_ns = NOON + round(begin * HOUR)
    if state not in {RUNNING, WAITING}:
        run.ended_ns = NOON + round(end * HOUR)
        if run.started_ns is not None:
            run.outcome = Outcome(3, elapsed_ns=run.ended_ns - run.started_ns)
    return Verdict(run, state, [])


def timeline(*runs, pauses=(), hours=10, **more):
    return Timeline(runs, pauses, NOON, NOON + hours * HOUR, **more)


def drawn(*arguments, **more):
    return list(timeline(*arguments, **more).lines())


DAY = (
    a_run(SUCCEEDED, 0, 2, b"backup"),
    a_run(FAILED, 4, 5, b"backup", waited=1),
    a_run(REFUSED, 1, 1, b"backup"),
    a_run(STOPPED, 7, 8, b"backup"),
    a_run(LOST, 3, 4, "倉庫 📦".encode()),
    a_run(SUCCEEDED, 0, 10, b"n" * 120),
)
PAUSES = (Pause(b"backup", NOON + 9 * HOUR, None, 0),)


def test_a_lane_shows_each_kind_in_its_place(columns):
    columns(63)
    _, lane, _, *legend = drawn(*DAY[:4], pauses=[Pause(b"backup", NOON + 9 * HOUR, None, 0)])
    row = lane.removeprefix("backup  ")
    assert len(row) <= 55
    at = {glyph: [m.start() * 10 / 55 for m in re.finditer(glyph, row)] for glyph in "█░✗▒○═"}
    for glyph, begin, end in (("█", 0, 2), ("░", 3, 4), ("✗", 4, 5), ("▒", 7, 8), ("═", 9, 10)):
        assert begin - 0.2 < at[glyph][0] < begin + 0.4, glyph
        assert end - 0.4 < at[glyph][-1] < end + 0.2, glyph
    assert 0.8 < at["○"][0] < 1.2, "over the run that it was refused for"
    assert (
        "   ".join(legend)
        == "═ paused   ░ waiting   █ succeeded   ▒ stopped   ○ refused   ✗ failed"
    )


@pytest.mark.parametrize("is_unicode", [True, False])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_drawing_fits_and_is_as_ever(columns, width, is_unicode):
    columns(width, is_unicode=is_unicode)
    found = drawn(*DAY, pauses=PAUSES)
    assert all(style.cells(line) <= width for line in found)
    golden(f"timeline-{width}-{'utf8' if is_unicode else 'ascii'}", found)


def test_what_no_picture_shows_apart_is_joined(columns):
    short = [a_run(SUCCEEDED, n / 10000, n / 10000 + 0.00001) for n in range(200)]
    (lane,) = lanes.lanes(short, [], NOON + HOUR, HOUR // 100)
    assert [(mark.count, mark.kind) for mark in lane.marks] == [(200, SUCCEEDED)]
    assert lane.marks[0].title.startswith("200 succeeded\n")
    (lane,) = lanes.lanes(short[:50], [], NOON + HOUR, 1)
    assert len(lane.marks) == 50


def test_long_runs_side_by_side_are_not_joined(columns):
    runs = [a_run(SUCCEEDED, n, n + 1) for n in range(5)]
    (lane,) = lanes.lanes(runs, [], NOON + 5 * HOUR, HOUR // 100)
    assert len(lane.marks) == 5


def test_a_run_that_goes_on_ends_now():
    (lane,) = lanes.lanes([a_run(RUNNING, 1, None)], [], NOON + 2 * HOUR, SECOND)
    (mark,) = lane.marks
    assert (mark.kind, mark.begin_ns, mark.end_ns) == (RUNNING, NOON + HOUR, NOON + 2 * HOUR)
    (lane,) = lanes.lanes([a_run(WAITING, 1, None)], [], NOON + 2 * HOUR, SECOND)
    (mark,) = lane.marks
    assert (mark.kind, mark.end_ns) == (WAITING, NOON + 2 * HOUR)


def test_an_empty_period_says_what_to_type(columns):
    columns(80)
    assert drawn() == ["No runs in this period; to look further back: --since 7d"]
    assert drawn(name=b"x") == ["No runs of x in this period; to look further back: --since 7d"]


def test_names_that_are_left_out_are_counted(columns):
    columns(80)
    runs = [a_run(SUCCEEDED, 0, 1, b"n%d" % number) for number in range(5)]
    runs += [a_run(FAILED, 2, 3, b"n4")]
    found = timeline(*runs, limit=2)
    assert [lane.name for lane in found.lanes] == [b"n0", b"n4"]
    (said,) = found.errors
    assert "2 of 5 names" in said and "--limit 5" in said
    assert timeline(*runs, limit=5).errors == []


def test_ticks_are_round_times_and_not_too_many():
    for hours in (0.01, 1, 7, 24, 24 * 9, 24 * 400):
        until = NOON + round(hours * HOUR)
        found = lanes.ticks(NOON, until, 8)
        assert 1 <= len(found) <= 9
        assert all(NOON <= moment <= until for moment, _ in found)
    assert [label for _, label in lanes.ticks(NOON, NOON + 24 * HOUR, 8)] == [
        "12:00", "15:00", "18:00", "21:00", "22 Sep", "03:00", "06:00", "09:00", "12:00",
    ][:8]  # fmt: skip


# -- pages and pictures ---------------------------------------------------------------------------


class Page(HTMLParser):
    """The elements of a page, and where it is torn."""

    VOID = frozenset({"meta", "tr", "td", "th"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def hostile():
    return timeline(
        a_run(FAILED, 1, 2, HOSTILE, detail=HOSTILE.decode("utf-8", "replace"), argv=(HOSTILE,)),
        a_run(REFUSED, 3, 3, HOSTILE, detail="held by <b>&"),
        pauses=[Pause(HOSTILE, NOON, NOON + HOUR, 0)],
        name=HOSTILE,
    )


def test_a_page_obeys_nothing_from_outside():
    text = picture.page(hostile())
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "b", "a", "img", "link", "iframe", "object", "foreignobject"}
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert "<script" not in text
    assert not set(text) & {"\x1b", "\u202e"}
    assert any("alert" in said for said in page.texts), "but it is shown"


def test_a_page_loads_nothing_from_elsewhere():
    text = picture.page(timeline(*DAY))
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?:", text)
    (policy,) = [
        found["content"] for _, found in Page(text).elements
        if found.get("http-equiv") == "Content-Security-Policy"
    ]  # fmt: skip
    assert policy.startswith("default-src 'none'")


def test_a_page_knows_light_dark_and_small_windows():
    text = picture.page(timeline(*DAY))
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport" content="width=device-width' in text
    assert "max-width: 40rem" in text


@pytest.mark.parametrize("make", [picture.page, picture.picture])
def test_each_mark_tells_what_it_is(make):
    text = make(timeline(*DAY, pauses=PAUSES))
    for words in ("run 7: failed\nexit status 3\nwaited 1h", "run 7: refused", "paused by user",
                  "2026-09-21 16:00:00 to 2026-09-21 17:00:00 (1h)", "rsync -a"):  # fmt: skip
        assert words in text
    for kind in ("succeeded", "failed", "refused", "stopped", "waiting", "paused"):
        assert f'class="{kind}"' in text


def test_a_picture_is_well_formed_and_has_a_lane_for_each_name():
    for found in (timeline(*DAY), hostile(), timeline()):
        root = ET.fromstring(picture.picture(found))
        namespace = "{http://www.w3.org/2000/svg}"
        assert {each.tag.removeprefix(namespace) for each in root.iter()} <= {
            "svg", "title", "style", "rect", "text", "line", "g", "circle",
        }  # fmt: skip
        groups = [
            each
            for each in root.iter(f"{namespace}g")
            if each.get("transform").startswith("translate(0 ")
        ]
        assert len(groups) == len(found.lanes)


def test_a_page_lists_the_latest_runs_and_says_what_it_leaves_out():
    runs = [a_run(SUCCEEDED, n / 100, n / 100 + 0.001) for n in range(picture.MOST_ROWS + 1)]
    text = picture.page(timeline(*runs))
    assert text.count("<tr><td>") == picture.MOST_ROWS
    assert f"The latest {picture.MOST_ROWS} of {picture.MOST_ROWS + 1} runs." in text


def test_many_runs_make_no_endless_page():
    runs = [a_run(SUCCEEDED, n / 3000, n / 3000 + 0.0001) for n in range(30_000)]
    assert len(picture.page(timeline(*runs))) < 500_000
