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
    return os.path.abspath(os.fsencode(text))


def read_status(text: str) -> int:
    """Read an exit status, 0 to 255."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= 255):
        raise UsageError(f"bad exit status {text!r}: write a number from 0 to 255")
    return int(text)


RUN_OPTIONS = (
    Option(
        "-n", "--name", metavar="NAME", read=read_name, many=True,
        help="What must be single; repeated: hold all or none. Default: from the command.",
    ),
    Option("--lock-file", metavar="PATH", read=read_path, help="Lock this file, as flock(1) does."),
    Option("-s", "--shared", help="Take a shared (reader) lock."),
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
    Option("--linger", help="Hold until the last child that inherited the lock is gone."),
    Option("--require-record", help="Refuse to run what cannot be recorded."),
    Option("--dir", metavar="DIR", read=read_path, help="The state directory."),
    Option("-q", "--quiet", help="Say nothing when it is held."),
    Option("-v", "--verbose", help="Say what happens."),
)  # fmt: skip

SUBCOMMANDS = ("history", "is-running", "ps", "reap", "run")

RESERVED = (
    "add", "cancel", "completion", "config", "doctor", "logs", "metrics", "move", "pause",
    "prune", "queue", "resume", "retry", "stats", "stop", "timeline", "wait", "why", "worker",
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
