"""``singlerun why``: what keeps a name from starting, or kept it."""

import click

from singlerun.commands import common
from singlerun.diagnosis import diagnose
from singlerun.render.why import Why


@common.subcommand("Explain what keeps a name from starting.", example="singlerun why sync")
@click.argument("name", type=common.NAME)
@common.json_option
def command(ctx: click.Context, name: bytes) -> Why:
    """Explain what keeps NAME from starting, or kept it lately, and which command mends it."""
    state, store = common.open_record(ctx)
    found = diagnose(name, state, store)
    return Why(found, errors=common.notices(store))
