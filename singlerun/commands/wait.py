"""``singlerun wait``: wait for the end of a run, and exit as it did."""

import time

import click

from singlerun import ending
from singlerun.commands import common
from singlerun.render.line import say
from singlerun.render.text import names as shown_names
from singlerun.render.text import shown
from singlerun.store.base import LOST

LATEST = 100
"""How far back to look for a run that was started; refusals are of less interest."""


@click.command(
    cls=common.Command,
    short_help="Wait for the end of what runs.",
    epilog="Example: singlerun wait sync && echo done",
)
@click.argument("target", type=common.TARGET, metavar="NAME|ID")
@click.option(
    "-t", "--timeout", type=common.DURATION, metavar="DURATION",
    help="Wait at most so long, then exit 124.",
)  # fmt: skip
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, target: bytes, *, timeout: float | None, directory: bytes | None
) -> int:
    """Wait until the run ID, or what holds NAME, has ended, and exit with its exit status.

    If nothing holds NAME, with the status of its latest run; if several share it, with that of the
    first that failed. A run whose end nobody saw gives 125, and so does a name without runs.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    run = None if store is None else common.find_run(store, target)
    if store is None or state is None:
        found = []
    elif run is not None:
        found = [run]
    else:
        latest = store.runs(target, limit=LATEST)
        started = [run for run in latest if run.started_ns is not None] or latest
        found = common.running(store, state, target) or started[:1]
    if store is None or not found:
        say(f"{shown(target)}: there is no such run; see: singlerun history")
        return 125
    status = 0
    for run in found:
        ended = ending.await_end(store, run, deadline)
        common.tell_notices(store)
        if ended is None:
            say(f"{run.id} {shown_names(run.names)}: still runs")
            return 124
        if ended.state == LOST:
            say(f"{run.id} {shown_names(run.names)}: lost, nobody saw its end")
        status = status or ending.exit_status_of(ended)
    return status
