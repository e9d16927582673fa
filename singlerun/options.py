"""The one table of the run options: how their values are read, and which exclude each other.

cli.py parses with it, commands/run.py builds Click's parser from it, and tests compare the manual
page, the completions and the README with it.
"""

import os

from singlerun import duration
from singlerun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class Option:
    """One option of the prefix form.

    Attributes:
        flags: its spellings, the short one first.
        dest: its key among the parsed values.
        metavar: the name of its value in help; None for a flag.
        read: converts the value's text, or raises UsageError.
        many: whether it may be repeated; its value is then a tuple.
        help: one line.
    """

    __slots__ = ("dest", "flags", "help", "many", "metavar", "read")

    def __init__(
        self, *flags: str, help: str, metavar: str | None = None,  # noqa: A002 - Click's word
        read: "Callable[[str], object]" = str, many: bool = False,
    ) -> None:  # fmt: skip
        self.flags = flags
        self.dest = flags[-1].lstrip("-").replace("-", "_")
        self.metavar, self.help = metavar, help
        self.read, self.many = read, many

    @property
    def default(self) -> object:
        """The value if the option is not given."""
        if self.many:
            return ()
        return False if self.metavar is None else None


def read_name(text: str) -> bytes:
    """Read the name of a lock: any text that is not empty."""
    if not text:
        raise UsageError("a name must not be empty")
    if "\0" in text:
        raise UsageError("a name must not contain a NUL character")
    return os.fsencode(text)


def read_path(text: str) -> bytes:
    """Read a path and make it absolute."""
    if not text:
        raise UsageError("a path must not be empty")
    if "\0" in text:
        raise UsageError("a path must not contain a NUL character")
    try:
        return os.path.abspath(os.fsencode(text))
    except FileNotFoundError:
        what = "is relative to a deleted directory; write an absolute path"
        raise UsageError(f"{text} {what}") from None


def read_lock_file(text: str) -> bytes:
    """Read the path of a file to lock, with all symbolic links resolved."""
    from singlerun.symlinks import resolve  # noqa: PLC0415 - not in the plain form

    return resolve(read_path(text))


def read_lock_fd(text: str) -> tuple[int, bytes]:
    """Read the number of a descriptor that the caller has open; return it and its file's path."""
    number = _number(text, "descriptor", "the number of an open file, such as 9", range(10**6))
    try:
        path = os.readlink(b"/proc/self/fd/%d" % number)
    except OSError:
        what = f"descriptor {number} is not open; open it in the shell first: exec {number}>FILE"
        raise UsageError(what) from None
    return number, path.removesuffix(b" (deleted)")


def read_claim(text: str) -> str:
    """Read the first digits of a claim on a lock file."""
    if len(text) < 8 or set(text) - set("0123456789abcdef"):
        raise UsageError(f"bad claim {text!r}: give at least its first 8 hexadecimal digits")
    return text


def read_status(text: str) -> int:
    """Read an exit status, 0 to 255."""
    return _number(text, "exit status", "a number from 0 to 255", range(256))


def read_count(text: str) -> int:
    """Read a number."""
    return _number(text, "number", "a whole number such as 3", range(10**9))


def read_slots(text: str) -> int:
    """Read the number of slots."""
    return _number(text, "number of slots", "1 to 999", range(1, 1000))


def read_signal(text: str) -> int:
    """Read a signal: its name, with or without SIG, or its number."""
    import signal  # noqa: PLC0415 - rare

    number: int = getattr(signal, "SIG" + text.upper().removeprefix("SIG"), 0)
    if text.isascii() and text.isdecimal():
        number = int(text[:9])
    if number not in signal.valid_signals() - {signal.SIGSTOP}:
        raise UsageError(f"bad signal {text!r}: write a name such as INT, or a number")
    return int(number)


def _number(text: str, what: str, example: str, allowed: range) -> int:
    is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(allowed[-1]))
    if not is_short or int(text) not in allowed:
        raise UsageError(f"bad {what} {text!r}: write {example}")
    return int(text)


def read_rate(text: str) -> tuple[int, float]:
    """Read a number of starts and the seconds within which they are counted."""
    count, slash, period = text.partition("/")
    try:
        rate = read_count(count), duration.parse(period)
    except UsageError:
        slash = ""
    if not slash or rate[0] == 0 or rate[1] == 0:
        raise UsageError(f"bad rate {text!r}: write N/DURATION, such as 3/1h")
    return rate


def read_restart(text: str) -> str:
    """Read when to run a command again."""
    if text not in {"on-failure", "on-success", "always"}:
        raise UsageError(f"bad word {text!r}: write on-failure, on-success or always")
    return text


def read_rule(text: str) -> str:
    """Read which events are told, and where."""
    from singlerun import rule  # noqa: PLC0415 - not in the plain form

    return rule.read(text)


def read_lock_type(text: str) -> str:
    """Read the kind of lock."""
    if text not in {"auto", "flock", "lockfile"}:
        raise UsageError(f"bad word {text!r}: write auto, flock or lockfile")
    return text


RUN_OPTIONS = (
    Option("-n", "--name", metavar="NAME", read=read_name, many=True,
           help="Name of the lock; repeat to hold all or none. Default: derived from COMMAND."),
    Option("--lock-file", metavar="PATH", read=read_lock_file,
           help="Lock this file, as flock(1) does."),
    Option("--lock-fd", metavar="N", read=read_lock_fd,
           help="Lock this open file of the caller, as flock(1) does, and exit; no COMMAND."),
    Option("--lock-type", metavar="TYPE", read=read_lock_type,
           help="Kind of lock: flock, lockfile, or auto (by file system)."),
    Option("-s", "--shared", help="Take a shared (reader) lock."),
    Option("-j", "--slots", metavar="N", read=read_slots,
           help="Allow N instances at once instead of one."),
    Option("-w", "--wait", help="Wait if the lock is held."),
    Option("--wait-for", metavar="DURATION", read=duration.parse,
           help="Wait at most this long if the lock is held, then exit 75."),
    Option("--skip", help="Exit 0 without a message if the lock is held."),
    Option("-E", "--conflict-exit-code", metavar="N", read=read_status,
           help="Exit with N instead of 75 if the lock is held."),
    Option("--replace", help="Stop the holder and take its place."),
    Option("--queue", help="Add COMMAND to the queue of this name and return at once."),
    Option("--coalesce", help="Wait, but exit 0 if another run is waiting already."),
    Option("--min-interval", metavar="DURATION", read=duration.parse,
           help="Refuse if the last start is more recent than this."),
    Option("--max-starts", metavar="N/DURATION", read=read_rate,
           help="Refuse if there were already N starts within this time."),
    Option("-t", "--timeout", metavar="DURATION", read=duration.parse,
           help="Stop the command after this long: SIGTERM, later SIGKILL; exit 124."),
    Option("--signal", metavar="SIG", read=read_signal,
           help="Signal that --timeout and --replace send first instead of SIGTERM."),
    Option("-k", "--kill-after", metavar="DURATION", read=duration.parse,
           help="Grace period between SIGTERM and SIGKILL; default: 10s."),
    Option("--retries", metavar="N", read=read_count,
           help="Run again after a failure, at most N times."),
    Option("--retry-delay", metavar="DURATION", read=duration.parse,
           help="Delay before running again, doubling with each retry; default: 1s."),
    Option("--restart", metavar="WHEN", read=read_restart,
           help="Run again when it ends: on-failure, on-success or always."),
    Option("--jitter", metavar="DURATION", read=duration.parse,
           help="Sleep up to this long first; constant for a host and name."),
    Option("--exec", help="Become the command once the lock is held."),
    Option("--linger", help="Hold the lock until the last child that inherited it is gone."),
    Option("--on-start", metavar="CMD", help="Run this shell command beside the command."),
    Option("--on-success", metavar="CMD", help="Run this shell command after a success."),
    Option("--on-failure", metavar="CMD", help="Run this shell command after a failure."),
    Option("--on-conflict", metavar="CMD", help="Run this shell command if the lock is held."),
    Option("--on-finish", metavar="CMD", help="Run this shell command after every outcome."),
    Option("--notify", metavar="WHEN:URL", read=read_rule, many=True,
           help="Tell of events by mail or HTTP: failure,recovery:mailto:ops@example.org."),
    Option("--log", help="Keep a copy of the output for: singlerun logs."),
    Option("--only-failed", help="Hold the output back, and print it only if the command fails."),
    Option("--require-record", help="Refuse to run if the run cannot be recorded."),
    Option("--dir", metavar="DIR", read=read_path, help="State directory."),
    Option("--no-config", help="Read no configuration file."),
    Option("-q", "--quiet", help="Say nothing if the lock is held."),
    Option("-v", "--verbose", help="Report what happens on standard error."),
)  # fmt: skip

NOT_IN_QUEUE = (
    "lock_file", "lock_fd", "lock_type", "shared", "slots", "wait", "wait_for", "skip", "replace",
    "coalesce", "min_interval", "max_starts", "restart", "jitter", "exec", "linger", "on_conflict",
    "only_failed", "require_record",
)  # fmt: skip
"""Options about a held lock, or that a job in a queue cannot have."""
NOT_AFTER_EXEC = (
    "timeout", "retries", "restart", "linger", "on_start", "on_success", "on_failure", "on_finish",
    "notify", "log", "only_failed",
)  # fmt: skip
"""Options that need a singlerun process when the command ends."""
NOT_WITHOUT_COMMAND = (
    "lock_file", "lock_type", "slots", "queue", "exec", "timeout", "retries", "restart", "linger",
    "on_start", "on_success", "on_failure", "on_finish", "notify", "log", "only_failed",
)  # fmt: skip
"""Options that need a command, or another file than that of --lock-fd."""

_CONTRADICTION = "{0} and {1} cannot be combined"
EXCLUSIONS: "tuple[tuple[str, tuple[str, ...], str], ...]" = (
    ("shared", ("slots",), _CONTRADICTION),
    ("replace", ("coalesce", "skip"), _CONTRADICTION),
    ("restart", ("retries",), _CONTRADICTION),
    ("queue", NOT_IN_QUEUE, _CONTRADICTION),
    ("lock_fd", NOT_WITHOUT_COMMAND, _CONTRADICTION),
    ("exec", NOT_AFTER_EXEC, "{0} replaces singlerun, which then cannot do what {1} asks for"),
)
"""An option, those that cannot be combined with it, and the message."""
WITH_ONE_NAME = ("lock_file", "lock_fd", "queue")


def check(values: "Mapping[str, Any]") -> None:
    """Check that options, by Option.dest, can be combined; a value of 0 asks for nothing.

    Raises UsageError if two of them exclude each other.
    """
    for option, others, message in EXCLUSIONS:
        if values[option]:
            for other in others:
                if values[other]:
                    raise UsageError(message.format(_flag(option), _flag(other)))
    for option in WITH_ONE_NAME:
        if values[option] and len(set(values["name"])) > 1:
            raise UsageError(f"{_flag(option)} takes only one --name")


def _flag(dest: str) -> str:
    return "--" + dest.replace("_", "-")


SUBCOMMANDS = (
    "add", "cancel", "check", "completion", "config", "doctor", "help", "history", "is-running",
    "logs", "metrics", "move", "notify", "pause", "prune", "ps", "queue", "reap", "resume", "retry",
    "run", "stats", "stop", "timeline", "wait", "why", "worker",
)  # fmt: skip

RESERVED = ("fence", "store")
"""Future subcommands: to run a program of that name, write ``--`` before it."""


class Words:
    """A parsed argument list.

    Attributes:
        values: the values of all options by Option.dest, defaults included.
        given: the options that were given, by Option.dest.
        command: the first word that is not an option, and all after it.
        dashes: whether ``--`` stood before the command.
    """

    __slots__ = ("command", "dashes", "given", "values")

    def __init__(self) -> None:
        self.values: dict[str, object] = {option.dest: option.default for option in RUN_OPTIONS}
        self.given: set[str] = set()
        self.command: list[str] = []
        self.dashes = False


def split(arguments: list[str]) -> Words | None:
    """Parse the plain forms of the prefix form; return None for all else, which is left to Click.

    Plain are ``-n NAME``, ``-nNAME``, ``--name NAME``, ``--name=NAME``, flags also joined as in
    ``-qw``, and ``--``. Raises UsageError if a value cannot be read.
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
        flag, text = _parts(word)
        option = flags.get(flag)
        if option is None:
            return None
        if option.metavar is None:
            words.values[option.dest] = True
            if text is not None:
                if flag[:2] == "--" or text[0] == "-":
                    return None
                rest.append("-" + text)  # -qw is -q -w
        else:
            if text is None:
                if not rest:
                    return None
                text = rest.pop()
            texts.setdefault(option, []).append(text)
        words.given.add(option.dest)
    for option, given in texts.items():
        # Unless it may be repeated, the last value counts and the others are not even read.
        words.values[option.dest] = (
            tuple(map(option.read, given)) if option.many else option.read(given[-1])
        )
    words.command = rest[::-1]
    return words


def _parts(word: str) -> tuple[str, str | None]:
    """Split a word into its flag and the text that is joined to it, if there is any."""
    if word[:2] == "--":
        flag, equals, text = word.partition("=")
        return flag, text if equals else None
    return word[:2], word[2:] or None
