"""``singlerun completion``: the completion of a shell, where no installer has put it."""

import os
import pkgutil

import click

import singlerun
from singlerun.commands import common
from singlerun.errors import UsageError
from singlerun.render.result import Result

FILES = {"bash": "singlerun.bash", "fish": "singlerun.fish", "zsh": "_singlerun"}


def _read_shell(text: str) -> str:
    if text not in FILES:
        raise UsageError(f"bad shell {text!r}: write {', '.join(FILES)}")
    return text


@common.subcommand(
    "Print the completion for a shell.", example='eval "$(singlerun completion bash)"'
)
@click.argument("shell", type=common.Read("SHELL", _read_shell), metavar="SHELL")
def command(ctx: click.Context, shell: str) -> Result:  # noqa: ARG001 - every subcommand gets it
    """Print the completion for SHELL: bash, fish or zsh.

    Evaluate it in the shell's start-up file, or write it where the shell looks for completions.
    """
    file = f"completions/{FILES[shell]}"
    try:
        text = pkgutil.get_data("singlerun", file)
    except OSError:  # a source tree has them beside the package
        text = _read(os.path.join(os.path.dirname(singlerun.__path__[0]), file))
    if text is None:
        message = f"{file} is missing from {singlerun.__path__[0]}; install singlerun again"
        return Result(errors=[message], status=125)
    return Result(text.decode().removesuffix("\n"))


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
