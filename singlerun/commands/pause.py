"""``singlerun pause``: let nothing start under a name."""

import time

import click

from singlerun.commands import common
from singlerun.paths import StateDir, state_path
from singlerun.store.sqlite_queue import SqliteQueue


@click.command(
    cls=common.Command,
    short_help="Let nothing start under a name.",
    epilog="Example: singlerun pause sync --for 2h",
)
@click.argument("name", type=common.NAME)
@click.option(
    "--for",
    "period",
    type=common.DURATION,
    metavar="DURATION",
    help="Only so long; then it goes on by itself.",
)
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, name: bytes, *, period: float | None, directory: bytes | None
) -> None:
    """Pause NAME: no job of its queue starts, and direct runs are refused. What runs goes on."""
    state = StateDir(state_path(directory or ctx.obj))
    until_ns = None if period is None else time.time_ns() + round(period * 1e9)
    queue = SqliteQueue(state)
    queue.pause(name, until_ns)
    common.tell_notices(queue)
    common.kick_if_pending(state, queue, name)
