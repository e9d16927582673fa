"""Command lines of a shell, taken apart as the shell itself does it."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun.checkup import shell

HOME = {"HOME": "/home/me"}


def words(line, variables=HOME):
    return [[word.text for word in command] for command in shell.commands(line, variables)]


@pytest.mark.parametrize(
    "line, expected",
    [
        ("a 'b c' \"d e\" f\\ g", [["a", "b c", "d e", "f g"]]),
        ("cd / && a >/dev/null 2>&1", [["cd", "/"], ["a"]]),
        ("a|b;c&d||e", [["a"], ["b"], ["c"], ["d"], ["e"]]),
        ("test -x /a || { cd / && b; }", [["test", "-x", "/a"], ["cd", "/"], ["b"]]),
        ("(a; b) > /tmp/x < /tmp/y", [["a"], ["b"]]),
        ("if a; then b; fi", [["a"], ["b"]]),
        ("a &>/dev/null b >>c d 2>>e", [["a", "b", "d"]]),
        ("a # b ' c", [["a"]]),
        ("a#b", [["a#b"]]),
        (
            "~/a $HOME/b \"${HOME}/c\" '$HOME'",
            [["/home/me/a", "/home/me/b", "/home/me/c", "$HOME"]],
        ),
        ("", []),
    ],
)
def test_commands(line, expected):
    assert words(line) == expected


@pytest.mark.parametrize(
    "word", ["$x", "$(a b)", "`a`", "*.txt", "a?", "~me/x", "{a,b}", "\"$(a ')')\""]
)
def test_a_word_that_the_shell_expands_is_not_literal(word):
    ((first, second),) = shell.commands(f"a {word}", HOME)
    assert first.literal
    assert not second.literal


@pytest.mark.parametrize("line", ["a 'b", 'a "b', "a $(date +", "a `b", "a ${b"])
def test_what_does_not_end(line):
    with pytest.raises(shell.UnreadableError):
        shell.commands(line, HOME)


@given(st.lists(st.text(max_size=10).filter(lambda text: "\0" not in text), min_size=1))
def test_what_was_quoted_is_read_back(arguments):
    (command,) = shell.commands(shlex.join(["a", *arguments]), HOME)
    assert [word.text for word in command] == ["a", *arguments]
    assert all(word.literal for word in command)


@given(st.text(alphabet="ab '\"\\#;&|()<>$`{}~*\n=", max_size=40))
def test_any_line_is_read_or_refused(line):
    try:
        shell.commands(line, HOME)
    except shell.UnreadableError:
        pass


@given(
    st.lists(
        st.sampled_from(["a", "'b c'", '"d\\"e"', "f\\ g", "h'i'\"j\"", '"\\a"', "''"]), max_size=6
    )
)
def test_words_are_those_of_sh(parts):
    line = " ".join(["x", *parts])
    script = f"set -- {line}; for word; do printf '%s\\0' \"$word\"; done"
    # A round of a shell takes a millisecond.
    out = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert words(line) == [out.split("\0")[:-1]]
