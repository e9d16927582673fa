"""``singlerun is-running``: whether a name is held, for scripts."""

import click

from singlerun.commands import common
from singlerun.errors import RecordError
from singlerun.ownership import holder, judge
from singlerun.ownership.outlook import Outlook
from singlerun.render.held import Held
from singlerun.store.run import Run
from singlerun.store.sqlite import SqliteStore


@common.subcommand("Test whether a name is held.", example="singlerun is-running sync && echo wait")
@click.argument("name", required=False, type=common.NAME)
@click.option("--lock-file", type=common.LOCK_FILE, metavar="PATH",
              help="Ask about this file instead.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; only set the exit status.")
@common.json_option
def command(
    ctx: click.Context, name: bytes | None, lock_file: bytes | None, *, quiet: bool
) -> Held:
    """Exit 0 and print the holder if NAME is held, else exit 1. Asks the lock, not the run-log."""
    if (name is None) == (lock_file is None):
        raise click.UsageError("give a NAME, or a file with --lock-file")
    state, store = common.open_record(ctx)
    errors = []

    def holders(store: SqliteStore | None) -> list[tuple[Run | None, list[int]]]:
        if lock_file is not None:
            return holder.of_file(lock_file, store)
        return holder.of_name(name, state, store) if name and state else []

    try:
        found = holders(store)
    except RecordError as error:  # the lock is the truth, the record only adds to it
        errors.append(str(error))
        found = holders(None)
    errors += common.notices(store)
    path = lock_file or (state.soft_path(name) if name and state else None)
    claim = None
    if path and not all(pids for _, pids in found):
        claim = holder.unseen([path])
    runs = [run for run, _ in found if run is not None]
    judged = Outlook(store).look(judge.look_at(store, runs), {}) if store else []
    return Held(name or lock_file or b"", found, claim, judged, quiet=quiet, errors=errors)
