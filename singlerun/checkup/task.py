"""What a line of a crontab starts, and whether a lock guards it."""

import os
import pwd
import re
from functools import cache

from singlerun import config, options
from singlerun.checkup import shell
from singlerun.checkup.case import user_of
from singlerun.errors import SinglerunError
from singlerun.paths import HOME_DIR, SYSTEM_DIR
from singlerun.process.search import find_program
from singlerun.spec import derived_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from singlerun.checkup.crontab import Line
    from singlerun.checkup.crontabs import Source
    from singlerun.checkup.shell import Word
    from singlerun.config.settings import Settings

PATH = "/usr/bin:/bin"
"""That of cron, unless the crontab or PAM sets another."""
_ENVIRONMENT = "/etc/environment"
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PREFIXES = {
    "chronic": "", "command": "", "cronic": "", "doas": "uC", "env": "uC", "exec": "a",
    "ionice": "cnpt", "nice": "n", "nohup": "", "setsid": "", "stdbuf": "ioe",
    "sudo": "CDghpRrTtUu", "systemd-cat": "tp", "time": "fo", "timeout": "ks",
}  # fmt: skip
"""Programs that start another one, with the letters of their options that have a value."""
_SHELLS = {"ash", "bash", "dash", "ksh", "sh", "zsh"}
_LOCKERS = {"lckdo", "run-one", "run-this-one", "sem", "setlock", "solo", "with-lock-ex"}
SINGLERUN, FLOCK, OTHER, PLAIN = "singlerun", "flock", "other", "plain"


class Task:
    """A command that a line starts.

    Attributes:
        line, source: where it stands.
        user, home: as whom it runs; sudo is heeded.
        is_sudo: whether sudo or doas stands before it.
        words: the program that guards it, if there is one, and the command.
        kind: what guards it: SINGLERUN, FLOCK, OTHER, or PLAIN if nothing does.
        argv: the command itself, and None if it is not known letter by letter.
        path: the PATH in which its programs are looked for.
        cwd: the directory that the line has changed to.
        values: singlerun's options by Option.dest; empty if they cannot be told.
    """

    def __init__(self, line: "Line", source: "Source", user: str, home: str) -> None:
        self.line, self.source, self.user, self.home = line, source, user, home
        self.is_sudo = False
        self.words: list[Word] = []
        self.kind = PLAIN
        self.argv: list[str] | None = None
        self.environment: dict[str, str] = {}
        self.cwd = home
        self.values: dict[str, Any] = {}
        self.trouble = ""

    @property
    def program(self) -> str:
        """The first word."""
        return self.words[0].text

    @property
    def path(self) -> str:
        """The PATH in which its programs are looked for."""
        return self.environment.get("PATH", PATH)

    def find(self, program: str) -> str | None:
        """Return the absolute path of a program as this task finds it, None if it does not."""
        found = find_program(program if "/" not in program else self._absolute(program), self.path)
        return found and self._absolute(found)

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.cwd, path))

    def identity(self) -> tuple[str, ...] | None:
        """Return the command with the path of its program; None if it is not known."""
        if not self.argv:
            return None
        return (self.find(self.argv[0]) or self.argv[0], *self.argv[1:])

    def names(self) -> tuple[bytes, ...]:
        """Return what singlerun names it by."""
        if self.kind == SINGLERUN and not self.values:
            return ()
        if self.values.get("lock_file"):
            return (self.values["lock_file"],)
        identity = self.identity()
        return self.values.get("name") or ((derived_name(list(identity)),) if identity else ())

    def state_path(self) -> bytes:
        """Return the state directory that singlerun would use in it."""
        given = self.values.get("dir") or os.fsencode(self.environment.get("SINGLERUN_DIR", ""))
        if self.is_sudo and not self.values.get("dir"):
            given = b""  # sudo clears the environment
        default = SYSTEM_DIR if self.user == "root" else os.path.join(_home(self.user), HOME_DIR)
        if not given and self._is_mine():
            given = _settings().directory()
        return os.path.normpath(given or default)

    def has(self, *dests: str) -> bool:
        """Return whether it has one of these options, given on its line or configured."""
        configured = {}
        if self._is_mine() and not self.values.get("no_config"):
            configured = _settings().options(self.names()[0]) if self.names() else {}
        return any(self.values.get(dest) or configured.get(dest) for dest in dests)

    def waits(self) -> bool:
        """Return whether it waits its turn, or may run beside others."""
        return self.has("wait", "wait_for", "coalesce", "queue", "replace", "shared", "slots")

    def _is_mine(self) -> bool:
        return self.user == user_of(os.geteuid())


def of_source(source: "Source") -> list[Task]:
    """Return what the lines of a crontab start; a line that cannot be read starts nothing."""
    found = []
    for line in source.found.lines:
        user = line.user or source.owner or ""
        try:
            home = pwd.getpwnam(user).pw_dir
        except (KeyError, ValueError):
            continue
        environment = {"HOME": home, "LOGNAME": user, "SHELL": "/bin/sh", "PATH": _default_path()}
        environment |= line.settings
        try:
            found += _of_text(line.command, line, source, user, environment)
        except shell.UnreadableError:
            continue
    return found


def _of_text(
    text: str, line: "Line", source: "Source", user: str, environment: dict[str, str]
) -> list[Task]:
    found, cwd = [], environment["HOME"]
    for words in shell.commands(text, environment):
        task = Task(line, source, user, environment["HOME"])
        task.environment, task.cwd = dict(environment), cwd
        task.words = _strip(words, task)
        if not task.words:
            continue
        name = os.path.basename(task.program)
        if name == "cd" and len(task.words) == 2 and task.words[1].literal:
            cwd = os.path.join(cwd, task.words[1].text)
            continue
        inner = _script(task.words) if name in _SHELLS else None
        if inner is not None:
            found += _of_text(inner, line, source, task.user, task.environment)
            continue
        _classify(task, name)
        found.append(task)
    return found


def _script(words: "list[Word]") -> str | None:
    """Return the text that a shell gets by -c."""
    for at, word in enumerate(words[1:-1], 1):
        if re.fullmatch(r"-[a-z]*c", word.text) and words[at + 1].literal:
            return words[at + 1].text
        if not word.text.startswith("-"):
            break
    return None


def _strip(words: "list[Word]", task: Task) -> "list[Word]":
    """Remove assignments and the programs that only start another; note what they change."""
    rest = list(words)
    while rest:
        if (setting := _ASSIGNMENT.fullmatch(rest[0].text)) is not None:
            task.environment[setting[1]] = setting[2]
            del rest[0]
            continue
        name = os.path.basename(rest[0].text)
        if name not in _PREFIXES or len(rest) == 1:
            return rest
        del rest[0]
        options_ = _strip_options(rest, _PREFIXES[name])
        if name in {"sudo", "doas"}:
            task.is_sudo, task.user = True, options_.get("u", "root")
        elif name == "timeout":
            del rest[:1]
    return rest


def _strip_options(rest: "list[Word]", valued: str) -> dict[str, str]:
    found: dict[str, str] = {}
    while rest and rest[0].text.startswith("-"):
        word = rest.pop(0).text
        if word == "--":
            break
        if not word.startswith("--") and word[1:2] in valued:
            value = word[2:] or (rest.pop(0).text if rest else "")
            found[word[1:2]] = value
    return found


def _classify(task: Task, name: str) -> None:
    if name == "singlerun":
        task.kind = SINGLERUN
        _read_singlerun(task)
    elif name == "flock":
        task.kind = FLOCK
    elif name in _LOCKERS:
        task.kind = OTHER
    elif all(word.literal for word in task.words):
        task.argv = [word.text for word in task.words]


def _read_singlerun(task: Task) -> None:
    """Read singlerun's own options, and which command it runs."""
    try:
        parsed = options.split([word.text for word in task.words[1:]])
        if parsed and parsed.command[:1] == ["run"] and not parsed.dashes:
            parsed = options.split(parsed.command[1:])
    except SinglerunError as error:
        task.trouble = str(error.args[0])
        return
    if parsed is None or not parsed.command:
        return
    if parsed.command[0] in options.SUBCOMMANDS and not parsed.dashes:
        return
    if all(word.literal for word in task.words[: -len(parsed.command)]):
        task.values = parsed.values
    if all(word.literal for word in task.words[-len(parsed.command) :]):
        task.argv = parsed.command


@cache
def _settings() -> "Settings":
    return config.load(None)


def _home(user: str) -> bytes:
    try:
        return os.fsencode(pwd.getpwnam(user).pw_dir)
    except (KeyError, ValueError):
        return b"/"


def _default_path() -> str:
    """Return the PATH that PAM gives cron from /etc/environment, or cron's own."""
    try:
        with open(_ENVIRONMENT, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return PATH
    settings = [line.strip().removeprefix("export ").partition("=")[::2] for line in lines]
    return next((value.strip("\"'") for name, value in settings if name == "PATH"), PATH)
