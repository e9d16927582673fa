"""``singlerun completion``: the completion of a shell, where no installer has put it."""

import os

import click

import singlerun
from singlerun.commands import common
from singlerun.render.result import Result

FILES = {"bash": "singlerun.bash", "fish": "singlerun.fish", "zsh": "_singlerun"}


@common.subcommand(
    "Print the completion for a shell.", example='eval "$(singlerun completion bash)"'
)
@click.argument("shell", type=click.Choice(tuple(FILES)), metavar="SHELL")
def command(ctx: click.Context, shell: str) -> Result:  # noqa: ARG001 - every subcommand gets it
    """Print the completion for SHELL: bash, fish or zsh.

    Evaluate it in the shell's start-up file, or write it where the shell looks for completions.
    """
    package = os.path.dirname(singlerun.__file__)
    # A wheel has them in the package; in a source tree they lie beside it.
    for directory in (package, os.path.dirname(package)):
        path = os.path.join(directory, "completions", FILES[shell])
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return Result(file.read().removesuffix("\n"))
    message = f"the completion for {shell} is missing from {package}; install singlerun again"
    return Result(errors=[message], status=125)
