"""``singlerun retry``: put jobs back that did not succeed."""

import click

from singlerun.commands import common
from singlerun.render.line import say


@click.command(
    cls=common.Command,
    short_help="Put jobs back that did not succeed.",
    epilog="Example: singlerun retry 17",
)
@click.argument("ids", nargs=-1, required=True, type=common.COUNT, metavar="ID...")
@common.dir_option
@click.pass_context
def command(ctx: click.Context, ids: tuple[int, ...], *, directory: bytes | None) -> int:
    """Queue jobs anew that failed, were lost or cancelled; they keep their ids.

    Exits with 1 if one of them is no such job.
    """
    state = common.open_state(ctx, directory)
    queue = common.open_store(state)
    status = 0
    for number in ids:
        if queue is not None and queue.retry(number):
            common.kick_queue_of(state, queue, number)
        else:
            say(common.unfit(queue, number, "be queued again"))
            status = 1
    return status
