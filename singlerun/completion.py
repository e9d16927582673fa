"""What the completions of the shells ask for: ``singlerun --complete KIND[,KIND...] BEGUN``.

Prints the words of these kinds (store/words.py) that begin so, a line each: the word and, after a
tab, what it is. A shell asks at each press of Tab, so nothing is imported that this does not need.
"""

import os

from singlerun.errors import SinglerunError
from singlerun.paths import StateDir, is_configured, state_path
from singlerun.render.text import shown
from singlerun.store.words import Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def main(arguments: list[str]) -> int:
    """Print the words asked for; print nothing if they cannot be read, for whatever reason."""
    kinds, begun = arguments if len(arguments) == 2 else ("", "")
    try:
        lines = [
            line for word, about in _find(kinds, begun) if (line := _line(word, about)) is not None
        ]
        _write(b"".join(dict.fromkeys(lines)))
    except (SinglerunError, OSError, KeyError):
        if os.environ.get("SINGLERUN_DEBUG"):
            raise
        return 1
    return 0


def _find(kinds: str, begun: str) -> "Iterator[tuple[bytes, str]]":
    if kinds == "keys":
        from singlerun.config import schema  # noqa: PLC0415 - imports more than most need

        yield from schema.completions(begun)
        return
    words = Words(StateDir(_state_path(), create=False))
    for kind in filter(None, kinds.split(",")):
        yield from words.find(kind, os.fsencode(begun))


def _state_path() -> bytes:
    if is_configured():
        from singlerun import config  # noqa: PLC0415 - most have none

        return state_path(config.directory())
    return state_path(None)


def _line(word: bytes, about: str) -> bytes | None:
    """Return the line for a word; None if a terminal would obey or hide some of it."""
    if shown(word) != word.decode("utf-8", "replace"):
        return None
    return word + b"\t" + shown(about).encode() + b"\n"


def _write(text: bytes) -> None:
    while text:
        text = text[os.write(1, text) :]
