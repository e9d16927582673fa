"""Screens as they are to look, one file each in ``screens/``.

    SINGLERUN_DRAW=1 pytest tests/render

draws them anew; look at the difference before it is committed.
"""

import os
import time
from contextlib import contextmanager
from pathlib import Path

DIRECTORY = Path(__file__).parent / "screens"


def golden(name, lines):
    """Compare a screen with the one that is kept under a name."""
    text = "".join(f"{line}\n" for line in lines)
    path = DIRECTORY / f"{name}.txt"
    if os.environ.get("SINGLERUN_DRAW"):
        DIRECTORY.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), name


@contextmanager
def clock_at(monkeypatch, now_ns):
    """Stop the clock at a time, in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    yield
    monkeypatch.undo()
    time.tzset()
