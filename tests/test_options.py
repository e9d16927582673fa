"""The two parsers, the plain one and Click's, are made from one table and agree."""

import os

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singlerun import options
from singlerun.commands import run as run_command
from singlerun.errors import UsageError
from singlerun.options import RUN_OPTIONS

FLAGS = [flag for option in RUN_OPTIONS for flag in option.flags]

pieces = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(
        ["--", "-", "true", "ps", "", "30", "1h30m", "3x", "75", "256", "x", "-x", "=", "-1"]
    ),
    st.builds(
        str.__add__,
        st.sampled_from(FLAGS),
        st.sampled_from(["=x", "=", "=5", "5", "x", "q", "-"]),
    ),
    st.text(alphabet="-=nwqsvE5xm", min_size=1, max_size=5).map(lambda text: "-" + text),
    st.text(max_size=4),
)  # fmt: skip
argument_lists = st.lists(pieces, max_size=7)


def by_click(arguments):
    """Parse with Click; None if it finds fault or was asked for help."""
    try:
        context = run_command.command.make_context("run", list(arguments))
    except (click.UsageError, click.exceptions.Exit):
        return None
    values = dict(context.params)
    words = values.pop("words")
    return values, list(words)


def by_us(arguments):
    """Parse the plain form; None if it leaves that to Click or finds fault."""
    try:
        words = options.split(list(arguments))
    except UsageError:
        return None
    return None if words is None else (words.values, words.command)


@pytest.mark.stress
@settings(max_examples=2000, deadline=None)
@given(argument_lists)
def test_both_parsers_agree_on_every_argument_list(arguments):
    ours = by_us(arguments)
    theirs = by_click(arguments)
    if ours is not None:
        assert ours == theirs
    try:
        options.split(list(arguments))
    except UsageError:
        assert theirs is None, "what we refuse, Click refuses"


plain_values = {
    "NAME": st.text(min_size=1, max_size=8).filter(lambda t: "\0" not in t and encodable(t)),
    "PATH": st.sampled_from(["a", "/b/c", "./d"]),
    "DIR": st.sampled_from(["a", "/b/c"]),
    "DURATION": st.sampled_from(["0", "30", "1.5s", "5m", "1h30m", "2d"]),
    "N": st.integers(1, 255).map(str),
    "N/DURATION": st.sampled_from(["3/1h", "1/30"]),
    "TYPE": st.sampled_from(["auto", "flock", "lockfile"]),
    "WHEN": st.sampled_from(["always", "on-failure"]),
    "SIG": st.sampled_from(["INT", "sigusr1", "9"]),
    "CMD": st.sampled_from(["", "true", "mail -s done root", "--x"]),
    "WHEN:URL": st.sampled_from(["failure:ops", "start,refused=5:mailto:a@example.org"]),
}


def encodable(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@st.composite
def plain_forms(draw):
    words = []
    for option in draw(st.lists(st.sampled_from(RUN_OPTIONS), max_size=5)):
        flag = draw(st.sampled_from(option.flags))
        if option.metavar is None:
            words.append(flag)
            continue
        open_file = st.just("2")
        value = draw(open_file if "--lock-fd" in option.flags else plain_values[option.metavar])
        if flag.startswith("--"):
            words += draw(st.sampled_from([[flag, value], [f"{flag}={value}"]]))
        else:
            words += draw(st.sampled_from([[flag, value], [flag + value]]))
    return [*words, *draw(st.sampled_from([[], ["--"]])), "command", "--name", "-x"]


@settings(max_examples=500, deadline=None)
@given(plain_forms())
def test_plain_forms_need_no_click(arguments):
    ours = by_us(arguments)
    assert ours is not None
    assert ours == by_click(arguments)
    assert ours[1] == ["command", "--name", "-x"]


@pytest.mark.parametrize("option", RUN_OPTIONS, ids=lambda option: option.dest)
def test_click_has_the_options_of_the_table_and_no_other(option):
    params = {param.name: param for param in run_command.command.params}
    assert set(params) == {option.dest for option in RUN_OPTIONS} | {"words"}
    param = params[option.dest]
    assert tuple(param.opts) == option.flags
    assert param.help == option.help


def test_subcommands_are_those_that_there_are():
    from pathlib import Path

    folder = Path(options.__file__).parent / "commands"
    files = {path.stem.replace("_", "-") for path in folder.glob("*.py")} - {
        "--init--",
        "common",
        "configured",
    }
    assert set(options.SUBCOMMANDS) == files
    assert not set(options.SUBCOMMANDS) & set(options.RESERVED)


def test_names_are_bytes_whatever_they_hold():
    assert options.read_name(os.fsdecode(b"\xff")) == b"\xff"
    with pytest.raises(UsageError):
        options.read_name("a\0b")


def values(*given, **more):
    """Return the values of all options; those given by name are flags that are set."""
    plain = {option.dest: option.default for option in RUN_OPTIONS}
    return plain | dict.fromkeys(given, True) | more


SOME = {
    "lock_file": b"/x", "lock_fd": (9, b"/x"), "lock_type": "flock", "slots": 2, "wait_for": 3.0,
    "min_interval": 3.0, "max_starts": (1, 3.0), "restart": "always", "jitter": 3.0,
    "timeout": 3.0, "retries": 1,
    "on_success": "true", "on_failure": "true", "on_finish": "true",
}  # fmt: skip
EXCLUDING = [
    ("shared", "slots"), ("replace", "coalesce"), ("replace", "skip"), ("restart", "retries"),
    *(("queue", other) for other in options.NOT_IN_QUEUE),
    *(("exec", other) for other in options.NOT_AFTER_EXEC),
    *(("lock_fd", other) for other in options.NOT_WITHOUT_COMMAND),
]  # fmt: skip


@pytest.mark.parametrize("pair", EXCLUDING, ids="-".join)
def test_options_that_exclude_each_other(pair):
    both = values(**{dest: SOME.get(dest, True) for dest in pair})
    with pytest.raises(UsageError) as raised:
        options.check(both)
    for dest in pair:
        assert "--" + dest.replace("_", "-") in str(raised.value)
        options.check(values(**{dest: SOME.get(dest, True)}))


def test_every_exclusion_is_tested():
    table = {(one, other) for one, others, _ in options.EXCLUSIONS for other in others}
    assert table == set(EXCLUDING)
    assert {dest for pair in table for dest in pair} <= {option.dest for option in RUN_OPTIONS}


def test_a_value_of_zero_asks_for_nothing():
    options.check(values("exec", retries=0, timeout=0.0))
    options.check(values("queue", wait_for=0.0))


@pytest.mark.parametrize(
    ("dest", "value"), [("lock_file", b"/x"), ("lock_fd", (9, b"/x")), ("queue", True)]
)
def test_options_that_take_one_name(dest, value):
    with pytest.raises(UsageError, match="takes only one --name"):
        options.check(values(**{dest: value}, name=(b"x", b"y")))
    options.check(values(**{dest: value}, name=(b"x", b"x")))
    options.check(values(name=(b"x", b"y")))


def test_options_that_go_together():
    options.check(values())
    options.check(values("shared", "wait", "log", "linger", slots=None, timeout=3.0, retries=2))
    options.check(values("queue", "log", retries=2, timeout=3.0, on_failure="true"))
    options.check(values("exec", "wait", name=(b"x", b"y")))
