"""What comes from outside is shown, never obeyed."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun.render.text import command, cut, shown


@given(st.one_of(st.binary(), st.text()))
def test_nothing_shown_is_control_or_direction_or_invisible(text):
    for character in shown(text):
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    "text, expected",
    [
        (b"plain text", "plain text"),
        ("ä€", "ä€"),
        (b"\x1b[31m", r"\x1b[31m"),
        (b"\xff", r"\xff"),
        ("\udcff", r"\xff"),
        ("a\u202eb", r"a\u202eb"),
        ("\u200b", r"\u200b"),
        ("\x9b", r"\x9b"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("[bold]x[/]", "[bold]x[/]"),
    ],
)
def test_escapes(text, expected):
    assert shown(text) == expected


def test_commands_are_quoted_as_a_shell_would():
    assert command((b"echo", b"a b", b"", b"it's", b"$HOME")) == "echo 'a b' '' 'it'\\''s' '$HOME'"


def test_cut():
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdef", 4) == "abc…"
