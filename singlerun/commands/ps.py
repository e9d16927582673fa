"""``singlerun ps``: what is running, waiting, queued, an orphan or a zombie."""

import click

from singlerun.commands import common
from singlerun.output import segments
from singlerun.ownership import holder, judge
from singlerun.ownership.outlook import Outlook, Seen
from singlerun.paths import StateDir
from singlerun.queue import condition
from singlerun.render.runs import OpenRuns
from singlerun.store.queue import PENDING, Job
from singlerun.store.run import SUCCEEDED, WAITING, Run
from singlerun.store.sqlite_queue import SqliteQueue

LATEST = 20


@common.subcommand("Show what is running and waiting.", example="singlerun ps sync --json")
@click.argument("names", nargs=-1, type=common.NAME, metavar="[NAME]...")
@click.option("-a", "--all", "ended", is_flag=True,
              help=f"Show the latest {LATEST} ended runs too.")  # fmt: skip
@click.option("--tree", is_flag=True, help="Show nested runs below their parents.")
@common.watch_option
@common.format_option
@common.json_option
def command(ctx: click.Context, names: tuple[bytes, ...], *, ended: bool, tree: bool) -> OpenRuns:
    """Show what is running and waiting, and what was left behind; fits 80 columns on a terminal.

    A zombie is a run whose singlerun and command are both dead; the command of an orphan is alive.
    """
    state, store = common.open_record(ctx)
    if state is None or store is None:
        return OpenRuns([], names=names)
    runs = [run for run in _runs(store, ended=ended) if not names or set(run.names) & set(names)]
    notices = common.notices(store)
    judged = judge.look_at(store, runs)
    if not ended:  # without those that have ended since they were listed
        judged = [seen for seen in judged if seen.run.ended_ns is None and seen.state != SUCCEEDED]
    waiting = [seen.run for seen in judged if seen.state == WAITING]
    outlook = Outlook(store)
    found = outlook.look(judged, {run.id: holder.place_of(run, state) for run in waiting})
    _add_jobs(store, found)
    for seen in found:
        if seen.state == judge.ZOMBIE:
            seen.last_sign_ns = _last_sign_ns(state, store, seen.run)
    jobs, more = _pending(store, names)
    condition.mark_stranded(state, jobs)
    starts_ns = outlook.starts_of(jobs, found)
    return OpenRuns(
        found, jobs, store.pauses(names), starts_ns=starts_ns, more=more, tree=tree, names=names,
        errors=notices,
    )  # fmt: skip


def _runs(store: SqliteQueue, *, ended: bool) -> list[Run]:
    """Return the open runs, and the latest ended ones if wanted, oldest first."""
    still = store.open_runs()
    latest = store.runs(limit=LATEST + len(still)) if ended else []
    over = [run for run in latest if run.ended_ns is not None][:LATEST]
    known = {run.id: run for run in (*over, *still)}
    return [known[run_id] for run_id in sorted(known, key=lambda key: key or 0)]


def _pending(store: SqliteQueue, names: tuple[bytes, ...]) -> tuple[list[Job], int]:
    """Return the next jobs to start, and how many more there are."""
    found, count = [], 0
    for name in names or [None]:
        found += store.jobs(name, limit=LATEST, states=PENDING)
        totals = store.totals(name)
        count += sum(totals[state] for state in PENDING)
    pending = found[:LATEST]
    condition.mark_paused(store, pending)
    return pending, count - len(pending)


def _add_jobs(store: SqliteQueue, found: list[Seen]) -> None:
    """Set the jobs of the runs that are tries of one."""
    numbers = {seen.run.job_id for seen in found if seen.run.job_id is not None}
    jobs = {job.id: job for job in store.jobs_of(numbers)}
    for seen in found:
        seen.job = jobs.get(seen.run.job_id) if seen.run.job_id is not None else None


def _last_sign_ns(state: StateDir, store: SqliteQueue, run: Run) -> int | None:
    """Return when a zombie is last known to have lived: by its output, or as it refused others."""
    signs = [run.started_ns or run.asked_ns]
    signs.append(segments.last_write_ns(state, run.id or 0) or 0)
    signs.append(store.last_refusal_ns(run.names[0], run.id or 0) or 0)
    return max(signs)
