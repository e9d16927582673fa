"""``singlerun worker``: work off a queue in the foreground."""

import fcntl
import os

import click

from singlerun.commands import common
from singlerun.process.descriptors import try_lock
from singlerun.queue import wakeup
from singlerun.queue.worker import Worker
from singlerun.render.result import Result
from singlerun.render.text import shown


@common.subcommand(
    "Work off a queue in the foreground.", example="singlerun worker -n import --stay"
)
@click.option("-n", "--name", required=True, type=common.NAME, metavar="NAME", help="The queue.")
@click.option("--stay", is_flag=True, help="Wait for a worker that runs already, and for new jobs.")
@click.option("--now", is_flag=True, help="On a signal, end the current job too.")
def command(ctx: click.Context, *, name: bytes, stay: bool, now: bool) -> Result:
    """Run the jobs in the queue of NAME one after another until it is empty.

    Without it, singlerun add starts a worker in the background. SIGTERM and the like end it after
    the current job. Exits with 75 if the queue has a worker already.
    """
    state = common.make_state(ctx)
    fifo = state.open_fifo(name)
    if stay:
        fcntl.flock(fifo, fcntl.LOCK_EX)
        while wakeup.is_deleted(fifo):  # by prune, while this one waited
            os.close(fifo)
            fifo = state.open_fifo(name)
            fcntl.flock(fifo, fcntl.LOCK_EX)
    elif not try_lock(fifo):
        message = f"queue {shown(name)} already has a worker; to wait for its end: --stay"
        return Result(errors=[message], status=75)
    Worker(state, name, fifo, end_job=now).drain(stay=stay)
    return Result()
