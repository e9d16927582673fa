"""``singlerun ps``: what is running, waiting, queued, an orphan or a zombie."""

import click

from singlerun.commands import common
from singlerun.ownership import holder, judge
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
        return OpenRuns([], {})
    found = [run for run in _runs(store, ended=ended) if not names or set(run.names) & set(names)]
    notices = common.notices(store)
    judged = judge.look_at(store, found)
    if not ended:  # without those that have ended since they were listed
        judged = [seen for seen in judged if seen.run.ended_ns is None and seen.state != SUCCEEDED]
    waiting = [seen.run for seen in judged if seen.state == WAITING]
    places = {run.id: holder.place_of(run, state) for run in waiting}
    return OpenRuns(judged, places, _pending(store, names), tree=tree, errors=notices)


def _runs(store: SqliteQueue, *, ended: bool) -> list[Run]:
    """Return the open runs, and the latest ended ones if wanted, oldest first."""
    still = store.open_runs()
    latest = store.runs(limit=LATEST + len(still)) if ended else []
    over = [run for run in latest if run.ended_ns is not None][:LATEST]
    known = {run.id: run for run in (*over, *still)}
    return [known[run_id] for run_id in sorted(known, key=lambda key: key or 0)]


def _pending(store: SqliteQueue, names: tuple[bytes, ...]) -> list[Job]:
    """Return the next jobs to start."""
    found = [job for name in names or [None] for job in store.jobs(name, limit=LATEST)]
    pending = [job for job in found if job.state in PENDING][:LATEST]
    common.mark_paused(store, pending)
    return pending
