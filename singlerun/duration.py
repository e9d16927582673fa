"""Durations: ``30`` (seconds), ``1.5s``, ``5m``, ``1h30m``, ``2d``, and what timeout(1) takes."""

from singlerun.errors import UsageError

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
LONGEST = 100 * 366 * 86_400
"""A hundred years, for all that is longer, which would overflow the kernel's timers."""


def parse(text: str) -> float:
    """Return the seconds of a duration; raise UsageError if it is empty, negative, or malformed."""
    if text.lower() in {"inf", "infinity"}:
        return LONGEST
    total, number, unit_before = 0.0, "", 10 * UNITS["d"]
    if text and not set(text) & set(UNITS):
        text, unwritten = text + "s", text
    else:  # "1h30" is ambiguous: 90 minutes or 3,630 seconds
        unwritten = text
    for character in text or "?":
        if character in "0123456789.eE" or (character in "+-" and number[-1:] in {"e", "E"}):
            number += character
            continue
        # Units descend, each at most once: "1h30m", but not "30m1h" or "1m1m".
        unit = UNITS.get(character, unit_before)
        try:
            if unit >= unit_before:
                raise _bad(unwritten)
            total, number, unit_before = total + float(number) * unit, "", unit
        except ValueError:
            raise _bad(unwritten) from None
    if number:
        raise _bad(unwritten)
    return min(total, LONGEST)


def _bad(text: str) -> UsageError:
    return UsageError(f"bad duration {text!r}: write 30 (seconds), 1.5s, 5m, 1h30m or 2d")


def exactly(seconds: float) -> str:
    """Return seconds in as many units as they need: ``0.25s``, ``5m``, ``1d 2h 30m``."""
    parts = []
    for unit, size in UNITS.items():
        count = seconds / size if unit == "s" else seconds // size
        seconds -= count * size
        if count:
            parts.append(f"{count:.10g}{unit}")
    return " ".join(parts) or "0s"


def brief(seconds: float) -> str:
    """Return seconds in at most two units: ``0.3s``, ``42s``, ``2m 10s``, ``3d 4h``."""
    seconds = max(seconds, 0)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in UNITS.items():
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts))
