"""``singlerun cancel``: take jobs out of their queue."""

import click

from singlerun.commands import common
from singlerun.ownership.stop import by_whom
from singlerun.render.line import say


@click.command(
    cls=common.Command,
    short_help="Take jobs out of their queue.",
    epilog="Example: singlerun cancel 17",
)
@click.argument("ids", nargs=-1, required=True, type=common.COUNT, metavar="ID...")
@common.dir_option
@click.pass_context
def command(ctx: click.Context, ids: tuple[int, ...], *, directory: bytes | None) -> int:
    """Cancel jobs that wait, and those that were to follow them.

    Exits with 1 if one of them does not wait. One that runs is ended by singlerun stop.
    """
    state = common.open_state(ctx, directory)
    queue = common.open_store(state)
    status = 0
    for number in ids:
        if queue is None or not queue.cancel(number, by_whom("cancelled")):
            say(common.unfit(queue, number, "be cancelled"))
            status = 1
    common.kick_followers(state, queue)
    return status
