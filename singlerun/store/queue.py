"""Jobs in a queue, and the verbs of a store that keeps them.

enqueue                           jobs are accepted: durably, all of them or none
look                              when something may start: at once, at some time, or never
claim                             the next job is ours to start: it starts at most once
give_back                         it is not: nothing was started
announce, retract                 the next job is named durably, before it is claimed
finish                            a job's run has ended
finish_and_claim                  it has ended, and the next is ours; one commit, synced
finish_and_claim_announced        the same without a sync: the next is the one that was announced
jobs, find_job, jobs_of           what is there, one of them, some of them
totals, pace                      how many there are in each state, how fast they are worked off
cancel, retry, put_first          steer a job
pause, resume, pause_of, pauses   steer a name
durations, last_refusal_ns        how long runs took, when a holder was last seen
names_with_jobs                   where there is work left

A job is *queued*; *delayed*, until its time comes, or until the job that it follows has succeeded;
*running*; and then *succeeded*, *failed*, *cancelled* or *lost*. A name can be paused: then what is
queued under it is shown as *paused*.
"""

from singlerun.store.base import Store
from singlerun.store.run import Declined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Protocol

    from singlerun.process.identity import Owner
    from singlerun.store.run import Ending, Pause, Run
else:
    Protocol = object

QUEUED, DELAYED, PAUSED, RUNNING = "queued", "delayed", "paused", "running"
SUCCEEDED, FAILED, CANCELLED, LOST = "succeeded", "failed", "cancelled", "lost"
JOB_STATES = (QUEUED, DELAYED, PAUSED, RUNNING, SUCCEEDED, FAILED, CANCELLED, LOST)
PENDING = (QUEUED, DELAYED)


class Context:
    """What jobs that were added together share: where and how they run.

    ``env`` has entries ``NAME=VALUE``, ``options`` the run options that are not the default, by
    their Option.dest.
    """

    __slots__ = ("cwd", "env", "options", "umask")

    def __init__(
        self, cwd: bytes, umask: int, env: "tuple[bytes, ...]", options: dict[str, object]
    ) -> None:
        self.cwd, self.umask, self.env, self.options = cwd, umask, env, options


class Job:
    """A job in a queue.

    Times are nanoseconds since the epoch; what is unknown, or does not apply, is None.

    Attributes:
        id: grows; no two jobs have the same, and no job has that of a run.
        place: in its queue, the next to start being 1; None if it does not wait there.
        priority: the higher one starts first, within one the lower id.
        not_before_ns: the earliest time to start.
        after_id: the job that must succeed first; is_blocked: while it has not.
        paused_until_ns: until when its name is paused.
        is_stranded: whether it is ready, or will be, and its queue has no worker.
        retries: how often it may be tried again after a failure.
        retry_delay: seconds before the first retry, doubling with each.
        tries: how often it was started.
        run_id, run: its latest run.
        parent_id: the run in which it was added.
        detail: why it ended so, where the status doesn't tell.
    """

    __slots__ = (
        "added_ns", "after_id", "argv", "context", "detail", "ended_ns", "exit_code", "id",
        "is_blocked", "is_stranded", "label", "name", "not_before_ns", "parent_id",
        "paused_until_ns", "place", "priority", "retries", "retry_delay", "run",
        "run_id", "signal", "started_ns", "state", "tries", "uid",
    )  # fmt: skip

    def __init__(
        self, *, name: bytes, argv: tuple[bytes, ...], priority: int = 0,
        not_before_ns: int | None = None, after_id: int | None = None, label: str | None = None,
        retries: int = 0, retry_delay: float = 1.0,
    ) -> None:  # fmt: skip
        self.name, self.argv, self.label = name, argv, label
        self.priority, self.not_before_ns, self.after_id = priority, not_before_ns, after_id
        self.retries, self.retry_delay = retries, retry_delay
        self.state, self.is_blocked, self.is_stranded = QUEUED, False, False
        self.tries = self.uid = self.added_ns = 0
        self.id: int | None = None
        self.paused_until_ns: int | None = None
        self.place: int | None = None
        self.parent_id: int | None = None
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.run_id: int | None = None
        self.run: Run | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.detail: str | None = None
        self.context: Context | None = None


class Pace:
    """How fast a queue was worked off lately.

    Attributes:
        tries, spent_ns: so many jobs ended within so long, by their latest tries.
        latest_ns: when the last of them ended, in nanoseconds since the epoch.
        left: the jobs that are ready to start.
    """

    __slots__ = ("latest_ns", "left", "spent_ns", "tries")

    def __init__(self, tries: int, spent_ns: int, latest_ns: int, left: int) -> None:
        self.tries, self.spent_ns = tries, spent_ns
        self.latest_ns, self.left = latest_ns, left


class FullError(Declined):
    """A queue has as many jobs as it may have: their number is the first argument."""


class ReplacedError(Declined):
    """A job is to follow one that it cancels: the number of that is the first argument."""


class NoSuchJobError(Declined):
    """There is no job of the number that is the first argument."""


class NotAnnouncedError(Declined):
    """The next job is not the one that was announced, so that claiming it needs a sync."""


class QueueStore(Store, Protocol):
    """A run-log with queues. Each verb raises RecordError when it can't be carried out.

    Verbs that may give the workers of other names something to do return those names.
    """

    def enqueue(
        self, jobs: "Sequence[Job]", context: Context, *, unique: bool, limit: int | None
    ) -> list[int]:
        """Accept jobs of one name, durably, all of them or none; return their ids.

        ``unique``: the pending jobs of that name are cancelled, these replace them. ``limit``: how
        many may be pending at most. Raises FullError if there are too many, NoSuchJobError if one
        of these is to follow a job that does not exist, ReplacedError if one of these is to follow
        one that they replace.
        """

    def look(self, name: bytes) -> float | None:
        """Return the seconds until something of a queue may start: 0 at once, None never."""

    def claim(self, name: bytes, worker: "Owner") -> Job | None:
        """Make the next job of a name, which is held, ours, and record the start of its run.

        In one synced commit; return None if nothing may start now.
        """

    def announce(self, name: bytes) -> int | None:
        """Name the next job of a queue durably: to claim it then needs no sync. Return its id.

        If power is lost, and the claim with it, the job may have been started: it counts as lost,
        or as a try that failed.
        """

    def retract(self, job_id: int) -> None:
        """Take an announcement back, durably: the running job is not a short one."""

    def finish(self, job: Job, ending: "Ending") -> "frozenset[bytes]":
        """Record the end of a job's run, durably."""

    def finish_and_claim(
        self, job: Job, ending: "Ending", worker: "Owner"
    ) -> "tuple[Job | None, frozenset[bytes]]":
        """Record the end of a job's run and claim the next of its queue, in one synced commit."""

    def finish_and_claim_announced(
        self, job: Job, ending: "Ending", worker: "Owner", announced: int
    ) -> "tuple[Job | None, frozenset[bytes]]":
        """Do as ``finish_and_claim`` without a sync, which the announcement had.

        If another job is the next, nothing is recorded, and NotAnnouncedError is raised.
        """

    def give_back(self, job: Job, detail: str) -> None:
        """Undo a claim whose command was not started."""

    def jobs(
        self, name: bytes | None = None, *, ended: bool = False, limit: int | None = None,
        states: "Collection[str]" = (), label: str | None = None,
    ) -> list[Job]:  # fmt: skip
        """Return the pending and running jobs in order of start; if ``ended`` all, latest first.

        Only those in one of these ``states``, and those whose label matches the glob ``label``.
        """

    def jobs_of(self, ids: "Iterable[int]") -> list[Job]:
        """Return the jobs with these ids, without their runs."""

    def totals(self, name: bytes | None = None) -> dict[str, int]:
        """Return how many jobs there are in each state, of a name or in all."""
        raise NotImplementedError

    def pace(self, name: bytes) -> Pace | None:
        """Return how fast a queue was worked off lately; None if no job of it has ended."""

    def pauses(self, names: "Collection[bytes]" = ()) -> "list[Pause]":
        """Return the pauses of these names, or all, by name."""
        raise NotImplementedError

    def durations(self, name: bytes) -> list[tuple[tuple[bytes, ...], int]]:
        """Return command and duration of the latest successful runs of a name, newest first."""
        raise NotImplementedError

    def last_refusal_ns(self, name: bytes, conflict_id: int) -> int | None:
        """Return when a run of a name was last refused because this run held it."""

    def find_job(self, job_id: int) -> Job | None:
        """Return one job."""

    def cancel(self, job_id: int, detail: str) -> "frozenset[bytes] | None":
        """Cancel a pending job, and those that follow it; return None if it was not pending."""

    def retry(self, job_id: int) -> bool:
        """Queue a job again that failed, was lost or cancelled; return whether it had."""

    def put_first(self, job_id: int) -> bool:
        """Make a pending job the next to start; return whether it was pending."""

    def pause(self, name: bytes, until_ns: int | None) -> None:
        """Let nothing start under a name, until then or until it is resumed."""

    def resume(self, name: bytes) -> bool:
        """Remove a pause; return whether there was one."""

    def names_with_jobs(self) -> list[bytes]:
        """Return the names that have jobs which are pending or not known to have ended."""
