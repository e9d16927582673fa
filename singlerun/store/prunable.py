"""Which of the runs that have ended may be forgotten."""

from singlerun.store.rows import is_int
from singlerun.store.run import SUCCEEDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

RUN = (
    "id, names, state, asked_ns, started_ns, ended_ns, elapsed_ns, job_id,"
    " 150 + 2 * length(names) + length(argv) + ifnull(length(cwd), 0) + ifnull(length(detail), 0)"
    " + ifnull(length(lock_file), 0)"
)
DEEP = 2000
"""Runs of a name among which the latest that started, or succeeded, is looked for: some 4 ms."""
_KINDS = {"started": "started_ns NOTNULL", "succeeded": "state = 'succeeded'"}


class Ended:
    """What must be known of a run that has ended: the columns of RUN."""

    __slots__ = (
        "asked_ns", "elapsed_ns", "ended_ns", "has_started", "id", "job_id", "names", "size",
        "state",
    )  # fmt: skip

    def __init__(self, row: "Sequence[Any]") -> None:
        self.id, names, self.state, self.asked_ns, started, self.ended_ns = row[:6]
        self.elapsed_ns, self.job_id, self.size = row[6:]
        self.names = tuple(names.split(b"\0"))
        self.has_started = started is not None
        if not self.has_started:
            self.elapsed_ns = None

    @staticmethod
    def is_sound(row: "Sequence[Any]") -> bool:
        """Return whether a row is that of a run which has ended; a damaged one is left alone."""
        numbers = (row[0], row[3], row[5], row[6] or 0, row[7] or 0, row[8])
        return isinstance(row[1], bytes) and isinstance(row[2], str) and all(map(is_int, numbers))


class Prunable:
    """Judges runs, in the transaction that forgets them.

    Attributes:
        gone: the runs that would be forgotten, if none is.
    """

    def __init__(self, count: int, gone_jobs: "set[int]") -> None:
        self.gone: set[int] = set()
        self._count, self._gone_jobs = count, gone_jobs
        self._latest: dict[tuple[str, bytes], int] = {}
        self._unknown: set[tuple[str, bytes]] = set()
        self._cutoffs: dict[bytes, int] = {}

    def is_surplus(self, database: "sqlite3.Connection", run: Ended) -> bool:
        """Return whether there are enough later runs of each of its names."""
        return all(run.id <= self._cutoff(database, name) for name in set(run.names))

    def _cutoff(self, database: "sqlite3.Connection", name: bytes) -> int:
        # Later runs only move it up, so that it may be remembered.
        if name not in self._cutoffs:
            query = (
                "SELECT run_id FROM run_names WHERE name = ? ORDER BY run_id DESC LIMIT 1 OFFSET ?"
            )
            row = database.execute(query, (name, self._count)).fetchone()
            self._cutoffs[name] = row[0] if row else 0
        return self._cutoffs[name]

    def is_kept(self, database: "sqlite3.Connection", run: Ended) -> bool:
        """Return whether a run must be kept, whatever its age and how many there are."""
        if is_int(run.job_id) and run.job_id not in self._gone_jobs:
            query = "SELECT 1 FROM jobs WHERE id = ? AND run_id = ?"
            if database.execute(query, (run.job_id, run.id)).fetchone():
                return True
        return any(self._is_latest(database, run, name) for name in set(run.names))

    def _is_latest(self, database: "sqlite3.Connection", run: Ended, name: bytes) -> bool:
        """Return whether a run is the latest of a name, or the latest that started or succeeded."""
        query = "SELECT 1 FROM run_names WHERE name = ? AND run_id > ? LIMIT 1"
        if not database.execute(query, (name, run.id)).fetchone():
            return True
        kinds = ["started"] if run.has_started else []
        kinds += ["succeeded"] if run.state == SUCCEEDED else []
        return not all(self._has_later(database, kind, name, run.id) for kind in kinds)

    def _has_later(
        self, database: "sqlite3.Connection", kind: str, name: bytes, run_id: int
    ) -> bool:
        """Return whether a later run of a name is known to have started, or succeeded.

        Only so many of its runs are looked at, the latest and those that come next: a name may have
        failed a million times since its latest success. Then that one is kept, and perhaps others.
        """
        key = (kind, name)
        if self._latest.get(key, 0) > run_id:
            return True
        if key in self._unknown:
            return False
        some = "SELECT run_id FROM run_names WHERE name = ? AND run_id > ? ORDER BY run_id"
        for order in (" DESC", ""):
            query = (
                f"SELECT run_id FROM ({some}{order} LIMIT {DEEP}) CROSS JOIN runs ON id = run_id"  # noqa: S608
                f" WHERE {_KINDS[kind]} LIMIT 1"
            )
            row = database.execute(query, (name, run_id)).fetchone()
            if row:
                self._latest[key] = max(row[0], self._latest.get(key, 0))
                return True
        self._unknown.add(key)
        return False
