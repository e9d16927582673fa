"""``singlerun move``: let a job be the next."""

import click

from singlerun.commands import common
from singlerun.render.line import say


@click.command(
    cls=common.Command,
    short_help="Let a job be the next to start.",
    epilog="Example: singlerun move 17 --first",
)
@click.argument("number", type=common.COUNT, metavar="ID")
@click.option("--first", is_flag=True, required=True, help="To the front of its queue.")
@common.dir_option
@click.pass_context
def command(ctx: click.Context, number: int, *, first: bool, directory: bytes | None) -> int:  # noqa: ARG001 - there is no other place yet
    """Move a job that waits to the front of its queue. Exits with 1 if it does not wait."""
    state = common.open_state(ctx, directory)
    queue = common.open_store(state)
    if queue is None or not queue.put_first(number):
        say(common.unfit(queue, number, "be moved"))
        return 1
    return 0
