"""Jobs in a queue, as a table and as JSON."""

import time

from singlerun.duration import brief
from singlerun.render.refusal import clock
from singlerun.render.result import Result
from singlerun.render.text import command, shown
from singlerun.store.queue import PENDING, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from singlerun.store.queue import Job


class Jobs(Result):
    """The first jobs, at most ``limit``; the rows say if there are more."""

    columns = ("ID", "NAME", "STATE", "LABEL", "TRIES", "STARTS", "COMMAND")
    empty = "No jobs are queued."

    def __init__(self, jobs: "list[Job]", limit: int, *, errors: "Iterable[str]" = ()) -> None:
        super().__init__(errors=errors)
        self._jobs = jobs[:limit]
        if len(jobs) > limit:
            self._lines = (f"... and more; to see them: --limit {10 * limit}",)

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (str(job.id), shown(job.name), state(job), shown(job.label or "-"), str(job.tries),
             _starts(job), command(job.argv))
            for job in self._jobs
        ]  # fmt: skip

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {"jobs": list(map(json.job_keys, self._jobs))}

    def known_fields(self) -> "Iterable[str]":
        from singlerun.render import json  # noqa: PLC0415

        return json.fields_of_jobs()


def state(job: "Job") -> str:
    """Return a job's state, and its place in the queue if it has one."""
    return job.state if job.place is None else f"{job.state} #{job.place}"


def _starts(job: "Job") -> str:
    """Return when a job will start, or when it did."""
    if job.state == RUNNING and job.started_ns is not None:
        return f"{brief((time.time_ns() - job.started_ns) / 1e9)} ago"
    if job.ended_ns is not None:
        return "-" if job.started_ns is None else clock(job.started_ns)
    if job.paused_until_ns is not None:
        return clock(job.paused_until_ns)
    if job.state in PENDING and job.not_before_ns is not None:
        left = (job.not_before_ns - time.time_ns()) / 1e9
        return f"in {brief(left)}" if left > 0 else "-"
    return f"after {job.after_id}" if job.after_id is not None and job.is_blocked else "-"
