"""``singlerun help``: the manual page of a subcommand, or its ``--help``."""

import os
import subprocess

import click

import singlerun
from singlerun import suggestion
from singlerun.commands import common
from singlerun.options import SUBCOMMANDS
from singlerun.process.search import find_program
from singlerun.render.result import Result
from singlerun.render.style import is_terminal
from singlerun.render.text import shown

WHOLE = "singlerun"
"""Stands for the manual page of the prefix form."""


@common.subcommand("Explain a subcommand.", example="singlerun help history")
@click.argument("subcommand", required=False, metavar="[SUBCOMMAND]")
def command(ctx: click.Context, subcommand: str | None) -> Result:
    """Explain SUBCOMMAND: show its manual page on a terminal, else what its --help prints.

    Without SUBCOMMAND, list all options and subcommands, as singlerun --help does.
    `singlerun help singlerun` shows the manual page of the prefix form.
    """
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    if subcommand is None:
        return Result(group.get_help(root))
    if subcommand not in {WHOLE, *SUBCOMMANDS}:
        meant = (suggestion.subcommand(subcommand) or "").partition(" ")[0]
        hint = f"did you mean: singlerun help {meant}" if meant in SUBCOMMANDS else ""
        what = f"there is no subcommand {shown(subcommand)}"
        return Result(errors=[f"{what}; {hint or 'to see all: singlerun help'}"], status=2)
    page = WHOLE if subcommand == WHOLE else f"{WHOLE}-{subcommand}"
    if is_terminal():
        _show_manual(page)
    if subcommand == WHOLE:
        return Result(group.get_help(root))
    explained = group.get_command(root, subcommand)
    assert explained is not None
    return Result(explained.get_help(click.Context(explained, parent=root, info_name=subcommand)))


def _show_manual(page: str) -> None:
    """Become man(1), unless there is none or it does not know the page."""
    man = find_program("man")
    if man is None:
        return
    where = _page_file(page)
    words = [page] if where is None else ["-l", where]
    try:
        # Minimized systems have a man that shows a notice instead; it cannot tell where a page is.
        found = subprocess.run([man, "-w", words[-1]], capture_output=True, check=False).stdout
        if os.path.isfile(found.strip()):
            os.execv(man, ["man", *words])
    except OSError:
        pass


def _page_file(page: str) -> str | None:
    """Return where a page was installed with this package; None if it was not.

    Installers such as uv and pipx leave it in an environment where man does not look.
    """
    packages = os.path.dirname(singlerun.__path__[0])
    shared = os.path.join(packages, "..", "..", "..", "share", "man", "man1")
    paths = [os.path.join(each, f"{page}.1") for each in (os.path.join(packages, "man"), shared)]
    return next((os.path.abspath(path) for path in paths if os.path.isfile(path)), None)
