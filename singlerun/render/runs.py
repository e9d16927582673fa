"""Runs, as tables and as JSON."""

import time

from singlerun.duration import brief
from singlerun.render.jobs import state as state_of_job
from singlerun.render.refusal import clock, user_name
from singlerun.render.result import Result
from singlerun.render.text import command, names, shown
from singlerun.store.run import LOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from singlerun.store.queue import Job
    from singlerun.store.run import Run

    Judged = tuple[Run, str, list[int]]


class OpenRuns(Result):
    """Runs that hold or wait for a lock, or were left behind; then the jobs that are queued.

    ``places`` are the places in the waiting line, by the runs' ids.
    """

    columns: "Sequence[str]" = ("ID", "NAME", "STATE", "PID", "USER", "TIME", "COMMAND")
    empty = "Nothing is running."

    def __init__(
        self,
        runs: "list[Judged]",
        places: "Mapping[int | None, int | None]",
        jobs: "Sequence[Job]" = (),
        *,
        tree: bool = False,
        errors: "Iterable[str]" = (),
    ) -> None:
        super().__init__(errors=errors)
        self._runs = runs
        self._places = places
        self._jobs = jobs
        self._tree = tree

    def rows(self) -> list[tuple[str, ...]]:
        depths = _depths(self._runs) if self._tree else {}
        runs = _in_tree_order(self._runs) if self._tree else self._runs
        rows: list[tuple[str, ...]] = [
            (
                str(run.id),
                "  " * depths.get(run.id, 0) + names(run.names),
                f"{state} #{self._places[run.id]}" if self._places.get(run.id) else state,
                str(pids[0]) if pids else "-",
                shown(user_name(run.uid)),
                _elapsed(run),
                command(run.argv),
            )
            for run, state, pids in runs
        ]
        return rows + [
            (
                str(job.id),
                shown(job.name),
                state_of_job(job),
                "-",
                shown(user_name(job.uid)),
                brief((time.time_ns() - job.added_ns) / 1e9),
                command(job.argv),
            )
            for job in self._jobs
        ]

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {
            "runs": json.runs(((run, state) for run, state, _ in self._runs), self._places),
            "jobs": list(map(json.job_keys, self._jobs)),
        }


class History(Result):
    """The latest runs, newest first."""

    columns = ("ID", "NAME", "STATE", "BEGAN", "TIME", "EXIT", "COMMAND")
    empty = "No runs are recorded."

    def __init__(self, runs: "list[Judged]", *, errors: "Iterable[str]" = ()) -> None:
        super().__init__(errors=errors)
        self._runs = runs

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (
                str(run.id),
                names(run.names),
                state,
                clock(run.started_ns or run.asked_ns),
                _elapsed(run),
                _status(run),
                command(run.argv),
            )
            for run, state, _ in self._runs
        ]

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {"runs": json.runs((run, state) for run, state, _ in self._runs)}


def _elapsed(run: "Run") -> str:
    if run.elapsed_ns is not None:
        return brief(run.elapsed_ns / 1e9)
    begun = run.started_ns or run.asked_ns
    if run.ended_ns is not None and (run.started_ns is None or run.state == LOST):
        return "-"  # it never ran, or its end was not recorded
    return brief(((run.ended_ns or time.time_ns()) - begun) / 1e9)


def _status(run: "Run") -> str:
    if run.signal is not None:
        return f"SIG {run.signal}"
    return "-" if run.exit_code is None else str(run.exit_code)


def _in_tree_order(runs: "list[Judged]") -> "list[Judged]":
    known = {run.id for run, _, _ in runs}
    children: dict[int | None, list[Judged]] = {}
    for judged in runs:
        parent = judged[0].parent_id
        children.setdefault(parent if parent in known else None, []).append(judged)
    ordered: list[Judged] = []
    stack = children.get(None, [])[::-1]
    while stack:
        judged = stack.pop()
        ordered.append(judged)
        stack += children.get(judged[0].id, [])[::-1]
    return ordered


def _depths(runs: "list[Judged]") -> dict[int | None, int]:
    parents = {run.id: run.parent_id for run, _, _ in runs}
    depths: dict[int | None, int] = {}
    for run_id, parent_id in parents.items():
        depth, above = 0, parent_id
        while above in parents:
            depth, above = depth + 1, parents[above]
        depths[run_id] = depth
    return depths
