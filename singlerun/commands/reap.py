"""``singlerun reap``: close what dead owners left open."""

import os

import click

from singlerun.commands import common
from singlerun.errors import ClaimError
from singlerun.lock import claims
from singlerun.ownership import reaper
from singlerun.paths import StateDir
from singlerun.process.identity import ALIVE, DEAD
from singlerun.queue import wakeup
from singlerun.render import json
from singlerun.render.refusal import holder as shown_holder
from singlerun.render.refusal import unseen as shown_unseen
from singlerun.render.text import names as shown_names
from singlerun.render.text import shown
from singlerun.store.base import LOST, STOPPED
from singlerun.store.sqlite_queue import SqliteQueue


@click.command(
    cls=common.Command,
    short_help="Close what dead owners left open.",
    epilog="Example: @reboot singlerun reap",
)
@click.argument("names", nargs=-1, type=common.NAME, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option(
    "--kill-orphans", is_flag=True,
    help=f"End what orphans left: TERM, {reaper.GRACE:.0f} seconds later KILL.",
)  # fmt: skip
@click.option(
    "--break-lock",
    type=common.CLAIM,
    metavar="CLAIM",
    help="Break this claim on a lock file, whose owner you know to be dead.",
)
@click.option(
    "--lock-file", type=common.LOCK_FILE, metavar="PATH", help="With the claims on this file."
)
@click.option(
    "-q", "--quiet", is_flag=True, help="Print nothing of what was closed, only of what was not."
)
@common.json_option
@common.dir_option
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[bytes, ...],
    *,
    dry_run: bool,
    kill_orphans: bool,
    break_lock: str | None,
    lock_file: bytes | None,
    quiet: bool,
    as_json: bool,
    directory: bytes | None,
) -> None:
    """Close the records of runs whose processes are gone, and let queues go on that nobody works
    off; prints a line for each.

    An orphan, whose command lives on, is left alone and told of, unless --kill-orphans is given.
    So is a claim on a lock file whose owner can't be judged from here, as one on another host.
    Exits with 0 also when there is nothing to do, so it may stand in a crontab.
    """
    state = common.open_state(ctx, directory)
    store = common.open_store(state)
    paths = [] if lock_file is None else [lock_file]
    if state is not None:
        paths += [state.soft_path(name) for name in names] or claims.of_directory(state.locks)
    if break_lock is not None:
        click.echo(_break(paths, break_lock, dry_run=dry_run))
        return
    if state is None or store is None:
        found, resumed = [], []
    else:
        found = list(reaper.reap(store, state, names, dry_run=dry_run, kill_orphans=kill_orphans))
        common.tell_notices(store)
    resumed = (
        [] if state is None or store is None else _resume(state, store, names, dry_run=dry_run)
    )
    swept = list(claims.sweep(paths, dry_run=dry_run))
    if as_json:
        json.show(
            ((run, what.state) for run, what in found),
            claims=[
                {"path": os.fsdecode(one.claim.path), "claim": one.claim.token, "state": one.state}
                | {"pid": one.claim.pid, "host": one.claim.host}
                for one in swept
            ],
        )
    else:
        for run, what in found:
            if quiet and what.state in {LOST, STOPPED}:
                continue
            click.echo(f"{run.id} {shown_names(run.names)}: {what.message}")
        for name in resumed if not quiet else []:
            click.echo(f"{shown(name)}: its queue {'would go' if dry_run else 'goes'} on")
        for one in swept:
            where = shown(one.claim.path)
            if one.state not in {claims.BROKEN, DEAD}:
                click.echo(f"{where}: held by {shown_unseen(one.claim)}")
            elif not quiet:
                done = "broke" if one.state == claims.BROKEN else "would break"
                click.echo(f"{where}: {done} the claim of PID {one.claim.pid}, which is dead")


def _resume(
    state: StateDir, store: SqliteQueue, names: tuple[bytes, ...], *, dry_run: bool
) -> list[bytes]:
    """See to it that all queues are worked off; give the names of those that were not."""
    return [
        name
        for name in store.names_with_jobs()
        if (not names or name in names)
        and (store.look(name) is not None or _has_orphan(store, name))
        and wakeup.ensure(state, name, dry_run=dry_run)
    ]


def _has_orphan(store: SqliteQueue, name: bytes) -> bool:
    """Tell whether a job of a dead worker runs; when it has ended, it may be tried again."""
    return any(run.job_id is not None for run in store.open_runs((name,)))


def _break(paths: list[bytes], digits: str, *, dry_run: bool) -> str:
    """Break one claim, and say so.

    Raises:
        ClaimError: there is no such claim, or its owner lives.
    """
    found = claims.find(paths, digits)
    if len(found) != 1:
        what = "there are no claims" if not found else "there are several claims"
        raise ClaimError(digits, f"{what} that begin so", "list them: singlerun reap --dry-run")
    claim = found[0]
    state, pids = claims.fate(claim)
    if state == ALIVE:
        by = shown_holder(pids, None, None)
        raise ClaimError(digits, f"{shown(claim.path)} is held by {by}, which lives", "end that")
    if not dry_run:
        claims.break_(claim)
    done = "would break" if dry_run else "broke"
    return f"{shown(claim.path)}: {done} the claim of PID {claim.pid} on {shown(claim.host)}"
