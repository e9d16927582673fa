"""``singlerun wait``: wait for the end of a run, and exit with its status."""

import time
from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.ownership import stop
from singlerun.paths import StateDir
from singlerun.process.identity import ALIVE, life
from singlerun.queue import wakeup
from singlerun.render.result import Result
from singlerun.render.text import names, shown
from singlerun.store.queue import CANCELLED, Job
from singlerun.store.queue import LOST as JOB_LOST
from singlerun.store.run import LOST, Run
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import LONGEST_NAP, MOMENT, SHORTEST_NAP

LATEST = 100
"""How far back to look for a run that was started, rather than refused."""


@common.subcommand("Wait for the end of a run.", example="singlerun wait sync && echo done")
@click.argument("target", type=common.TARGET, metavar="NAME|ID")
@click.option("-t", "--timeout", type=common.DURATION, metavar="DURATION",
              help="Wait at most this long, then exit 124.")  # fmt: skip
def command(ctx: click.Context, target: bytes, *, timeout: float | None) -> Iterator[Result]:
    """Wait until the run or job ID, or the holder of NAME, has ended; exit with its exit status.

    If nothing holds NAME, exit with the status of its latest run; if several runs share it, with
    that of the first that failed. Exits with 125 if the end was not recorded, or NAME has no runs.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    state, store = common.open_record(ctx)
    found: list[Run] = []
    if state is not None and store is not None:
        if (job := common.find_job(store, target)) is not None:
            yield _ended_job(await_job(store, state, job, deadline))
            return
        run = common.find_run(store, target)
        found = [run] if run else _runs_of(store, state, target)
        for one in found:
            ended = await_run(store, state, one, deadline, None if run else target)
            result = _ended_run(ended)
            result.errors[:0] = common.notices(store)
            yield result
            if not _is_over(ended):
                return
    if not found:
        message = f"there is no such run: {shown(target)}; see: singlerun history"
        yield Result(errors=[message], status=125)


def _ended_run(run: Run) -> Result:
    what = f"{run.id} {names(run.names)}"
    if not _is_over(run):
        return Result(errors=[f"{what}: still {run.state}"], status=124)
    errors = [f"{what}: lost, its end was not recorded"] if run.state == LOST else []
    return Result(errors=errors, status=stop.exit_status_of(run))


def _ended_job(job: Job) -> Result:
    what = f"job {job.id} of {shown(job.name)}"
    if job.ended_ns is None and job.run is not None and job.run.state == LOST:
        message = f"{what}: lost, its end was not recorded; to carry on: singlerun reap"
        return Result(errors=[message], status=125)
    if job.ended_ns is None:
        return Result(errors=[f"{what}: still {job.state}"], status=124)
    if job.state in {CANCELLED, JOB_LOST}:
        return Result(errors=[f"{what}: {job.state}: {job.detail}"], status=125)
    return Result(status=0 if job.run is None else stop.exit_status_of(job.run))


# -- waiting ----------------------------------------------------------------------------------


def _runs_of(store: SqliteQueue, state: StateDir, name: bytes) -> list[Run]:
    """Return the runs that hold a name, or else its latest run, preferably one that started."""
    latest = store.runs(name, limit=LATEST)
    started = [run for run in latest if run.started_ns is not None] or latest
    return common.running(store, state, name) or started[:1]


def _is_over(run: Run) -> bool:
    return run.ended_ns is not None or run.state == LOST


def await_run(
    store: SqliteQueue, state: StateDir, run: Run, deadline: float | None, name: bytes | None
) -> Run:
    """Wait until a run has ended, and with a ``name`` the tries after it too; return the last one.

    It has no end if the deadline came first, and its state is LOST if its processes are dead.
    """
    while (ended := stop.await_end(store, run, deadline)) is not None:
        again = None if name is None else _next_try(store, state, ended, name)
        if again is None:
            return ended
        run = again
    return run


def _next_try(store: SqliteQueue, state: StateDir, ended: Run, name: bytes) -> Run | None:
    """Return the run that follows under the same hold of a name: another try, if there is one."""
    if ended.ended_ns is None or ended.job_id or life(ended.wrapper) != ALIVE:
        return None
    time.sleep(MOMENT)  # between the record of an end and that of the next try
    for run in common.running(store, state, name):
        if run.wrapper_pid == ended.wrapper_pid and (run.id or 0) > (ended.id or 0):
            return run
    return None


def await_job(store: SqliteQueue, state: StateDir, job: Job, deadline: float | None) -> Job:
    """Wait until a job has ended for good, after all its tries; return it.

    It has no end if the deadline came first, or if its processes and its worker are dead: then the
    state of its run is LOST.
    """
    nap = SHORTEST_NAP
    while job.ended_ns is None:
        if deadline is not None and time.monotonic() > deadline:
            return job
        if job.run is not None and job.run.ended_ns is None:
            ended = stop.await_end(store, job.run, deadline)
            nap = SHORTEST_NAP
            is_lost = ended is not None and ended.ended_ns is None
            if ended is not None and is_lost and not wakeup.has_worker(state, job.name):
                job = store.find_job(job.id or 0) or job
                if job.run_id == ended.id and job.ended_ns is None:
                    job.run = ended
                    return job
        time.sleep(nap)  # no process tells when its turn comes
        nap = min(2 * nap, LONGEST_NAP)
        job = store.find_job(job.id or 0) or job
    return job
