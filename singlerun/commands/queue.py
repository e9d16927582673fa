"""``singlerun queue``: the jobs in a queue."""

from collections.abc import Collection

import click

from singlerun.commands import common
from singlerun.ownership import judge
from singlerun.ownership.outlook import Outlook
from singlerun.queue import condition
from singlerun.render.jobs import Jobs
from singlerun.store.queue import JOB_STATES, PAUSED, PENDING, RUNNING, Job, Pace
from singlerun.store.sqlite_queue import SqliteQueue

MOST_PACES = 20
"""Queues for which it is measured how fast they are worked off."""


@common.subcommand("Show the jobs in a queue.", example="singlerun queue import --watch")
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option("-a", "--all", "ended", is_flag=True, help="Show ended jobs too, newest first.")
@click.option("--state", "given", multiple=True, type=common.states_of(JOB_STATES),
              metavar="STATE", help="Only jobs in this state; may be repeated.")  # fmt: skip
@click.option("--label", metavar="GLOB", help="Only jobs whose label matches.")
@click.option("--limit", default=100, type=click.IntRange(1), metavar="N",
              help="Show at most N jobs; default: 100.")  # fmt: skip
@common.watch_option
@common.format_option
@common.json_option
def command(
    ctx: click.Context, name: bytes | None, *, ended: bool,
    given: tuple[tuple[str, ...], ...], label: str | None, limit: int,
) -> Jobs:  # fmt: skip
    """Show the jobs that run or wait in the queue of NAME, or in all queues, in order.

    A terminal also shows how many jobs there are in each state, how fast they are worked off, and
    which names are paused.
    """
    state, queue = common.open_record(ctx)
    if state is None or queue is None:
        return Jobs([], limit)
    states = {state for group in given for state in group}
    ended = ended or bool(states - {RUNNING, *PENDING, PAUSED})
    found = _jobs(queue, name, ended=ended, states=states, label=label, limit=limit + 1)
    condition.mark_stranded(state, found)
    names = {job.name for job in found if job.state in {RUNNING, *PENDING, PAUSED}}
    pauses = queue.pauses() if name is None else queue.pauses([name])
    outlook = Outlook(queue)
    runs = [run for run in queue.open_runs() if name in {None, *run.names}]
    seen = outlook.look(judge.look_at(queue, runs), {})
    in_order = not (ended or states or label)
    return Jobs(
        found, limit, totals=queue.totals(name),
        pauses=[pause for pause in pauses if pause.name in {name, *names}],
        runs={each.run.id: each for each in seen},
        starts_ns=outlook.starts_of(found, seen) if in_order else {},
        paces=_paces(queue, names - {pause.name for pause in pauses}), errors=common.notices(queue),
    )  # fmt: skip


def _jobs(
    queue: SqliteQueue, name: bytes | None, *, ended: bool, states: set[str],
    label: str | None, limit: int,
) -> list[Job]:  # fmt: skip
    """Return the first jobs in some states, of which a paused name changes that of pending ones."""
    stored = (states | {*PENDING} if PAUSED in states else states) - {PAUSED}
    most = limit
    while True:
        found = queue.jobs(name, ended=ended, limit=most, states=stored, label=label)
        is_all = len(found) < most
        condition.mark_paused(queue, found)
        wanted = [job for job in found if not states or job.state in states]
        if is_all or len(wanted) >= limit:
            return wanted[:limit]
        most *= 10


def _paces(queue: SqliteQueue, names: Collection[bytes]) -> list[Pace | None]:
    return [] if len(names) > MOST_PACES else [queue.pace(name) for name in names]
