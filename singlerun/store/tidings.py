"""What notifications ask of the record: what is news."""

from singlerun.store.rows import SELECT_RUNS, is_int, read_run
from singlerun.store.run import REFUSED, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from singlerun.store.run import Run

LOOKED_AT = 10_000
"""The latest runs of a name among which is looked, so that the price has a bound."""
_OF_NAME = "run_names JOIN runs ON id = run_id WHERE name = ? AND run_id < ?"
_NEWEST_FIRST = f"ORDER BY run_id DESC LIMIT {LOOKED_AT}"


def run_before(database: "sqlite3.Connection", run: "Run") -> "Run | None":
    """Return the latest run of a name that started, and ended, before one was asked for."""
    query = f"SELECT id, started_ns, ended_ns, job_id FROM {_OF_NAME} {_NEWEST_FIRST}"  # noqa: S608
    for number, started_ns, ended_ns, job_id in database.execute(query, _values(run)):
        is_same_job = run.job_id is not None and job_id == run.job_id
        if started_ns is not None and ended_ns is not None and not is_same_job:
            row = database.execute(f"{SELECT_RUNS} WHERE id = ?", (number,)).fetchone()
            return read_run(row)
    return None


def refused_in_a_row(database: "sqlite3.Connection", run: "Run") -> tuple[int, int]:
    """Return how many runs of a name were not started since one was, and when that was."""
    name, _ = _values(run)
    query = f"SELECT state, started_ns, ended_ns FROM {_OF_NAME} {_NEWEST_FIRST}"  # noqa: S608
    ends, since = [], 0
    for state, started_ns, ended_ns in database.execute(query, (name, 2**62)):
        if is_int(started_ns):
            since = started_ns
            break
        if state in {REFUSED, SKIPPED} and is_int(ended_ns):
            ends.append(ended_ns)
    return sum(end > since for end in ends), since


def tell_once(database: "sqlite3.Connection", name: bytes, kind: str, occasion: int) -> bool:
    """Note that something is told; return whether it was not yet on this occasion."""
    statement = (
        "INSERT INTO told VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET occasion = excluded.occasion"
        " WHERE occasion IS NOT excluded.occasion"
    )
    return database.execute(statement, (name, kind, occasion)).rowcount > 0


def _values(run: "Run") -> tuple[bytes, int]:
    return run.names[0], run.id or 2**62
