"""``singlerun logs``: what a command wrote, if that was kept."""

import os
import select
import sys
import time

import click

from singlerun.commands import common
from singlerun.errors import RecordError
from singlerun.output import segments
from singlerun.paths import StateDir
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.store.sqlite_queue import SqliteQueue

POLL = 0.1
"""Seconds between two looks at what has come."""
MANY = 100
"""Runs of a name that are looked at first; then ten times as many, and so on."""


@click.command(
    cls=common.Command,
    short_help="Print the kept output of a run.",
    epilog="Example: singlerun logs -f sync",
)
@click.argument("name", type=common.NAME, metavar="NAME|ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the command has ended.")
@common.dir_option
@click.pass_context
def command(ctx: click.Context, name: bytes, *, follow: bool, directory: bytes | None) -> int:
    """Print what the command of a run wrote, as it was kept by --log or for a job in a queue: of
    the run or job with this number, or of the latest run of that NAME that has any.

    What it wrote to standard error goes there. Exits with 1 if there is nothing kept.
    """
    state = common.open_state(ctx, directory)
    while True:
        reader = None if state is None else _reader(name, state)
        if reader is not None or not follow or not _will_come(name, state):
            break
        time.sleep(POLL)
    if reader is None:
        hint = "it has not ended yet; to await it: singlerun logs -f"
        if not _will_come(name, state):
            hint = "to keep it: singlerun --log COMMAND"
        say(f"no output of {shown(name)} is kept; {hint}")
        return 1
    try:
        last = b"\n"
        while True:
            over = reader.is_over()
            for stream, data, missing in reader.read():
                if missing:
                    _mark(missing, last)
                _write(stream, data)
                last = data[-1:].tobytes()
            if over or not follow:
                return 0
            if _nobody_reads():
                return 141
            time.sleep(POLL)
    except BrokenPipeError:
        return 141


def _reader(name: bytes, state: StateDir) -> segments.Reader | None:
    """Find the kept output; a number is a run's if there is such a run."""
    store = common.open_store(state)
    try:
        return None if store is None else _of_run(name, state, store)
    except RecordError as error:
        # What was kept can be read without the record, if its number is known.
        say(str(error))
        return segments.reader(state, int(name)) if common.is_number(name) else None
    finally:
        if store is not None:
            common.tell_notices(store)


def _will_come(name: bytes, state: StateDir | None) -> bool:
    """Tell whether it is a job that has not ended yet, nor written anything."""
    store = common.open_store(state)
    return store is not None and common.pending_job(store, name) is not None


def _of_run(name: bytes, state: StateDir, store: SqliteQueue) -> segments.Reader | None:
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


def _mark(missing: int, last: bytes) -> None:
    """Mark a cut, on a line of its own also where both streams are one."""
    if None not in {sys.stdout, sys.stderr} and os.path.sameopenfile(1, 2) and last != b"\n":
        _write(2, memoryview(b"\n"))
    say(segments.left_out(missing))


def _write(stream: int, data: memoryview) -> None:
    """Write to one of our streams as it is, unless that was closed."""
    if (sys.stdout if stream == 1 else sys.stderr) is None:
        return
    while data:
        try:
            data = data[os.write(stream, data) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(stream, select.POLLOUT)
            poll.poll()


def _nobody_reads() -> bool:
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
