"""What the subcommands that look at the record have in common."""

import os
from collections.abc import Callable
from typing import Any

import click

from singlerun import duration
from singlerun.errors import SinglerunError, UsageError
from singlerun.options import read_claim, read_count, read_lock_file, read_name, read_path
from singlerun.ownership import holder, reaper
from singlerun.paths import StateDir, state_path
from singlerun.queue import wakeup
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.store.base import Run
from singlerun.store.queue import PAUSED, PENDING, Job
from singlerun.store.queue import RUNNING as JOB_RUNNING
from singlerun.store.sqlite import FILE, SqliteStore
from singlerun.store.sqlite_queue import SqliteQueue


class Read(click.ParamType):  # type: ignore[type-arg]  # older Clicks have no argument
    """A value that is read as the run options' values are."""

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


def dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --dir to a subcommand."""
    return click.option(
        "--dir", "directory", type=DIRECTORY, metavar="DIR", help="The state directory."
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json to a subcommand."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def open_state(ctx: click.Context, directory: bytes | None) -> StateDir | None:
    """Open the state directory; None if nothing has run there yet.

    Raises:
        StateDirError: it can't be trusted or read.
    """
    try:
        return StateDir(state_path(directory or ctx.obj), create=False)
    except FileNotFoundError:
        return None


def open_store(state: StateDir | None) -> SqliteQueue | None:
    """Open the run-log and the queues; None if there are none."""
    if state is None or not os.path.lexists(os.path.join(state.path, FILE)):
        return None
    return SqliteQueue(state)


def find_run(store: SqliteQueue, target: bytes) -> Run | None:
    """Give the run of that id, or the latest of the job; None if the target is a name."""
    if not is_number(target):
        return None
    run = store.find(int(target))
    if run is None and (job := store.find_job(int(target))) is not None:
        run = job.run
    return run


def pending_job(store: SqliteQueue, target: bytes) -> Job | None:
    """Give the job of that id if it has not ended yet; None if there is none."""
    job = store.find_job(int(target)) if is_number(target) else None
    return job if job is not None and job.ended_ns is None else None


def is_number(target: bytes) -> bool:
    """Tell whether a target may be an id."""
    return target.isdigit() and len(target) < 19


def running(store: SqliteStore, state: StateDir, name: bytes) -> list[Run]:
    """Give the runs that hold a name, orphans too; oldest first."""
    return [
        run
        for run in store.open_runs()
        if name in run.names and holder.is_holding(run, holder.hold_of(run, state).paths)
    ]


def tell_notices(store: SqliteStore) -> None:
    """Tell what the store has to tell, on standard error."""
    for notice in store.notices:
        say(notice)
    store.notices.clear()


def judged(store: SqliteStore | None, runs: list[Run]) -> list[tuple[Run, str, list[int]]]:
    """Give runs with their states as they are shown, and the PIDs that prove them."""
    return [] if store is None else [reaper.look_at(store, run) for run in runs]


def mark_paused(queue: SqliteQueue, jobs: list[Job]) -> None:
    """Let jobs show as paused that are pending under a name which is."""
    pauses = {name: queue.pause_of((name,)) for name in {job.name for job in jobs}}
    for job in jobs:
        pause = pauses[job.name]
        if pause is not None and job.state in PENDING:
            job.state = PAUSED
            job.paused_until_ns = pause.until_ns


def kick_if_pending(state: StateDir, queue: SqliteQueue, name: bytes) -> None:
    """See to it that somebody works off a queue, if there is something in it."""
    if name in queue.names_with_jobs():
        wakeup.ensure(state, name)


def kick_queue_of(state: StateDir | None, queue: SqliteQueue, number: int) -> None:
    """See to it that somebody works off the queue of a job."""
    job = queue.find_job(number)
    if job is not None and state is not None:
        wakeup.ensure(state, job.name)


def kick_followers(state: StateDir | None, queue: SqliteQueue | None) -> None:
    """See to it that somebody looks after jobs that were to follow one."""
    if state is not None and queue is not None:
        for name in queue.names_of_followers():
            wakeup.ensure(state, name)


def unfit(queue: SqliteQueue | None, number: int, what: str) -> str:
    """Say why something can't be done to a job."""
    job = None if queue is None else queue.find_job(number)
    if job is None:
        return f"there is no job {number}; see: singlerun queue --all"
    hint = f"; to end it: singlerun stop {number}" if job.state == JOB_RUNNING else ""
    return f"job {number} of {shown(job.name)} is {job.state}, so it can't {what}{hint}"


class Command(click.Command):
    """A subcommand: its own failures are one line and exit status 125."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        settings = options.setdefault("context_settings", {})
        settings["help_option_names"] = ["-h", "--help"]
        super().__init__(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Call it, and turn a failure into its exit status."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            say(f"{error.args[0]}; see: {ctx.command_path} --help")
            return error.exit_status
        except SinglerunError as error:
            say(str(error))
            return error.exit_status
