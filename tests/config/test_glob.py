"""Globs match what those of the standard library match."""

import fnmatch
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from singlerun.config import glob

PATTERN = st.one_of(st.text("ab*", max_size=6), st.text("ab-!]z.*?[é\n", max_size=8))
TEXT = st.one_of(st.text("ab", max_size=4), st.text("ab-!]z.*?[é\n", max_size=8))


@given(PATTERN, TEXT)
@example("a*", "a")
@example("*", "")
@example("[]a]", "]")
@example("[!]a]", "b")
@example("[a-", "[a-")
@example("[b-a]", "a")
@example("[a-]", "-")
@example("[!", "[!")
@example("[]", "[]")
@example("[^a]", "^")
def test_it_matches_as_fnmatch_does(pattern, text):
    assert glob.matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


@pytest.mark.parametrize(
    ("pattern", "count"), [("abc", 3), ("a*c", 2), ("*", 0), ("[abc]x?", 1), ("[", 1), ("", 0)]
)
def test_nearness_is_the_number_of_literal_characters(pattern, count):
    assert glob.literals(pattern) == count


def test_many_stars_take_no_exponential_time():
    begun = time.process_time()
    assert not glob.matches("*a" * 100, "a" * 99 + "b" * 1000)
    assert time.process_time() - begun < 10
