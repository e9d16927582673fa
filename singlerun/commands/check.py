"""``singlerun check``: whether names stand well, as a plugin for monitoring systems."""

import time
from typing import Any

import click

from singlerun import alarm, config
from singlerun.commands import common
from singlerun.config.schema import read_number
from singlerun.paths import StateDir, state_path
from singlerun.render.check import Check, first_line
from singlerun.render.findings import EXIT_STATUS, UNKNOWN
from singlerun.render.result import Result
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.survey import Surveyor

MOST_NAMES = 500
"""Names that are checked where none is given."""
LATELY_DAYS = 7
"""How lately a name without settings must have been used to be checked where none is given."""


TIMES = common.Read("TIMES", read_number)


class PluginCommand(common.Command):
    """A subcommand whose failures are those of a plugin for monitoring systems."""

    def failed(self, message: str, status: int) -> Result:  # noqa: ARG002 - always unknown
        """Return that it is not known how names stand."""
        return Result(first_line(UNKNOWN, message), status=EXIT_STATUS[UNKNOWN])


@common.subcommand("Check for a monitoring system, or cron, that all is well.",
                   example="singlerun check backup --expect 26h", cls=PluginCommand)  # fmt: skip
@click.argument("names", nargs=-1, type=common.NAME, metavar="[NAME]...")
@click.option("-c", "--critical", "--expect", "expect", type=common.DURATION, metavar="DURATION",
              help="Critical if the last success is older than this.")  # fmt: skip
@click.option("-w", "--warning", "warn", type=common.DURATION, metavar="DURATION",
              help="Warn if the last success is older than this.")  # fmt: skip
@click.option("--overlong", type=TIMES, metavar="TIMES",
              help="Warn if a run takes so many times as long as usual; default: 3.")  # fmt: skip
@click.option("--max-queued", type=common.COUNT, metavar="N",
              help="Warn if more than N jobs are ready in a queue.")  # fmt: skip
@click.option("--max-refused", type=common.COUNT, metavar="N",
              help="Warn if more than N runs in a row were refused.")  # fmt: skip
@click.option(
    "--notify",
    "tells",
    is_flag=True,
    help="Print only what has changed, and send notifications of what is overdue.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing if all is well.")
@common.json_option
def command(
    ctx: click.Context, names: tuple[bytes, ...], *, tells: bool, quiet: bool, **limits: Any
) -> Check:
    """Check that each NAME stands well; without NAME, all that have settings of their own, have
    something open or queued, or were used in the last 7 days.

    Prints one line, performance data and details, and exits with 0 (OK), 1 (WARNING), 2 (CRITICAL)
    or 3 (UNKNOWN), as plugins for Nagios and Icinga do.
    """
    settings = config.load(state_path(ctx.obj))
    state, store = _open(ctx, makes=tells)
    watch = {key: value for key, value in limits.items() if value is not None}
    surveyor = Surveyor(state, store, settings, watch)
    since_ns = time.time_ns() - LATELY_DAYS * common.DAY_NS
    found = surveyor.of(names) if names else surveyor.of_all(MOST_NAMES, used_since_ns=since_ns)
    surveyor.find_workers(found)
    problems = [*settings.problems, *common.notices(store)]
    check = Check(found, is_all=not names, problems=problems)
    check.is_quiet = quiet
    if tells and state is not None and store is not None:
        kinds = [(each.watched, each.kinds) for each in check.names]
        check.changed = alarm.changed(state, store, settings, kinds)
    return check


def _open(ctx: click.Context, *, makes: bool) -> tuple[StateDir | None, SqliteQueue | None]:
    """Open the record; make one if what is told is to be remembered."""
    state, store = common.open_record(ctx)
    if makes and store is None:
        state = common.make_state(ctx)
        store = SqliteQueue(state)
    return state, store
