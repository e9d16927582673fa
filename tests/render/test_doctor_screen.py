"""The screen of ``doctor``, in each width, with colours and without."""

import pytest
from screens import golden
from terminals import drawn

from singlerun.finding import NOTE, PROBLEM, Answer
from singlerun.render.doctor import Diagnoses

CRONTAB = "crontab of me"
TOO_LONG = (
    "it starts every 5m and usually takes 12m, and took up to 1h 5m: without a lock, two of it run"
    " at once"
)
WRITTEN = "/opt/tools/singlerun/bin/singlerun --skip /usr/local/bin/import.sh --all 'a b' \\%d"


def answers():
    """Return what there is to show: problems, notes, hostile text, what was not checked."""
    found = {
        "directory": Answer("/var/lib/singlerun, 12 files, all of user root"),
        "database": Answer("", is_done=False),
        "crontabs": Answer("12 lines in 3 crontabs, 1 with singlerun"),
        "runs": Answer("not looked at, because the run-log cannot be read", is_done=False),
        "clock": Answer("2026-09-21 12:00, booted 3d 4h ago"),
        "configuration": Answer("there is none"),
    }
    for name, answer in found.items():
        answer.check = name
    found["database"].add(PROBLEM, "/var/lib/singlerun/singlerun.db",
                          "it is a symbolic link", "remove it")  # fmt: skip
    add = found["crontabs"].add
    add(PROBLEM, f"{CRONTAB}:7", TOO_LONG, "edit it (crontab -e) and write", WRITTEN)
    add(NOTE, f"{CRONTAB}:9", "cron ends the command at the first %, after: mail 倉庫\x1b[31m",
        "nothing, if it is meant so")  # fmt: skip
    found["clock"].add(PROBLEM, "clock", "it says 1970-01-01", "set the clock", "timedatectl")
    return list(found.values())


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("colours", [False, True], ids=["plain", "colours"])
def test_everything(monkeypatch, width, colours):
    lines = drawn(monkeypatch, Diagnoses("/d", answers()), width, colours=colours)
    if not colours:
        assert all(len(line) <= width for line in lines if "singlerun --skip" not in line)
        assert not any("\x1b" in line for line in lines)
    golden(f"doctor-{width}{'-colours' if colours else ''}", lines)


def test_in_a_pipe_no_line_is_broken(monkeypatch):
    lines = drawn(monkeypatch, Diagnoses("/d", answers()), 60, terminal=False)
    assert any(line.endswith(WRITTEN) for line in lines)
    golden("doctor-pipe", lines)


def test_quiet(monkeypatch):
    result = Diagnoses("/d", answers(), quiet=True)
    assert result.status == 1
    golden("doctor-quiet", drawn(monkeypatch, result, 80, terminal=False))
    well = [answer for answer in answers() if not answer.findings]
    assert drawn(monkeypatch, Diagnoses("/d", well, quiet=True), 80) == []


def test_notes_do_not_count(monkeypatch):
    answer = Answer("")
    answer.check = "sqlite"
    answer.add(NOTE, "SQLite 3.40.1", "it has a bug", "install another")
    result = Diagnoses("/d", [answer])
    assert result.status == 0
    assert drawn(monkeypatch, result, 80)[0] == "No problem, 1 note."
    assert drawn(monkeypatch, Diagnoses("/d", []), 80) == ["All is well."]


def test_document():
    document = Diagnoses("/d", answers()).document()
    assert (document["problems"], document["notes"]) == (3, 1)
    assert document["findings"][1] == {
        "check": "crontabs", "level": "problem", "where": f"{CRONTAB}:7", "what": TOO_LONG,
        "remedy": "edit it (crontab -e) and write", "command": WRITTEN,
    }  # fmt: skip
    assert document["checks"][3] == {
        "name": "runs", "summary": "not looked at, because the run-log cannot be read",
        "done": False, "findings": 0,
    }  # fmt: skip
