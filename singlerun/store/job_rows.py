"""Jobs and their rows in the database, of which any byte may be damaged."""

import json
import os
import time

from singlerun.store import followers
from singlerun.store.queue import CANCELLED, DELAYED, QUEUED, Context, Job, NoSuchJobError
from singlerun.store.rows import DamagedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from typing import Any

_JOB = {
    "id": int, "name": bytes, "context_id": int, "argv": bytes, "state": str, "priority": int,
    "not_before_ns": int, "after_id": int, "label": str, "retries": int, "retry_delay": float,
    "uid": int, "parent_id": int, "added_ns": int, "tries": int, "started_ns": int,
    "ended_ns": int, "run_id": int, "exit_code": int, "signal": int, "detail": str, "blocked": int,
    "announced": str,
}  # fmt: skip
_JOB_OPTIONAL = {
    "not_before_ns", "after_id", "label", "parent_id", "started_ns", "ended_ns", "run_id",
    "exit_code", "signal", "detail", "announced",
}  # fmt: skip
SELECT_JOBS = f"SELECT {', '.join(_JOB)} FROM jobs"  # noqa: S608


def read_job(row: "Sequence[Any]") -> tuple[Job, int]:
    """Read a job, and its context's id; raise DamagedError if it can't be one."""
    values = dict(zip(_JOB, row, strict=True))
    for name, kind in _JOB.items():
        value = values[name]
        if type(value) is not kind and (value is not None or name not in _JOB_OPTIONAL):
            raise DamagedError(f"job {row[0]!r} has a damaged {name}")
    job = Job(name=values["name"], argv=tuple(values["argv"].split(b"\0")))
    for name, value in values.items():
        if name in Job.__slots__ and name not in {"name", "argv"}:
            setattr(job, name, value)
    job.is_blocked = bool(values["blocked"])
    return job, values["context_id"]


def read_context(row: "Sequence[Any] | None") -> Context:
    """Read a context; raise DamagedError if it can't be one."""
    try:
        cwd, umask, env, text = row or ()
        options = json.loads(text)
    except (TypeError, ValueError):
        raise DamagedError("the context of a job is damaged") from None
    kinds = (type(cwd), type(umask), type(env), type(options))
    if kinds != (bytes, int, bytes, dict):
        raise DamagedError("the context of a job is damaged")
    return Context(cwd, umask, tuple(env.split(b"\0")) if env else (), options)


def insert_jobs(database: "sqlite3.Connection", jobs: "Sequence[Job]", context: Context) -> int:
    """Insert jobs that are added together; return the id of the first."""
    states = {}
    for after_id in {job.after_id for job in jobs}:
        try:
            states[after_id] = followers.state_after(database, after_id)
        except LookupError:
            raise NoSuchJobError(after_id) from None
    first = _reserve(database, len(jobs))
    context_id = _context_id(database, context)
    uid, now = os.getuid(), time.time_ns()
    database.executemany(
        "INSERT INTO jobs (id, name, context_id, argv, state, priority, not_before_ns,"
        " after_id, blocked, label, retries, retry_delay, uid, parent_id, added_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                number, job.name, context_id, b"\0".join(job.argv),
                DELAYED if job.not_before_ns or states[job.after_id] else QUEUED,
                job.priority, job.not_before_ns, job.after_id, states[job.after_id] is not None,
                job.label, job.retries, job.retry_delay, uid, job.parent_id, now,
            )
            for number, job in enumerate(jobs, first)
        ),
    )  # fmt: skip
    for number, job in enumerate(jobs, first):
        if states[job.after_id] == CANCELLED:
            followers.cancel(database, number, f"job {job.after_id} did not succeed")
    return first


def _context_id(database: "sqlite3.Connection", context: Context) -> int:
    """Record a context, unless it is the one that was recorded last."""
    values = (
        context.cwd, context.umask, b"\0".join(context.env), json.dumps(context.options),
    )  # fmt: skip
    query = "SELECT cwd, umask, env, options, id FROM contexts ORDER BY id DESC LIMIT 1"
    latest = database.execute(query).fetchone()
    if latest is not None and latest[:4] == values:
        return int(latest[4])
    added = "INSERT INTO contexts (cwd, umask, env, options) VALUES (?, ?, ?, ?)"
    return database.execute(added, values).lastrowid or 0


def _reserve(database: "sqlite3.Connection", count: int) -> int:
    """Take so many numbers out of the sequence that gives the runs' ids; return the first."""
    taken = database.execute(
        "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'runs'", (count,)
    )
    if taken.rowcount == 0:  # nothing has run yet
        database.execute("INSERT INTO sqlite_sequence VALUES ('runs', ?)", (count,))
    query = "SELECT seq FROM sqlite_sequence WHERE name = 'runs'"
    (last,) = database.execute(query).fetchone()
    return int(last) - count + 1
