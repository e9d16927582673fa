"""``singlerun reap``: close what dead owners left open."""

import click

from singlerun import reaper
from singlerun.commands import common
from singlerun.render import json
from singlerun.render.text import names as shown_names
from singlerun.store.base import LOST, STOPPED


@click.command(
    cls=common.Command,
    short_help="Close what dead owners left open.",
    epilog="Example: @reboot singlerun reap",
)
@click.argument("names", nargs=-1, type=common.NAME, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option(
    "--kill-orphans", is_flag=True,
    help=f"End what orphans left: TERM, {reaper.GRACE:.0f} seconds later KILL.",
)  # fmt: skip
@click.option(
    "-q", "--quiet", is_flag=True, help="Print nothing of what was closed, only of what was not."
)
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[bytes, ...],
    *,
    dry_run: bool,
    kill_orphans: bool,
    quiet: bool,
    as_json: bool,
    directory: bytes | None,
) -> None:
    """Close the records of runs whose processes are gone; prints a line for each.

    An orphan, whose command lives on, is left alone and told of, unless --kill-orphans is given.
    Exits with 0 also when there is nothing to do, so it may stand in a crontab.
    """
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    if state is None or store is None:
        found = []
    else:
        found = list(reaper.reap(store, state, names, dry_run=dry_run, kill_orphans=kill_orphans))
        common.tell_notices(store)
    if as_json:
        json.show((run, what.state) for run, what in found)
    else:
        for run, what in found:
            if quiet and what.state in {LOST, STOPPED}:
                continue
            click.echo(f"{run.id} {shown_names(run.names)}: {what.message}")
