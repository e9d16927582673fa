"""``singlerun is-running``: for scripts and buttons."""

import click

from singlerun import holder
from singlerun.commands import common
from singlerun.render import json
from singlerun.render.refusal import holder as shown_holder
from singlerun.render.text import shown


@click.command(
    "is-running",
    cls=common.Command,
    short_help="Tell by the exit status who holds a name.",
    epilog="Example: singlerun is-running sync && echo wait",
)
@click.argument("name", type=common.Name())
@click.option("-q", "--quiet", is_flag=True, help="Print nothing, only tell by the exit status.")
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, name: bytes, *, quiet: bool, as_json: bool, directory: bytes | None
) -> int:
    """Exit 0 and print the holder if NAME is held, else exit 1. Asks the lock, not the run-log."""
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    held = None if state is None else holder.of_name(name, state, store)
    if store is not None:
        common.tell_notices(store)
    run = held[0] if held else None
    if as_json:
        judged = common.judged([run]) if run else []
        json.show(
            ((run, state) for run, state, _ in judged),
            held=held is not None,
            pids=held[1] if held else [],
        )
    elif held and not quiet:
        by = shown_holder(held[1], run, None)
        click.echo(f"{shown(name)} is held by {by}")
    return 0 if held else 1
