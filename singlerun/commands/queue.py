"""``singlerun queue``: the jobs in a queue."""

import click

from singlerun.commands import common
from singlerun.render.jobs import Jobs


@common.subcommand("Show the jobs in a queue.", example="singlerun queue import --watch")
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option("-a", "--all", "ended", is_flag=True, help="Show ended jobs too, newest first.")
@click.option("--limit", default=100, type=click.IntRange(1), metavar="N",
              help="Show at most N jobs; default: 100.")  # fmt: skip
@common.watch_option
@common.format_option
@common.json_option
def command(ctx: click.Context, name: bytes | None, *, ended: bool, limit: int) -> Jobs:
    """Show the jobs that run or wait in the queue of NAME, or in all queues, in order."""
    _, queue = common.open_record(ctx)
    if queue is None:
        return Jobs([], limit)
    found = queue.jobs(name, ended=ended, limit=limit + 1)
    common.mark_paused(queue, found)
    return Jobs(found, limit, errors=common.notices(queue))
