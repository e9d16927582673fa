"""``singlerun stop``: end what is running."""

from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.ownership import stop
from singlerun.paths import StateDir
from singlerun.render.refusal import by_us
from singlerun.render.result import Result
from singlerun.render.text import names, shown
from singlerun.store.run import Run
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import KILL_AFTER


@click.command(
    cls=common.Command,
    short_help="Stop what is running.",
    epilog="Example: singlerun stop sync",
)
@click.argument("target", type=common.TARGET, metavar="NAME|ID")
@click.option(
    "-k", "--kill-after", type=common.DURATION, metavar="DURATION", default=KILL_AFTER,
    help=f"Grace period between SIGTERM and SIGKILL; default: {KILL_AFTER:.0f}s.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Do not print what was stopped.")
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, target: bytes, *, kill_after: float, quiet: bool, directory: bytes | None
) -> Iterator[Result]:
    """Stop the runs that hold NAME, or the run ID: SIGTERM to all their processes, later SIGKILL.

    They are recorded as stopped. A waiting run leaves the line if it is named by its ID. Exits
    with 1 if there is nothing to stop.
    """
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    found = [] if state is None or store is None else _open_runs(store, state, target)
    if store is None or not found:
        hint = "see: singlerun ps"
        if common.pending_job(store, target) is not None:
            hint = f"to take it out of its queue: singlerun cancel {shown(target)}"
        yield Result(errors=[f"{shown(target)}: nothing to stop; {hint}"], status=1)
        return
    for run in found:
        yield _stop(store, run, kill_after, quiet=quiet)
    yield Result(errors=common.notices(store))


def _open_runs(store: SqliteQueue, state: StateDir, target: bytes) -> list[Run]:
    run = common.find_run(store, target)
    if run is None:
        return common.running(store, state, target)
    return [run] if run.ended_ns is None else []


def _stop(store: SqliteQueue, run: Run, kill_after: float, *, quiet: bool) -> Result:
    what = f"{run.id} {names(run.names)}"
    became = stop.stop(store, run, by_us("stopped with singlerun stop"), kill_after)
    if became == stop.HAD_ENDED:
        return Result(errors=[f"{what}: had already ended"])
    if became == stop.STOPPED_NOW:
        return Result() if quiet else Result(f"{what}: stopped")
    return Result(errors=[f"{what}: could not be stopped; see: singlerun ps"], status=125)
