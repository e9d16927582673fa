"""The one table of the run options, and how their values are read.

fastpath.py parses with it, commands/run.py builds Click's parser from it, and tests hold the manual
page, the completions and the README against it.
"""

import os

from singlerun import duration
from singlerun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FLAG, VALUE = "flag", "value"


class Option:
    """One option of the prefix form.

    Attributes:
        flags: its spellings, the short one first.
        dest: its key among the parsed values.
        metavar: what its value is called in help; None for a flag.
        read: turns the value's text into the value, or raises UsageError.
        many: whether it may be repeated; its value is then a tuple.
        help: one line.
    """

    __slots__ = ("dest", "flags", "help", "many", "metavar", "read")

    def __init__(
        self,
        *flags: str,
        help: str,  # noqa: A002 - Click's word
        metavar: str | None = None,
        read: "Callable[[str], object]" = str,
        many: bool = False,
    ) -> None:
        self.flags = flags
        self.dest = flags[-1].lstrip("-").replace("-", "_")
        self.metavar = metavar
        self.read = read
        self.many = many
        self.help = help

    @property
    def default(self) -> object:
        """The value of an option that is not given."""
        if self.many:
            return ()
        return False if self.metavar is None else None


def read_name(text: str) -> bytes:
    """Read a lock's name: any text but none."""
    if not text:
        raise UsageError("a name must not be empty")
    if "\0" in text:
        raise UsageError("a name must not hold a NUL character")
    return os.fsencode(text)


def read_path(text: str) -> bytes:
    """Read a path, and make it absolute."""
    if not text:
        raise UsageError("a path must not be empty")
    try:
        return os.path.abspath(os.fsencode(text))
    except FileNotFoundError:
        raise UsageError(f"{text} is relative to a directory that was deleted") from None


def read_lock_file(text: str) -> bytes:
    """Read the path of a file to lock: the file itself, whichever links lead to it."""
    return os.path.realpath(read_path(text))


def read_claim(text: str) -> str:
    """Read the first digits of a claim on a lock file."""
    if len(text) < 8 or set(text) - set("0123456789abcdef"):
        raise UsageError(f"bad claim {text!r}: write its first hexadecimal digits, at least 8")
    return text


def read_status(text: str) -> int:
    """Read an exit status, 0 to 255."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= 255):
        raise UsageError(f"bad exit status {text!r}: write a number from 0 to 255")
    return int(text)


def read_count(text: str) -> int:
    """Read a number of times."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise UsageError(f"bad number {text!r}: write how often, as in 3")
    return int(text)


def read_slots(text: str) -> int:
    """Read how many may run at once."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text)):
        raise UsageError(f"bad number of slots {text!r}: write 1 to 999")
    return int(text)


def read_rate(text: str) -> tuple[int, float]:
    """Read a number of starts and the seconds in which they may be."""
    count, slash, period = text.partition("/")
    try:
        rate = read_count(count), duration.parse(period)
    except UsageError:
        slash = ""
    if not slash or rate[0] == 0 or rate[1] == 0:
        raise UsageError(f"bad rate {text!r}: write N/DURATION, as in 3/1h")
    return rate


def read_restart(text: str) -> str:
    """Read when to run a command again."""
    if text not in {"on-failure", "on-success", "always"}:
        raise UsageError(f"bad word {text!r}: write on-failure, on-success or always")
    return text


def read_lock_type(text: str) -> str:
    """Read by what to hold a lock."""
    if text not in {"auto", "flock", "lockfile"}:
        raise UsageError(f"bad word {text!r}: write auto, flock or lockfile")
    return text


RUN_OPTIONS = (
    Option(
        "-n", "--name", metavar="NAME", read=read_name, many=True,
        help="What must be single; repeated: hold all or none. Default: from the command.",
    ),
    Option(
        "--lock-file", metavar="PATH", read=read_lock_file,
        help="Lock this file, as flock(1) does.",
    ),
    Option(
        "--lock-type", metavar="TYPE", read=read_lock_type,
        help="Hold it by flock, by lockfile, or auto: as the file system allows.",
    ),
    Option("-s", "--shared", help="Take a shared (reader) lock."),
    Option(
        "-j", "--slots", metavar="N", read=read_slots,
        help="Let N of them run at once instead of one.",
    ),
    Option("-w", "--wait", help="If it is held, wait."),
    Option(
        "--wait-for", metavar="DURATION", read=duration.parse,
        help="If it is held, wait at most so long, then exit 75.",
    ),
    Option("--skip", help="If it is held, say nothing and exit 0."),
    Option(
        "-E", "--conflict-exit-code", metavar="N", read=read_status,
        help="If it is held, exit with N instead of 75.",
    ),
    Option("--replace", help="If it is held, end the holder and take its place."),
    Option("--queue", help="Put it in the queue of this name, and return at once."),
    Option("--coalesce", help="If it is held, wait; but if somebody waits already, exit 0."),
    Option(
        "--min-interval", metavar="DURATION", read=duration.parse,
        help="Refuse also if the last start is more recent than this.",
    ),
    Option(
        "--max-starts", metavar="N/DURATION", read=read_rate,
        help="Refuse also if there were N starts in this time.",
    ),
    Option(
        "-t", "--timeout", metavar="DURATION", read=duration.parse,
        help="End the command after so long: TERM, later KILL; exit 124.",
    ),
    Option(
        "-k", "--kill-after", metavar="DURATION", read=duration.parse,
        help="From TERM to KILL; default: 10s.",
    ),
    Option(
        "--retries", metavar="N", read=read_count,
        help="If it fails, run it again, at most N times.",
    ),
    Option(
        "--retry-delay", metavar="DURATION", read=duration.parse,
        help="Before it is run again, doubling with each retry; default: 1s.",
    ),
    Option(
        "--restart", metavar="WHEN", read=read_restart,
        help="Run it again when it ends: on-failure, on-success or always.",
    ),
    Option(
        "--jitter", metavar="DURATION", read=duration.parse,
        help="First wait up to so long, the same for this host and name.",
    ),
    Option("--exec", help="Become the command, once the lock is held."),
    Option("--linger", help="Hold until the last child that inherited the lock is gone."),
    Option("--on-success", metavar="CMD", help="Then run this shell command if it succeeded."),
    Option("--on-failure", metavar="CMD", help="Then run this shell command if it failed."),
    Option("--on-conflict", metavar="CMD", help="Run this shell command if it is held."),
    Option("--on-finish", metavar="CMD", help="Then run this shell command, however it ended."),
    Option("--log", help="Keep a copy of the command's output for: singlerun logs."),
    Option("--only-failed", help="Hold the output back, and print it only if the command fails."),
    Option("--require-record", help="Refuse to run what cannot be recorded."),
    Option("--dir", metavar="DIR", read=read_path, help="The state directory."),
    Option("-q", "--quiet", help="Say nothing when it is held."),
    Option("-v", "--verbose", help="Say what happens."),
)  # fmt: skip

SUBCOMMANDS = (
    "add", "cancel", "history", "is-running", "logs", "move", "pause", "ps", "queue", "reap",
    "resume", "retry", "run", "stop", "wait", "worker",
)  # fmt: skip

RESERVED = (
    "completion", "config", "doctor", "metrics", "prune", "stats", "timeline", "why",
)  # fmt: skip
"""Words that will be subcommands: to run a program of that name, write ``--`` before it."""


class Words:
    """An argument list, taken apart.

    Attributes:
        values: what the options say, by Option.dest, defaults included.
        given: the options that were given, by Option.dest.
        command: the first word that is no option, and all after it.
        dashes: whether ``--`` stood before the command.
    """

    __slots__ = ("command", "dashes", "given", "values")

    def __init__(self) -> None:
        self.values: dict[str, object] = {option.dest: option.default for option in RUN_OPTIONS}
        self.given: set[str] = set()
        self.command: list[str] = []
        self.dashes = False


def split(arguments: list[str]) -> Words | None:
    """Parse the plain forms of the prefix form; None where Click must settle it.

    Plain are ``-n NAME``, ``-nNAME``, ``--name NAME``, ``--name=NAME``, flags also joined as in
    ``-qw``, and ``--``. None is given for all else, such as an option that isn't in the table.

    Raises:
        UsageError: a value can't be read.
    """
    flags = {flag: option for option in RUN_OPTIONS for flag in option.flags}
    words = Words()
    texts: dict[Option, list[str]] = {}
    rest = arguments[::-1]
    while rest:
        word = rest.pop()
        if word == "--":
            words.dashes = True
            break
        if word[:1] != "-" or word == "-":
            rest.append(word)
            break
        text: str | None = None
        if word[:2] == "--":
            word, equals, value = word.partition("=")
            if equals:
                text = value
        elif len(word) > 2:
            word, value = word[:2], word[2:]
            if word in flags and flags[word].metavar is None:
                if value[0] == "-":
                    return None
                rest.append("-" + value)  # -qw is -q -w
            else:
                text = value
        option = flags.get(word)
        if option is None or (option.metavar is None and text is not None):
            return None
        if option.metavar is None:
            words.values[option.dest] = True
        else:
            if text is None:
                if not rest:
                    return None
                text = rest.pop()
            texts.setdefault(option, []).append(text)
        words.given.add(option.dest)
    for option, given in texts.items():
        # Of an option that may be given once the last counts, and the others aren't looked at.
        words.values[option.dest] = (
            tuple(map(option.read, given)) if option.many else option.read(given[-1])
        )
    words.command = rest[::-1]
    return words
