"""The history on each terminal, and in a pipe."""

import re

import pytest
from rich.cells import cell_len
from screens import clock_at, golden
from terminals import drawn

from singlerun.outcome import Outcome
from singlerun.ownership.judge import Verdict
from singlerun.process.identity import this_process
from singlerun.render.history import History, ago
from singlerun.store.history import Line
from singlerun.store.run import Run

SECOND = 10**9
NOW = 1_795_622_400 * SECOND  # 2026-11-25 16:00 UTC
WIDTHS = [60, 80, 120, 200]


@pytest.fixture(autouse=True)
def at_four_in_utc(monkeypatch):
    with clock_at(monkeypatch, NOW):
        yield


def run(
    number, name, state, minutes, took=None, *, waited=0, outcome=None, detail=None, argv="true"
):
    asked = NOW - round(minutes * 60 * SECOND)
    made = Run(names=(name.encode(),), argv=tuple(map(str.encode, argv.split(" "))),
               wrapper=this_process(), uid=0, asked_ns=asked)  # fmt: skip
    made.id, made.state, made.detail, made.conflict_id = number, state, detail, 7
    if state not in {"refused", "skipped", "waiting"}:
        made.started_ns = asked + waited * SECOND
    if took is not None:
        ended = (made.started_ns or asked) + round(took * SECOND)
        made.ended_ns = ended
    if outcome is not None:
        made.outcome = Outcome(
            *outcome, elapsed_ns=round(took * SECOND), timed_out=state == "timed-out"
        )
    return made


HELD = "held by PID 4711 (rsync -a /srv/data/ backup:/srv/data/), user root, since 15:00:00 (58m)"
RUNS = [
    (run(112, "sync", "running", 3, waited=70, argv="rsync -a src/ dst/"), 1),
    (run(111, "sync", "refused", 4, 0, detail=HELD), 12),
    (run(99, "backup", "failed", 10, 42, outcome=(3,), argv="./backup.sh --all 'two words'"), 1),
    (run(98, "n" * 120, "timed-out", 300, 3600, outcome=(None, 15)), 1),
    (run(97, "名前" * 60, "stopped", 2000, 5, detail="stopped with singlerun stop, user root"), 1),
    (run(96, "🔒 locked", "lost", 3000, 5, detail="died without recording an exit status"), 1),
    (run(95, "a\tb\x1b[31m\u202e", "skipped", 4000, 0, detail="paused by root"), 3),
    (run(94, "load", "failed", 5000, 0, outcome=(127,), detail="./load: command not found"), 1),
    (run(1, "sync", "succeeded", 90000, 90, outcome=(0,), argv="rsync -a src/ dst/"), 1),
]  # fmt: skip


def history():
    lines = [Line(run, count, run.asked_ns - (count - 1) * 60 * SECOND) for run, count in RUNS]
    return History(lines, [Verdict(run, run.state, []) for run, _ in RUNS])


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", WIDTHS)
def test_screen(monkeypatch, width, encoding):
    lines = drawn(monkeypatch, history(), width, encoding)
    golden(f"history-{width}-{encoding}", lines)
    assert max(map(cell_len, lines)) <= width
    assert all(run.state in line for (run, _), line in zip(RUNS, lines[1:], strict=True))


@pytest.mark.parametrize("width", WIDTHS)
def test_colours_change_no_cell(monkeypatch, width):
    plain = drawn(monkeypatch, history(), width)
    coloured = drawn(monkeypatch, history(), width, colours=True)
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in coloured] == plain
    assert "\x1b[31mfailed" in coloured[3]
    golden(f"history-{width}-colours", [line.replace("\x1b", "␛") for line in coloured])


def test_in_a_pipe(monkeypatch):
    lines = drawn(monkeypatch, history(), 60, terminal=False)
    assert lines == drawn(monkeypatch, history(), 200, terminal=False), "no width matters"
    golden("history-pipe", lines)
    assert {line.count("\t") for line in lines} == {len(History.columns) - 1}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s ago"), (0.9, "0s ago"), (59, "59s ago"), (60, "1m ago"), (7199, "1h ago"),
     (86_400 * 400, "400d ago")],
)  # fmt: skip
def test_ago_has_one_unit(seconds, text):
    assert ago(NOW - round(seconds * SECOND)) == text
