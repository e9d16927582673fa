"""``singlerun pause``: let nothing start under a name."""

import time

import click

from singlerun.commands import common
from singlerun.render.result import Result
from singlerun.store.sqlite_queue import SqliteQueue


@click.command(
    cls=common.Command,
    short_help="Let nothing start under a name.",
    epilog="Example: singlerun pause sync --for 2h",
)
@click.argument("name", type=common.NAME)
@click.option(
    "--for", "period", type=common.DURATION, metavar="DURATION",
    help="Resume by itself after this long.",
)  # fmt: skip
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, name: bytes, *, period: float | None, directory: bytes | None
) -> Result:
    """Pause NAME: its queue starts no jobs, and direct runs are refused. Running ones continue."""
    state = common.make_state(ctx, directory)
    until_ns = None if period is None else time.time_ns() + round(period * 1e9)
    queue = SqliteQueue(state)
    queue.pause(name, until_ns)
    notices = common.notices(queue)
    common.ensure_worker_if_pending(state, queue, name)
    return Result(errors=notices)
