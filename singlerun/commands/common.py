"""What the subcommands share: their parameters, the record they look at, and their failures."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from singlerun import duration
from singlerun.errors import SinglerunError, UsageError
from singlerun.options import read_claim, read_count, read_lock_file, read_name, read_path
from singlerun.ownership import holder, judge
from singlerun.paths import StateDir, state_path
from singlerun.queue import wakeup
from singlerun.render.result import Result, show
from singlerun.render.text import shown
from singlerun.store.queue import PAUSED, PENDING, Job
from singlerun.store.queue import RUNNING as JOB_RUNNING
from singlerun.store.run import Run
from singlerun.store.sqlite import FILE, SqliteStore
from singlerun.store.sqlite_queue import SqliteQueue

Results = Result | Iterable[Result]
REDRAW = 1.0
"""Seconds between two looks with --watch."""


class Command(click.Command):
    """A subcommand: it returns results, and its own failures are one line and exit status 125."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        settings = options.setdefault("context_settings", {})
        settings["help_option_names"] = ["-h", "--help"]
        super().__init__(*arguments, **options)

    def invoke(self, ctx: click.Context) -> int:
        """Call it, show its results, and return the exit status."""
        try:
            return show(super().invoke(ctx), as_json=ctx.params.get("as_json", False))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        except UsageError as error:
            message, status = f"{error.args[0]}; see: {ctx.command_path} --help", error.exit_status
        except SinglerunError as error:
            message, status = str(error), error.exit_status
        return show(Result(errors=[message], status=status))


# -- parameters -------------------------------------------------------------------------------


class Read(click.ParamType):  # type: ignore[type-arg]  # older Clicks have no argument
    """A value that is read like the values of the run options."""

    def __init__(self, name: str, read: Callable[[str], object]) -> None:
        self.name = name
        self._read = read

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        try:
            return self._read(value) if isinstance(value, str) else value
        except UsageError as error:
            self.fail(str(error.args[0]), param, ctx)


NAME = Read("NAME", read_name)
TARGET = Read("NAME|ID", read_name)
COUNT = Read("N", read_count)
DURATION = Read("DURATION", duration.parse)
LOCK_FILE = Read("PATH", read_lock_file)
CLAIM = Read("CLAIM", read_claim)
DIRECTORY = Read("DIR", read_path)

dir_option = click.option(
    "--dir", "directory", type=DIRECTORY, metavar="DIR", help="State directory."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
watch_option = click.option("--watch", is_flag=True, help="Repeat every second until Ctrl-C.")


def watched(look: Callable[[], Result], *, watch: bool, as_json: bool) -> Results:
    """Return what is seen, or with ``watch`` yield it again and again."""
    if watch and as_json:
        raise click.UsageError("--watch and --json cannot be combined")
    return _again_and_again(look) if watch else look()


def _again_and_again(look: Callable[[], Result]) -> Iterator[Result]:
    while True:
        result = look()
        result.redraws = True
        yield result
        time.sleep(REDRAW)


# -- the record -------------------------------------------------------------------------------


def open_state(ctx: click.Context, directory: bytes | None) -> StateDir | None:
    """Open the state directory; return None if nothing has run there yet.

    Raises:
        StateDirError: it is not trusted or cannot be read.
    """
    try:
        return StateDir(state_path(directory or ctx.obj), create=False)
    except FileNotFoundError:
        return None


def make_state(ctx: click.Context, directory: bytes | None) -> StateDir:
    """Open the state directory, making it if need be.

    Raises:
        StateDirError: it is not trusted or cannot be made.
    """
    return StateDir(state_path(directory or ctx.obj))


def open_store(state: StateDir | None) -> SqliteQueue | None:
    """Open the run-log and the queues; return None if there are none."""
    if state is None or not os.path.lexists(os.path.join(state.path, FILE)):
        return None
    return SqliteQueue(state)


def notices(store: SqliteStore | None) -> list[str]:
    """Return the warnings of a store that were not returned before."""
    if store is None:
        return []
    found = list(store.notices)
    store.notices.clear()
    return found


# -- runs -------------------------------------------------------------------------------------


def is_number(target: bytes) -> bool:
    """Return whether a target may be an id."""
    return target.isdigit() and len(target) < 19


def find_run(store: SqliteQueue, target: bytes) -> Run | None:
    """Return the run with this id, or the latest of the job with it; None for a name."""
    if not is_number(target):
        return None
    run = store.find(int(target))
    if run is None and (job := store.find_job(int(target))) is not None:
        run = job.run
    return run


def running(store: SqliteStore, state: StateDir, name: bytes) -> list[Run]:
    """Return the runs that hold a name, orphans included, oldest first."""
    return [
        run
        for run in store.open_runs()
        if name in run.names and judge.is_holding(run, holder.locks_of(run, state).paths)
    ]


def judged(store: SqliteStore | None, runs: list[Run]) -> list[tuple[Run, str, list[int]]]:
    """Return runs with the state to show for each, and the PIDs that prove it."""
    if store is None:
        return []
    return [(seen.run, seen.state, seen.pids) for seen in judge.look_at(store, runs)]


# -- jobs -------------------------------------------------------------------------------------


def pending_job(store: SqliteQueue | None, target: bytes) -> Job | None:
    """Return the job with this id, unless it has ended."""
    if store is None or not is_number(target):
        return None
    job = store.find_job(int(target))
    return job if job is not None and job.ended_ns is None else None


def mark_paused(queue: SqliteQueue, jobs: list[Job]) -> None:
    """Set the state of jobs that are pending under a paused name."""
    pauses = {name: queue.pause_of((name,)) for name in {job.name for job in jobs}}
    for job in jobs:
        pause = pauses[job.name]
        if pause is not None and job.state in PENDING:
            job.state = PAUSED
            job.paused_until_ns = pause.until_ns


def refused(queue: SqliteQueue | None, number: int, what: str) -> Result:
    """Return that something cannot be done to a job, and why."""
    job = None if queue is None else queue.find_job(number)
    message = f"there is no job {number}; see: singlerun queue --all"
    if job is not None:
        hint = f"; to stop it: singlerun stop {number}" if job.state == JOB_RUNNING else ""
        message = f"cannot {what} job {number} of {shown(job.name)}: its state is {job.state}{hint}"
    return Result(errors=[message], status=1)


def ensure_worker_if_pending(state: StateDir, queue: SqliteQueue, name: bytes) -> None:
    """Make sure that a queue has a worker if there is a job in it."""
    if name in queue.names_with_jobs():
        wakeup.ensure(state, name)


def ensure_workers(state: StateDir | None, names: Iterable[bytes]) -> None:
    """Make sure that the queues of these names have a worker."""
    if state is not None:
        for name in sorted(names):
            wakeup.ensure(state, name)
