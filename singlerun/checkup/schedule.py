"""When a line of a crontab starts its command: the first five fields of crontab(5)."""

from datetime import date, timedelta
from functools import cache
from itertools import pairwise

DAY = 1440
"""Minutes."""
_DAYS = 800
"""How many days are looked at: the 29th of February comes in most."""
_FIRST = date(2027, 12, 31)
"""The day before they begin, so that they hold a 29th of February."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NO_NAMES: dict[str, int] = {}
_FIELDS = (
    ("minute", 0, 59, _NO_NAMES),
    ("hour", 0, 23, _NO_NAMES),
    ("day of the month", 1, 31, _NO_NAMES),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
NICKNAMES = {
    "@reboot": "", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # fmt: skip


class ScheduleError(ValueError):
    """The fields are not of crontab(5)."""


class Schedule:
    """The minutes at which a command is started.

    Attributes:
        clock: the minutes of the day, sorted; empty for ``@reboot``.
        days: the days on which it is, of those that are looked at.
    """

    def __init__(self, clock: list[int], days: list[date]) -> None:
        self.clock, self.days = clock, days

    def shortest(self) -> int | None:
        """Return the seconds of the shortest time between two starts; None if it never repeats."""
        if not self.clock or not self.days:
            return None
        within = [later - earlier for earlier, later in pairwise(self.clock)]
        gap = min((b - a).days for a, b in pairwise(self.days)) if self.days[1:] else 0
        if gap:
            within.append(gap * DAY - self.clock[-1] + self.clock[0])
        return min(within) * 60 if within else None

    def meets(self, other: "Schedule") -> bool:
        """Return whether both start at the same minute on some day."""
        return bool(set(self.clock) & set(other.clock) and set(self.days) & set(other.days))


def read(fields: list[str]) -> Schedule:
    """Read a nickname, or five fields; raise ScheduleError if they can't be read."""
    return _read(*fields)


@cache  # many lines have the same
def _read(*fields: str) -> Schedule:
    if len(fields) == 1:
        nickname = NICKNAMES.get(fields[0].lower())
        if nickname is None:
            raise ScheduleError(f"there is no {fields[0]}")
        if not nickname:
            return Schedule([], [])
        fields = tuple(nickname.split())
    sets = [_read_field(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
    minutes, hours, of_month, months, of_week = sets
    weekdays = {number % 7 for number in of_week}
    either = not (fields[2].startswith("*") or fields[4].startswith("*"))
    days = []
    for number in range(1, _DAYS):
        day = _FIRST + timedelta(number)
        matches = day.day in of_month, day.isoweekday() % 7 in weekdays
        if day.month in months and (any(matches) if either else all(matches)):
            days.append(day)
    return Schedule(sorted(hour * 60 + minute for hour in hours for minute in minutes), days)


def _read_field(text: str, what: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        whole, slash, step = part.partition("/")
        span, tilde, _ = whole.partition("~")  # a random one of a range: cronie
        first, dash, last = (whole if not tilde else span or str(least)).partition("-")
        if whole == "*":
            first, dash, last = str(least), "-", str(most)
        low = _read_number(first, what, least, most, names)
        high = _read_number(last, what, least, most, names) if dash else low
        if slash and not dash:
            high = most
        if high < low or (slash and not (step.isascii() and step.isdigit() and int(step[:9]))):
            raise ScheduleError(f"bad {what} {text!r}")
        found.update(range(low, high + 1, int(step[:9]) if slash else 1))
    return found


def _read_number(text: str, what: str, least: int, most: int, names: dict[str, int]) -> int:
    number = names.get(text.lower(), -1)
    if text.isascii() and text.isdigit():
        number = int(text[:9])
    if not least <= number <= most:
        raise ScheduleError(f"bad {what} {text!r}")
    return number
