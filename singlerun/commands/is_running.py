"""``singlerun is-running``: whether a name is held, for scripts."""

import click

from singlerun.commands import common
from singlerun.errors import RecordError
from singlerun.ownership import holder
from singlerun.paths import StateDir
from singlerun.process.identity import DEAD, life
from singlerun.render.held import Held, Holder
from singlerun.store.run import Run
from singlerun.store.sqlite import SqliteStore


@click.command(
    "is-running",
    cls=common.Command,
    short_help="Test whether a name is held.",
    epilog="Example: singlerun is-running sync && echo wait",
)
@click.argument("name", required=False, type=common.NAME)
@click.option(
    "--lock-file", type=common.LOCK_FILE, metavar="PATH", help="Ask about this file instead."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; only set the exit status.")
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context,
    name: bytes | None,
    lock_file: bytes | None,
    *,
    quiet: bool,
    as_json: bool,  # noqa: ARG001 - common.Command reads it
    directory: bytes | None,
) -> Held:
    """Exit 0 and print the holder if NAME is held, else exit 1. Asks the lock, not the run-log."""
    if (name is None) == (lock_file is None):
        raise click.UsageError("give a NAME, or a file with --lock-file")
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    errors = []
    try:
        found = _holders(name, lock_file, state, store)
    except RecordError as error:  # the lock is the truth, the record only adds to it
        errors.append(str(error))
        found = _holders(name, lock_file, state, None)
    errors += common.notices(store)
    return Held(
        name or lock_file or b"",
        [_described(run, pids, _paths(name, lock_file, state)) for run, pids in found],
        common.judged(store, [run for run, _ in found if run is not None]),
        quiet=quiet,
        errors=errors,
    )


def _holders(
    name: bytes | None, lock_file: bytes | None, state: StateDir | None, store: SqliteStore | None
) -> list[tuple[Run | None, list[int]]]:
    if lock_file is not None:
        return holder.of_file(lock_file, store)
    if name is None or state is None:
        return []
    return holder.of_name(name, state, store)


def _paths(name: bytes | None, lock_file: bytes | None, state: StateDir | None) -> list[bytes]:
    if lock_file is not None:
        return [lock_file]
    return [] if name is None or state is None else [state.soft_path(name)]


def _described(run: Run | None, pids: list[int], paths: list[bytes]) -> Holder:
    return Holder(
        run,
        pids,
        is_orphan=run is not None and life(run.wrapper) == DEAD,
        claim=None if pids else holder.unseen(paths),
    )
