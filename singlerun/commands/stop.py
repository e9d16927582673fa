"""``singlerun stop``: end what is running."""

from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.ownership import stop
from singlerun.render.refusal import by_us
from singlerun.render.result import Result
from singlerun.render.text import names, shown
from singlerun.store.run import Run
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import KILL_AFTER


@common.subcommand("Stop what is running.", example="singlerun stop sync")
@click.argument("target", type=common.TARGET, metavar="NAME|ID")
@click.option(
    "-k", "--kill-after", type=common.DURATION, metavar="DURATION", default=KILL_AFTER,
    help=f"Grace period between SIGTERM and SIGKILL; default: {KILL_AFTER:.0f}s.",
)  # fmt: skip
@click.option("--signal", type=common.SIGNAL, metavar="SIG", default=15,
              help="Signal to send first; default: TERM.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Do not print what was stopped.")
def command(
    ctx: click.Context, target: bytes, *, kill_after: float, signal: int, quiet: bool
) -> Iterator[Result]:
    """Stop the runs that hold NAME, or the run ID: SIGTERM to all their processes, later SIGKILL.

    They are recorded as stopped. A waiting run leaves the line if it is named by its ID. Exits
    with 1 if there is nothing to stop.
    """
    state, store = common.open_record(ctx)
    found: list[Run] = []
    if state is not None and store is not None:
        run = common.find_run(store, target)
        found = common.running(store, state, target) if run is None else [run]
        found = [run for run in found if run.ended_ns is None]
    if store is None or not found:
        hint = "see: singlerun ps"
        if common.is_pending(store, target):
            hint = f"to take it out of its queue: singlerun cancel {shown(target)}"
        yield Result(errors=[f"{shown(target)}: nothing to stop; {hint}"], status=1)
        return
    for run in found:
        yield _stop(store, run, kill_after, signal, quiet=quiet)
    yield Result(errors=common.notices(store))


def _stop(store: SqliteQueue, run: Run, kill_after: float, signal: int, *, quiet: bool) -> Result:
    what = f"{run.id} {names(run.names)}"
    became = stop.stop(store, run, by_us("stopped with singlerun stop"), kill_after, signal)
    if became == stop.HAD_ENDED:
        return Result(errors=[f"{what}: had already ended"])
    if became == stop.STOPPED_NOW:
        return Result() if quiet else Result(f"{what}: stopped")
    return Result(errors=[f"{what}: could not be stopped; see: singlerun ps"], status=125)
