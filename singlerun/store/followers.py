"""What the end of a run makes of its job, and of the jobs that follow that one, in SQL.

All of it happens in the transaction that records the end. Each function returns the names of the
queues that it has changed, whose workers may have something to do.
"""

import time

from singlerun.outcome import Outcome
from singlerun.store import run as runs
from singlerun.store.queue import CANCELLED, DELAYED, FAILED, LOST, SUCCEEDED
from singlerun.timings import backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

    from singlerun.store.run import Change, Run


def end_job(database: "sqlite3.Connection", run: "Run", change: "Change") -> set[bytes]:
    """Record what the end of a run makes of its job: an end, or another try."""
    state, ended_ns = change.get("state"), change.get("ended_ns")
    if state == runs.SUCCEEDED:  # by far the most
        succeeded = database.execute(
            "UPDATE jobs SET state = 'succeeded', ended_ns = ?, exit_code = 0, signal = NULL,"
            " detail = NULL WHERE id = ? AND run_id = ? AND state IN ('running', 'lost')",
            (ended_ns, run.job_id, run.id),
        )
        return _free_followers(database, run.job_id) if succeeded.rowcount else set()
    row = database.execute(
        "SELECT name, tries, retries, retry_delay FROM jobs WHERE id = ? AND run_id = ?"
        " AND state IN ('running', 'lost')",
        (run.job_id, run.id),
    ).fetchone()
    if row is None:
        return set()
    name, tries, retries, retry_delay = row
    not_before_ns = None
    if state in {runs.FAILED, runs.TIMED_OUT, runs.LOST} and tries <= retries:
        becomes, ended_ns = DELAYED, None
        not_before_ns = time.time_ns() + round(backoff(retry_delay, tries) * 1e9)
    else:
        becomes = LOST if state == runs.LOST else FAILED
    outcome = change.get("outcome")
    ended = (outcome.exit_code, outcome.signal) if isinstance(outcome, Outcome) else (None, None)
    database.execute(
        "UPDATE jobs SET state = ?, ended_ns = ?, not_before_ns = ?, exit_code = ?, signal = ?,"
        " detail = ? WHERE id = ?",
        (becomes, ended_ns, not_before_ns, *ended, _detail(run, change), run.job_id),
    )
    return {name} if becomes == DELAYED else cancel_followers(database, run.job_id)


def _detail(run: "Run", change: "Change") -> object:
    state, detail = change.get("state"), change.get("detail")
    if state == runs.LOST:
        return f"run {run.id} is lost: {detail}; its worker was PID {run.wrapper_pid}"
    if state == runs.TIMED_OUT:
        return "timed out"
    return detail or "stopped" if state == runs.STOPPED else detail


def state_after(database: "sqlite3.Connection", after_id: int | None) -> str | None:
    """Return how a job begins that follows another: DELAYED, CANCELLED, or None: ready at once.

    Raises LookupError if there is no such job.
    """
    if after_id is None:
        return None
    row = database.execute("SELECT state FROM jobs WHERE id = ?", (after_id,)).fetchone()
    if row is None:
        raise LookupError(after_id)
    if row[0] in {FAILED, CANCELLED, LOST}:
        return CANCELLED
    return None if row[0] == SUCCEEDED else DELAYED


def cancel(database: "sqlite3.Connection", job_id: int, detail: str) -> set[bytes] | None:
    """Cancel a pending job and its followers; return None if it was not pending."""
    cursor = database.execute(
        "UPDATE jobs SET state = 'cancelled', ended_ns = ?, detail = ? WHERE id = ?"
        " AND state IN ('queued', 'delayed')",
        (time.time_ns(), detail, job_id),
    )
    return cancel_followers(database, job_id) if cursor.rowcount else None


def cancel_followers(database: "sqlite3.Connection", job_id: int | None) -> set[bytes]:
    """Cancel the jobs that follow one which did not succeed, and those that follow them."""
    names: set[bytes] = set()
    ended = [job_id]
    while ended:
        of = ended.pop()
        followers = _followers(database, of)
        names |= {name for _, name in followers}
        ended += [number for number, _ in followers]
        database.executemany(
            "UPDATE jobs SET state = 'cancelled', blocked = 0, ended_ns = ?, detail = ?"
            " WHERE id = ?",
            [(time.time_ns(), f"job {of} did not succeed", number) for number, _ in followers],
        )
    return names


def _free_followers(database: "sqlite3.Connection", job_id: int | None) -> set[bytes]:
    names = _followers(database, job_id)
    if names:
        database.execute(
            "UPDATE jobs SET blocked = 0, state = CASE WHEN ifnull(not_before_ns, 0) <= ?"
            " THEN 'queued' ELSE 'delayed' END WHERE after_id = ? AND blocked"
            " AND state = 'delayed'",
            (time.time_ns(), job_id),
        )
    return {name for _, name in names}


def _followers(database: "sqlite3.Connection", job_id: int | None) -> "list[tuple[int, bytes]]":
    query = "SELECT id, name FROM jobs WHERE after_id = ? AND blocked AND state = 'delayed'"
    return database.execute(query, (job_id,)).fetchall()
