"""``singlerun is-running``: for scripts and buttons."""

import sys

import click

from singlerun.commands import common
from singlerun.errors import RecordError
from singlerun.ownership import holder
from singlerun.paths import StateDir
from singlerun.process.identity import DEAD, life
from singlerun.render import json, runs
from singlerun.render.line import say
from singlerun.render.refusal import holder as shown_holder
from singlerun.render.refusal import unseen as shown_unseen
from singlerun.render.text import shown
from singlerun.store.base import Run
from singlerun.store.sqlite import SqliteStore


@click.command(
    "is-running",
    cls=common.Command,
    short_help="Tell by the exit status who holds a name.",
    epilog="Example: singlerun is-running sync && echo wait",
)
@click.argument("name", required=False, type=common.NAME)
@click.option("--lock-file", type=common.LOCK_FILE, metavar="PATH", help="Ask for a locked file.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing, only tell by the exit status.")
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context,
    name: bytes | None,
    lock_file: bytes | None,
    *,
    quiet: bool,
    as_json: bool,
    directory: bytes | None,
) -> int:
    """Exit 0 and print the holder if NAME is held, else exit 1. Asks the lock, not the run-log."""
    if (name is None) == (lock_file is None):
        raise click.UsageError("give a NAME, or a file with --lock-file")
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    try:
        held = _holders(name, lock_file, state, store)
    except RecordError as error:  # the lock is the truth, the record only knows more about it
        say(str(error))
        held = _holders(name, lock_file, state, None)
    if store is not None:
        common.tell_notices(store)
    judged = common.judged(store, [run for run, _ in held if run is not None])
    if as_json:
        json.show(
            ((run, state) for run, state, _ in judged),
            held=bool(held),
            pids=[pid for _, pids in held for pid in pids],
        )
    elif quiet:
        pass
    elif judged and sys.stdout.isatty():
        runs.show_open(judged, {})
    else:
        what = shown(name or lock_file or b"")
        for run, pids in held:
            orphan = ", an orphan" if run is not None and life(run.wrapper) == DEAD else ""
            by = shown_holder(pids, run, None)
            if not pids and (claim := holder.unseen(_paths(name, lock_file, state))) is not None:
                by = shown_unseen(claim)
            click.echo(f"{what} is held by {by}{orphan}")
    return 0 if held else 1


def _paths(name: bytes | None, lock_file: bytes | None, state: StateDir | None) -> list[bytes]:
    if lock_file is not None:
        return [lock_file]
    return [] if name is None or state is None else [state.soft_path(name)]


def _holders(
    name: bytes | None, lock_file: bytes | None, state: StateDir | None, store: SqliteStore | None
) -> list[tuple[Run | None, list[int]]]:
    if lock_file is not None:
        return holder.of_file(lock_file, store)
    if name is None or state is None:
        return []
    return holder.of_name(name, state, store)
