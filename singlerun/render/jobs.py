"""Jobs in queues, as a table and as JSON."""

import time

from singlerun.duration import brief
from singlerun.ownership.judge import ZOMBIE
from singlerun.render import expected
from singlerun.render.refusal import clock
from singlerun.render.result import Result
from singlerun.render.text import command, shown
from singlerun.store.queue import (
    CANCELLED,
    DELAYED,
    FAILED,
    LOST,
    PENDING,
    QUEUED,
    RUNNING,
    SUCCEEDED,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from singlerun.ownership.outlook import Seen
    from singlerun.store.queue import Job, Pace
    from singlerun.store.run import Pause

LATELY_NS = 600 * 10**9
"""A queue whose latest job ended longer ago is not being worked off: its rate says nothing."""


class Jobs(Result):
    """The first jobs, at most ``limit``, and how many there are in each state.

    ``runs`` are the open runs of the jobs that run, by their ids; ``starts_ns`` the expected starts
    of queued ones, by theirs; ``paces`` how fast the queues are worked off that have jobs and are
    not paused, None if that is unknown.
    """

    columns = (
        "ID", "NAME", "STATE", "LABEL", "TRIES", "STARTS", "TIME", "EXIT", "REASON", "COMMAND",
    )  # fmt: skip
    spare = ("TRIES", "LABEL", "COMMAND", "EXIT", "TIME", "REASON", "STARTS")
    empty = "No jobs are queued. To add one: singlerun add -n NAME COMMAND"

    def __init__(
        self, jobs: "Sequence[Job]", limit: int, *, totals: "Mapping[str, int] | None" = None,
        pauses: "Sequence[Pause]" = (), runs: "Mapping[int | None, Seen] | None" = None,
        starts_ns: "Mapping[int | None, int] | None" = None, paces: "Sequence[Pace | None]" = (),
        errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._jobs, self._limit, self._is_cut = jobs[:limit], limit, len(jobs) > limit
        self._totals, self._pauses, self._paces = totals or {}, pauses, paces
        self._runs, self._starts_ns = runs or {}, starts_ns or {}
        ended = self._sum(SUCCEEDED, FAILED, CANCELLED, LOST)
        if ended:
            self.empty = f"No jobs are queued. To see the {ended} that ended: singlerun queue --all"

    def heading(self) -> "Iterable[str]":
        if any(self._totals.values()):
            yield "; ".join(filter(None, [self._counted(), *self._speed()]))
        for pause in self._pauses:
            yield expected.paused(pause)

    def rows(self) -> list[tuple[str, ...]]:
        pauses = {pause.name: pause for pause in self._pauses}
        return [self._row(job, self._runs.get(job.run_id), pauses) for job in self._jobs]

    def _row(
        self, job: "Job", seen: "Seen | None", pauses: "Mapping[bytes, Pause]"
    ) -> tuple[str, ...]:
        starts_ns = self._starts_ns.get(job.id)
        why = expected.why_job(job, pause=pauses.get(job.name))
        if seen is not None and job.state == RUNNING:
            seen.job = None  # its label has a column of its own
            why = "; ".join(filter(None, (why, expected.why(seen))))
        return (
            str(job.id), shown(job.name), _state(job, seen), shown(job.label or "-"),
            str(job.tries), _starts(job, starts_ns), _took(job, seen), _exit(job), why,
            command(job.argv),
        )  # fmt: skip

    def left_out(self) -> "Iterable[str]":
        if self._is_cut:
            more = f"for more: --limit {10 * self._limit}"
            yield f"only the first {self._limit} jobs are shown; {more}"

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        jobs = [
            json.job_keys(job) | json.start_keys(self._starts_ns.get(job.id)) for job in self._jobs
        ]
        return {
            "jobs": jobs, "totals": dict(self._totals),
            "paused": list(map(json.pause_keys, self._pauses)), "truncated": self._is_cut,
        }  # fmt: skip

    def known_fields(self) -> "Iterable[str]":
        from singlerun.render import json  # noqa: PLC0415

        return [*json.fields_of_jobs(), *json.start_keys(None)]

    def _sum(self, *states: str) -> int:
        return sum(self._totals.get(state, 0) for state in states)

    def _counted(self) -> str:
        """Return how many jobs there are: ``1 running, 12 queued, 3 delayed``."""
        counts = {
            RUNNING: self._sum(RUNNING), QUEUED: self._sum(QUEUED), DELAYED: self._sum(DELAYED),
            FAILED: self._sum(FAILED), LOST: self._sum(LOST), CANCELLED: self._sum(CANCELLED),
            "done": self._sum(SUCCEEDED),
        }  # fmt: skip
        always = {RUNNING, QUEUED}
        return ", ".join(
            f"{count:,} {state}" for state, count in counts.items() if count or state in always
        )

    def _speed(self) -> "Iterable[str]":
        """Yield how many jobs end a minute, and how long what is queued will take at that rate."""
        since = time.time_ns() - LATELY_NS
        paces = [pace for pace in self._paces if pace is not None and pace.latest_ns > since]
        if not paces:
            return
        rates = [60e9 * pace.tries / pace.spent_ns for pace in paces]
        yield f"{sum(rates):.3g} a minute"
        longest = max(60 * pace.left / rate for pace, rate in zip(paces, rates, strict=True))
        if longest and len(paces) == len(self._paces):
            yield f"{expected.rough(longest)} left"


def state(job: "Job") -> str:
    """Return a job's state, and its place in the queue if it has one."""
    return job.state if job.place is None else f"{job.state} #{job.place}"


def _state(job: "Job", seen: "Seen | None") -> str:
    is_zombie = seen is not None and seen.state == ZOMBIE and job.state == RUNNING
    return ZOMBIE if is_zombie else state(job)


def _starts(job: "Job", starts_ns: int | None) -> str:
    """Return when a job will start, or when it did."""
    if job.state == RUNNING and job.started_ns is not None:
        return f"{brief((time.time_ns() - job.started_ns) / 1e9)} ago"
    if job.ended_ns is not None:
        return "-" if job.started_ns is None else clock(job.started_ns)
    if job.paused_until_ns is not None:
        return clock(job.paused_until_ns)
    if job.state in PENDING and job.not_before_ns is not None:
        is_due = job.not_before_ns <= time.time_ns()
        return "-" if is_due else expected.left(job.not_before_ns)
    if job.after_id is not None and job.is_blocked:
        return f"after {job.after_id}"
    is_ahead = starts_ns is not None and starts_ns > time.time_ns()
    return expected.about(starts_ns) if is_ahead and starts_ns is not None else "-"


def _took(job: "Job", seen: "Seen | None") -> str:
    if job.state == RUNNING:
        return "-" if seen is None else expected.took(seen)
    elapsed_ns = None if job.run is None or job.ended_ns is None else job.run.elapsed_ns
    return "-" if elapsed_ns is None else brief(elapsed_ns / 1e9)


def _exit(job: "Job") -> str:
    """Return how the latest try ended."""
    if job.signal is not None:
        return f"SIG {job.signal}"
    is_known = job.exit_code is not None and job.state != RUNNING
    return str(job.exit_code) if is_known else "-"
