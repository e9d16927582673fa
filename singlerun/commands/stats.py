"""``singlerun stats``: how often, how long and how well runs went."""

import click

from singlerun.commands import common
from singlerun.render.stats import Stats

DEFAULT_DAYS = 30


@common.subcommand("Show how often, how long and how well runs went.",
                   example="singlerun stats sync --since 7d")  # fmt: skip
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@common.since_option
@common.until_option
@common.json_option
def command(
    ctx: click.Context, name: bytes | None, *, since: int | None, until: int | None
) -> Stats:
    """Show figures of the runs of NAME, or of all names, that were asked for in a period.

    OK is the share of ended runs that succeeded; WAITED is the wait that 95 % did not exceed.
    """
    since, until = common.period(since, until, DEFAULT_DAYS)
    _, store = common.open_record(ctx)
    figures = [] if store is None else store.figures(since, until, name)
    return Stats(figures, since, until, name, errors=common.notices(store))
