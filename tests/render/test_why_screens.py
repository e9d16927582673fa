"""The screens of ``why`` and ``stats``, in each width, with colours and without."""

import io
import sys

import pytest
from rich.console import Console
from screens import clock_at, golden

from singlerun.diagnosis import Diagnosis
from singlerun.outcome import Outcome
from singlerun.ownership.judge import Verdict
from singlerun.process.identity import Owner, Place
from singlerun.render import style, table, why
from singlerun.render.result import show
from singlerun.render.stats import Stats
from singlerun.store.periods import Figures
from singlerun.store.queue import DELAYED, Job
from singlerun.store.run import (
    FAILED,
    LOST,
    REFUSED,
    RUNNING,
    SUCCEEDED,
    TIMED_OUT,
    WAITING,
    Pause,
    Run,
)

SECOND = 10**9
HOUR = 3600 * SECOND
NOW = 1_789_992_000 * SECOND
"""2026-09-21T12:00:00Z."""
NO_PID = 4_194_305
LONG = b"n" * 120
WIDE = "倉庫 📦".encode()
HOSTILE = b"x\x1b[31m\xff"


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    with clock_at(monkeypatch, NOW):
        yield


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard output a terminal of some width."""

    def make(columns, *, is_coloured=False, is_unicode=True):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(style, "is_terminal", lambda: True)
        monkeypatch.setattr(style, "is_coloured", lambda: is_coloured)
        monkeypatch.setattr(style, "is_unicode", lambda: is_unicode)

    return make


def a_run(number, state, begin, end=None, *, names=(b"sync",), detail=None, code=None):
    """Return a run of another host; times are seconds before now."""
    run = Run(
        names=names, argv=(b"rsync", b"-a", b"src", b"dst"), uid=0,
        wrapper=Owner(Place("elsewhere", "boot", 1), NO_PID, 1), asked_ns=NOW - begin * SECOND,
    )  # fmt: skip
    run.id, run.state, run.detail = number, state, detail
    if state not in {REFUSED, WAITING}:
        run.started_ns = run.asked_ns
    if end is not None:
        run.ended_ns = NOW - end * SECOND
        if run.started_ns is not None and state != LOST:
            run.outcome = Outcome(code, elapsed_ns=run.ended_ns - run.started_ns)
    return run


def verdicts(*runs):
    return [Verdict(run, run.state, []) for run in runs]


def a_job(number, **more):
    job = Job(name=b"sync", argv=(b"true",), **more)
    job.id = number
    return job


def everything(name):
    """Return what is known of a name that has every trouble."""
    found = Diagnosis(name)
    holder = a_run(7, RUNNING, 900, names=(name,))
    refused = a_run(8, REFUSED, 600, 600, detail="held by PID 12 (rsync -a src dst), user root")
    too_soon = a_run(9, REFUSED, 300, 300, detail="too soon: 3 starts in 1d")
    failed, timed_out = a_run(5, FAILED, 9000, 8000, code=3), a_run(4, TIMED_OUT, 99_000, 98_000)
    found.holders, found.usual_ns = [(holder, [NO_PID])], 300 * SECOND
    found.zombies = [a_run(6, RUNNING, 1000)]
    found.waiting = [(a_run(10, WAITING, 60), 1), (a_run(11, WAITING, 30), 2)]
    found.pause = Pause(name, NOW - 2 * HOUR, NOW + HOUR, 0)
    found.jobs = [a_job(12, not_before_ns=NOW + HOUR)]
    found.jobs[0].state, found.delayed = DELAYED, 3
    found.has_worker = False
    found.worker_message = b"singlerun: cannot start a worker for queue sync: no memory"
    found.recent = verdicts(too_soon, refused, holder, failed, timed_out)
    found.latest_success = a_run(3, SUCCEEDED, 200_000, 199_000, code=0)
    found.refusals = [too_soon, refused, refused]
    return found


@pytest.mark.parametrize("name", [b"sync", LONG, WIDE, HOSTILE], ids=["a", "long", "wide", "bad"])
@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_everything_at_once(terminal, columns, name, request):
    terminal(columns)
    lines = list(why.Why(everything(name)).lines())
    kept = [line for line in lines if line[:3].strip().isdigit()]
    assert max(map(style.cells, kept)) <= columns
    assert not any(set(line) & {"\x1b", "\udcff"} for line in lines)
    golden(f"why-{columns}-{request.node.callspec.id.partition('-')[2]}", lines)


def test_everything_in_colour_in_ascii_and_in_a_pipe(terminal):
    golden("why-pipe", why.Why(everything(b"sync")).lines())
    terminal(60, is_unicode=False)
    golden("why-60-ascii", why.Why(everything(b"sync")).lines())
    terminal(80, is_coloured=True)
    golden("why-80-colour", why.Why(everything(b"sync")).lines())


def test_nothing(terminal):
    found = Diagnosis(b"snyc")
    found.similar = [b"backup", b"sync", LONG, HOSTILE]
    assert list(why.Why(found).lines()) == [
        "snyc is free, and unknown: nothing has run, waited or been queued under it.",
        "  similar names: sync",
        "      to see which names have run: singlerun history",
    ]


def figures(name, took, state=SUCCEEDED):
    elapsed = took * SECOND
    return Figures((1, name, state, NOW, NOW, NOW + elapsed, elapsed, 9 * 10**6, 0, 50_000))


@pytest.mark.parametrize("is_unicode", [True, False])
@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_stats(monkeypatch, columns, is_unicode):
    monkeypatch.setattr(style, "is_unicode", lambda: is_unicode)
    if not is_unicode:
        monkeypatch.setattr(sys, "stdout", type("Ascii", (), {"encoding": "ascii"})())
    runs = [figures(b"sync", took) for took in range(1, 30)]
    runs += [figures(LONG, 7200), figures(WIDE, 60, FAILED), figures(HOSTILE, 1)]
    found = Stats(runs, NOW, NOW + 1)
    lines = [line.plain for line in table.fitted(found.columns, found.rows(), columns, found.spare)]
    assert max(map(style.cells, lines)) <= columns
    golden(f"stats-{columns}-{'utf8' if is_unicode else 'ascii'}", lines)


def test_stats_in_colour_and_in_a_pipe(monkeypatch, capfd):
    """On a terminal the header is bold."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = Stats([figures(b"sync", 5), figures(WIDE, 60, FAILED)], NOW, NOW + 1)
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, color_system="standard", width=120)
    for line in table.fitted(found.columns, found.rows(), 120, found.spare):
        console.print(line, soft_wrap=True, highlight=False)
    golden("stats-120-colour", output.getvalue().replace("\x1b", "␛").splitlines())
    assert show(found) == 0
    golden("stats-pipe", capfd.readouterr().out.splitlines())
