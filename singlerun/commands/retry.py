"""``singlerun retry``: queue jobs again that did not succeed."""

from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.queue import wakeup
from singlerun.render.result import Result


@click.command(
    cls=common.Command,
    short_help="Queue jobs again that did not succeed.",
    epilog="Example: singlerun retry 17",
)
@click.argument("ids", nargs=-1, required=True, type=common.COUNT, metavar="ID...")
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, ids: tuple[int, ...], *, directory: bytes | None
) -> Iterator[Result]:
    """Queue jobs again that failed, were lost or cancelled; they keep their ids.

    Exits with 1 if one of them is in another state.
    """
    state = common.open_state(ctx, directory)
    queue = common.open_store(state)
    for number in ids:
        if state is None or queue is None or not queue.retry(number):
            yield common.refused(queue, number, "retry")
        elif (job := queue.find_job(number)) is not None:
            wakeup.ensure(state, job.name)
