"""What the output can show: colours, widths, characters. Without Rich, whose import takes 45 ms."""

import os
import sys

STYLES = {
    "running": "green", "waiting": "yellow", "zombie": "red", "orphan": "magenta",
    "succeeded": "green", "failed": "red", "stopped": "yellow", "lost": "red", "timed-out": "red",
    "refused": "yellow", "skipped": "dim", "queued": "yellow", "delayed": "yellow",
    "paused": "cyan", "cancelled": "dim",
}  # fmt: skip
"""By the state of a run or job."""
CODES = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35",
    "cyan": "36",
}  # fmt: skip
COLOURS = {state: CODES[style] for state, style in STYLES.items()}
"""The codes of Select Graphic Rendition (ECMA-48), by the state of a run or job."""
PIPE_WIDTH = 80


def is_terminal() -> bool:
    """Return whether standard output is a terminal; a closed one is not."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_coloured() -> bool:
    """Return whether to use colours: on a terminal, unless NO_COLOR or TERM=dumb forbids it."""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, code: str) -> str:
    """Return a text in a colour, where colours are used."""
    return f"\x1b[{code}m{text}\x1b[0m" if code and is_coloured() else text


def is_unicode() -> bool:
    """Return whether standard output takes block characters."""
    return encodable("█") == "█"


def encodable(text: str) -> str:
    """Return a text as standard output can show it; in ASCII an ellipsis is a tilde."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("…", "~").encode(encoding, "backslashreplace").decode(encoding)
    return text


def width() -> int:
    """Return how many columns there are."""
    try:
        columns = int(os.environ.get("COLUMNS", "0"))
    except ValueError:
        columns = 0
    if columns <= 0 and is_terminal():
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    return columns if columns > 0 else PIPE_WIDTH


def cells(text: str) -> int:
    """Return how many columns a text takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - rare

    return cell_len(text)


def fit(text: str, size: int) -> str:
    """Return a text of exactly so many columns: padded, or cut with an ellipsis."""
    if cells(text) <= size:
        return text + " " * (size - cells(text))
    if size <= 0:
        return ""
    ellipsis = encodable("…")
    left, kept = size - 1, 0
    while kept < len(text) and (left := left - cells(text[kept])) >= 0:
        kept += 1
    text = text[:kept] + ellipsis
    return text + " " * (size - cells(text))
