"""``singlerun queue``: the jobs in a queue."""

from functools import partial

import click

from singlerun.commands import common
from singlerun.render.jobs import Jobs


@click.command(
    cls=common.Command,
    short_help="Show the jobs in a queue.",
    epilog="Example: singlerun queue import --watch",
)
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option("-a", "--all", "ended", is_flag=True, help="Show ended jobs too, newest first.")
@click.option(
    "--limit", default=100, type=click.IntRange(1), metavar="N",
    help="Show at most N jobs; default: 100.",
)  # fmt: skip
@common.watch_option
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
) -> common.Results:
    """Show the jobs that run or wait in the queue of NAME, or in all queues, in order."""
    look = partial(_look, ctx, directory, name, ended=ended, limit=limit)
    return common.watched(look, watch=watch, as_json=as_json)


def _look(
    ctx: click.Context, directory: bytes | None, name: bytes | None, *, ended: bool, limit: int
) -> Jobs:
    queue = common.open_store(common.open_state(ctx, directory))
    if queue is None:
        return Jobs([], limit)
    found = queue.jobs(name, ended=ended, limit=limit + 1)
    common.mark_paused(queue, found)
    return Jobs(found, limit, errors=common.notices(queue))
