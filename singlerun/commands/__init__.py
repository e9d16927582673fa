"""The subcommands, one file each: parse, call, render. This is the group, which loads them lazily.

``singlerun [OPTIONS] COMMAND`` is rewritten to ``singlerun run [OPTIONS] COMMAND``, so that Click
sees nothing but subcommands.
"""

import importlib
import os
import sys
from typing import Any

import click

from singlerun import __version__, options
from singlerun.commands.common import dir_option
from singlerun.errors import UsageError
from singlerun.render.line import say

EXAMPLES = """\b
Examples:
  singlerun backup.sh
  singlerun -n sync --skip rsync -a src/ dst/
  singlerun -w -n db -- psql -f load.sql
  singlerun ps
"""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        return list(options.SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in options.SUBCOMMANDS:
            return None
        module = importlib.import_module(f"singlerun.commands.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        run = self.get_command(ctx, "run")
        assert run is not None
        # "--dir" is among the options of run already.
        params = [
            *run.params,
            *(param for param in self.get_params(ctx) if param.name != "directory"),
        ]
        rows = [
            row
            for param in params
            if isinstance(param, click.Option) and (row := param.get_help_record(ctx))
        ]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        self.format_commands(ctx, formatter)


@click.group(
    cls=_Group,
    epilog=EXAMPLES,
    options_metavar="[OPTIONS]",
    subcommand_metavar="[--] COMMAND [ARG]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@dir_option
@click.version_option(__version__, prog_name="singlerun", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context, directory: bytes | None) -> None:
    """Run COMMAND, unless another instance of it runs already.

    The first word that is no option is the command, unless it is a subcommand: to run a program
    that is called like one, write -- before it. Options after the command belong to the command.
    """
    ctx.obj = directory


def main(arguments: list[str]) -> int:
    """Run a command line through Click; give the exit status.

    A wrong option is 125 for the prefix form, whose statuses below belong to the command, and
    2 for the other subcommands.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # what the locale can't say is escaped
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if not arguments:
        click.echo(group.get_help(click.Context(group, info_name="singlerun")), err=True)
        return 125
    try:
        status: Any = group.main(
            _rewritten(arguments), prog_name="singlerun", standalone_mode=False
        )
        sys.stdout.flush()
    except click.UsageError as error:
        of_run = error.ctx is None or error.ctx.info_name in {"run", "singlerun"}
        about = "singlerun" if of_run or error.ctx is None else error.ctx.command_path
        say(f"{error.format_message().rstrip('.?')}; see: {about} --help")
        return 125 if of_run else 2
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # ps | head
        _discard_output()
        return 141
    except OSError as error:
        _discard_output()
        say(f"cannot write the output: {(error.strerror or str(error)).lower()}")
        return 125
    return int(status or 0)


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _rewritten(arguments: list[str]) -> list[str]:
    """Make a subcommand of everything: put "run" before what is none."""
    try:
        words = options.split(arguments)
    except UsageError:
        return ["run", *arguments]
    if words is None:
        # Something that isn't in the table: help of the whole, or else for run to deal with.
        return arguments if arguments[0] in {"-h", "--help", "--version"} else ["run", *arguments]
    if not words.command or words.dashes:
        return ["run", *arguments]
    first = words.command[0]
    if first in options.RESERVED:
        raise UsageError(
            f"{first!r} is kept for a subcommand that this version doesn't have;"
            f" to run a program of that name: singlerun -- {first}"
        )
    if first not in options.SUBCOMMANDS:
        return ["run", *arguments]
    if words.given - {"dir"}:
        raise UsageError(
            f"{first!r} is a subcommand and takes its options after its name;"
            f" to run a program of that name: singlerun ... -- {first}"
        )
    return arguments
