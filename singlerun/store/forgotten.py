"""What is left of runs that were forgotten: sums by name and state, so that no counter falls."""

from singlerun.store.rows import is_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

BOUNDS = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
"""Upper bounds in seconds; a duration is counted at the first that it does not exceed."""
_COUNTED = ("runs", "elapsed_ns", "timed", *(f"b{number}" for number in range(len(BOUNDS))))


class Sums:
    """The runs of one name that ended in one state.

    Attributes:
        runs: how many.
        timed: of how many the duration is known, and elapsed_ns: what those took together.
        buckets: how many of those took up to each of BOUNDS, but longer than the one before; the
            rest of ``timed`` took longer than the last.
    """

    __slots__ = ("buckets", "elapsed_ns", "name", "runs", "state", "timed")

    def __init__(self, name: bytes, state: str) -> None:
        self.name, self.state = name, state
        self.runs = self.elapsed_ns = self.timed = 0
        self.buckets = [0] * len(BOUNDS)

    def count(self, elapsed_ns: object) -> None:
        """Add a run."""
        self.runs += 1
        if isinstance(elapsed_ns, int):
            self.timed += 1
            self.elapsed_ns += elapsed_ns
            for at, bound in enumerate(BOUNDS):
                if elapsed_ns <= bound * 10**9:
                    self.buckets[at] += 1
                    break


def add(database: "sqlite3.Connection", sums: "Iterable[Sums]") -> None:
    """Add to what was forgotten before; in the transaction that forgets."""
    columns = ", ".join(_COUNTED)
    holes = ", ".join("?" * (2 + len(_COUNTED)))
    grown = ", ".join(f"{column} = {column} + excluded.{column}" for column in _COUNTED)
    statement = (
        f"INSERT INTO forgotten (name, state, {columns}) VALUES ({holes})"  # noqa: S608
        f" ON CONFLICT (name, state) DO UPDATE SET {grown}"
    )
    database.executemany(
        statement,
        [(s.name, s.state, s.runs, s.elapsed_ns, s.timed, *s.buckets) for s in sums],
    )


def read(database: "sqlite3.Connection", name: bytes | None) -> list[Sums]:
    """Return the sums of a name, or of all."""
    query = f"SELECT name, state, {', '.join(_COUNTED)} FROM forgotten"  # noqa: S608
    values = () if name is None else (name,)
    rows = database.execute(query + (" WHERE name = ?" if values else ""), values).fetchall()
    found = []
    for of, state, *numbers in rows:
        if isinstance(of, bytes) and isinstance(state, str) and all(map(is_int, numbers)):
            sums = Sums(of, state)
            sums.runs, sums.elapsed_ns, sums.timed, *sums.buckets = numbers
            found.append(sums)
    return found
