"""One line on standard error, when there is something to say."""

import os

from singlerun.render.text import shown


def say(message: str) -> None:
    """Write one line on standard error, whole or not at all; a closed one is no failure."""
    line = f"singlerun: {shown(message)}\n".encode(errors="backslashreplace")
    try:
        os.write(2, line)
    except OSError:
        pass
