"""Runs and jobs as JSON: the same keys for every subcommand, which tests pin."""

import os
import time
from datetime import UTC, datetime

from singlerun.render.reason import reason
from singlerun.render.refusal import user_name
from singlerun.store.run import LOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from singlerun.output.kept import Kept
    from singlerun.ownership.judge import Verdict
    from singlerun.ownership.outlook import Seen
    from singlerun.ownership.reaper import Reaped
    from singlerun.store.queue import Job
    from singlerun.store.run import Pause, Run


def runs(
    found: "Sequence[Verdict] | Sequence[Reaped]",
    places: "Mapping[int | None, int | None] | None" = None,
) -> list[dict[str, object]]:
    """Return runs with the state to show for each, and their places in the waiting line by id."""
    places = places or {}
    return [_run_keys(one.run, one.state) | {"place": places.get(one.run.id)} for one in found]


def run(found: "Run") -> dict[str, object]:
    """Return a run as the record tells of it."""
    return _run_keys(found, found.state) | {"place": None}


def fields_of_runs() -> list[str]:
    """Return the keys of a run."""
    return list(run(_a_run()))


def _a_run() -> "Run":
    from singlerun.process.identity import this_process  # noqa: PLC0415 - rare
    from singlerun.store.run import Run  # noqa: PLC0415

    return Run(names=(b"",), argv=(), wrapper=this_process(), uid=0, asked_ns=0)


def fields_of_jobs() -> list[str]:
    """Return the keys of a job."""
    from singlerun.store.queue import Job  # noqa: PLC0415 - rare

    return list(job_keys(Job(name=b"", argv=())))


def open_run_keys(seen: "Seen") -> dict[str, object]:
    """Return the keys of an open run, with what is expected of it."""
    run, elapsed, job = seen.run, seen.elapsed_ns, seen.job
    return _run_keys(run, seen.state) | {
        "place": seen.place, "elapsed_s": _seconds(elapsed if run.started_ns else None),
        "label": job and job.label, "usual_s": _seconds(seen.usual_ns),
        "overlong": seen.is_overlong, "slots_taken": seen.taken,
        "held_by": seen.held_by and seen.held_by.run.id,
        "expected_start_at": time_of(seen.starts_ns), "expected_end_at": time_of(seen.ends_ns),
        "next_try_at": time_of(run.not_before_ns if run.started_ns is None else None),
        "last_seen_at": time_of(seen.last_sign_ns),
    }  # fmt: skip


def start_keys(starts_ns: int | None) -> dict[str, object]:
    """Return the key of the expected start of a job."""
    return {"expected_start_at": time_of(starts_ns)}


def pause_keys(pause: "Pause") -> dict[str, object]:
    """Return the keys of a paused name."""
    return {
        "name": os.fsdecode(pause.name), "user": user_name(pause.uid),
        "since": time_of(pause.since_ns), "until": time_of(pause.until_ns),
    }  # fmt: skip


def kept_keys(kept: "Kept") -> dict[str, object]:
    """Return the keys of kept output, beside those of its run."""
    return {
        "id": kept.run_id, "bytes": kept.size, "compressed": kept.is_compressed,
        "written_at": time_of(kept.written_ns),
    }  # fmt: skip


def fields_of_open_runs() -> list[str]:
    """Return the keys of an open run."""
    from singlerun.ownership.judge import Verdict  # noqa: PLC0415 - rare
    from singlerun.ownership.outlook import Seen  # noqa: PLC0415

    return list(open_run_keys(Seen(Verdict(_a_run(), "", []))))


def fields_of_pauses() -> list[str]:
    """Return the keys of a paused name."""
    from singlerun.store.run import Pause  # noqa: PLC0415 - rare

    return list(pause_keys(Pause(b"", 0, None, 0)))


def job_keys(job: "Job") -> dict[str, object]:
    """Return the keys of a job."""
    run = job.run
    return {
        "id": job.id, "name": os.fsdecode(job.name), "state": job.state, "place": job.place,
        "is_stranded": job.is_stranded, "label": job.label,
        "command": list(map(os.fsdecode, job.argv)), "priority": job.priority,
        "pid": run and run.command_pid, "wrapper_pid": run and run.wrapper_pid,
        "user": user_name(job.uid), "host": run and run.host,
        "cwd": job.context and os.fsdecode(job.context.cwd),
        "tries": job.tries, "retries": job.retries,
        "after_id": job.after_id, "run_id": job.run_id, "parent_id": job.parent_id,
        "added_at": time_of(job.added_ns),
        "starts_at": time_of(job.paused_until_ns or job.not_before_ns),
        "started_at": time_of(job.started_ns), "ended_at": time_of(job.ended_ns),
        "elapsed_s": run and _elapsed(run, None if run.ended_ns else time.time_ns()),
        "exit_code": job.exit_code, "signal": job.signal, "detail": job.detail,
    }  # fmt: skip


def _run_keys(run: "Run", state: str) -> dict[str, object]:
    return {
        "id": run.id, "name": os.fsdecode(run.names[0]),
        "names": list(map(os.fsdecode, run.names)),
        "state": state, "command": list(map(os.fsdecode, run.argv)),
        "pid": run.command_pid, "wrapper_pid": run.wrapper_pid,
        "user": user_name(run.uid), "host": run.host,
        "cwd": run.cwd and os.fsdecode(run.cwd),
        "lock_file": run.lock_file and os.fsdecode(run.lock_file),
        "shared": run.shared, "slots": run.slots, "token": run.token,
        "asked_at": time_of(run.asked_ns),
        "started_at": time_of(run.started_ns), "ended_at": time_of(run.ended_ns),
        "elapsed_s": _elapsed(run, None if state == LOST else run.ended_ns or time.time_ns()),
        "exit_code": run.exit_code, "signal": run.signal,
        "user_cpu_s": None if run.user_us is None else run.user_us / 1e6,
        "system_cpu_s": None if run.system_us is None else run.system_us / 1e6,
        "max_rss_kb": run.max_rss_kb,
        "parent_id": run.parent_id, "conflict_id": run.conflict_id, "job_id": run.job_id,
        "detail": run.detail, "reason": reason(run) or None, "waited_s": _waited(run),
    }  # fmt: skip


def _waited(run: "Run") -> float:
    """Return the seconds from asking for a run to its start or refusal, or until now."""
    until_ns = run.started_ns or run.ended_ns or time.time_ns()
    return max(0, until_ns - run.asked_ns) / 1e9


def _elapsed(run: "Run", end_ns: int | None) -> float | None:
    """Return the seconds that a run took: until ``end_ns`` if the record does not say."""
    elapsed_ns = run.elapsed_ns
    if elapsed_ns is None and run.started_ns is not None and end_ns is not None:
        elapsed_ns = max(0, end_ns - run.started_ns)
    return _seconds(elapsed_ns)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def time_of(nanoseconds: int | None) -> str | None:
    """Return a time as RFC 3339 in UTC, to the microsecond."""
    if nanoseconds is None:
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
