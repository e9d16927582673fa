"""What was meant by a word that is nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun import options, suggestion
from singlerun.suggestion import distance, nearest, subcommand

words = st.text(alphabet="abc", max_size=6)


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "abc", 0),
        ("abc", "ab", 1),
        ("abc", "abd", 1),
        ("histroy", "history", 1),
        ("abcd", "badc", 2),
        ("ca", "abc", 3),  # no letter is edited twice
        ("kitten", "sitting", 3),
    ],
)
def test_distance(a, b, edits):
    assert distance(a, b) == distance(b, a) == edits


@given(words, words)
def test_distance_is_none_only_between_equal_words_and_one_after_one_edit(a, b):
    assert (distance(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b))
    assert distance(a, a + "x") == distance(a, "x" + a) == 1


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("histroy", "history"),
        ("pss", "ps"),
        ("hist", "history"),
        ("HISTORY", "history"),
        ("wrker", "worker"),
        ("is_running", "is-running"),
        ("list", "ps"),
        ("status", "ps"),
        ("kill", "stop"),
        ("jobs", "queue"),
        ("tail", "logs --follow"),
        ("version", "--version"),
        ("frobnicate", None),
        ("backup", None),
        ("stock", None),
        ("p", None),
        ("x", None),
        ("", None),
    ],
)
def test_subcommand(word, meant):
    assert subcommand(word) == meant


def test_synonyms_lead_to_what_there_is_or_will_be():
    there = {*options.SUBCOMMANDS, *options.RESERVED, "--version"}
    assert {meant.partition(" ")[0] for meant in suggestion.SYNONYMS.values()} <= there
    assert not suggestion.SYNONYMS.keys() & {*options.SUBCOMMANDS, *options.RESERVED}


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("--wiat", ["--wait"]),
        ("--kil", ["--kill-after"]),
        ("--wa", ["--wait", "--wait-for"]),
        ("--wait_for", ["--wait-for"]),
        ("--frobnicate", []),
        ("--", []),
        ("-x", []),
    ],
)
def test_nearest_option(option, near):
    flags = [flag for each in options.RUN_OPTIONS for flag in each.flags if flag[:2] == "--"]
    assert nearest(option, flags) == near
