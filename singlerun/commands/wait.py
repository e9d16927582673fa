"""``singlerun wait``: wait for the end of a run, and exit as it did."""

import time

import click

from singlerun.commands import common
from singlerun.ownership import stop
from singlerun.paths import StateDir
from singlerun.process.identity import ALIVE, life
from singlerun.queue import wakeup
from singlerun.render.line import say
from singlerun.render.text import names as shown_names
from singlerun.render.text import shown
from singlerun.store.base import LOST, Run
from singlerun.store.queue import CANCELLED, Job
from singlerun.store.queue import LOST as JOB_LOST
from singlerun.store.sqlite_queue import SqliteQueue

LATEST = 100
"""How far back to look for a run that was started; refusals are of less interest."""


@click.command(
    cls=common.Command,
    short_help="Wait for the end of what runs.",
    epilog="Example: singlerun wait sync && echo done",
)
@click.argument("target", type=common.TARGET, metavar="NAME|ID")
@click.option(
    "-t", "--timeout", type=common.DURATION, metavar="DURATION",
    help="Wait at most so long, then exit 124.",
)  # fmt: skip
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context, target: bytes, *, timeout: float | None, directory: bytes | None
) -> int:
    """Wait until the run or job ID, or what holds NAME, has ended; exit with its exit status.

    If nothing holds NAME, with the status of its latest run; if several share it, with that of the
    first that failed. A run whose end nobody saw gives 125, and so does a name without runs.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    if store is None or state is None:
        return _unknown(target)
    if common.is_number(target) and (job := store.find_job(int(target))) is not None:
        return _await_job(store, state, job, deadline)
    run = common.find_run(store, target)
    if run is not None:
        found = [run]
    else:
        latest = store.runs(target, limit=LATEST)
        started = [run for run in latest if run.started_ns is not None] or latest
        found = common.running(store, state, target) or started[:1]
    if not found:
        return _unknown(target)
    status = 0
    by_name = common.find_run(store, target) is None
    while found:
        run = found.pop(0)
        what = f"{run.id} {shown_names(run.names)}"
        ended = stop.await_end(store, run, deadline)
        common.tell_notices(store)
        if ended is not None and by_name and (again := _next_try(store, state, ended, target)):
            found.insert(0, again)
            continue
        if ended is None:
            say(f"{what}: still runs")
            return 124
        if ended.state == LOST:
            say(f"{what}: lost, nobody saw its end")
        status = status or stop.exit_status_of(ended)
    return status


def _next_try(store: SqliteQueue, state: StateDir, ended: Run, name: bytes) -> Run | None:
    """Give what follows a run under the same hold of its name: another try, if there is one."""
    if ended.ended_ns is None or ended.job_id or life(ended.wrapper) != ALIVE:
        return None
    time.sleep(stop.MOMENT)  # between the record of an end and that of what follows
    for run in common.running(store, state, name):
        if run.wrapper_pid == ended.wrapper_pid and (run.id or 0) > (ended.id or 0):
            return run
    return None


def _unknown(target: bytes) -> int:
    say(f"{shown(target)}: there is no such run; see: singlerun history")
    return 125


def _await_job(store: SqliteQueue, state: StateDir, job: Job, deadline: float | None) -> int:
    """Wait until a job has ended for good, with all its tries; give its exit status."""
    what = f"job {job.id} of {shown(job.name)}"
    nap = stop.SHORTEST_NAP
    while job.ended_ns is None:
        if deadline is not None and time.monotonic() > deadline:
            say(f"{what}: is {job.state} still")
            return 124
        if job.run is not None and job.run.ended_ns is None:
            ended = stop.await_end(store, job.run, deadline)
            nap = stop.SHORTEST_NAP
            if (
                ended is not None
                and ended.ended_ns is None
                and not wakeup.has_worker(state, job.name)
            ):
                job = store.find_job(job.id or 0) or job
                if job.run_id == ended.id and job.ended_ns is None:
                    say(f"{what}: lost, nobody saw its end; to go on: singlerun reap")
                    return 125
        time.sleep(nap)  # no process tells when its turn comes
        nap = min(2 * nap, stop.LONGEST_NAP)
        job = store.find_job(job.id or 0) or job
    if job.state in {CANCELLED, JOB_LOST}:
        say(f"{what}: {job.state}: {job.detail}")
        return 125
    return 0 if job.run is None else stop.exit_status_of(job.run)
