"""Moments in the past, as people write them."""

# ruff: noqa: DTZ001, DTZ005, DTZ006 - local times are meant

import time
from datetime import datetime, timedelta

import pytest

from singlerun import moment
from singlerun.errors import UsageError


def ns(when):
    return int(when.timestamp() * 1e6) * 1000


@pytest.mark.parametrize(
    ("text", "ago"), [("2h", 7200), ("90", 90), ("1h30m", 5400), ("1.5d", 129600), ("0", 0)]
)
def test_a_duration_counts_back_from_now(text, ago):
    before = time.time_ns()
    found = moment.parse(text)
    assert before <= found + ago * 10**9 <= time.time_ns()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("2026-11-25", (2026, 11, 25)),
        ("2026-11-25T14:00", (2026, 11, 25, 14)),
        ("2026-11-25 14:05:09", (2026, 11, 25, 14, 5, 9)),
        ("2026-11-25T14:05:09.250", (2026, 11, 25, 14, 5, 9, 250_000)),
    ],
)
def test_a_date_is_local_and_begins_at_midnight(text, parts):
    assert moment.parse(text) == ns(datetime(*parts))


def test_a_date_may_have_an_offset_as_json_prints_it():
    assert moment.parse("2026-11-25T14:00:00.000001Z") == 1_795_615_200_000_001_000
    assert moment.parse("2026-11-25T14:00+02:00") == 1_795_608_000_000_000_000


def test_words():
    midnight = datetime.now().replace(hour=0, minute=0, second=0, microsecond=0)
    assert moment.parse("today") in {ns(midnight), ns(midnight + timedelta(days=1))}
    days = moment.parse("today") - moment.parse("yesterday")
    assert 23 * 3600 <= days / 1e9 <= 25 * 3600, "a day is 24 hours, but for summer time"
    assert abs(moment.parse("now") - time.time_ns()) < 60 * 10**9


@pytest.mark.parametrize("clock", ["00:00", "7:30", "14:00", "23:59:59"])
def test_a_time_of_day_is_the_latest_that_is_past(clock):
    found = moment.parse(clock)
    assert found <= time.time_ns() < found + 25 * 3600 * 10**9
    hour, minute, *second = map(int, clock.split(":"))
    at = datetime.fromtimestamp(found / 1e9)
    assert (at.hour, at.minute, at.second) == (hour, minute, *(second or [0]))


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "2026-13-01", "2026-11-25T", "-1", "1x", "2026-11-25T14:00Q"]
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(UsageError, match="bad time"):
        moment.parse(text)
