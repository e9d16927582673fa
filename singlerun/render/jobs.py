"""Jobs as a table."""

import time

from singlerun.duration import brief
from singlerun.render import table
from singlerun.render.refusal import clock
from singlerun.render.text import command, shown
from singlerun.store.queue import PENDING, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.store.queue import Job


def show(jobs: "list[Job]") -> None:
    """Print jobs: a row a job."""
    rows = [
        (
            str(job.id),
            shown(job.name),
            job.state if job.place is None else f"{job.state} #{job.place}",
            shown(job.label or "-"),
            str(job.tries),
            starts(job),
            command(job.argv),
        )
        for job in jobs
    ]
    table.show(("ID", "NAME", "STATE", "LABEL", "TRIES", "STARTS", "COMMAND"), rows)


def starts(job: "Job") -> str:
    """Say when a job will start, or when it did."""
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
