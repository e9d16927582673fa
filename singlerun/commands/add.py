"""``singlerun add``: put jobs into a queue."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import click

from singlerun import duration
from singlerun.commands import common
from singlerun.commands.configured import configure, no_config_option
from singlerun.errors import UsageError
from singlerun.options import RUN_OPTIONS, read_count
from singlerun.process.marks import Marks
from singlerun.queue import add, wakeup
from singlerun.render.progress import counted
from singlerun.render.result import Result
from singlerun.spec import OF_A_JOB, derived_name
from singlerun.store.queue import Job
from singlerun.timings import RETRY_DELAY

HIGHEST = 1_000_000


def _only_one(_ctx: click.Context, _param: click.Parameter, value: tuple[int, ...]) -> int | None:
    if len(value) > 1:
        raise click.UsageError("--after takes only one ID")
    return value[0] if value else None


def _hook_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the hooks that a job in a queue can have, as the prefix form has them."""
    for option in reversed(RUN_OPTIONS):
        if option.dest in OF_A_JOB and option.dest.startswith("on_"):
            add_option = click.option(*option.flags, metavar=option.metavar, help=option.help)
            function = add_option(function)
    return function


@common.subcommand(
    "Put jobs into a queue.",
    example="singlerun add -n import ./import.sh monday.csv",
    interspersed=False,
)
@click.option("-n", "--name", type=common.NAME, metavar="NAME",
              help="The queue, and the lock to hold. Default: derived from COMMAND.")  # fmt: skip
@click.option("--priority", type=click.IntRange(-HIGHEST, HIGHEST), default=0, metavar="N",
              help="Higher starts earlier; default: 0.")  # fmt: skip
@click.option("--delay", type=common.DURATION, metavar="DURATION",
              help="Do not start before DURATION has passed.")  # fmt: skip
@click.option("--after", "after_id", type=common.COUNT, metavar="ID",
              multiple=True, callback=_only_one,
              help="Start after this job has succeeded; cancel if it does not.")  # fmt: skip
@click.option("--unique", is_flag=True, help="Cancel the pending jobs of this name first.")
@click.option("--label", metavar="TEXT", help="Text to show with the job.")
@click.option("--retries", type=common.COUNT, default=0, metavar="N",
              help="Run again after a failure or loss, at most N times.")  # fmt: skip
@click.option("--retry-delay", type=common.DURATION, default=RETRY_DELAY, metavar="DURATION",
              help="Delay before a retry, doubling each time; default: 1s.")  # fmt: skip
@click.option("--limit", type=common.COUNT, metavar="N",
              help="Refuse if more than N would be pending.")  # fmt: skip
@click.option("-t", "--timeout", type=common.DURATION, metavar="DURATION",
              help="Stop the job after DURATION: SIGTERM, later SIGKILL.")  # fmt: skip
@click.option("-k", "--kill-after", type=common.DURATION, metavar="DURATION",
              help="Grace period between SIGTERM and SIGKILL; default: 10s.")  # fmt: skip
@click.option("--signal", type=common.SIGNAL, metavar="SIG",
              help="Signal that --timeout sends first instead of SIGTERM.")  # fmt: skip
@_hook_options
@click.option("--notify", type=common.RULE, multiple=True, metavar="WHEN:URL",
              help="Tell of events by mail or HTTP, as the prefix form does.")  # fmt: skip
@click.option("--env", "variables", multiple=True, metavar="NAME[=VALUE]",
              help="Keep this environment variable too.")  # fmt: skip
@click.option("--all-env", is_flag=True, help="Keep the whole environment.")
@click.option("--stdin", is_flag=True,
              help="Read jobs, one shell command a line; all are accepted or none.")  # fmt: skip
@click.option("-0", "--null", is_flag=True, help="With --stdin: jobs end with NUL, not newline.")
@click.option("--json", "json_lines", is_flag=True, help="With --stdin: each line is JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Do not print the ids.")
@no_config_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--] [COMMAND [ARG]...]")
def command(
    ctx: click.Context, /, *, name: bytes | None, no_config: bool, words: tuple[str, ...],
    **values: Any,
) -> Iterator[Result]:  # fmt: skip
    """Put COMMAND into the queue of a name, and print the job's id.

    A worker in the background runs the jobs of a name one at a time, by priority, then in the order
    of their ids. Once the id is printed, the job survives a crash and a power loss. Its output is
    kept for singlerun logs.
    """
    _check(words, name, values)
    values["name"] = name or derived_name(list(words))
    if not no_config:
        yield Result(errors=configure(ctx, values["name"], values))
    yield from _add(ctx, words, **values)


def _check(words: tuple[str, ...], name: bytes | None, values: dict[str, Any]) -> None:
    """Raise click.UsageError unless it is clear where the jobs come from."""
    stdin = values.pop("stdin")
    if stdin == bool(words):
        raise click.UsageError("give a COMMAND, or --stdin")
    if stdin and sys.stdin is None:
        raise click.UsageError("standard input is closed")
    if not stdin and (values["null"] or values["json_lines"]):
        raise click.UsageError("--null and --json need --stdin")
    if stdin and name is None:
        raise click.UsageError("--stdin needs a --name")


def _add(
    ctx: click.Context, words: tuple[str, ...], *, unique: bool, limit: int | None,
    variables: tuple[str, ...], all_env: bool, null: bool, json_lines: bool, quiet: bool,
    **values: Any,
) -> Iterator[Result]:  # fmt: skip
    """Accept the jobs; the options are those of the command."""
    given = {name: values.pop(name) for name in OF_A_JOB}
    jobs = _jobs(words, values, null=null, json_lines=json_lines)
    if not jobs:
        return
    given["notify"] = given["notify"] or None
    options: dict[str, object] = {key: value for key, value in given.items() if value is not None}
    context = add.context_here(variables, options, all_env=all_env)
    state = common.make_state(ctx)
    ids = add.enqueue(state, jobs, context, unique=unique, limit=limit)
    try:
        # Printed before anything else can fail: the jobs are accepted.
        yield Result(*([] if quiet else map(str, ids)))
    finally:
        wakeup.ensure(state, jobs[0].name)


def _jobs(
    words: tuple[str, ...], values: dict[str, Any], *, null: bool, json_lines: bool
) -> list[Job]:
    """Return the job of a command, or without one those on standard input."""
    values["not_before_ns"] = _in(values.pop("delay"))
    values["label"] = None if values["label"] is None else _utf8(values["label"])
    if words:
        jobs = [Job(argv=tuple(map(os.fsencode, words)), **values)]
    else:
        jobs = list(counted(read_jobs(sys.stdin.buffer, values, null=null, as_json=json_lines)))
    marks = Marks.from_environ(os.environb)
    for job in jobs:
        job.parent_id = marks.run_id if marks else None
    return jobs


# -- jobs from standard input -----------------------------------------------------------------


def read_jobs(
    file: BinaryIO, values: dict[str, object], *, null: bool, as_json: bool
) -> Iterator[Job]:
    """Yield the jobs in a file: a shell command or a JSON text on each line that is not blank.

    ``values`` are those of all jobs. With ``null`` NUL ends a job instead of a newline. Raises
    UsageError if a line cannot be read as a job.
    """
    entries: Iterable[bytes] = file.read().split(b"\0") if null else file
    for number, entry in enumerate(entries, 1):
        text = entry if null else entry.removesuffix(b"\n")
        if not text.strip():
            continue
        if as_json:
            yield _from_json(text, number, values)
        elif b"\0" in text:
            raise UsageError(f"line {number} has a NUL character; if NUL ends each job: -0")
        else:
            yield Job(argv=(b"sh", b"-c", text), **values)  # type: ignore[arg-type]


def _from_json(text: bytes, number: int, values: dict[str, object]) -> Job:
    """Return the job of ``"COMMAND"``, ``["COMMAND", "ARG"]``, or an object with such a command."""
    try:
        given = json.loads(text)
        entry = given if isinstance(given, dict) else {"command": given}
        words = entry.pop("command")
        words = ["sh", "-c", words] if isinstance(words, str) else words
        if not _are_words(words):
            raise TypeError("its command is neither a string nor a list of strings")  # noqa: TRY301
        own = dict(values)
        for key, value in entry.items():
            own |= _value(key, value)
        return Job(argv=tuple(map(os.fsencode, words)), **own)  # type: ignore[arg-type]
    except (ValueError, TypeError, KeyError, RecursionError, UsageError) as error:
        why = "it has no command" if isinstance(error, KeyError) else error.args[0]
        if isinstance(error, UnicodeError):
            why = "it is not UTF-8"
        raise UsageError(f"line {number} cannot be read as a job: {why}") from None


def _are_words(value: object) -> bool:
    """Return whether a value of JSON is a command: words, of which none has a NUL character."""
    return (
        isinstance(value, list)
        and value != []
        and all(isinstance(word, str) and "\0" not in word for word in value)
    )


def _value(key: str, value: object) -> dict[str, object]:
    """Return what a key of a JSON object sets in its job."""
    if key == "label" and isinstance(value, str):
        return {key: _utf8(value)}
    if key == "delay":
        return {"not_before_ns": _in(duration.parse(str(value)))}
    if key == "retry_delay":
        return {key: duration.parse(str(value))}
    if key in {"after", "retries"}:
        return {"after_id" if key == "after" else key: read_count(str(value))}
    if key == "priority" and isinstance(value, int) and abs(value) <= HIGHEST:
        return {key: value}
    raise UsageError(f"bad {key!r}: {value!r}")


def _utf8(text: str) -> str:
    """Return a text as valid UTF-8: other bytes are escaped."""
    return os.fsencode(text).decode(errors="backslashreplace")


def _in(delay: float | None) -> int | None:
    return None if delay is None else time.time_ns() + round(delay * 1e9)
