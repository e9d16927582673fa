"""``singlerun retry``: queue jobs again that did not succeed."""

from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.queue import wakeup
from singlerun.render.result import Result


@common.subcommand("Queue jobs again that did not succeed.", example="singlerun retry 17")
@click.argument("ids", nargs=-1, required=True, type=common.COUNT, metavar="ID...")
def command(ctx: click.Context, ids: tuple[int, ...]) -> Iterator[Result]:
    """Queue jobs again that failed, were lost or cancelled; they keep their ids.

    Exits with 1 if one of them is in another state.
    """
    state, queue = common.open_record(ctx)
    for number in ids:
        if state is None or queue is None or not queue.retry(number):
            yield common.refused(queue, number, "retry")
        elif (job := queue.find_job(number)) is not None:
            wakeup.ensure(state, job.name)
