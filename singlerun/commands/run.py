"""``singlerun run``: the prefix form, parsed by Click from the table in options.py."""

from typing import Any

import click

from singlerun import config, paths, runner
from singlerun.commands.common import Read
from singlerun.options import RUN_OPTIONS, Option
from singlerun.render.result import Result, show
from singlerun.spec import RunSpec


def _click_option(option: Option) -> click.Option:
    if option.metavar is None:
        return click.Option([*option.flags, option.dest], is_flag=True, help=option.help)
    return click.Option(
        [*option.flags, option.dest], type=Read(option.metavar, option.read),
        metavar=option.metavar, multiple=option.many, help=option.help,
    )  # fmt: skip


def _run(ctx: click.Context, /, words: tuple[str, ...], **values: Any) -> int:
    values["dir"] = values["dir"] or ctx.obj
    if paths.is_configured() and not values["no_config"]:
        values, warning = config.apply(values, list(words))
        if warning is not None:
            show(Result(errors=[warning]))
    return runner.run(RunSpec(list(words), values)).exit_status


command = click.Command(
    "run",
    params=[
        *(_click_option(option) for option in RUN_OPTIONS),
        click.Argument(["words"], nargs=-1, type=click.UNPROCESSED,
                       metavar="[--] COMMAND [ARG]..."),
    ],
    callback=click.pass_context(_run),
    help="Run COMMAND unless another instance of it is running.",
    epilog="Example: singlerun run -n sync rsync -a src/ dst/",
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
)  # fmt: skip
