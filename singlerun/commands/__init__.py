"""The subcommands, one file each: parse, call, return a result (render/result.py).

This is the group, which loads them lazily. ``singlerun [OPTIONS] COMMAND`` is rewritten to
``singlerun run [OPTIONS] COMMAND``, so that Click sees only subcommands.
"""

import importlib
import sys
from typing import Any

import click

from singlerun import __version__, options, suggestion
from singlerun.commands.common import DIR, Command
from singlerun.errors import UsageError
from singlerun.process import launch
from singlerun.render.result import Result, show

EXAMPLES = """\b
Examples:
  singlerun backup.sh
  singlerun -n sync --skip rsync -a src/ dst/
  singlerun -w -n db -- psql -f load.sql
  singlerun ps
"""

GROUPS = (
    ("See what runs and what ran", ("ps", "why", "history", "logs", "stats", "timeline")),
    ("Watch", ("check", "metrics")),
    (
        "Run, wait and stop",
        ("run", "wait", "is-running", "stop", "pause", "resume", "reap", "prune"),
    ),
    ("Work with queues", ("add", "queue", "cancel", "retry", "move", "worker")),
    ("Find your way", ("help", "doctor", "config", "notify", "completion")),
)
"""The subcommands as ``--help`` shows them."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        return list(options.SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in options.SUBCOMMANDS:
            return None
        module = importlib.import_module(f"singlerun.commands.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        run = self.get_command(ctx, "run")
        assert run is not None
        more = [param for param in self.get_params(ctx) if param is not DIR]  # run has it already
        shown = [each for each in (*run.params, *more) if isinstance(each, click.Option)]
        records = [option.get_help_record(ctx) for option in shown]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record is not None])
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, options.SUBCOMMANDS))  # of the first column, in all groups
        for title, names in GROUPS:
            found = {name: self.get_command(ctx, name) for name in names}
            rows = [
                (f"{name:{width}}", each.get_short_help_str(100))
                for name, each in found.items()
                if each is not None
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=_Group,
    epilog=EXAMPLES,
    options_metavar="[OPTIONS]",
    subcommand_metavar="[--] COMMAND [ARG]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="singlerun", message="%(prog)s %(version)s")
def group() -> None:
    """Run COMMAND unless another instance of it is running.

    The first word that is not an option is the command, unless it is a subcommand; to run a program
    with the name of a subcommand, write -- before it. Options after COMMAND are passed to it.
    """


group.params.append(DIR)


def main(arguments: list[str]) -> int:
    """Run a command line through Click; return the exit status.

    A usage error is 125 for the prefix form, whose lower statuses belong to the command, and 2 for
    the other subcommands.
    """
    launch.reap()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # escape what the locale cannot encode
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status: Any = group.main(
            _rewritten(arguments), prog_name="singlerun", standalone_mode=False
        )
    except click.UsageError as error:
        of_run = error.ctx is None or error.ctx.info_name in {"run", "singlerun"}
        about = "singlerun" if of_run or error.ctx is None else error.ctx.command_path
        message = f"{_complaint(error)}; see: {about} --help"
        command = None if error.ctx is None else error.ctx.command
        status = 125 if of_run else 2
        if isinstance(command, Command):
            return show(command.failed(message, status))
        return show(Result(errors=[message], status=status))
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    return int(status or 0)


def _complaint(error: click.UsageError) -> str:
    """Return what is wrong with a command line, with the nearest options if one is unknown."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return error.format_message().rstrip(".?")
    known = [
        flag
        for param in error.ctx.command.get_params(error.ctx)
        if isinstance(param, click.Option)
        for flag in param.opts
        if flag.startswith("--")
    ]
    near = suggestion.nearest(error.option_name, known)
    hint = f"; did you mean: {' or '.join(near)}" if near else ""
    return f"no such option: {error.option_name}{hint}"


def _rewritten(arguments: list[str]) -> list[str]:
    """Insert "run" unless a subcommand was given."""
    try:
        words = options.split(arguments)
    except UsageError:
        return ["run", *arguments]
    if words is None:
        # Not in the table: the help of the whole, or an error for run to report.
        return arguments if arguments[0] in {"-h", "--help", "--version"} else ["run", *arguments]
    if not words.command or words.dashes:
        return ["run", *arguments]
    first = words.command[0]
    if first in options.RESERVED:
        raise UsageError(
            f"{first!r} is reserved for a subcommand of a later version;"
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
