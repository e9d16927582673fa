"""``singlerun history``: what ran, and how it ended."""

import click

from singlerun.commands import common
from singlerun.render.runs import History


@click.command(
    cls=common.Command,
    short_help="Show what ran and how it ended.",
    epilog="Example: singlerun history sync --limit 5",
)
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option(
    "--limit", default=20, type=click.IntRange(1), metavar="N",
    help="Show the latest N; default: 20.",
)  # fmt: skip
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context,
    name: bytes | None,
    limit: int,
    *,
    as_json: bool,  # noqa: ARG001 - common.Command reads it
    directory: bytes | None,
) -> History:
    """Show the latest runs, newest first, refused, skipped and lost ones included."""
    store = common.open_store(common.open_state(ctx, directory))
    found = [] if store is None else store.runs(name, limit=limit)
    notices = common.notices(store)
    return History(common.judged(store, found), errors=notices)
