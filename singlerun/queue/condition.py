"""What the record of a pending job does not tell: its name is paused, its queue has no worker."""

from singlerun.errors import StateDirError
from singlerun.queue import wakeup
from singlerun.store.queue import PAUSED, PENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from singlerun.paths import StateDir
    from singlerun.store.queue import Job
    from singlerun.store.sqlite_queue import SqliteQueue


def mark_paused(queue: "SqliteQueue", jobs: "Sequence[Job]") -> None:
    """Set the state of jobs that are pending under a paused name."""
    pauses = {name: queue.pause_of((name,)) for name in {job.name for job in jobs}}
    for job in jobs:
        if (pause := pauses[job.name]) is not None and job.state in PENDING:
            job.state, job.paused_until_ns = PAUSED, pause.until_ns


def mark_stranded(state: "StateDir", jobs: "Sequence[Job]") -> None:
    """Mark the first job of each queue that has something to do and no worker to do it."""
    looked_at: set[bytes] = set()
    for job in jobs:
        if job.state in PENDING and not job.is_blocked and job.name not in looked_at:
            looked_at.add(job.name)
            try:
                job.is_stranded = not wakeup.has_worker(state, job.name)
            except StateDirError:  # what is wrong with it is told by why and reap
                job.is_stranded = True
