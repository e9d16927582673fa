"""``singlerun timeline``: what ran when, as lanes."""

import time

import click

from singlerun.commands import common
from singlerun.ownership import judge
from singlerun.render import picture
from singlerun.render.timeline import MOST_LANES, Timeline


@common.subcommand("Show what ran when, as lanes.",
                   example="singlerun timeline --since yesterday --html day.html")  # fmt: skip
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@common.since_option
@common.until_option
@click.option("--limit", default=MOST_LANES, type=click.IntRange(1), metavar="N",
              help=f"Draw the N names with the most runs; default: {MOST_LANES}.")  # fmt: skip
@click.option("--html", type=common.OUTPUT, metavar="FILE",
              help="Write a page for a browser; - for standard output.")  # fmt: skip
@click.option("--svg", type=common.OUTPUT, metavar="FILE",
              help="Write a picture; - for standard output.")  # fmt: skip
@common.json_option
def command(
    ctx: click.Context, name: bytes | None, *, since: int | None, until: int | None, limit: int,
    html: bytes | None, svg: bytes | None,
) -> Timeline:  # fmt: skip
    """Show a lane for NAME, or for each name: what ran, waited, was refused or paused in a period.

    The default is the last 24 hours.
    """
    since, until = common.period(since, until, default_days=1)
    _, store = common.open_record(ctx)
    runs = pauses = []
    if store is not None:
        runs = judge.look_at(store, store.runs_in(since, until, name))
        pauses = store.pauses_in(since, min(until, time.time_ns()), name)
    errors = common.notices(store)
    found = Timeline(runs, pauses, since, until, name=name, limit=limit, errors=errors)
    for path, render in ((html, picture.page), (svg, picture.picture)):
        if path is not None:
            found.save(path, render(found))
    return found
