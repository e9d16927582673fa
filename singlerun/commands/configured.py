"""What the configuration says for a subcommand: its state directory, and what was not given."""

from typing import Any

import click
from click.core import ParameterSource

from singlerun import config
from singlerun.paths import is_configured, state_path

no_config_option = click.option("--no-config", is_flag=True, help="Read no configuration file.")


def state_path_of(ctx: click.Context) -> bytes:
    """Return the path of the state directory: as given, else as configured, else the default."""
    is_off = ctx.obj or ctx.params.get("no_config")
    return state_path(ctx.obj or (None if is_off else config.directory()))


def configure(ctx: click.Context, name: bytes, values: dict[str, Any]) -> list[str]:
    """Set the options of a queue that were not given to what is configured; return the warnings.

    ``values`` are those of the options, by the name of the parameter. Raises ConfigError if nothing
    may be started, UsageError if the name is configured to run outside of its queue.
    """
    if not is_configured():
        return []
    settings = config.load_here(create=True)
    warning = settings.warning()
    settings.check_queue(name)
    configured = {**settings.options(name), **settings.queue_options(name)}
    for param in ctx.command.params:
        dest = max(param.opts, key=len).removeprefix("--").replace("-", "_")
        is_given = ctx.get_parameter_source(param.name or "") is not ParameterSource.DEFAULT
        if param.name in values and dest in configured and not is_given:
            values[param.name] = configured[dest]
    return [] if warning is None else [warning]
