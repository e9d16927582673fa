"""``singlerun resume``: end a pause."""

import click

from singlerun.commands import common
from singlerun.render.result import Result
from singlerun.render.text import shown


@common.subcommand("End a pause.", example="singlerun resume sync")
@click.argument("name", type=common.NAME)
def command(ctx: click.Context, name: bytes) -> Result:
    """Let runs and jobs start under NAME again. Exits with 1 if it was not paused."""
    state, queue = common.open_record(ctx)
    was_paused = queue is not None and queue.resume(name)
    if state is not None and queue is not None:
        common.ensure_worker_if_pending(state, queue, name)
    if was_paused:
        return Result()
    return Result(errors=[f"{shown(name)} is not paused"], status=1)
