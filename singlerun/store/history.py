"""The runs that a filter selects, newest first, page by page.

Each filter has an index, so that the latest runs which match cost the same in a large record: the
runs of a name, the runs of a state in order of asking, the long ones, and the open ones. Each is a
branch of the search, and the branches are merged.
"""

from fnmatch import fnmatchcase

from singlerun.store.rows import SELECT_RUNS, read_run
from singlerun.store.run import (
    FAILED,
    LOST,
    REFUSED,
    RUNNING,
    SKIPPED,
    STATES,
    TIMED_OUT,
    WAITING,
    Run,
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

LONG_NS = 3600 * 10**9
"""A run that took more than this is in the index of long ones; the schema has the number too."""
FEW = 5000
"""Runs of a state or period that are looked through for a name, rather than those of the name."""
MOST_NAMES = 100
"""Names that are searched one by one."""
MOST_FOLDED = 100
"""Groups of refusals that SQL passes over; more are read and passed over one by one."""

_SAME = (
    "runs.names = ? AND runs.state = ? AND runs.conflict_id IS ?"
    " AND (runs.conflict_id NOTNULL OR runs.detail IS ?)"
)
_GLOB = b"*?["


FAILURES = frozenset({FAILED, TIMED_OUT, LOST})
"""The states of a run that is called failed."""


class Filter:
    """Which runs to look for; what is empty or None selects all.

    Attributes:
        names: of one of these names.
        globs: of a name that matches one of these patterns.
        states: in one of these states.
        since_ns, until_ns: waiting or running in this period, of which either end may be open.
    """

    __slots__ = ("globs", "names", "since_ns", "states", "until_ns")

    def __init__(
        self, names: "Collection[bytes]" = (), *, globs: "Collection[bytes]" = (),
        states: "Collection[str]" = (), since_ns: int | None = None, until_ns: int | None = None,
    ) -> None:  # fmt: skip
        self.globs = tuple(glob for glob in globs if set(glob) & set(_GLOB))
        self.names = frozenset(names) | (frozenset(globs) - set(self.globs))
        self.states = frozenset(states)
        self.since_ns, self.until_ns = since_ns, until_ns

    def is_named(self, names: object) -> bool:
        """Return whether one of the names in a row is wanted."""
        found = names.split(b"\0") if isinstance(names, bytes) else []
        return any(
            name in self.names or any(fnmatchcase(name, glob) for glob in self.globs)
            for name in found
        )


class Line:
    """A run in a list, or several refusals by one holder or for one cause.

    Attributes:
        run: the latest of them.
        count: how many they are.
        first_ns: when the first of them was asked for.
    """

    __slots__ = ("count", "first_ns", "run")

    def __init__(self, run: Run, count: int = 1, first_ns: int | None = None) -> None:
        self.run, self.count = run, count
        self.first_ns = run.asked_ns if first_ns is None else first_ns


class Search:
    """The runs that a filter selects, newest first; each call gives the next of them.

    ``do`` does work in a transaction of the store. ``more`` and ``lines`` are two ways to read on.
    """

    def __init__(self, do: "Callable[..., Any]", wanted: Filter) -> None:
        self._do, self._wanted = do, wanted
        self._branches: list[_Branch] | None = None
        self._last: tuple[int, ...] = ()
        self._folded: list[_Group] = []

    def more(self, limit: int) -> list[Run]:
        """Return the next runs, at most so many; none if there are no more."""

        def fetch(database: "sqlite3.Connection") -> "tuple[list[_Branch], list[Run]]":
            branches = self._branches or _plan(database, self._wanted)
            database.create_function("is_named", 1, self._wanted.is_named)
            without, values = self._without()
            found = {
                run.id: run
                for branch in branches
                for run in branch.fetch(database, self._last, without, values, limit)
            }
            ordered = sorted(found.values(), key=branches[0].key, reverse=True)
            return branches, ordered[:limit]

        found: list[Run]
        self._branches, found = self._do(fetch)
        if found:
            self._last = self._branches[0].key(found[-1])
        return found

    def lines(self, limit: int) -> list[Line]:
        """Return the next runs, at most so many lines: refusals in a row are one line."""
        lines: list[Line] = []
        while len(lines) < limit and (page := self.more(limit - len(lines))):
            for run in page:
                if any(group.has(run) for group in self._folded):
                    continue
                lines.append(self._folding(run) if run.state in {REFUSED, SKIPPED} else Line(run))
        return lines

    def _folding(self, run: Run) -> Line:
        """Return a line for a refusal and for those before it of the same name and cause."""
        group, count, first_ns = self._do(lambda database: _group(database, run, self._wanted))
        if count > 1:
            # A group that lies above all that is still to come is of no more use.
            self._folded = [each for each in self._folded if each.above < (run.id or 0)]
            self._folded.append(group)
        return Line(run, max(count, 1), first_ns)

    def _without(self) -> "tuple[str, list[object]]":
        groups = self._folded[-MOST_FOLDED:]
        unless = f" AND NOT (runs.id > ? AND runs.id < ? AND {_SAME})"
        return unless * len(groups), [value for group in groups for value in group.values]


class _Group:
    """Refusals of one name and cause in a row; ``above`` is the id of the run before them."""

    def __init__(self, run: Run, above: int) -> None:
        self.above = above
        self._run = run
        cause = (b"\0".join(run.names), run.state, run.conflict_id, run.detail)
        self.same = cause
        self.values: list[object] = [above, run.id, *cause]

    def has(self, run: Run) -> bool:
        one = self._run
        return (
            self.above < (run.id or 0) < (one.id or 0)
            and (run.names, run.state, run.conflict_id) == (one.names, one.state, one.conflict_id)
            and (run.conflict_id is not None or run.detail == one.detail)
        )


class _Branch:
    """A part of a search: a table, conditions, and the order in which its rows come."""

    def __init__(
        self, order: "Sequence[str]", source: str, conditions: "Sequence[str]",
        values: "Sequence[object]",
    ) -> None:  # fmt: skip
        self._order, self.source = order, source
        self.where, self.values = " AND ".join(conditions) or "1", list(values)

    def key(self, run: Run) -> tuple[int, ...]:
        """Return what the runs are ordered by."""
        return (run.asked_ns, run.id or 0)[-len(self._order) :]

    def fetch(
        self, database: "sqlite3.Connection", last: tuple[int, ...], without: str,
        values: list[object], limit: int,
    ) -> list[Run]:  # fmt: skip
        """Return its next runs after the one with the key ``last``."""
        after = f" AND ({', '.join(self._order)}) < ({', '.join('?' * len(last))})" if last else ""
        order = ", ".join(f"{column} DESC" for column in self._order)
        query = (
            f"{SELECT_RUNS}{self.source} WHERE {self.where}{without}{after}"
            f" ORDER BY {order} LIMIT ?"
        )
        rows = database.execute(query, [*self.values, *values, *last, limit])
        return [read_run(row) for row in rows]


_BY_ID = ("runs.id",)
_BY_TIME = ("runs.asked_ns", "runs.id")


def _plan(database: "sqlite3.Connection", wanted: Filter) -> list[_Branch]:
    """Return the branches of a search, all in one order."""
    has_names = bool(wanted.names or wanted.globs)
    names = _expanded(database, wanted) if has_names else None
    is_of_time = bool(wanted.states) or wanted.since_ns is not None or wanted.until_ns is not None
    if is_of_time:
        branches = _of_time(wanted)
        if names is None or _are_few(database, branches):
            return branches
    conditions, values = _conditions(wanted)
    if names is None:
        return [_Branch(_BY_ID, "", *_and_named(wanted, conditions, values))]
    source = " JOIN run_names ON run_names.run_id = runs.id"
    # Ordered by run_names.run_id, which is the same and in the index.
    order = ("run_names.run_id",)
    return [
        _Branch(order, source, ["run_names.name = ?", *conditions], [name, *values])
        for name in sorted(names)
    ] or [_Branch(_BY_ID, "", ["0"], [])]


def _of_time(wanted: Filter) -> list[_Branch]:
    """Return branches by state and time: runs asked for in a period or shortly before, the long
    ones, and the open ones.
    """
    conditions, values = _and_named(wanted, *_conditions(wanted, but_states=True))
    since = wanted.since_ns
    shortly = [] if since is None else [since - LONG_NS]
    branches = []
    for state in sorted(wanted.states or STATES, key=STATES.index):
        if state in {WAITING, RUNNING}:
            continue
        driving = [
            "runs.state = ?",
            "runs.ended_ns NOTNULL",
            *["runs.asked_ns >= ?"] * len(shortly),
        ]
        branches.append(_Branch(_BY_TIME, "", [*driving, *conditions], [state, *shortly, *values]))
    in_state, states = _in_state(wanted)
    if since is not None:
        driving = ["runs.ended_ns >= ?", f"runs.ended_ns - runs.asked_ns > {LONG_NS}",
                   "+runs.asked_ns < ?", *in_state]  # fmt: skip
        more = [since, since - LONG_NS, *states]
        branches.append(_Branch(_BY_TIME, "", [*driving, *conditions], [*more, *values]))
    branches.append(
        _Branch(_BY_TIME, "", ["runs.ended_ns IS NULL", *in_state, *conditions],
                [*states, *values])
    )  # fmt: skip
    return branches


def _conditions(wanted: Filter, *, but_states: bool = False) -> "tuple[list[str], list[object]]":
    conditions, values = ([], []) if but_states else _in_state(wanted)
    if wanted.since_ns is not None:
        conditions.append("(runs.ended_ns IS NULL OR runs.ended_ns >= ?)")
        values.append(wanted.since_ns)
    if wanted.until_ns is not None:
        conditions.append("runs.asked_ns < ?")
        values.append(wanted.until_ns)
    return conditions, values


def _in_state(wanted: Filter) -> "tuple[list[str], list[object]]":
    holes = ",".join("?" * len(wanted.states))
    return [f"+runs.state IN ({holes})"] if holes else [], [*sorted(wanted.states)]


def _and_named(
    wanted: Filter, conditions: list[str], values: list[object]
) -> "tuple[list[str], list[object]]":
    has_names = bool(wanted.names or wanted.globs)
    return [*conditions, *["is_named(runs.names)"] * has_names], values


def _are_few(database: "sqlite3.Connection", branches: "list[_Branch]") -> bool:
    """Return whether the runs of a period or state are few enough to look through."""
    left = FEW
    for branch in branches:
        where = branch.where.replace(" AND is_named(runs.names)", "")
        query = f"SELECT count(*) FROM (SELECT 1 FROM runs WHERE {where} LIMIT ?)"  # noqa: S608
        (count,) = database.execute(query, [*branch.values, left]).fetchone()
        left -= count
        if left <= 0:
            return False
    return True


def _expanded(database: "sqlite3.Connection", wanted: Filter) -> "set[bytes] | None":
    """Return the names that there are of those wanted; None if they are too many."""
    names = set(wanted.names)
    for glob in wanted.globs:
        begin = glob[: min(at for at in map(glob.find, map(bytes, zip(_GLOB))) if at >= 0)]
        name = begin
        query = "SELECT min(name) FROM run_names WHERE name >= ?"
        for _ in range(MOST_NAMES * 10):
            (name,) = database.execute(query, (name,)).fetchone()
            if name is None or not name.startswith(begin):
                break
            if fnmatchcase(name, glob):
                names.add(name)
            name += b"\0"
        else:
            return None
    return names if len(names) <= MOST_NAMES else None


def _group(
    database: "sqlite3.Connection", run: Run, wanted: Filter
) -> "tuple[_Group, int, int | None]":
    """Return the refusals of the same name and cause just before one, their number, and since when.

    They end where another run of that name comes between.
    """
    of_name = "FROM run_names JOIN runs ON runs.id = run_id WHERE name = ?"
    group = _Group(run, 0)
    before = (
        f"SELECT run_id {of_name} AND run_id < ? AND NOT ({_SAME}) ORDER BY run_id DESC LIMIT 1"
    )
    row = database.execute(before, [run.names[0], run.id, *group.same]).fetchone()
    group = _Group(run, row[0] if row else 0)
    conditions, values = _conditions(wanted)
    count = (
        f"SELECT count(*), min(runs.asked_ns) {of_name} AND run_id > ? AND run_id <= ?"
        + "".join(f" AND {each}" for each in conditions)
    )
    found = database.execute(count, [run.names[0], group.above, run.id, *values]).fetchone()
    return group, found[0], found[1]
