"""``singlerun history``: what ran, how it ended, and why."""

from collections.abc import Iterator
from functools import partial

import click

from singlerun.commands import common
from singlerun.ownership import judge
from singlerun.render.history import History, JsonLines
from singlerun.render.result import Result
from singlerun.render.text import shown
from singlerun.store.history import FAILURES, Filter, Line, Search
from singlerun.store.run import REFUSED, SKIPPED, STATES
from singlerun.store.sqlite_queue import SqliteQueue

LIMIT = 20
PAGE = 1000


@common.subcommand(
    "Show what ran, how it ended and why.", example="singlerun history --failed --since yesterday"
)
@click.argument("name", required=False, type=common.NAME, metavar="[NAME]")
@click.option("--name", "globs", multiple=True, type=common.NAME, metavar="GLOB",
              help="Only names that match; may be repeated.")  # fmt: skip
@common.since_option
@common.until_option
@click.option("--state", "states", multiple=True, type=common.states_of(STATES),
              metavar="STATE", help="Only runs in this state; may be repeated.")  # fmt: skip
@click.option("--failed", is_flag=True, help="Only failed, timed-out and lost runs.")
@click.option("--refused", is_flag=True, help="Only refused and skipped runs.")
@click.option("--limit", type=click.IntRange(1), metavar="N",
              help=f"Show the latest N; default: {LIMIT}.")  # fmt: skip
@common.format_option
@common.json_option
@click.option("--json-lines", is_flag=True, help="Print JSON, a run a line; all if no --limit.")
def command(
    ctx: click.Context, name: bytes | None, limit: int | None, *, json_lines: bool, **chosen: object
) -> Result:
    """Show the latest runs, newest first, refused, skipped and lost ones included.

    Several refusals in a row of one name and for one cause are one line, with their number.
    """
    as_json, fields = ctx.meta[common.SHOWN_AS]
    if json_lines and (as_json or fields):
        raise click.UsageError(
            f"--json-lines and {'--json' if as_json else '--format'} cannot be combined"
        )
    wanted = _filter(name, **chosen)  # type: ignore[arg-type]  # Click knows the types
    _, store = common.open_record(ctx)
    empty = _empty(name, is_filtered=any(chosen.values()))
    if store is None:
        return JsonLines([], lambda: False) if json_lines else History([], [], empty=empty)
    search = store.search(wanted)
    if json_lines:
        is_cut = partial(_is_cut, search, limit)
        return JsonLines(_pages(store, search, limit), is_cut, errors=common.notices(store))
    limit = limit or LIMIT
    one_each = as_json or fields is not None  # data is not folded
    lines = [*map(Line, search.more(limit + 1))] if one_each else search.lines(limit + 1)
    found = lines[:limit]
    errors = common.notices(store)
    if len(lines) > limit and not as_json:  # JSON says it itself
        errors.append(f"older runs are not shown; to see more: --limit {10 * limit}")
    judged = judge.look_at(store, [line.run for line in found])
    return History(found, judged, is_cut=len(lines) > limit, empty=empty, errors=errors)


def _filter(
    name: bytes | None, *, globs: tuple[bytes, ...], since: int | None, until: int | None,
    states: tuple[tuple[str, ...], ...], failed: bool, refused: bool,
) -> Filter:  # fmt: skip
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be earlier than --until")
    chosen = {state for group in states for state in group}
    chosen |= (FAILURES if failed else set()) | ({REFUSED, SKIPPED} if refused else set())
    names = () if name is None else (name,)
    return Filter(names, globs=globs, states=chosen, since_ns=since, until_ns=until)


def _empty(name: bytes | None, *, is_filtered: bool) -> str:
    if is_filtered:
        return "No such runs are recorded; to see all: singlerun history"
    if name is not None:
        return f"No runs of {shown(name)} are recorded; to see all: singlerun history"
    return "No runs are recorded yet; the first one could be: singlerun echo hello"


def _pages(store: SqliteQueue, search: Search, limit: int | None) -> Iterator[list[judge.Verdict]]:
    """Yield runs as long as there are some, at most so many in all."""
    left = limit
    while (left is None or left > 0) and (page := search.more(min(PAGE, left or PAGE))):
        yield judge.look_at(store, page)
        left = None if left is None else left - len(page)


def _is_cut(search: Search, limit: int | None) -> bool:
    return limit is not None and bool(search.more(1))
