"""``singlerun doctor``: find what is wrong, and say what mends it."""

import click

from singlerun import config
from singlerun.checkup.case import Case
from singlerun.checkup.checks import CHECKS
from singlerun.checkup.examination import examine
from singlerun.commands import common
from singlerun.paths import state_path
from singlerun.render.doctor import Diagnoses


@common.subcommand("Find what is wrong, and say what mends it.", example="singlerun doctor")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems: nothing if there are none.")
@common.json_option
def command(ctx: click.Context, *, quiet: bool) -> Diagnoses:
    """Check crontabs, the state directory and what is in it, the clock, limits and this
    installation; print each finding with its remedy. Nothing is changed.

    Exits with 1 if there is a problem, else with 0: a note may be meant so, and does not count.
    """
    # What is read of the configuration is not kept, as it is elsewhere: nothing is written here.
    case = Case(state_path(ctx.obj or config.directory(is_kept=False)))
    return Diagnoses(case.shown, examine(CHECKS, case), quiet=quiet)
