"""``singlerun history``: what ran, and how it ended."""

import click

from singlerun.commands import common
from singlerun.ownership import judge
from singlerun.render.runs import History


@common.subcommand("Show what ran and how it ended.", example="singlerun history sync --limit 5")
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option("--limit", default=20, type=click.IntRange(1), metavar="N",
              help="Show the latest N; default: 20.")  # fmt: skip
@common.format_option
@common.json_option
def command(ctx: click.Context, name: bytes | None, limit: int) -> History:
    """Show the latest runs, newest first, refused, skipped and lost ones included."""
    _, store = common.open_record(ctx)
    if store is None:
        return History([])
    found = store.runs(name, limit=limit)
    notices = common.notices(store)
    return History(judge.look_at(store, found), errors=notices)
