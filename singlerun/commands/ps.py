"""``singlerun ps``: what is running, waiting, queued, an orphan or a zombie."""

from functools import partial

import click

from singlerun.commands import common
from singlerun.ownership import holder
from singlerun.paths import StateDir
from singlerun.render.runs import OpenRuns
from singlerun.store.queue import PENDING, Job
from singlerun.store.run import WAITING, Run
from singlerun.store.sqlite_queue import SqliteQueue

LATEST = 20


@click.command(
    cls=common.Command,
    short_help="Show what is running and waiting.",
    epilog="Example: singlerun ps sync --json",
)
@click.argument("names", nargs=-1, type=common.NAME, metavar="[NAME]...")
@click.option(
    "-a", "--all", "ended", is_flag=True, help=f"Show the latest {LATEST} ended runs too."
)
@click.option("--tree", is_flag=True, help="Show nested runs below their parents.")
@common.watch_option
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[bytes, ...],
    *,
    ended: bool,
    tree: bool,
    watch: bool,
    as_json: bool,
    directory: bytes | None,
) -> common.Results:
    """Show what is running and waiting, and what was left behind; fits 80 columns on a terminal.

    A zombie is a run whose singlerun and command are both dead; the command of an orphan is alive.
    """
    state = common.open_state(ctx, directory)
    look = partial(_look, state, common.open_store(state), names, ended=ended, tree=tree)
    return common.watched(look, watch=watch, as_json=as_json)


def _look(
    state: StateDir | None,
    store: SqliteQueue | None,
    names: tuple[bytes, ...],
    *,
    ended: bool,
    tree: bool,
) -> OpenRuns:
    if state is None or store is None:
        return OpenRuns([], {})
    found = [run for run in _runs(store, ended=ended) if not names or set(run.names) & set(names)]
    notices = common.notices(store)
    judged = common.judged(store, found)
    if not ended:  # without those that have ended since they were listed
        judged = [seen for seen in judged if seen[0].ended_ns is None]
    places = {run.id: holder.place_of(run, state) for run, shown, _ in judged if shown == WAITING}
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
    found = store.jobs(limit=LATEST) if not names else []
    for name in names:
        found += store.jobs(name, limit=LATEST)
    pending = [job for job in found if job.state in PENDING][:LATEST]
    common.mark_paused(store, pending)
    return pending
