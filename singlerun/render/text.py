"""Untrusted text, made safe to show."""

import os

_HIDDEN = frozenset("\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\ufeff\uffa0") | {
    chr(code)
    for start, end in (
        (0x200B, 0x200F),  # zero width, and marks that turn the direction of text
        (0x2028, 0x202E),  # line and paragraph ends; embeddings and overrides
        (0x2060, 0x206F),  # invisible operators, isolates
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFFF9, 0xFFFB),  # annotations
    )
    for code in range(start, end + 1)
}


def shown(text: bytes | str) -> str:
    r"""Escape what a terminal would obey or hide: control, bidirectional and invisible characters.

    Bytes that cannot be decoded show as ``\xNN``. See Unicode Technical Report 36.
    """
    if isinstance(text, str):
        try:
            text = text.encode()
        except UnicodeEncodeError:  # it has surrogates
            text = os.fsencode(text)
    decoded = text.decode("utf-8", "backslashreplace")
    if decoded.isascii() and decoded.isprintable():
        return decoded
    return "".join(
        character
        if character.isprintable() and character not in _HIDDEN
        else character.encode("unicode_escape").decode()
        for character in decoded
    )


def command(argv: tuple[bytes, ...]) -> str:
    """Return a command, quoted for a shell."""
    return " ".join(quoted(shown(word)) for word in argv)


def quoted(word: str) -> str:
    """Return a word, quoted for a shell where it needs that."""
    if word and not set(word) & set(" \\'\"$`&|;<>()*?[]#~!{}"):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def cut(text: str, width: int) -> str:
    """Cut a text to at most ``width`` characters, the last one an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def names(run_names: tuple[bytes, ...]) -> str:
    """Return the names that a run holds."""
    return " + ".join(shown(name) for name in run_names)
