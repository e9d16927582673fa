"""Excerpts: the last lines and what was written since, held against the whole output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun.errors import DamagedOutputError
from singlerun.output.excerpt import Excerpt
from singlerun.render.output import Stamps, stamp_of


class Kept:
    """A reader of these rounds of parts: stream, data, missing, time."""

    def __init__(self, *rounds, error=None):
        self._rounds, self._error, self.at_ns = list(rounds), error, None

    def read(self):
        for stream, data, missing, at_ns in self._rounds.pop(0) if self._rounds else ():
            self.at_ns = at_ns
            yield stream, memoryview(data), missing
        if self._error:
            raise self._error


def text(pieces):
    return b"".join(bytes(piece.data) for piece in pieces)


A_PART = st.tuples(
    st.sampled_from([1, 2]), st.text("ab\n", min_size=1).map(str.encode), st.just(0), st.just(1)
)


@given(st.lists(A_PART), st.integers(0, 12))
def test_tail_is_the_last_lines_of_both_streams(parts, count):
    whole = b"".join(data for _, data, _, _ in parts)
    wanted = b"".join(whole.splitlines(keepends=True)[-count:]) if count else b""
    pieces = list(Excerpt(Kept(parts), tail=count).read())
    assert text(pieces) == wanted
    for stream in (1, 2):
        ours = text(piece for piece in pieces if piece.stream == stream)
        assert b"".join(data for each, data, _, _ in parts if each == stream).endswith(ours)


def test_tail_is_of_what_is_there_and_all_that_comes_is_read():
    kept = Kept([(1, b"1\n2\n3\n", 0, 1)], [(1, b"4\n5\n6\n", 0, 2)])
    excerpt = Excerpt(kept, tail=1)
    assert text(excerpt.read()) == b"3\n"
    assert text(excerpt.read()) == b"4\n5\n6\n"


def test_since_leaves_out_what_is_older():
    kept = Kept([(1, b"old\n", 0, 10), (2, b"new\n", 5, 20), (1, b"newer\n", 0, 30)])
    pieces = list(Excerpt(kept, since_ns=20).read())
    assert [(piece.stream, bytes(piece.data), piece.missing) for piece in pieces] == [
        (2, b"new\n", 5), (1, b"newer\n", 0),
    ]  # fmt: skip


def test_since_and_tail_together():
    kept = Kept([(1, b"1\n", 0, 10), (1, b"2\n3\n", 0, 20)])
    assert text(Excerpt(kept, since_ns=20, tail=5).read()) == b"2\n3\n"


def test_what_has_no_time_is_not_left_out():
    excerpt = Excerpt(Kept([(1, b"old\n", 0, None)]), since_ns=20)
    assert text(excerpt.read()) == b"old\n"
    assert excerpt.is_timeless


@pytest.mark.parametrize("tail", [None, 2])
def test_what_can_be_read_comes_before_the_error(tail):
    kept = Kept([(1, b"1\n2\n3\n", 0, 1)], error=DamagedOutputError("x"))
    pieces = []
    with pytest.raises(DamagedOutputError):
        pieces += iter(_each(Excerpt(kept, tail=tail).read(), pieces))
    assert text(pieces) == (b"1\n2\n3\n" if tail is None else b"2\n3\n")


def _each(pieces, into):
    for piece in pieces:
        into.append(piece)
    return []


def test_each_line_is_stamped_when_it_was_begun():
    stamps, first, second = Stamps(), 10**18 + 2_000_000, 10**18 + 3_999_999
    one, two = (stamp_of(at).encode() for at in (first, second))
    assert stamps.add(1, b"a", first) == one + b" a"
    assert stamps.add(2, b"err\n", first) == one + b" err\n"
    assert stamps.add(1, b"b\n\nc\n", second) == b"b\n" + two + b" \n" + two + b" c\n"
    assert stamps.add(1, b"", second) == b""
    assert stamps.add(1, b"d\n", None) == b"- d\n"
    assert stamps.add(2, b"\n", second) == two + b" \n"


def test_a_stamp_is_a_time_that_since_takes(monkeypatch):
    from singlerun import moment

    at = 1_764_096_000_123_000_000
    assert moment.parse(stamp_of(at)) == at
