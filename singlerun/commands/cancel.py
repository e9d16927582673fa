"""``singlerun cancel``: take jobs out of their queue."""

from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.render.refusal import by_us
from singlerun.render.result import Result


@click.command(
    cls=common.Command,
    short_help="Take jobs out of their queue.",
    epilog="Example: singlerun cancel 17",
)
@click.argument("ids", nargs=-1, required=True, type=common.COUNT, metavar="ID...")
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, ids: tuple[int, ...], *, directory: bytes | None
) -> Iterator[Result]:
    """Cancel pending jobs, and the jobs that were to run after them.

    Exits with 1 if one of them is not pending. To end a job that is running: singlerun stop.
    """
    state = common.open_state(ctx, directory)
    queue = common.open_store(state)
    for number in ids:
        changed = None if queue is None else queue.cancel(number, by_us("cancelled"))
        if changed is None:
            yield common.refused(queue, number, "cancel")
        else:
            common.ensure_workers(state, changed)
