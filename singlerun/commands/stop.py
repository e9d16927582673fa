"""``singlerun stop``: end what runs."""

from functools import partial

import click

from singlerun.commands import common
from singlerun.ownership import stop
from singlerun.render.line import say
from singlerun.render.text import names as shown_names
from singlerun.render.text import shown
from singlerun.spec import KILL_AFTER


@click.command(
    cls=common.Command,
    short_help="End what runs.",
    epilog="Example: singlerun stop sync",
)
@click.argument("target", type=common.TARGET, metavar="NAME|ID")
@click.option(
    "-k", "--kill-after", type=common.DURATION, metavar="DURATION", default=KILL_AFTER,
    help=f"From TERM to KILL; default: {KILL_AFTER:.0f}s.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing of what was ended.")
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, target: bytes, *, kill_after: float, quiet: bool, directory: bytes | None
) -> int:
    """End the runs that hold NAME, or the run ID: TERM to all that they started, later KILL.

    They are recorded as stopped. Who only waits leaves the line if it is named by its ID. Exits
    with 1 if there is nothing to end.
    """
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    run = None if store is None else common.find_run(store, target)
    if store is None or state is None:
        found = []
    elif run is not None:
        found = [run] if run.ended_ns is None else []
    else:
        found = common.running(store, state, target)
    if store is None or not found:
        pending = store is not None and common.pending_job(store, target) is not None
        hint = f"to take it out of its queue: singlerun cancel {shown(target)}"
        say(f"{shown(target)}: nothing to end; {hint if pending else 'see: singlerun ps'}")
        return 1
    status = 0
    for run in found:
        what = f"{run.id} {shown_names(run.names)}"
        if not store.ask_to_end(run, stop.by_whom("stopped with singlerun stop")):
            say(f"{what}: it has ended by itself")
        elif stop.end(run, kill_after, partial(stop.is_over, store, run)):
            stop.close(store, run)
            if not quiet:
                click.echo(f"{what}: stopped")
        else:
            status = 125
            store.ask_to_end(run, None)
            say(f"{what}: it could not be ended; see: singlerun ps")
    common.tell_notices(store)
    return status
