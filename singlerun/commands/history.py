"""``singlerun history``: what ran, and how it ended."""

import sys

import click

from singlerun.commands import common
from singlerun.render import json, runs


@click.command(
    cls=common.Command,
    short_help="Show what ran, and how it ended.",
    epilog="Example: singlerun history sync --limit 5",
)
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option(
    "--limit", default=20, type=click.IntRange(1), metavar="N",
    help="The latest N; default: 20.",
)  # fmt: skip
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, name: bytes | None, limit: int, *, as_json: bool, directory: bytes | None
) -> None:
    """Show the latest runs, newest first: also those that were refused, skipped, or got lost."""
    store = common.open_store(common.open_state(ctx, directory))
    found = [] if store is None else store.runs(name, limit=limit)
    if store is not None:
        common.tell_notices(store)
    judged = common.judged(store, found)
    if as_json:
        json.show((run, state) for run, state, _ in judged)
    elif judged or not sys.stdout.isatty():
        runs.show_history(judged)
    else:
        click.echo("Nothing has run yet." if name is None else "Nothing has run under that name.")
