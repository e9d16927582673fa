"""``singlerun reap``: close what dead owners left open."""

import os

import click

from singlerun import config, notify
from singlerun import paths as locations
from singlerun.commands import common
from singlerun.errors import ClaimError
from singlerun.event import Event
from singlerun.lock import claims
from singlerun.lock.line import Line, Lines
from singlerun.notify import spool
from singlerun.notify import wakeup as sender
from singlerun.output import segments
from singlerun.ownership import reaper
from singlerun.paths import StateDir
from singlerun.process.identity import ALIVE
from singlerun.queue import wakeup
from singlerun.render.reaped import BrokenClaim, Reaped
from singlerun.render.refusal import holder
from singlerun.render.text import shown
from singlerun.store.run import LOST
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import KILL_AFTER


@common.subcommand("Close what dead owners left open.", example="@reboot singlerun reap")
@click.argument("names", nargs=-1, type=common.NAME, metavar="[NAME]...")
@click.option("--dry-run", is_flag=True, help="Only print what would be done.")
@click.option("--kill-orphans", is_flag=True,
              help=f"Kill orphans: SIGTERM, {KILL_AFTER:.0f} seconds later SIGKILL.")  # fmt: skip
@click.option(
    "--break-lock", type=common.CLAIM, metavar="CLAIM",
    help="Break this claim on a lock file; make sure that its owner is dead.",
)  # fmt: skip
@click.option("--lock-file", type=common.LOCK_FILE, metavar="PATH",
              help="Include the claims on this lock file.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print only what could not be closed.")
@common.json_option
def command(
    ctx: click.Context, names: tuple[bytes, ...], *, dry_run: bool, kill_orphans: bool,
    break_lock: str | None, lock_file: bytes | None, quiet: bool,
) -> Reaped | BrokenClaim:  # fmt: skip
    """Close the records of runs whose processes are gone, and start workers for queues that have
    none; print a line for each.

    An orphan, whose command is alive, is only reported, unless --kill-orphans is given. So is a
    claim on a lock file whose owner cannot be checked from here, such as one on another host. Exits
    with 0 even if there is nothing to do, so it is fit for a crontab.
    """
    state, store = common.open_record(ctx)
    paths = [] if lock_file is None else [lock_file]
    if state is not None:
        paths += [state.soft_path(name) for name in names] or claims.of_directory(state.locks)
    if break_lock is not None:
        return _break(paths, break_lock, dry_run=dry_run)
    found: list[reaper.Reaped] = []
    resumed: list[bytes] = []
    if state is not None and store is not None:
        for each in reaper.reap(store, state, names, dry_run=dry_run, kill_orphans=kill_orphans):
            found.append(each)
            if not dry_run:
                _tell(state, each)
        resumed = _ensure_workers(state, store, names, dry_run=dry_run)
    swept = list(claims.sweep(paths, dry_run=dry_run))
    if state is not None and not dry_run:
        _tidy(state)
    notices = common.notices(store)
    return Reaped(found, resumed, swept, dry_run=dry_run, quiet=quiet, errors=notices)


def _ensure_workers(
    state: StateDir, store: SqliteQueue, names: tuple[bytes, ...], *, dry_run: bool
) -> list[bytes]:
    """Make sure that all queues with jobs have a worker; return the names of those that had none.

    A job of a dead worker counts as well: when it has ended, it may be tried again.
    """
    return [
        name
        for name in store.names_with_jobs()
        if (not names or name in names)
        and (store.look(name) is not None or any(r.job_id for r in store.open_runs((name,))))
        and wakeup.ensure(state, name, dry_run=dry_run)
    ]


def _tell(state: StateDir, reaped: reaper.Reaped) -> None:
    """Notify that a run was closed as lost, if the configuration says so."""
    run = reaped.run
    if run.state == LOST and locations.is_configured():
        notify.tell(config.load(state.path), Event("lost", run.names[0], run=run), state)


def _tidy(state: StateDir) -> None:
    """Delete what killed processes could not: tickets, and what was to become kept output."""
    names = os.listdir(state.lines) if os.path.isdir(state.lines) else []
    Lines([Line(os.path.join(state.lines, os.fsencode(name))) for name in names]).sweep()
    segments.sweep(state)
    if spool.waits(state):
        sender.ensure(state)


def _break(paths: list[bytes], digits: str, *, dry_run: bool) -> BrokenClaim:
    """Break one claim, of which these are the first digits."""
    found = claims.with_token(paths, digits)
    if len(found) != 1:
        what = "several claims begin with it" if found else "there is no such claim"
        raise ClaimError(digits, what, "to list claims: singlerun reap --dry-run")
    claim = found[0]
    state, pids = claims.fate(claim)
    if state == ALIVE:
        what = f"{shown(claim.path)} is held by {holder(pids, None, None)}, which is alive"
        raise ClaimError(digits, what, "stop it first")
    if not dry_run:
        claims.break_(claim)
    return BrokenClaim(claim, state, dry_run=dry_run)
