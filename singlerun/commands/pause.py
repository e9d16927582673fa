"""``singlerun pause``: let nothing start under a name."""

import time

import click

from singlerun.commands import common
from singlerun.render.result import Result
from singlerun.store.sqlite_queue import SqliteQueue


@common.subcommand("Let nothing start under a name.", example="singlerun pause sync --for 2h")
@click.argument("name", type=common.NAME)
@click.option("--for", "period", type=common.DURATION, metavar="DURATION",
              help="Resume by itself after this long.")  # fmt: skip
def command(ctx: click.Context, name: bytes, *, period: float | None) -> Result:
    """Pause NAME: its queue starts no jobs, and direct runs are refused. Running ones continue."""
    state = common.make_state(ctx)
    until_ns = None if period is None else time.time_ns() + round(period * 1e9)
    queue = SqliteQueue(state)
    queue.pause(name, until_ns)
    notices = common.notices(queue)
    common.ensure_worker_if_pending(state, queue, name)
    return Result(errors=notices)
