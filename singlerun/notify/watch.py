"""Watches runs that are to be told of should they take too long: by their record and process.

The run's own process wrote a small file when it had started its command, and does nothing more.
"""

import os
import time

from singlerun.errors import SinglerunError
from singlerun.event import Event
from singlerun.notify.spool import spooled
from singlerun.process.descriptors import POLLIN, poll
from singlerun.process.identity import ALIVE, Owner, life
from singlerun.rule import OVERLONG
from singlerun.store.sqlite import SqliteStore
from singlerun.timings import LONGEST_SLEEP, WATCH_LOOK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from singlerun.notify.spool import Spool
    from singlerun.paths import StateDir
    from singlerun.store.run import Run


class _Watched:
    """A run that is watched: its entry, and a pidfd of its command, -1 if there is none."""

    def __init__(self, entry: "dict[str, Any]") -> None:
        self.entry = entry
        self.pidfd = -1
        self.due = 0.0

    def follow(self, owner: Owner | None) -> None:
        """Open a pidfd of a process, if it is the right one and lives."""
        if self.pidfd >= 0 or owner is None:
            return
        try:
            self.pidfd = os.pidfd_open(owner.pid)
        except OSError:
            return
        if life(owner) != ALIVE:
            self.leave()

    def leave(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Watch:
    """The runs that are watched, as the spool has them."""

    def __init__(self, state: "StateDir", spool: "Spool") -> None:
        self._state, self._spool = state, spool
        self._store: SqliteStore | None = None
        self._watched: dict[str, _Watched] = {}

    @property
    def pidfds(self) -> list[int]:
        """The descriptors that tell of the end of a command."""
        return [one.pidfd for one in self._watched.values() if one.pidfd >= 0]

    def look(self) -> float | None:
        """Look at all of them; return when to look again, None if there are none.

        Whatever takes too long becomes an entry of the spool. Times are of the monotonic clock.
        """
        names = self._spool.watches()
        for name in names:
            if name not in self._watched and (entry := self._spool.read(name)) is not None:
                self._watched[name] = _Watched(entry)
        for name in {*names, *self._watched}:
            one = self._watched.get(name)
            if one is None or name not in names or not self._goes_on(one):
                self._spool.remove(name)
                if one is not None:
                    one.leave()
                    del self._watched[name]
        return min((one.due for one in self._watched.values()), default=None)

    def _goes_on(self, one: _Watched) -> bool:
        """Return whether a run is to be watched on; tell of it if it takes too long."""
        ended = one.pidfd >= 0 and bool(poll({one.pidfd: POLLIN}, 0))
        if ended:
            one.leave()
        elif time.monotonic() < one.due:
            return True
        try:
            run, usual_ns = self._find(one.entry)
        except SinglerunError:  # the record cannot be used now
            one.due = time.monotonic() + LONGEST_SLEEP
            return True
        if run is None or usual_ns is None or run.started_ns is None:
            return False
        if life(run.wrapper) != ALIVE and (run.command is None or life(run.command) != ALIVE):
            return False  # it is lost, and that will be told where it is closed
        if ended:  # its end is about to be recorded, or it is tried again
            one.due = time.monotonic() + WATCH_LOOK
            return True
        one.follow(run.command)
        limit_ns = run.started_ns + round(one.entry.get("overlong", OVERLONG) * usual_ns)
        left = (limit_ns - time.time_ns()) / 1e9
        if left > 0:
            known = left if one.pidfd >= 0 else min(left, WATCH_LOOK)
            one.due = time.monotonic() + min(known, LONGEST_SLEEP)
            return True
        event = Event("overlong", run.names[0], run=run, usual_ns=usual_ns)
        entry = {key: value for key, value in one.entry.items() if key != "overlong"}
        self._spool.put(entry | {"event": spooled(event), "written": time.time()})
        return False

    def _find(self, entry: "dict[str, Any]") -> "tuple[Run | None, int | None]":
        """Return a run that still goes on, and how long it usually takes."""
        store = self._store = self._store or SqliteStore(self._state)
        seen = entry["event"].get("run") or {}
        run = store.find(int(seen.get("id") or 0))
        if run is None or run.ended_ns is not None or run.token != seen.get("token"):
            return None, None
        return run, store.usual_ns(run.names[0], run.argv)
