"""Golden tests: what ps and queue show in each window, in a pipe, in colour and in ASCII.

screens.py tells how to draw them anew.
"""

import io
import re
import sys

import pytest
from rich.console import Console
from screens import clock_at, golden

from singlerun.outcome import Outcome
from singlerun.ownership.judge import ORPHAN, ZOMBIE, Verdict
from singlerun.ownership.outlook import Outlook
from singlerun.process.identity import Owner, Place
from singlerun.render import live, refusal
from singlerun.render.jobs import Jobs
from singlerun.render.result import show
from singlerun.render.runs import OpenRuns
from singlerun.store.queue import CANCELLED, DELAYED, FAILED, PAUSED, QUEUED, SUCCEEDED, Job, Pace
from singlerun.store.queue import RUNNING as JOB_RUNNING
from singlerun.store.run import RUNNING, WAITING, Pause, Run

SECOND, MINUTE, HOUR = 10**9, 60 * 10**9, 3600 * 10**9
NOW = 1_764_086_400 * SECOND
LONG, CJK, EMOJI, HOSTILE = (
    b"n" * 120,
    "夜間バックアップ".encode(),
    "🚀deploy".encode(),
    b"a\x1b[31m\tb\n",
)
WRAPPER = Owner(Place("host", "boot", 1), 4242, 1)
WIDTHS = (60, 80, 120, 200)


@pytest.fixture(autouse=True)
def fixed(monkeypatch):
    monkeypatch.setattr(refusal, "user_name", lambda _: "root")
    monkeypatch.setattr("singlerun.render.runs.user_name", lambda _: "root")
    monkeypatch.setattr("singlerun.render.expected.user_name", lambda _: "root")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with clock_at(monkeypatch, NOW):
        yield


class Past:
    """The durations of a store."""

    def durations(self, name):
        return {b"sync": [((b"./sync.sh",), 5 * MINUTE)], b"slow": [((b"./x",), MINUTE)]}.get(
            name, []
        )


def verdict(number, name, state=RUNNING, *, ago=0, argv=(b"./x",), pids=(100,), **more):
    run = Run(
        names=name if isinstance(name, tuple) else (name,), argv=argv, wrapper=WRAPPER, uid=0,
        asked_ns=NOW - ago, job_id=more.pop("job_id", None),
        parent_id=more.pop("parent_id", None), shared=more.pop("shared", False),
        slots=more.pop("slots", None),
    )  # fmt: skip
    run.id, run.state = number, WAITING if state == WAITING else RUNNING
    run.started_ns = None if state == WAITING else NOW - ago
    for key, value in more.items():
        setattr(run, key, value)
    return Verdict(run, state, list(pids))


def job(number, name=b"import", state=QUEUED, **more):
    found = Job(name=name, argv=more.pop("argv", (b"./import.sh", b"a b")))
    found.id, found.state, found.added_ns = number, state, NOW - HOUR
    for key, value in more.items():
        setattr(found, key, value)
    return found


PAUSES = [
    Pause(b"backup", NOW - 3 * HOUR, NOW + 40 * MINUTE, 0),
    Pause(b"old one", NOW - 50 * HOUR, None, 0),
]


def ps(*, tree=False):
    verdicts = [
        verdict(1, b"sync", ago=2 * MINUTE, argv=(b"./sync.sh",)),
        verdict(2, b"sync", WAITING, ago=30 * SECOND, argv=(b"./sync.sh",)),
        verdict(3, b"sync", WAITING, ago=9 * SECOND, argv=(b"./sync.sh",)),
        verdict(4, b"slow", ago=2 * HOUR),
        verdict(5, LONG, ago=SECOND, argv=(b"/usr/bin/rsync", b"-a", b"x" * 90)),
        verdict(6, CJK, ago=SECOND, parent_id=1),
        verdict(7, EMOJI, ago=SECOND, parent_id=6),
        verdict(8, HOSTILE, ago=SECOND, argv=(b"printf", HOSTILE), parent_id=1),
        verdict(9, (b"x", b"y"), ORPHAN, ago=HOUR, pids=(77, 78)),
        verdict(10, b"dead", ZOMBIE, ago=9 * HOUR, pids=()),
        verdict(11, b"pool", ago=MINUTE, slots=4, shared=True),
        verdict(12, b"read", ago=MINUTE, shared=True),
        verdict(13, b"flaky", WAITING, ago=MINUTE, not_before_ns=NOW + 40 * SECOND),
        verdict(15, b"import", ago=MINUTE, job_id=14),
    ]
    runs = Outlook(Past()).look(verdicts, {2: 1, 3: 2})
    runs[9].last_sign_ns = NOW - 8 * HOUR
    runs[13].job = job(14, state=JOB_RUNNING, label="monday", tries=2, retries=3)
    jobs = [
        job(16, place=1, label="tuesday"), job(17, place=2, label=CJK.decode()),
        job(18, state=DELAYED, not_before_ns=NOW + 40 * SECOND, tries=1, retries=3),
        job(19, state=DELAYED, after_id=16, is_blocked=True),
        job(20, b"backup", PAUSED, place=1, paused_until_ns=PAUSES[0].until_ns),
    ]  # fmt: skip
    starts = {16: NOW + 5 * MINUTE}
    return OpenRuns(runs, jobs, PAUSES, starts_ns=starts, more=99_980, tree=tree)


def queue():
    tries = [verdict(15, b"import", ago=MINUTE, job_id=14), verdict(31, LONG, ZOMBIE, ago=HOUR)]
    runs = {seen.run.id: seen for seen in Outlook(Past()).look(tries, {})}
    over = verdict(41, b"import", ago=HOUR).run
    over.ended_ns, over.state = NOW, "failed"
    over.outcome = Outcome(3, elapsed_ns=42 * SECOND)
    failed = {"run": over, "run_id": 41, "started_ns": NOW - HOUR, "ended_ns": NOW, "exit_code": 3}
    jobs = [
        job(14, state=JOB_RUNNING, label="monday", tries=2, retries=3, run_id=15,
            started_ns=NOW - MINUTE),
        job(16, place=1, label=EMOJI.decode()), job(17, place=2, argv=(b"./long", b"x" * 90)),
        job(18, state=DELAYED, not_before_ns=NOW + 40 * SECOND, tries=1, retries=3),
        job(19, state=DELAYED, after_id=16, is_blocked=True),
        job(20, b"backup", PAUSED, place=1, paused_until_ns=PAUSES[0].until_ns),
        job(30, LONG, JOB_RUNNING, tries=1, run_id=31, started_ns=NOW - HOUR),
        job(40, CJK, FAILED, tries=1, **failed),
        job(41, HOSTILE, CANCELLED, ended_ns=NOW, detail="cancelled, user root"),
    ]  # fmt: skip
    totals = {JOB_RUNNING: 2, QUEUED: 1234, DELAYED: 2, FAILED: 1, CANCELLED: 1, SUCCEEDED: 56_789}
    return Jobs(
        jobs, 9, totals=totals, pauses=PAUSES[:1], runs=runs, starts_ns={16: NOW + 5 * MINUTE},
        paces=[Pace(50, 100 * SECOND, NOW - SECOND, 1234)],
    )  # fmt: skip


SCREENS = {"ps": ps, "ps-tree": lambda: ps(tree=True), "queue": queue}


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


def compare(name, text):
    golden(name, text.splitlines())


def on_terminal(monkeypatch, make, width, encoding, *, colour):
    """Return what a terminal of this width is sent."""
    output = io.BytesIO()
    terminal = Terminal(output, encoding=encoding, errors="backslashreplace", newline="\n")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    assert show(make()) == 0
    terminal.flush()
    text = output.getvalue().decode(encoding)
    return text if colour else re.sub("\x1b\\[[012]m", "", text)  # bold and dim are no colours


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("screen", SCREENS)
def test_on_a_terminal(monkeypatch, screen, width):
    text = on_terminal(monkeypatch, SCREENS[screen], width, "utf-8", colour=False)
    assert "\x1b" not in text
    compare(f"{screen}-{width}", text)


@pytest.mark.parametrize("screen", SCREENS)
def test_in_colour(monkeypatch, screen):
    text = on_terminal(monkeypatch, SCREENS[screen], 120, "utf-8", colour=True)
    assert "\x1b[32mrunning" in text
    compare(f"{screen}-colour", text)


@pytest.mark.parametrize("screen", SCREENS)
def test_in_ascii(monkeypatch, screen):
    text = on_terminal(monkeypatch, SCREENS[screen], 120, "ascii", colour=False)
    assert text.isascii()
    compare(f"{screen}-ascii", text)


@pytest.mark.parametrize("screen", SCREENS)
def test_in_a_pipe(capfd, screen):
    assert show(SCREENS[screen]()) == 0
    header, *rows = capfd.readouterr().out.splitlines()
    assert {row.count("\t") for row in rows} == {header.count("\t")}
    compare(f"{screen}-pipe", "\n".join([header, *rows, ""]))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("screen", SCREENS)
def test_state_is_on_the_screen(monkeypatch, screen, width):
    for line in on_terminal(
        monkeypatch, SCREENS[screen], width, "utf-8", colour=False
    ).splitlines():
        if line[:2].strip().isdigit():
            assert any(state in line for state in (
                "running", "waiting #", "waiting", "zombie", "orphan", "queued #", "delayed",
                "paused #", "failed", "cancelled",
            )), line  # fmt: skip


@pytest.mark.parametrize("size", [(60, 6), (80, 12), (120, 40), (30, 3), (10, 1)])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_frame_fills_its_window_at_most(screen, size):
    width, height = size
    console = Console(file=io.StringIO(), color_system=None, width=width)
    lines = live.frame(SCREENS[screen](), console, width, height)
    assert len(lines) <= height
    compare(f"{screen}-frame-{width}x{height}", "\n".join([*lines, ""]))
    rows = [line for line in lines if re.match(r"(\d+|-)  ", line)]
    if more := [line for line in lines if line.startswith("… and")]:
        assert len(rows) + int(more[0].split()[2]) == len(SCREENS[screen]().rows())
