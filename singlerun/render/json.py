"""Runs and jobs as JSON: the same keys for every subcommand, which tests pin."""

import os
from datetime import UTC, datetime

from singlerun.render.refusal import user_name
from singlerun.store.run import LOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from singlerun.store.queue import Job
    from singlerun.store.run import Run


def runs(
    found: "Iterable[tuple[Run, str]]", places: "Mapping[int | None, int | None] | None" = None
) -> list[dict[str, object]]:
    """Return runs with the state to show for each, and their places in the waiting line by id."""
    places = places or {}
    return [_run_keys(run, state) | {"place": places.get(run.id)} for run, state in found]


def job_keys(job: "Job") -> dict[str, object]:
    """Return the keys of a job."""
    run = job.run
    elapsed = None
    if run is not None and run.started_ns is not None:
        elapsed = run.elapsed_ns
        if elapsed is None and run.ended_ns is None:
            elapsed = int(datetime.now(UTC).timestamp() * 1e9) - run.started_ns
    return {
        "id": job.id,
        "name": os.fsdecode(job.name),
        "state": job.state,
        "place": job.place,
        "label": job.label,
        "command": [os.fsdecode(word) for word in job.argv],
        "priority": job.priority,
        "pid": None if run is None else run.command_pid,
        "wrapper_pid": None if run is None else run.wrapper_pid,
        "user": user_name(job.uid),
        "host": None if run is None else run.host,
        "cwd": None if job.context is None else os.fsdecode(job.context.cwd),
        "tries": job.tries,
        "retries": job.retries,
        "after_id": job.after_id,
        "run_id": job.run_id,
        "parent_id": job.parent_id,
        "added_at": _time(job.added_ns),
        "starts_at": _time(job.paused_until_ns or job.not_before_ns),
        "started_at": _time(job.started_ns),
        "ended_at": _time(job.ended_ns),
        "elapsed_s": None if elapsed is None else elapsed / 1e9,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "detail": job.detail,
    }


def _run_keys(run: "Run", state: str) -> dict[str, object]:
    elapsed_ns = run.elapsed_ns
    if elapsed_ns is None and run.started_ns is not None and state != LOST:
        end = run.ended_ns or int(datetime.now(UTC).timestamp() * 1e9)
        elapsed_ns = max(0, end - run.started_ns)
    return {
        "id": run.id,
        "name": os.fsdecode(run.names[0]),
        "names": [os.fsdecode(name) for name in run.names],
        "state": state,
        "command": [os.fsdecode(word) for word in run.argv],
        "pid": run.command_pid,
        "wrapper_pid": run.wrapper_pid,
        "user": user_name(run.uid),
        "host": run.host,
        "cwd": None if run.cwd is None else os.fsdecode(run.cwd),
        "lock_file": None if run.lock_file is None else os.fsdecode(run.lock_file),
        "shared": run.shared,
        "slots": run.slots,
        "token": run.token,
        "asked_at": _time(run.asked_ns),
        "started_at": _time(run.started_ns),
        "ended_at": _time(run.ended_ns),
        "elapsed_s": None if elapsed_ns is None else elapsed_ns / 1e9,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "user_cpu_s": None if run.user_us is None else run.user_us / 1e6,
        "system_cpu_s": None if run.system_us is None else run.system_us / 1e6,
        "max_rss_kb": run.max_rss_kb,
        "parent_id": run.parent_id,
        "conflict_id": run.conflict_id,
        "job_id": run.job_id,
        "detail": run.detail,
    }


def _time(nanoseconds: int | None) -> str | None:
    """Return a time as RFC 3339 in UTC, to the microsecond."""
    if nanoseconds is None:
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
