"""What the subcommands share: their form, parameters, failures, and the record they look at."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import click

from singlerun import duration, moment
from singlerun.commands.configured import state_path_of
from singlerun.errors import SinglerunError, UsageError
from singlerun.options import (
    read_claim,
    read_count,
    read_lock_file,
    read_name,
    read_path,
    read_rule,
    read_signal,
)  # fmt: skip
from singlerun.ownership import holder, judge
from singlerun.paths import StateDir
from singlerun.queue import wakeup
from singlerun.render import live
from singlerun.render.plain import UnknownFieldError, read_fields
from singlerun.render.result import Result, show
from singlerun.render.text import quoted, shown
from singlerun.spec import derived_name
from singlerun.store.queue import QUEUED, Job
from singlerun.store.queue import RUNNING as JOB_RUNNING
from singlerun.store.run import Run
from singlerun.store.sqlite import FILE, SqliteStore
from singlerun.store.sqlite_queue import SqliteQueue

SHOWN_AS = f"{__name__}.shown_as"
"""Key of a context's meta: whether a result is shown as JSON, and of which fields only, or None."""
TYPED = "singlerun.typed"
"""Where the context keeps the names that were typed, not derived from a command."""
DAY_NS = 86_400 * 10**9


class Command(click.Command):
    """A subcommand with ``--dir``: returns a result, or yields several; its failures are 125.

    If it takes a NAME, ``-- COMMAND [ARG]...`` stands for the one that the prefix form derives.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["context_settings"]["help_option_names"] = ["-h", "--help"]
        super().__init__(*arguments, **options)
        self.params.append(DIR)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments; after ``--`` a command stands for the name that is derived from it."""
        names = [each for each in self.get_params(ctx) if each.type in {NAME, TARGET}]
        argument = next((each for each in names if isinstance(each, click.Argument)), None)
        if argument is None:
            return super().parse_args(ctx, args)
        before, words = self._split(args)
        if words and words[0].startswith("-"):  # no command begins so, but a name may
            before, words = [*before, "--", *words], []
        derived = [os.fsdecode(derived_name(words))] if words else []
        ctx.allow_extra_args = True
        super().parse_args(ctx, [*before, "--", *derived] if derived else before)
        value = ctx.params[argument.name or ""]
        given = [value] if isinstance(value, bytes) else list(value or ())
        if ctx.args and words:
            ctx.fail("give a NAME, or a command after --, not both")
        if ctx.args:
            typed = [os.fsdecode(name) for name in given] + ctx.args
            example = " ".join(quoted(shown(word)) for word in typed)
            ctx.fail(f"only one NAME is taken; to name a command: {ctx.command_path} -- {example}")
        ctx.meta[TYPED] = given[: len(given) - len(derived)]
        return ctx.args

    def _split(self, args: list[str]) -> tuple[list[str], list[str]]:
        """Split arguments at the first ``--`` that is not the value of an option."""
        options = [each for each in self.params if isinstance(each, click.Option)]
        valued = {flag for each in options if not each.is_flag for flag in each.opts}
        takes_next = False
        for at, word in enumerate(args):
            if takes_next:
                takes_next = False
            elif word == "--":
                return args[:at], args[at + 1 :]
            elif word.startswith("--"):
                takes_next = word in valued
            elif word.startswith("-"):
                letters = [f"-{letter}" in valued for letter in word[1:]]
                takes_next = True in letters and letters.index(True) == len(letters) - 1
        return args, []

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return what the usage line shows after the name of the subcommand."""
        pieces = super().collect_usage_pieces(ctx)
        takes_name = any(
            isinstance(each, click.Argument) and each.type in {NAME, TARGET} for each in self.params
        )
        return [*pieces, "| -- COMMAND [ARG]..."] if takes_name else pieces

    def invoke(self, ctx: click.Context) -> int:
        """Call it, show its results, and return the exit status."""
        as_json = ctx.params.pop("as_json", False)
        fields = ctx.params.pop("fields", None)
        watch = ctx.params.pop("watch", False)
        given = {"--watch": watch, "--json": as_json, "--format": fields}
        if len(both := [option for option, value in given.items() if value]) > 1:
            raise click.UsageError(f"{both[0]} and {both[1]} cannot be combined", ctx)
        ctx.meta[SHOWN_AS] = as_json, fields
        try:
            if not ctx.params.get("quiet"):
                show(Result(errors=_only_commands(ctx)))
            look = partial(super().invoke, ctx)
            if watch:
                return live.watch(look)
            return show(look(), as_json=as_json, fields=fields)
        except UnknownFieldError as error:
            raise click.UsageError(str(error), ctx) from None
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        except SinglerunError as error:
            is_usage = isinstance(error, UsageError)
            message = f"{error.args[0]}; see: {ctx.command_path} --help" if is_usage else str(error)
            return show(self.failed(message, error.exit_status))

    def failed(self, message: str, status: int) -> Result:
        """Return what is shown when it fails, and the exit status."""
        return Result(errors=[message], status=status)


def subcommand(
    short_help: str, *, example: str, interspersed: bool = True, cls: type[Command] = Command
) -> Callable[[Callable[..., Result | Iterable[Result]]], Command]:
    """Return the decorator of a subcommand, which gets Click's context first."""
    return lambda function: click.command(
        cls=cls, short_help=short_help, epilog=f"Example: {example}",
        context_settings={"allow_interspersed_args": interspersed},
    )(click.pass_context(function))  # fmt: skip


def _only_commands(ctx: click.Context) -> list[str]:
    """Return what to say of names that were typed and can only be commands: programs of no run."""
    typed = ctx.meta.get(TYPED, ())
    paths = [name for name in typed if b"/" in name and _is_program(name)]
    if not paths:
        return []
    _, store = open_record(ctx)
    return [
        f"no run is named {shown(path)}; to name that command: {ctx.command_path} -- {shown(path)}"
        for path in paths
        if store is None or not (store.runs(path, limit=1) or store.totals(path)[QUEUED])
    ]


def _is_program(path: bytes) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


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
MOMENT = Read("TIME", moment.parse)
"""Nanoseconds since the epoch."""
LOCK_FILE = Read("PATH", read_lock_file)
OUTPUT = Read("FILE", os.fsencode)
"""A path to write to; ``-`` is standard output."""
CLAIM = Read("CLAIM", read_claim)
SIGNAL = Read("SIG", read_signal)
RULE = Read("WHEN:URL", read_rule)


def states_of(known: Sequence[str]) -> Read:
    """Return the type of an option that takes states, separated by commas."""

    def read(text: str) -> tuple[str, ...]:
        states = tuple(state.strip() for state in text.split(","))
        for state in states:
            if state not in known:
                raise UsageError(f"there is no state {state!r}; there are: {', '.join(known)}")
        return states

    return Read("STATE", read)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
since_option = click.option(
    "--since", type=MOMENT, metavar="TIME",
    help="From then on: 2h (ago), yesterday, 14:00, 2026-11-25, 2026-11-25T14:00.",
)  # fmt: skip
until_option = click.option("--until", type=MOMENT, metavar="TIME", help="Before that time.")
format_option = click.option(
    "--format", "fields", type=Read("FIELDS", read_fields), metavar="FIELDS",
    help="Print these fields only, such as id,name,state, separated by tabs.",
)  # fmt: skip
watch_option = click.option("--watch", is_flag=True, help="Repeat every second until Ctrl-C.")


def _keep_directory(ctx: click.Context, _param: click.Parameter, value: bytes | None) -> None:
    ctx.obj = value or ctx.obj


DIR = click.Option(
    ["--dir", "directory"], type=Read("DIR", read_path), metavar="DIR", help="State directory.",
    expose_value=False, callback=_keep_directory,
)  # fmt: skip
"""Becomes the context's object."""


def period(since: int | None, until: int | None, default_days: int) -> tuple[int, int]:
    """Return the ends of a period; without a ``since`` it is so many days long."""
    end = time.time_ns() if until is None else until
    begin = end - default_days * DAY_NS if since is None else since
    if begin >= end:
        raise click.UsageError(
            "the period is empty: --since must be before --until, and before now"
        )
    return begin, end


# -- the record -------------------------------------------------------------------------------


@cache  # --watch opens them once
def _state(path: bytes) -> StateDir:
    return StateDir(path, create=False)


@cache
def _store(state: StateDir) -> SqliteQueue:
    return SqliteQueue(state)


def open_record(ctx: click.Context) -> tuple[StateDir | None, SqliteQueue | None]:
    """Open the state directory, and the run-log and queues in it; None stands for what is missing.

    Raises StateDirError if the directory is not trusted or cannot be read.
    """
    try:
        state = _state(state_path_of(ctx))
    except FileNotFoundError:
        return None, None
    return state, _store(state) if os.path.lexists(os.path.join(state.path, FILE)) else None


def make_state(ctx: click.Context) -> StateDir:
    """Open the state directory, making it if need be; or raise StateDirError."""
    return StateDir(state_path_of(ctx))


def notices(store: SqliteStore | None) -> list[str]:
    """Return the warnings of a store that were not returned before."""
    if store is None:
        return []
    found, store.notices[:] = store.notices[:], []
    return found


# -- runs -------------------------------------------------------------------------------------


def is_number(target: bytes) -> bool:
    """Return whether a target may be an id."""
    return target.isdigit() and len(target) < 19


def find_run(store: SqliteQueue, target: bytes) -> Run | None:
    """Return the run with this id, or the latest of the job with it; None for a name."""
    run = store.find(int(target)) if is_number(target) else None
    job = None if run else find_job(store, target)
    return job.run if job else run


def running(store: SqliteStore, state: StateDir, name: bytes) -> list[Run]:
    """Return the runs that hold a name, orphans included, oldest first."""
    return [
        run
        for run in store.open_runs()
        if name in run.names and judge.is_holding(run, holder.locks_of(run, state).paths)
    ]


# -- jobs -------------------------------------------------------------------------------------


def find_job(store: SqliteQueue | None, target: bytes) -> Job | None:
    """Return the job with this id."""
    return store.find_job(int(target)) if store and is_number(target) else None


def is_pending(store: SqliteQueue | None, target: bytes) -> bool:
    """Return whether there is a job with this id that has not ended."""
    job = find_job(store, target)
    return job is not None and job.ended_ns is None


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
