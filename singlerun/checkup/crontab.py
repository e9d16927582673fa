"""Reads crontab(5) as Debian's cron and cronie do: settings, schedules, users and commands."""

import re

from singlerun.checkup import schedule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.schedule import Schedule

_SETTING = re.compile(
    r"""[ \t]*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s="']+))"""
    r"[ \t]*=[ \t]*(?P<value>.*)"
)
MOST_BYTES = 1024 * 1024
MOST_LINES = 2000
"""Of one file: cron itself takes no more than 1,000 in some versions."""


class Line:
    """A line that starts a command.

    Attributes:
        file, number: where it stands.
        schedule: when it is started.
        user: as whom; None if it is the owner of the crontab.
        text: the line without its schedule and user, as it is written.
        command: what the shell gets: up to the first ``%`` that is not escaped.
        input: what the command gets as standard input, None if nothing follows a ``%``.
        settings: the variables that are set above it.
    """

    def __init__(
        self, file: str, number: int, schedule_: "Schedule", user: str | None, *, text: str,
        settings: dict[str, str],
    ) -> None:  # fmt: skip
        self.file, self.number, self.schedule, self.user = file, number, schedule_, user
        self.text, self.settings = text, settings
        self.command, self.input = _split_at_percent(text)

    @property
    def where(self) -> str:
        """Its place, for a person."""
        return f"{self.file}:{self.number}"


class Crontab:
    """What is read of a crontab; ``flaws`` are the lines that can't be read, and why."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.flaws: list[tuple[int, str]] = []


def parse(text: str, file: str, *, has_users: bool) -> Crontab:
    """Read a crontab; one of the system ``has_users`` between the schedule and the command."""
    found, settings = Crontab(), dict[str, str]()
    for number, line in enumerate(text.split("\n")[:MOST_LINES], 1):
        bare = line.lstrip(" \t")
        if not bare.strip() or bare.startswith("#"):
            continue
        if (setting := _SETTING.fullmatch(line)) is not None:
            settings = settings | dict([_read_setting(setting)])
            continue
        try:
            when, user, command = _read_line(bare, has_users=has_users)
        except schedule.ScheduleError as error:
            found.flaws.append((number, str(error)))
            continue
        found.lines.append(Line(file, number, when, user, text=command, settings=settings))
    if text and not text.endswith("\n"):
        found.flaws.append((text.count("\n") + 1, "the last line does not end in a newline"))
    return found


def _read_setting(match: "re.Match[str]") -> tuple[str, str]:
    name = match["double"] or match["single"] or match["bare"] or ""
    value = match["value"].rstrip()
    if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
        value = value[1:-1]
    return name, value


def _read_line(line: str, *, has_users: bool) -> "tuple[Schedule, str | None, str]":
    fields = 1 if line.startswith("@") else 5
    words = line.split(None, fields + has_users)
    if len(words) <= fields + has_users:
        what = "schedule, a user and a command" if has_users else "schedule and a command"
        raise schedule.ScheduleError(f"it is no {what}")
    words[0] = words[0].removeprefix("-")  # cronie: not to be logged
    when = schedule.read(words[:fields])
    return when, words[fields].partition(":")[0] if has_users else None, words[-1].rstrip("\r")


def _split_at_percent(text: str) -> tuple[str, str | None]:
    command, parts = "", re.split(r"(\\%|%)", text)
    for at, part in enumerate(parts):
        if part == "%":
            rest = "".join(parts[at + 1 :])
            return command, re.sub(r"(?<!\\)%", "\n", rest).replace("\\%", "%")
        command += "%" if part == "\\%" else part
    return command, None
