"""``singlerun queue``: what is queued."""

import sys
import time

import click

from singlerun.commands import common
from singlerun.render import jobs, json
from singlerun.store.queue import Job
from singlerun.store.sqlite_queue import SqliteQueue


@click.command(
    cls=common.Command,
    short_help="Show what is queued.",
    epilog="Example: singlerun queue import --watch",
)
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option("-a", "--all", "ended", is_flag=True, help="Also what has ended, the latest first.")
@click.option(
    "--limit", default=100, type=click.IntRange(1), metavar="N", help="At most N; default: 100."
)
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context,
    name: bytes | None,
    *,
    ended: bool,
    limit: int,
    watch: bool,
    as_json: bool,
    directory: bytes | None,
) -> None:
    """Show the jobs that run or wait in the queue of NAME, or of all, in their order."""
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    while True:
        queue = common.open_store(common.open_state(ctx, directory))
        found = [] if queue is None else _shown(queue, name, ended=ended, limit=limit)
        if watch:
            click.clear()
        if as_json:
            json.show_jobs(found[:limit])
        elif found or watch or not sys.stdout.isatty():
            jobs.show(found[:limit])
            if len(found) > limit:
                click.echo(f"... and more; to see them: --limit {10 * limit}")
        else:
            click.echo("Nothing is queued.")
        if not watch:
            return
        time.sleep(1)


def _shown(queue: SqliteQueue, name: bytes | None, *, ended: bool, limit: int) -> list[Job]:
    found = queue.jobs(name, ended=ended, limit=limit + 1)
    common.mark_paused(queue, found)
    common.tell_notices(queue)
    return found
