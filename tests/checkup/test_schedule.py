"""When lines of a crontab start, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun.checkup import schedule


@pytest.mark.parametrize(
    "text, shortest",
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("*/7 * * * *", 240),  # 56 and the next hour's 0
        ("0,30 9-17/2 * jan-mar MON-FRI", 1800),
        ("17 * * * *", 3600),
        ("0 3 * * *", 86_400),
        ("59 23,0 * * *", 3600),
        ("0 3 * * 0", 7 * 86_400),
        ("0 3 * * 7", 7 * 86_400),
        ("0 0 1 * *", 28 * 86_400),
        ("0 0 1 * 1", 86_400),  # either: the first of a month may be a Sunday
        ("5~10 4 * * *", 86_400),
        ("@hourly", 3600),
        ("@Daily", 86_400),
        ("@reboot", None),
        ("0 0 29 2 *", None),
        ("0 0 31 2 *", None),
    ],
)
def test_shortest_time_between_two_starts(text, shortest):
    assert schedule.read(text.split()).shortest() == shortest


@pytest.mark.parametrize(
    "text",
    ["60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a * * * *", "5-1 * * * *",
     "*/0 * * * *", "*/x * * * *", ", * * * *", "1- * * * *", "-1 * * * *", "٣ * * * *", "@often",
     "9" * 5000 + " * * * *"],
)  # fmt: skip
def test_what_cron_refuses(text):
    with pytest.raises(schedule.ScheduleError):
        schedule.read(text.split())


@pytest.mark.parametrize(
    "one, other, meets",
    [
        ("0 3 * * *", "0 3 * * 0", True),
        ("0 3 * * *", "30 3 * * *", False),
        ("0 3 * * 1", "0 3 * * 2", False),
        ("*/2 * * * *", "1-59/2 * * * *", False),
        ("@reboot", "* * * * *", False),
    ],
)
def test_two_schedules_meet(one, other, meets):
    one, other = schedule.read(one.split()), schedule.read(other.split())
    assert one.meets(other) is other.meets(one) is meets


@given(st.lists(st.text(alphabet="0123456789*/-,~aepr@", max_size=6), min_size=1, max_size=5))
def test_any_fields_are_read_or_refused(fields):
    try:
        found = schedule.read((fields * 5)[:5])
    except schedule.ScheduleError:
        return
    assert found.shortest() is None or found.shortest() >= 60
