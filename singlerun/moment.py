"""Moments in the past, as filters take them: ``3d`` (ago), ``2026-11-25T14:00``, ``yesterday``."""

import time
from datetime import datetime, timedelta

from singlerun import duration
from singlerun.errors import UsageError

_DAYS = {"today": 0, "yesterday": 1}
_EXAMPLES = "2h (ago), yesterday, 14:00, 2026-11-25 or 2026-11-25T14:00"


def parse(text: str) -> int:
    """Return the nanoseconds since the epoch of a moment, in local time unless it has an offset.

    A duration counts back from now, a date without a time is its midnight, and a time without a
    date is the latest that is past. Raises UsageError if it is none of these.
    """
    now = datetime.now()  # noqa: DTZ005 - people mean the local time
    words = text.strip().lower()
    try:
        if words == "now":
            moment = now
        elif words in _DAYS:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
            moment = midnight - timedelta(days=_DAYS[words])
        elif ":" in words and "-" not in words:
            moment = _latest(words, now)
        elif "-" in words[1:]:
            moment = datetime.fromisoformat(text.strip())
        else:
            return time.time_ns() - round(duration.parse(words) * 1e9)
        return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000
    except (ValueError, OverflowError, OSError, UsageError):
        raise UsageError(f"bad time {text!r}: write {_EXAMPLES}") from None


def _latest(clock: str, now: datetime) -> datetime:
    """Return the latest moment with this time of the day."""
    at = datetime.combine(now.date(), datetime.fromisoformat(f"2000-01-01T{clock:0>5}").time())
    return at if at <= now else at - timedelta(days=1)
