"""``singlerun move``: change the order of a queue."""

import click

from singlerun.commands import common
from singlerun.render.result import Result


@common.subcommand("Move a job to the front of its queue.", example="singlerun move 17 --first")
@click.argument("number", type=common.COUNT, metavar="ID")
@click.option("--first", is_flag=True, required=True, help="Move it to the front of its queue.")
def command(ctx: click.Context, number: int, *, first: bool) -> Result:  # noqa: ARG001 - there is no other place yet
    """Move a pending job to the front of its queue. Exits with 1 if it is not pending."""
    _, queue = common.open_record(ctx)
    if queue is None or not queue.put_first(number):
        return common.refused(queue, number, "move")
    return Result()
