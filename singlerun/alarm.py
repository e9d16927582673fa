"""Tells once of each change in how a name stands, however often it is looked at."""

import fcntl
import os

from singlerun import notify
from singlerun.event import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from singlerun.config.settings import Settings
    from singlerun.paths import StateDir
    from singlerun.store.sqlite_queue import SqliteQueue
    from singlerun.survey import Watched

LOCK = b"check.lock"
"""Keeps two checks from telling the same."""
OVERDUE = "overdue"


def changed(
    state: "StateDir", store: "SqliteQueue", settings: "Settings",
    found: "Iterable[tuple[Watched, str]]",
) -> set[bytes]:  # fmt: skip
    """Return the names that stand otherwise than at the last call, and tell of what is overdue.

    ``found`` are names and what is wrong with each: words, separated by commas. Notifications tell
    that a success is overdue, and that one has come. If we are killed between telling and
    remembering that, it is told again. Raises RecordError or StateDirError if that can't be
    remembered.
    """
    fd = state.open_file(LOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return {
            watched.name
            for watched, words in found
            if _has_changed(state, store, settings, watched, words)
        }
    finally:
        os.close(fd)


def _has_changed(
    state: "StateDir", store: "SqliteQueue", settings: "Settings", watched: "Watched", words: str
) -> bool:
    before = store.standings([watched.name])[watched.name].told or ""
    if words == before:
        return False
    was, is_overdue = (OVERDUE in each.split(",") for each in (before, words))
    if was != is_overdue:
        event = Event(OVERDUE, watched.name)
        if was:
            success = store.latest_success(watched.name)
            event = Event("recovery", watched.name, run=success, exit_status=0)
        notify.tell(settings, event, state)
    store.set_told(watched.name, words or None)
    return True
