"""Terminals on which results are shown: a width, an encoding, with colours or without."""

import io
import sys
from contextlib import contextmanager


class _Output(io.TextIOWrapper):
    def __init__(self, encoding, *, terminal):
        super().__init__(io.BytesIO(), encoding, errors="backslashreplace")
        self._is_terminal = terminal

    def isatty(self):
        return self._is_terminal


@contextmanager
def _output(monkeypatch, width, encoding, *, colours, terminal):
    with monkeypatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("LINES", "50")
        patch.setenv("TERM", "xterm-256color")
        patch.delenv("NO_COLOR", raising=False)
        if not colours:
            patch.setenv("TERM", "dumb")
        output = _Output(encoding, terminal=terminal)
        patch.setattr(sys, "stdout", output)
        yield output


def drawn(monkeypatch, result, width, encoding="utf-8", *, colours=False, terminal=True):
    """Return the lines that a result prints."""
    with _output(monkeypatch, width, encoding, colours=colours, terminal=terminal) as output:
        result.print()
        output.flush()
        return output.buffer.getvalue().decode(encoding).splitlines()
