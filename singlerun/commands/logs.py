"""``singlerun logs``: the kept output of a command."""

import time
from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.errors import RecordError
from singlerun.output import segments
from singlerun.paths import StateDir
from singlerun.render.output import Chunk
from singlerun.render.result import Result
from singlerun.render.text import shown
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import LOG_POLL

MANY = 100
"""Runs of a name that are looked at first; then ten times as many, and so on."""


@common.subcommand("Print the kept output of a run.", example="singlerun logs -f sync")
@click.argument("name", type=common.NAME, metavar="NAME|ID")
@click.option("-f", "--follow", is_flag=True, help="Print more as it comes until the command ends.")
def command(ctx: click.Context, name: bytes, *, follow: bool) -> Iterator[Result]:
    """Print the kept output of the run or job ID, or of the latest run of NAME that has any.

    Output is kept with --log, and of jobs in a queue. Standard error goes to standard error. Exits
    with 1 if nothing is kept.
    """
    while True:
        state, store = common.open_record(ctx)
        reader, errors = _find(name, state, store)
        yield Result(errors=errors)
        if reader is not None:
            yield from _chunks(reader, follow=follow)
            return
        is_pending = common.is_pending(store, name)
        if not (follow and is_pending):
            break
        time.sleep(LOG_POLL)
    hint = "to keep it: singlerun --log COMMAND"
    if is_pending:
        hint = "it has not ended yet; to wait for it: singlerun logs -f"
    yield Result(errors=[f"no output of {shown(name)} is kept; {hint}"], status=1)


def _chunks(reader: segments.Reader, *, follow: bool) -> Iterator[Chunk]:
    """Yield what is kept, and with ``follow`` what comes until the command has ended."""
    at_line_start = True
    while True:
        over = reader.is_over()
        for stream, data, missing in reader.read():
            gap = segments.left_out(missing) if missing else ""
            yield Chunk(stream, data, gap=gap, at_line_start=at_line_start)
            at_line_start = bytes(data[-1:]) == b"\n"
        if over or not follow:
            return
        yield Chunk()
        time.sleep(LOG_POLL)


def _find(
    name: bytes, state: StateDir | None, store: SqliteQueue | None
) -> tuple[segments.Reader | None, list[str]]:
    """Return the kept output, if there is any, and warnings."""
    if state is None or store is None:
        return None, []
    try:
        return _of_run(name, state, store), common.notices(store)
    except RecordError as error:
        # Kept output can be read without the record if the id is known.
        reader = segments.reader(state, int(name)) if common.is_number(name) else None
        return reader, [str(error), *common.notices(store)]


def _of_run(name: bytes, state: StateDir, store: SqliteQueue) -> segments.Reader | None:
    """Return the kept output of a run; a number is its id if there is such a run."""
    if common.is_number(name) and (run := common.find_run(store, name)) is not None:
        return segments.reader(state, run.id or 0)
    many, seen = MANY, 0
    while True:
        runs = store.runs(name, limit=many)
        for run in runs[seen:]:
            if run.id is not None and (reader := segments.reader(state, run.id)) is not None:
                return reader
        if len(runs) < many:
            return None
        many, seen = many * 10, len(runs)
