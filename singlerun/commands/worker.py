"""``singlerun worker``: work off a queue in the foreground."""

import fcntl

import click

from singlerun.commands import common
from singlerun.paths import StateDir, state_path
from singlerun.queue import wakeup
from singlerun.queue.worker import Worker
from singlerun.render.line import say
from singlerun.render.text import shown


@click.command(
    cls=common.Command,
    short_help="Work off a queue in the foreground.",
    epilog="Example: singlerun worker -n import --stay",
)
@click.option("-n", "--name", required=True, type=common.NAME, metavar="NAME", help="The queue.")
@click.option("--stay", is_flag=True, help="Wait for more, and for who works it off already.")
@click.option("--now", is_flag=True, help="A signal ends the present job, too.")
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, *, name: bytes, stay: bool, now: bool, directory: bytes | None
) -> int:
    """Run the jobs in the queue of a name, one after the other, until there is none left.

    Otherwise singlerun add starts somebody in the background who does that. TERM and the like end
    it after the present job. Exits with 75 if somebody works the queue off already.
    """
    state = StateDir(state_path(directory or ctx.obj))
    fifo = state.open_fifo(name)
    if stay:
        fcntl.flock(fifo, fcntl.LOCK_EX)
    elif not wakeup.try_lock(fifo):
        say(f"somebody works off the queue of {shown(name)} already; to wait for that: --stay")
        return 75
    Worker(state, name, fifo, end_job=now).drain(stay=stay)
    return 0
