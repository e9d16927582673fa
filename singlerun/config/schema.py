"""Which tables and keys there are, how their values are read, and why some are refused.

A key is a long name with dashes, as on the command line; what is read from it has dashes replaced
by underscores. ``[defaults]`` and ``[jobs."NAME"]`` take the run options (options.py), those of
``singlerun add``, and what is expected of a name. The other tables list their keys here.
"""

import os

from singlerun import duration, rule, size, url
from singlerun.errors import UsageError
from singlerun.options import RUN_OPTIONS, read_count, read_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Key:
    """A key of a table.

    Attributes:
        name: as it is written; dest: as it is asked for.
        read: converts the text of a value, or raises UsageError; None for true and false.
        help: what it says, in a line.
        many: whether it takes several values; it is then read as a tuple.
        secret: whether its value may hold a password or a token, which are not shown.
        is_table: whether it stands for a table.
        keys: the keys of that table.
        others: the key that stands for any other one in that table.
        refused: why it cannot be set here.
        example: a value as TOML has it, which "config init" shows.
    """

    __slots__ = (
        "dest", "example", "help", "is_table", "keys", "many", "name", "others", "read", "refused",
        "secret",
    )  # fmt: skip

    def __init__(
        self, name: str, *, read: "Callable[[str], object] | None" = None,
        help: str = "", many: bool = False, secret: bool = False,  # noqa: A002 - as in options.py
        keys: "tuple[Key, ...] | None" = None, others: "Key | None" = None,
        refused: str | None = None, example: str | None = None,
    ) -> None:  # fmt: skip
        self.name, self.dest = name, name.replace("-", "_")
        self.read, self.help, self.many, self.secret = read, help, many, secret
        self.is_table = keys is not None or others is not None
        self.keys, self.others = keys or (), others
        self.refused, self.example = refused, example

    def find(self, name: str) -> "Key | None":
        """Return the key of this name in the table that it stands for."""
        return next((key for key in self.keys if key.name == name), self.others)


def read_number(text: str) -> float:
    """Read a number that may have a fraction, and is above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 10**9:
        raise UsageError(f"bad number {text!r}: write one above 0, such as 2.5")
    return number


def read_priority(text: str) -> int:
    """Read the priority of a job: from -1,000,000 to 1,000,000."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 7) or int(digits) > 10**6:
        raise UsageError(f"bad priority {text!r}: write a number from -1000000 to 1000000")
    return int(text)


def _read_absolute(text: str) -> bytes:
    if not text.startswith("/"):
        raise UsageError(f"{text!r} is not an absolute path, and every run has its own directory")
    return read_path(text)


def _read_lock_file(text: str) -> str:
    """Read the path of a lock file; its links are resolved by each run."""
    return os.fsdecode(_read_absolute(text))


def _read_label(text: str) -> str:
    return os.fsencode(text).decode(errors="backslashreplace")  # as "add" does


REFUSED = {
    "name": 'a table has the name: [jobs."NAME"]',
    "lock-fd": "a descriptor belongs to the one caller that has it open",
    "no-config": "a configuration cannot say that it is not to be read",
}  # fmt: skip
"""Run options that no table takes, and why."""
REFUSED_OF_ADD = {
    "after": "an id belongs to one job",
    "stdin": "it says where one command line has its jobs from",
    "null": "it says how one command line is read",
    "json": "it says how one command line is read",
}
"""Options of ``singlerun add`` that no table takes, and why."""
EXAMPLES = {
    "wait-for": '"5m"', "timeout": '"2h"', "slots": "2", "retries": "3", "log": "true",
    "min-interval": '"1h"', "on-failure": '"logger -t singlerun $SINGLERUN_NAME failed"',
    "jitter": '"1m"', "skip": "true",
}  # fmt: skip
"""Values of run options that "config init" shows."""
_PATHS = {"dir": _read_absolute, "lock-file": _read_lock_file}


NOTIFY_NAME = "notify"


def _run_options() -> tuple[Key, ...]:
    keys = []
    for option in RUN_OPTIONS:
        name = option.flags[-1].removeprefix("--")
        if name == NOTIFY_NAME:  # a table here
            continue
        read = None if option.metavar is None else _PATHS.get(name, option.read)
        keys.append(
            Key(
                name,
                read=read,
                help=option.help,
                many=option.many,
                refused=REFUSED.get(name),
                example=EXAMPLES.get(name),
            )
        )
    return tuple(keys)


QUEUE_KEYS = (
    Key("priority", read=read_priority, help="Jobs with a higher one start earlier."),
    Key("delay", read=duration.parse, help="Do not start a job before this has passed."),
    Key("unique", help="Cancel the pending jobs of the name first."),
    Key("label", read=_read_label, help="Text to show with the job."),
    Key("limit", read=read_count, help="Refuse if more would be pending."),
    Key("env", read=str, many=True, help="Keep this environment variable too: NAME or NAME=VALUE."),
    Key("all-env", help="Keep the whole environment."),
    *(Key(name, refused=why) for name, why in REFUSED_OF_ADD.items()),
)
WATCH_KEYS = (
    Key("expect", read=duration.parse, help="A success is expected at least this often.",
        example='"26h"'),
    Key("overlong", read=read_number,
        help="So many times its usual duration is too long; default: 3."),
    Key("max-queued", read=read_count, help="More jobs that are ready to start are too many."),
    Key("max-refused", read=read_count, help="More refusals in a row are too many."),
)  # fmt: skip


def _read_target(text: str) -> str:
    rule.check_target(text)
    return text


def _read_url(text: str) -> str:
    if not url.is_url(text):
        raise UsageError("it is no URL: write one such as mailto:ops@example.org")
    url.check(text)
    return text


def _read_server(text: str) -> str:
    if url.kind_of(text) != url.SMTP:
        raise UsageError("write the URL of a mail server, such as smtp://mail.example.org:587")
    url.split(text)
    return text


NOTIFY_KEYS: tuple[Key, ...] = (
    *(
        Key(kind, read=_read_target, many=True, secret=True, help=f"Where to tell of {what}.")
        for kind, what in rule.KINDS.items()
    ),
    Key("refused-after", read=lambda text: int(rule.read_number("refused", text)),
        help="How many refusals in a row are told; default: 3."),
    Key("smtp", help="The mail server for mailto:, instead of sendmail.", keys=(
        Key("url", read=_read_server, secret=True, help="Such as smtp://USER:PASSWORD@HOST:587."),
        Key("from", read=str, help="The sender's address."),
    )),
    Key("targets", help="URLs by name.", others=Key(
        "NAME", read=_read_url, secret=True, help="A URL, which --notify and [notify] can name.",
    )),
)  # fmt: skip
RETENTION_KEYS = (
    Key("age", read=duration.parse, example='"400d"',
        help="Forget runs, jobs and output that ended longer ago."),
    Key("count", read=read_count, example="10000",
        help="Keep so many runs of a name, and of its jobs so many in each state."),
    Key("bytes", read=size.parse, example='"1G"',
        help="Keep so much output in all; the oldest goes first."),
    Key("idle", read=duration.parse, example='"30d"',
        help="Delete the files of names that were not used for so long."),
)  # fmt: skip

NOTIFY = Key(NOTIFY_NAME, keys=NOTIFY_KEYS, help="Where to tell of what happened.")
RETENTION = Key("retention", keys=RETENTION_KEYS, help="How much of the past is kept.")
_OPTIONS = (*_run_options(), *QUEUE_KEYS, *WATCH_KEYS)
STRICT = Key("strict", help="Refuse to run anything while the configuration has a mistake.")
_DIR_HERE = "the state directory is one for all names: set it in [defaults]"
_NOTIFY_HERE = "write it as a table of its own, [notify]"
_STRICT_HERE = "it holds for all names: set it in [defaults]"
DEFAULTS = Key(
    "defaults", keys=(*_OPTIONS, STRICT, Key(NOTIFY_NAME, refused=_NOTIFY_HERE)),
    help="What holds for every name.",
)  # fmt: skip
JOB = Key(
    "NAME",
    keys=(
        *(key for key in _OPTIONS if key.name != "dir"),
        Key("dir", refused=_DIR_HERE),
        Key("strict", refused=_STRICT_HERE),
        NOTIFY,
    ),
)
JOBS = Key("jobs", others=JOB, help="What holds for the names that a glob matches.")
ROOT = Key("", keys=(DEFAULTS, JOBS, NOTIFY, RETENTION))
"""Stands for the whole file."""


def completions(begun: str) -> "Iterator[tuple[bytes, str]]":
    """Yield the dotted keys that begin so, with their help; those of a name once that is typed."""
    table, dot, _ = begun.rpartition(".")
    if dot and table.startswith("jobs."):
        table, keys = f"{table}.", JOB.keys
    else:
        table, keys = "", tuple(key for key in ROOT.keys if key is not JOBS)
    for key in keys:
        inner = key.keys if key.is_table else (key,)
        before = f"{table}{key.name}." if key.is_table else table
        for each in inner:
            text = before + each.name
            if text.startswith(begun) and each.refused is None and not each.is_table:
                yield text.encode(), each.help
