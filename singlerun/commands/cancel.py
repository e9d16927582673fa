"""``singlerun cancel``: take jobs out of their queue."""

from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.queue import wakeup
from singlerun.render.refusal import by_us
from singlerun.render.result import Result


@common.subcommand("Take jobs out of their queue.", example="singlerun cancel 17")
@click.argument("ids", nargs=-1, required=True, type=common.COUNT, metavar="ID...")
def command(ctx: click.Context, ids: tuple[int, ...]) -> Iterator[Result]:
    """Cancel pending jobs, and the jobs that were to run after them.

    Exits with 1 if one of them is not pending. To end a job that is running: singlerun stop.
    """
    state, queue = common.open_record(ctx)
    for number in ids:
        changed = None if queue is None else queue.cancel(number, by_us("cancelled"))
        if state is None or changed is None:
            yield common.refused(queue, number, "cancel")
            continue
        for name in sorted(changed):
            wakeup.ensure(state, name)
