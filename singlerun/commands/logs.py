"""``singlerun logs``: the kept output of a command."""

import time
from collections.abc import Iterator

import click

from singlerun.commands import common
from singlerun.errors import RecordError, SinglerunError
from singlerun.output import kept, segments
from singlerun.output.excerpt import Excerpt
from singlerun.ownership import judge
from singlerun.paths import StateDir
from singlerun.render.kept import KeptOutput
from singlerun.render.output import Chunk, Heading, Stamps
from singlerun.render.result import Result
from singlerun.render.text import shown
from singlerun.store.history import FAILURES, Filter
from singlerun.store.run import Run
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import LOG_POLL

MANY = 100
"""Runs of a name that are looked at first; then ten times as many, and so on."""
LIMIT = 50


@common.subcommand("Print the kept output of a run.", example="singlerun logs -f sync")
@click.argument("name", required=False, type=common.NAME, metavar="NAME|ID")
@click.option("-f", "--follow", is_flag=True, help="Print more as it comes until the command ends.")
@click.option("--tail", type=common.COUNT, metavar="N", help="Only the last N lines.")
@click.option("--since", type=common.MOMENT, metavar="TIME",
              help="Only what was written from then on: 2h (ago), yesterday, 14:00.")  # fmt: skip
@click.option("-t", "--timestamps", is_flag=True, help="Print before each line when it was begun.")
@click.option("--all-failed", is_flag=True, help="Print that of all failed runs of NAME.")
@click.option("--list", "lists", is_flag=True, help="List what is kept, newest first.")
@click.option("--limit", type=click.IntRange(1), metavar="N",
              help=f"List at most N; default: {LIMIT}.")  # fmt: skip
@common.json_option
def command(
    ctx: click.Context, name: bytes | None, *, follow: bool, tail: int | None, since: int | None,
    timestamps: bool, all_failed: bool, lists: bool, limit: int | None,
) -> Iterator[Result]:  # fmt: skip
    """Print the kept output of the run or job ID, or of the latest run of NAME that has any.

    Output is kept with --log, and of jobs in a queue. Standard error goes to standard error. Exits
    with 1 if nothing is kept.
    """
    reading = {"--follow": follow, "--tail": tail is not None, "--timestamps": timestamps}
    _check(ctx, name, reading | {"--all-failed": all_failed}, lists=lists, limit=limit)
    if lists:
        return iter([_list(ctx, name, since, limit or LIMIT)])
    assert name is not None
    view = _View(follow=follow, tail=tail, since_ns=since, timestamps=timestamps)
    return _of_failed(ctx, name, view) if all_failed else _of_one(ctx, name, view)


def _check(
    ctx: click.Context, name: bytes | None, reading: dict[str, bool], *, lists: bool,
    limit: int | None,
) -> None:  # fmt: skip
    """Check that options can be combined."""
    given = [option for option, is_given in reading.items() if is_given]
    as_json, _ = ctx.meta[common.SHOWN_AS]
    if lists and given:
        raise click.UsageError(f"--list and {given[0]} cannot be combined")
    if not lists and (as_json or limit is not None):
        raise click.UsageError(f"{'--json' if as_json else '--limit'} needs --list")
    if not lists and name is None:
        raise click.UsageError("name a run: a NAME or an ID; to see what there is: --list")
    if reading["--all-failed"] and reading["--follow"]:
        raise click.UsageError("--all-failed and --follow cannot be combined")


# -- what is kept of one run --------------------------------------------------------------------


class _View:
    """What is to be seen of kept output, and how."""

    def __init__(
        self, *, follow: bool, tail: int | None, since_ns: int | None, timestamps: bool
    ) -> None:
        self.follow, self._tail, self._since_ns = follow, tail, since_ns
        self._timestamps = timestamps

    def chunks(self, run_id: int, reader: segments.Reader) -> Iterator[Result]:
        """Yield what is kept, and when following what comes until the command has ended."""
        excerpt = Excerpt(reader, since_ns=self._since_ns, tail=self._tail)
        stamps = Stamps() if self._timestamps else None
        at_line_start, is_told = True, not (self._timestamps or self._since_ns)
        while True:
            over = reader.is_over()
            for piece in excerpt.read():
                if excerpt.is_timeless and not is_told:
                    is_told = True
                    yield Result(errors=[f"the output of run {run_id} was kept without times"])
                gap = segments.left_out(piece.missing) if piece.missing else ""
                data = piece.data
                if stamps is not None:
                    data = memoryview(stamps.add(piece.stream, data, piece.at_ns))
                yield Chunk(piece.stream, data, gap=gap, at_line_start=at_line_start)
                at_line_start = bytes(data[-1:]) == b"\n"
            if over or not self.follow:
                return
            yield Chunk()
            time.sleep(LOG_POLL)


def _of_one(ctx: click.Context, name: bytes, view: _View) -> Iterator[Result]:
    while True:
        state, store = common.open_record(ctx)
        found, errors = _find(name, state, store)
        yield Result(errors=errors)
        if found is not None:
            yield from view.chunks(*found)
            return
        is_pending = common.is_pending(store, name)
        if not (view.follow and is_pending):
            break
        time.sleep(LOG_POLL)
    hint = "to keep it: singlerun --log COMMAND"
    if is_pending:
        hint = "it has not ended yet; to wait for it: singlerun logs -f"
    yield Result(errors=[f"no output of {shown(name)} is kept; {hint}"], status=1)


def _find(
    name: bytes, state: StateDir | None, store: SqliteQueue | None
) -> tuple[tuple[int, segments.Reader] | None, list[str]]:
    """Return a run and its kept output, if there is any, and warnings."""
    if state is None or store is None:
        return None, []
    try:
        return _of_run(name, state, store), common.notices(store)
    except RecordError as error:
        # Kept output can be read without the record if the id is known.
        reader = segments.reader(state, int(name)) if common.is_number(name) else None
        found = None if reader is None else (int(name), reader)
        return found, [str(error), *common.notices(store)]


def _of_run(
    name: bytes, state: StateDir, store: SqliteQueue
) -> tuple[int, segments.Reader] | None:  # fmt: skip
    """Return a run and its kept output; a number is its id if there is such a run."""
    if common.is_number(name) and (run := common.find_run(store, name)) is not None:
        reader = segments.reader(state, run.id or 0)
        return None if reader is None else (run.id or 0, reader)
    many, seen = MANY, 0
    while True:
        runs = store.runs(name, limit=many)
        for run in runs[seen:]:
            if run.id is not None and (reader := segments.reader(state, run.id)) is not None:
                return run.id, reader
        if len(runs) < many:
            return None
        many, seen = many * 10, len(runs)


# -- of all failed runs -------------------------------------------------------------------------


def _of_failed(ctx: click.Context, name: bytes, view: _View) -> Iterator[Result]:
    """Yield what is kept of the failed runs of a name, oldest first, each with a heading."""
    state, store = common.open_record(ctx)
    count = 0
    for run in reversed(_failed(name, state, store)):
        assert state is not None
        reader = segments.reader(state, run.id or 0)
        if reader is None:
            continue
        heading: Heading | None = Heading(run, is_first=not count)
        try:
            for chunk in view.chunks(run.id or 0, reader):
                if heading is not None:
                    yield heading
                    count, heading = count + 1, None
                yield chunk
        except SinglerunError as error:  # it may be the only one that is damaged
            yield Result(errors=[str(error)], status=error.exit_status)
    yield Result(errors=common.notices(store))
    if not count:
        message = (
            f"no output of failed runs of {shown(name)} is kept; to see all: singlerun logs --list"
        )
        yield Result(errors=[message], status=1)


def _failed(name: bytes, state: StateDir | None, store: SqliteQueue | None) -> list[Run]:
    """Return the failed runs of a name of which output is kept, newest first."""
    if state is None or store is None:
        return []
    ids = set(kept.run_ids(state))
    search = store.search(Filter((name,), states=FAILURES))
    found = []
    while page := search.more(10 * MANY):
        found += [run for run in page if run.id in ids]
    return found


# -- the list -----------------------------------------------------------------------------------


def _list(ctx: click.Context, name: bytes | None, since: int | None, limit: int) -> Result:
    state, store = common.open_record(ctx)
    empty = "No output is kept" + (f" of {shown(name)}." if name is not None else ".")
    empty += " To keep it: singlerun --log COMMAND"
    if state is None:
        return KeptOutput([], empty=empty)
    found: list[tuple[kept.Kept, Run | None]] = []
    for run_id, run in _runs(name, state, store):
        measured = kept.measure(state, run_id)
        if measured is not None and (since is None or measured.written_ns >= since):
            found.append((measured, run))
        if len(found) > limit:
            break
    runs = [run for _, run in found[:limit] if run is not None]
    seen = judge.look_at(store, runs) if store is not None else []
    verdicts = {verdict.run.id: verdict for verdict in seen}
    errors = common.notices(store)
    as_json, _ = ctx.meta[common.SHOWN_AS]
    if len(found) > limit and not as_json:  # JSON says it itself
        errors.append(f"older output is not shown; to see more: --limit {10 * limit}")
    pairs = [(measured, verdicts.get(measured.run_id)) for measured, _ in found[:limit]]
    return KeptOutput(pairs, is_cut=len(found) > limit, empty=empty, errors=errors)


def _runs(
    name: bytes | None, state: StateDir, store: SqliteQueue | None
) -> Iterator[tuple[int, Run | None]]:
    """Yield the runs of which output is kept, newest first: of a name, or one with this id."""
    ids = kept.run_ids(state)
    if name is None:
        yield from ((run_id, store.find(run_id) if store else None) for run_id in ids)
        return
    if store is None:
        return
    one = common.find_run(store, name) if common.is_number(name) else None
    if one is not None:
        yield from ((run_id, one) for run_id in ids if run_id == one.id)
        return
    known = set(ids)
    search = store.search(Filter((name,)))
    while page := search.more(MANY):
        yield from ((run.id or 0, run) for run in page if run.id in known)
