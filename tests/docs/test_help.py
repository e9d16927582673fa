"""--help shows the options that there are, and the options are those of one table."""

import re

import pytest
from documents import FORMS, PREFIX, WHEN, help_text, options_of, spellings

from singlerun import commands, errors, options


def test_run_is_the_prefix_form():
    assert spellings("run") == spellings(PREFIX) - {"--version"}
    assert {"-n", "--name", "--wait-for", "--help"} <= spellings("run"), "nothing is compared"


def test_words_of_restart():
    assert {options.read_restart(word) for word in WHEN} == WHEN
    with pytest.raises(errors.UsageError) as raised:
        options.read_restart("x")
    assert set(re.findall(r"on-\w+|always", str(raised.value))) == WHEN


def help_of(form):
    return {
        title: text.splitlines()
        for title, text in re.findall(
            r"^(\w[\w ,]*):\n((?:  .*\n|\n)*)", help_text(form), re.MULTILINE
        )
    }


@pytest.mark.parametrize("form", FORMS)
def test_help_lists_the_options(form):
    rows = [line for line in help_of(form)["Options"] if line.startswith("  -")]
    listed = {}
    for row in rows:
        *flags, last = re.match(r"  (-.*?)(?:  |$)", row)[1].split(", ")
        flag, _, metavar = last.partition(" ")
        listed[frozenset([*flags, flag])] = metavar or None
    assert listed == options_of(form)


def test_help_lists_the_subcommands_in_groups():
    shown = help_of(PREFIX)
    listed = [
        line.split()[0]
        for title, _ in commands.GROUPS
        for line in shown[title]
        if re.match(r"  [a-z]", line)
    ]
    assert sorted(listed) == sorted(options.SUBCOMMANDS)
    assert all(shown[title] for title, _ in commands.GROUPS)
