"""Checks for files that killed processes could not delete; reap does it for them."""

import os

from singlerun.finding import NOTE, Answer, counted
from singlerun.process.identity import has_proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.checkup.case import Case

MOST_LINES = 10_000


def check(case: "Case") -> Answer:
    """Find tickets of dead waiters, and what was to become kept output."""
    answer = Answer("killed processes left no files")
    for directory, what in (("lines", "ticket"), ("logs", "log")):
        left = [path for path in _files(case.path, directory) if _is_dead(path)]
        if left:
            where = os.path.join(case.shown, directory)
            said = f"{counted(len(left), what)} left by processes that were killed"
            answer.add(NOTE, where, said, "delete them", "singlerun reap")
    return answer


def _files(state: bytes, directory: str) -> "Iterator[bytes]":
    """Yield what is named after the process that is to delete it: ``…-PID``."""
    top = os.path.join(state, directory.encode())
    for name in _names(top)[:MOST_LINES]:
        if directory == "logs":
            if name.startswith(b"."):
                yield name
        else:
            yield from _names(os.path.join(top, name))


def _names(path: bytes) -> list[bytes]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_dead(name: bytes) -> bool:
    pid = name.rpartition(b"-")[2]
    return pid.isdigit() and has_proc() and not os.path.exists(b"/proc/" + pid)
