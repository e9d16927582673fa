"""Sizes in bytes: ``4096``, ``500K``, ``1.5M``, ``1G``, ``2T``; K is 1024."""

from singlerun.errors import UsageError

UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse(text: str) -> int:
    """Return the bytes of a size; raise UsageError if it is empty, negative or malformed."""
    number = text.removesuffix("iB").removesuffix("B")
    unit = UNITS.get(number[-1:].upper(), 1)
    if unit > 1:
        number = number[:-1]
    if not number or set(number) - set("0123456789.") or number.count(".") > 1 or number == ".":
        raise UsageError(f"bad size {text!r}: write 4096 (bytes), 500K, 1.5M, 1G or 2T")
    return round(float(number) * unit)


def brief(size: int) -> str:
    """Return bytes in one unit: ``0 B``, ``512 B``, ``1.5 KiB``, ``24 MiB``."""
    unit, scaled = "B", float(size)
    for letter in UNITS:
        if scaled < 1000:
            break
        unit, scaled = f"{letter}iB", scaled / 1024
    return f"{scaled:.1f} {unit}" if unit != "B" and scaled < 9.95 else f"{scaled:.0f} {unit}"
