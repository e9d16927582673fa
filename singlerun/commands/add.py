"""``singlerun add``: put jobs into a queue."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator

import click

from singlerun import duration
from singlerun.commands import common
from singlerun.errors import UsageError
from singlerun.options import read_count
from singlerun.paths import StateDir, state_path
from singlerun.queue import add, wakeup
from singlerun.spec import RETRY_DELAY, derived_name
from singlerun.store.base import marks_of
from singlerun.store.queue import Job

MANY = 10_000
"""Jobs from which on a person wants to see that it goes on."""
HIGHEST = 1_000_000


@click.command(
    cls=common.Command,
    short_help="Put jobs into a queue.",
    epilog="Example: singlerun add -n import ./import.sh monday.csv",
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "-n",
    "--name",
    type=common.NAME,
    metavar="NAME",
    help="The queue, and what is held meanwhile. Default: from the command.",
)
@click.option(
    "--priority",
    type=click.IntRange(-HIGHEST, HIGHEST),
    default=0,
    metavar="N",
    help="The higher, the earlier; default: 0.",
)
@click.option(
    "--delay", type=common.DURATION, metavar="DURATION", help="Start it in so long, not earlier."
)
@click.option(
    "--after",
    type=common.COUNT,
    metavar="ID",
    help="Start it when this job has succeeded; cancel it if that does not.",
)
@click.option(
    "--unique", is_flag=True, help="Cancel what is pending under this name: this one replaces it."
)
@click.option("--label", metavar="TEXT", help="What to show with it.")
@click.option(
    "--retries",
    type=common.COUNT,
    default=0,
    metavar="N",
    help="If it fails or is lost, try it again, at most N times.",
)
@click.option(
    "--retry-delay",
    type=common.DURATION,
    default=RETRY_DELAY,
    metavar="DURATION",
    help="Before it is tried again, doubling with each try; default: 1s.",
)
@click.option(
    "--limit", type=common.COUNT, metavar="N", help="Refuse if more than N would be pending."
)
@click.option(
    "-t",
    "--timeout",
    type=common.DURATION,
    metavar="DURATION",
    help="End it after so long: TERM, later KILL.",
)
@click.option(
    "-k",
    "--kill-after",
    type=common.DURATION,
    metavar="DURATION",
    help="From TERM to KILL; default: 10s.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Let it have this variable, too.",
)
@click.option("--all-env", is_flag=True, help="Let it have the whole environment.")
@click.option(
    "--stdin",
    is_flag=True,
    help="Read the jobs: a shell command a line. All are accepted, or none.",
)
@click.option("-0", "--null", is_flag=True, help="With --stdin: they end with NUL, not a line.")
@click.option("--json", "as_json", is_flag=True, help="With --stdin: each line is JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print the ids.")
@common.dir_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--] [COMMAND [ARG]...]")
@click.pass_context
def command(
    ctx: click.Context,
    *,
    name: bytes | None,
    priority: int,
    delay: float | None,
    after: int | None,
    unique: bool,
    label: str | None,
    retries: int,
    retry_delay: float,
    limit: int | None,
    timeout: float | None,
    kill_after: float | None,
    variables: tuple[str, ...],
    all_env: bool,
    stdin: bool,
    null: bool,
    as_json: bool,
    quiet: bool,
    directory: bytes | None,
    words: tuple[str, ...],
) -> int:
    """Put COMMAND into the queue of a name, and print the job's id.

    One job of a name runs at a time, in the order of their ids, and somebody is there to start
    them. Once this has printed the id, the job survives a crash and a power loss. What it writes is
    kept for singlerun logs.
    """
    if stdin == bool(words):
        raise click.UsageError("give a COMMAND, or --stdin")
    if stdin and sys.stdin is None:
        raise click.UsageError("standard input is closed")
    if not stdin and (null or as_json):
        raise click.UsageError("--null and --json tell what --stdin reads")
    if name is None:
        if stdin:
            raise click.UsageError("--stdin needs a --name")
        name = derived_name(list(words))
    common_values: dict[str, object] = {
        "name": name,
        "priority": priority,
        "not_before_ns": _in(delay),
        "after_id": after,
        "label": None if label is None else _text(label),
        "retries": retries,
        "retry_delay": retry_delay,
    }
    if stdin:
        jobs = list(_watched(_read(common_values, null=null, as_json=as_json)))
        if not jobs:
            return 0
    else:
        jobs = [Job(argv=tuple(map(os.fsencode, words)), **common_values)]  # type: ignore[arg-type]
    marks = marks_of(os.environb)
    for job in jobs:
        job.parent_id = marks[0] if marks else None
    given = {"timeout": timeout, "kill_after": kill_after}
    options: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    context = add.context_here(variables, options, all_env=all_env)
    state = StateDir(state_path(directory or ctx.obj))
    ids = add.add(state, jobs, context, unique=unique, limit=limit)
    if not quiet:  # told before anything else can fail: they are accepted
        click.echo("\n".join(map(str, ids)))
    wakeup.ensure(state, name)
    return 0


def _text(text: str) -> str:
    """Give a text as UTF-8 can say it."""
    return os.fsencode(text).decode(errors="backslashreplace")


def _in(delay: float | None) -> int | None:
    return None if delay is None else time.time_ns() + round(delay * 1e9)


def _read(values: dict[str, object], *, null: bool, as_json: bool) -> Iterator[Job]:
    """Read jobs from standard input."""
    entries: Iterable[bytes] = sys.stdin.buffer
    if null:
        entries = sys.stdin.buffer.read().split(b"\0")
    for number, entry in enumerate(entries, 1):
        text = entry if null else entry.removesuffix(b"\n")
        if not text.strip():
            continue
        if as_json:
            yield _from_json(text, number, values)
        elif b"\0" in text:
            raise UsageError(f"line {number} has a NUL character: it ends with a line, or give -0")
        else:
            yield Job(argv=(b"sh", b"-c", text), **values)  # type: ignore[arg-type]


def _from_json(text: bytes, number: int, values: dict[str, object]) -> Job:
    """Make a job of ``"COMMAND"``, ``["COMMAND", "ARG"]``, or an object that has such a command."""
    try:
        given = json.loads(text)
        entry = given if isinstance(given, dict) else {"command": given}
        words = entry.pop("command")
        words = ["sh", "-c", words] if isinstance(words, str) else list(words)
        own = dict(values)
        for key, value in entry.items():
            own |= _value(key, value)
        return Job(argv=_words(words), **own)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, RecursionError, UsageError) as error:
        why = "it has no command" if isinstance(error, KeyError) else error.args[0]
        if isinstance(error, UnicodeError):
            why = "it is not UTF-8"
        raise UsageError(f"line {number} can't be read as a job: {why}") from None


def _words(words: list[object]) -> tuple[bytes, ...]:
    texts = [word for word in words if isinstance(word, str) and "\0" not in word]
    if not texts or len(texts) < len(words):
        raise TypeError("its command is no text or list of texts")
    return tuple(map(os.fsencode, texts))


def _value(key: str, value: object) -> dict[str, object]:
    """Read what a JSON line says of its job."""
    if key == "label" and isinstance(value, str):
        return {key: _text(value)}
    if key == "delay":
        return {"not_before_ns": _in(duration.parse(str(value)))}
    if key == "retry_delay":
        return {key: duration.parse(str(value))}
    if key in {"after", "retries"}:
        return {"after_id" if key == "after" else key: read_count(str(value))}
    if key == "priority" and isinstance(value, int) and abs(value) <= HIGHEST:
        return {key: value}
    raise UsageError(f"bad {key!r}: {value!r}")


def _watched(jobs: Iterator[Job]) -> Iterator[Job]:
    """Show on a terminal how many there are, once they are many."""
    if not sys.stderr.isatty():
        yield from jobs
        return
    first = []
    for job in jobs:
        first.append(job)
        if len(first) == MANY:
            break
    yield from first
    if len(first) < MANY:
        return
    from rich.console import Console  # noqa: PLC0415 - for people only
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("reading jobs"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, completed=MANY)
        for count, job in enumerate(jobs, MANY + 1):
            yield job
            if count % 1000 == 0:
                progress.update(task, completed=count)
