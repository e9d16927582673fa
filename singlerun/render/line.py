"""One line on standard error, when there is something to say."""

import os

from singlerun.render.text import shown


def say(message: str) -> None:
    """Write one line to standard error in a single write(2); failing to do so is no error."""
    line = f"singlerun: {shown(message)}\n".encode(errors="backslashreplace")
    try:
        os.write(2, line)
    except OSError:
        pass
