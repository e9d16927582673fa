"""The parser of crontab(5), on real crontabs and on hostile ones."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun.checkup import crontab

DEBIAN = """\
# /etc/crontab: system-wide crontab
SHELL=/bin/sh
PATH = /usr/local/bin:/usr/bin:/bin
MAILTO=""
 NAME = ' kept '

17 *\t* * *\troot    cd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
@reboot root:staff sleep 1
-*/10 * * * * root  logger quiet
"""


def parse(text, **more):
    return crontab.parse(text, "f", **({"has_users": False} | more))


def test_crontab_of_a_system():
    found = parse(DEBIAN, has_users=True)
    assert found.flaws == []
    assert [(line.number, line.user, line.schedule.shortest()) for line in found.lines] == [
        (7, "root", 3600), (8, "root", 86_400), (9, "root", None), (10, "root", 600),
    ]  # fmt: skip
    assert found.lines[0].command == "cd / && run-parts --report /etc/cron.hourly"
    assert found.lines[0].where == "f:7"
    assert found.lines[0].settings == {
        "SHELL": "/bin/sh", "PATH": "/usr/local/bin:/usr/bin:/bin", "MAILTO": "", "NAME": " kept ",
    }  # fmt: skip


def test_settings_hold_for_the_lines_below():
    above, below = parse("* * * * * a\nA=1\n* * * * * b\n").lines
    assert (above.settings, below.settings) == ({}, {"A": "1"})


@pytest.mark.parametrize(
    "text, command, input_",
    [
        ("date", "date", None),
        ("a%b", "a", "b"),
        (r"date +\%F", "date +%F", None),
        (r"a \% b%c\%d%e", "a % b", "c%d\ne"),
        ("a%", "a", ""),
    ],
)
def test_percent(text, command, input_):
    (line,) = parse(f"* * * * * {text}\n").lines
    assert (line.command, line.input, line.text) == (command, input_, text)


@pytest.mark.parametrize(
    "text, number, flaw",
    [
        ("* * * * *\n", 1, "it is no schedule and a command"),
        ("\n61 * * * * a\n", 2, "bad minute '61'"),
        ("@often a\n", 1, "there is no @often"),
        ("* * * * * a", 1, "the last line does not end in a newline"),
        ("nonsense\n", 1, "it is no schedule and a command"),
        ("* * * * * a\n\x00\x1b[2J * * * * b\n", 2, "bad minute '\\x00\\x1b[2J'"),
    ],
)
def test_lines_that_cannot_be_read(text, number, flaw):
    assert parse(text).flaws == [(number, flaw)]


def test_no_command_of_a_system_without_a_user():
    assert parse("* * * * * a\n", has_users=True).flaws == [
        (1, "it is no schedule, a user and a command")
    ]


def test_crontabs_of_this_machine():
    for path in [Path("/etc/crontab"), *Path("/etc/cron.d").glob("[!.]*")]:
        try:
            text = path.read_text()
        except OSError:  # none here, or removed meanwhile
            continue
        found = parse(text, has_users=True)
        schedules = [line for line in text.splitlines() if line[:1] in {*"0123456789*@"}]
        assert len(found.lines) + len(found.flaws) >= len(schedules)


@given(st.text(alphabet=st.characters() | st.sampled_from("*%\\= \t\n@#'\"0159"), max_size=200))
def test_any_text_is_read(text):
    found = parse(text)
    assert len(found.lines) + len(found.flaws) <= text.count("\n") + 2


def test_a_large_one_takes_no_longer_than_its_first_lines():
    found = parse("* * * * * a\n" * 100_000)
    assert len(found.lines) == crontab.MOST_LINES
