"""``singlerun ps``: what runs, waits, is an orphan or a zombie."""

import sys

import click

from singlerun.commands import common
from singlerun.ownership import holder
from singlerun.render import json, runs
from singlerun.store.base import WAITING, Run
from singlerun.store.queue import PENDING, Job
from singlerun.store.sqlite_queue import SqliteQueue

LATEST = 20


@click.command(
    cls=common.Command,
    short_help="Show what runs and waits.",
    epilog="Example: singlerun ps sync --json",
)
@click.argument("names", nargs=-1, type=common.NAME, metavar="[NAME]...")
@click.option("-a", "--all", "ended", is_flag=True, help=f"Also the latest {LATEST} that ended.")
@click.option("--tree", is_flag=True, help="Show nested runs below those that started them.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
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
) -> None:
    """Show what runs and waits, and what was left behind: in 80 columns on a terminal.

    A zombie is a run whose singlerun and command are both dead; an orphan's command lives on.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    state_dir = common.open_state(ctx, directory)
    store = common.open_store(state_dir)
    while True:
        found: list[Run] = []
        if store is not None:
            still = store.open_runs()
            latest = store.runs(limit=LATEST + len(still)) if ended else []
            over = [run for run in latest if run.ended_ns is not None][:LATEST]
            known = {run.id: run for run in (*over, *still)}
            found = [known[run_id] for run_id in sorted(known, key=lambda key: key or 0)]
            common.tell_notices(store)
        if names:
            found = [run for run in found if set(run.names) & set(names)]
        judged = common.judged(store, found)
        if not ended:  # what has ended since it was listed
            judged = [seen for seen in judged if seen[0].ended_ns is None]
        places = {
            run.id: holder.place_of(run, state_dir)
            for run, state, _ in judged
            if state == WAITING and state_dir is not None
        }
        if watch:
            click.clear()
        queued = [] if store is None else _queued(store, names)
        if as_json:
            json.show(
                ((run, state) for run, state, _ in judged),
                places,
                jobs=[json.job_keys(job) for job in queued],
            )
        elif judged or queued or watch or not sys.stdout.isatty():
            runs.show_open(judged, places, tree=tree, queued=queued)
        else:
            click.echo("Nothing runs.")
        if not watch:
            return
        _pause()


def _queued(store: SqliteQueue, names: tuple[bytes, ...]) -> list[Job]:
    """Give the jobs that are next, those that run already not among them."""
    found = store.jobs(limit=LATEST) if not names else []
    for name in names:
        found += store.jobs(name, limit=LATEST)
    pending = [job for job in found if job.state in PENDING][:LATEST]
    common.mark_paused(store, pending)
    return pending


def _pause() -> None:
    import time  # noqa: PLC0415 - only to watch

    time.sleep(1)
