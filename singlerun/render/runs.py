"""Runs, as tables and as JSON."""

import time

from singlerun.duration import brief
from singlerun.render.jobs import state as state_of_job
from singlerun.render.refusal import user_name
from singlerun.render.result import Result
from singlerun.render.text import command, names, shown
from singlerun.store.run import LOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from singlerun.ownership.judge import Verdict
    from singlerun.store.queue import Job
    from singlerun.store.run import Run


class OpenRuns(Result):
    """Runs that hold or wait for a lock, or were left behind; then the jobs that are queued.

    ``places`` are the places in the waiting line, by the runs' ids.
    """

    columns: "Sequence[str]" = ("ID", "NAME", "STATE", "PID", "USER", "TIME", "COMMAND")
    empty = "Nothing is running."

    def __init__(
        self, runs: "list[Verdict]", places: "Mapping[int | None, int | None]",
        jobs: "Sequence[Job]" = (), *, tree: bool = False, errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._runs, self._places, self._jobs, self._tree = runs, places, jobs, tree

    def rows(self) -> list[tuple[str, ...]]:
        found = _as_tree(self._runs) if self._tree else [(seen, 0) for seen in self._runs]
        return [*(self._row(*each) for each in found), *map(_job_row, self._jobs)]

    def _row(self, seen: "Verdict", depth: int) -> tuple[str, ...]:
        run, place = seen.run, self._places.get(seen.run.id)
        return (
            str(run.id), "  " * depth + names(run.names),
            f"{seen.state} #{place}" if place else seen.state,
            str(seen.pids[0]) if seen.pids else "-", shown(user_name(run.uid)),
            _elapsed(run), command(run.argv),
        )  # fmt: skip

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {
            "runs": json.runs(self._runs, self._places),
            "jobs": list(map(json.job_keys, self._jobs)),
        }

    def known_fields(self) -> "Iterable[str]":
        from singlerun.render import json  # noqa: PLC0415

        return dict.fromkeys([*json.fields_of_runs(), *json.fields_of_jobs()])


def _job_row(job: "Job") -> tuple[str, ...]:
    return (
        str(job.id), shown(job.name), state_of_job(job), "-", shown(user_name(job.uid)),
        brief((time.time_ns() - job.added_ns) / 1e9), command(job.argv),
    )  # fmt: skip


def _elapsed(run: "Run") -> str:
    if run.elapsed_ns is not None:
        return brief(run.elapsed_ns / 1e9)
    begun = run.started_ns or run.asked_ns
    if run.ended_ns is not None and (run.started_ns is None or run.state == LOST):
        return "-"  # it never ran, or its end was not recorded
    return brief(((run.ended_ns or time.time_ns()) - begun) / 1e9)


def _as_tree(runs: "list[Verdict]") -> "list[tuple[Verdict, int]]":
    """Return runs below those that started them, each with its depth."""
    known = {seen.run.id for seen in runs}
    children: dict[int | None, list[Verdict]] = {}
    for seen in runs:
        parent = seen.run.parent_id
        children.setdefault(parent if parent in known else None, []).append(seen)
    ordered = []
    stack = [(seen, 0) for seen in reversed(children.get(None, []))]
    while stack:
        seen, depth = stack.pop()
        ordered.append((seen, depth))
        stack += [(child, depth + 1) for child in reversed(children.get(seen.run.id, []))]
    return ordered
