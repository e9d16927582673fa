"""``singlerun resume``: take a pause away."""

import click

from singlerun.commands import common
from singlerun.render.line import say
from singlerun.render.text import shown


@click.command(
    cls=common.Command,
    short_help="Take a pause away.",
    epilog="Example: singlerun resume sync",
)
@click.argument("name", type=common.NAME)
@common.dir_option
@click.pass_context
def command(ctx: click.Context, name: bytes, *, directory: bytes | None) -> int:
    """Let things start under NAME again. Exits with 1 if it was not paused."""
    state = common.open_state(ctx, directory)
    queue = common.open_store(state)
    was_paused = queue is not None and queue.resume(name)
    if not was_paused:
        say(f"{shown(name)} is not paused")
    if state is not None and queue is not None:
        common.kick_if_pending(state, queue, name)
    return 0 if was_paused else 1
