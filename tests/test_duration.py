import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun.duration import LONGEST, brief, parse
from singlerun.errors import UsageError


@pytest.mark.parametrize(
    "text, seconds",
    [("30", 30), ("0", 0), ("1.5s", 1.5), ("5m", 300), ("1h30m", 5400), ("2d", 172_800),
     ("1d1h1m1s", 90_061), (".5", 0.5), ("2.", 2), ("36500d", 3_153_600_000),
     ("1e3", 1000), ("1.5e-1s", 0.15), ("1E+2m", 6000), ("1e1h1e0m", 36_060)],
)  # fmt: skip
def test_durations_are_read(text, seconds):
    assert parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["1h30", "0m1", "", "s", "m", ".", "1.2.3", "-1", "+1", "1x", "30m1h", "1m1m", "1 m", "nan",
     "٣", "e", "e3", "1e", "1e+", "1+1", "1ee3", "-inf", "infd", "1_0"],
)  # fmt: skip
def test_bad_durations_say_how_to_write_them(text):
    with pytest.raises(UsageError, match="1h30m"):
        parse(text)


@pytest.mark.parametrize("text", ["inf", "infinity", "Infinity", "40000d", "1e400", "9" * 400])
def test_what_is_too_long_for_the_kernel_is_cut(text):
    assert parse(text) == LONGEST


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text):
    try:
        assert parse(text) >= 0
    except UsageError:
        pass


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0.0s"), (0.34, "0.3s"), (9.94, "9.9s"), (9.97, "10s"), (42, "42s"), (130, "2m 10s"),
     (3600, "1h"), (59.9, "1m"), (3 * 86_400 + 4 * 3600 + 59, "3d 4h"), (86_400 + 5, "1d"),
     (-5, "0.0s")],
)  # fmt: skip
def test_durations_are_shown_in_two_units(seconds, text):
    assert brief(seconds) == text
