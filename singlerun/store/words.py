"""What the record knows that a user may be about to type: names, ids and labels.

Each question reads an index or the latest LOOKED_AT rows, so that its price does not grow with the
record. A name, an id or a label comes with a few words about it, which may be empty.
"""

import os

from singlerun.store.database import FILE, Database
from singlerun.timings import TAB_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from singlerun.paths import StateDir

    Found = list[tuple[bytes, str]]

LOOKED_AT = 10_000
"""The latest jobs among which ids and labels are looked for."""
MOST_NAMES = 2000
MOST_IDS = 50
_AFTER_ALL = b"\xff" * 8
"""Follows every text in UTF-8."""


class Words:
    """The words in a state directory. Reading them neither makes nor repairs anything."""

    def __init__(self, state: "StateDir") -> None:
        self._exists = os.path.lexists(os.path.join(state.path, FILE))
        self._database = Database(state, patience=TAB_PATIENCE, repairs=False)

    def close(self) -> None:
        """Close the database; a process that ends need not."""
        self._database.close()

    def find(self, kind: str, begun: bytes) -> "Found":
        """Return the words of a kind, one of KINDS, that begin so; ids newest first.

        Raises RecordError if the record can't be read, KeyError if there is no such kind.
        """
        find = _FINDERS[kind]
        return self._database.do(lambda database: find(database, begun)) if self._exists else []


def _names(database: "sqlite3.Connection", begun: bytes) -> "Found":
    """Find names that were started, queued or paused."""
    started = "SELECT name FROM names WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"
    values = (begun, begun + _AFTER_ALL, MOST_NAMES)
    found = dict.fromkeys([name for (name,) in database.execute(started, values)], "")
    found |= dict(_queues(database, begun))
    found |= dict(_paused(database, begun))
    return sorted(found.items())


def _paused(database: "sqlite3.Connection", begun: bytes) -> "Found":
    query = "SELECT name FROM pauses WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"
    values = (begun, begun + _AFTER_ALL, MOST_NAMES)
    return [(name, "paused") for (name,) in database.execute(query, values)]


def _queues(database: "sqlite3.Connection", begun: bytes) -> "Found":
    """Find names with pending jobs, by leaps from one name to the next in each index."""
    found: dict[bytes, str] = {}
    for state in ("queued", "delayed"):
        query = f"SELECT min(name) FROM jobs WHERE state = '{state}' AND name >= ? AND name < ?"  # noqa: S608
        name = begun
        while len(found) < MOST_NAMES:
            ((name,),) = database.execute(query, (name, begun + _AFTER_ALL))
            if name is None:
                break
            found[name] = "queue"
            name += b"\0"
    return sorted(found.items())


def _running(database: "sqlite3.Connection", begun: bytes) -> "Found":
    """Find open runs, by name and id."""
    query = "SELECT id, names, state FROM runs WHERE ended_ns IS NULL ORDER BY id DESC LIMIT ?"
    by_name, by_id = {}, []
    for number, names, state in database.execute(query, (MOST_NAMES,)):
        for name in names.split(b"\0"):
            if name.startswith(begun):
                by_name[name] = state
        by_id.append((number, names, state))
    return [*sorted(by_name.items()), *_as_ids(by_id, begun)]


def _runs(database: "sqlite3.Connection", begun: bytes) -> "Found":
    """Find the latest runs, by id."""
    query = "SELECT id, names, state FROM runs WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?"
    rows = [
        row
        for lowest, highest in _ranges(begun)
        for row in database.execute(query, (lowest, highest, MOST_IDS))
    ]
    return _as_ids(sorted(rows, reverse=True), begun)


def _jobs_in(*states: str) -> "Callable[[sqlite3.Connection, bytes], Found]":
    holes = ",".join("?" * len(states))
    looked_at = "SELECT * FROM jobs WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?"
    query = f"SELECT id, name, state FROM ({looked_at}) WHERE state IN ({holes})"  # noqa: S608
    query += " ORDER BY id DESC LIMIT ?"

    def find(database: "sqlite3.Connection", begun: bytes) -> "Found":
        rows = [
            row
            for lowest, highest in _ranges(begun)
            for row in database.execute(query, (lowest, highest, LOOKED_AT, *states, MOST_IDS))
        ]
        return _as_ids(sorted(rows, reverse=True), begun)

    return find


def _labels(database: "sqlite3.Connection", begun: bytes) -> "Found":
    query = "SELECT DISTINCT label FROM (SELECT label FROM jobs ORDER BY id DESC LIMIT ?)"
    rows = database.execute(query, (LOOKED_AT,))
    labels = {os.fsencode(label) for (label,) in rows if label}
    return [(label, "") for label in sorted(labels) if label.startswith(begun)][:MOST_NAMES]


def _as_ids(rows: "list[tuple[int, bytes, str]]", begun: bytes) -> "Found":
    """Return the ids of rows that begin so; which run or job each one is stands beside it."""
    found: Found = []
    for number, names, state in rows:
        word = b"%d" % number
        if word.startswith(begun):
            found.append((word, f"{os.fsdecode(names.replace(bytes(1), b' + '))}, {state}"))
            if len(found) == MOST_IDS:
                break
    return found


def _ranges(begun: bytes) -> "Iterator[tuple[int, int]]":
    """Yield the ranges of numbers that begin with these digits."""
    if not begun:
        yield 0, 2**62
    elif begun.isdigit() and begun[:1] != b"0":
        for power in range(19 - len(begun)):
            first = int(begun) * 10**power
            yield first, first + 10**power - 1


_FINDERS: "dict[str, Callable[[sqlite3.Connection, bytes], Found]]" = {
    "jobs": _jobs_in("queued", "delayed", "running"),
    "labels": _labels,
    "names": _names,
    "paused": _paused,
    "pending": _jobs_in("queued", "delayed"),
    "queues": _queues,
    "running": _running,
    "runs": _runs,
    "unsuccessful": _jobs_in("failed", "lost", "cancelled"),
}
KINDS = tuple(_FINDERS)
