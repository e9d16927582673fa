"""Runs as tables."""

import time

from singlerun.duration import brief
from singlerun.render import table
from singlerun.render.refusal import clock, user_name
from singlerun.render.text import command, names, shown
from singlerun.store.base import LOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from singlerun.store.base import Run
    from singlerun.store.queue import Job

    Judged = tuple[Run, str, list[int]]


def show_open(
    runs: "list[Judged]",
    places: "Mapping[int | None, int | None]",
    *,
    tree: bool = False,
    queued: "Sequence[Job]" = (),
) -> None:
    """Print what runs, waits, or was left: a row a run, with its place in line by its id.

    Below them are jobs that are queued.
    """
    depths = _depths(runs) if tree else {}
    if tree:
        runs = _in_tree_order(runs)
    rows = [
        (
            str(run.id),
            "  " * depths.get(run.id, 0) + names(run.names),
            f"{state} #{places[run.id]}" if places.get(run.id) else state,
            str(pids[0]) if pids else "-",
            shown(user_name(run.uid)),
            _elapsed(run),
            command(run.argv),
        )
        for run, state, pids in runs
    ]
    rows += [
        (
            str(job.id),
            shown(job.name),
            job.state if job.place is None else f"{job.state} #{job.place}",
            "-",
            shown(user_name(job.uid)),
            brief((time.time_ns() - job.added_ns) / 1e9),
            command(job.argv),
        )
        for job in queued
    ]
    table.show(("ID", "NAME", "STATE", "PID", "USER", "TIME", "COMMAND"), rows)


def show_history(runs: "list[Judged]") -> None:
    """Print what ran: a row a run."""
    rows = [
        (
            str(run.id),
            names(run.names),
            state,
            clock(run.started_ns or run.asked_ns),
            _elapsed(run),
            _status(run),
            command(run.argv),
        )
        for run, state, _ in runs
    ]
    table.show(("ID", "NAME", "STATE", "BEGAN", "TIME", "EXIT", "COMMAND"), rows)


def _elapsed(run: "Run") -> str:
    if run.elapsed_ns is not None:
        return brief(run.elapsed_ns / 1e9)
    begun = run.started_ns or run.asked_ns
    if run.ended_ns is not None and (run.started_ns is None or run.state == LOST):
        return "-"  # it never ran, or nobody saw its end
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
