"""What a check finds, and what mends it."""

PROBLEM, NOTE = "problem", "note"
LEVELS = (PROBLEM, NOTE)
"""A problem matters: something does not work, is unsafe, or will fail. A note may be meant so."""


class Finding:
    """One thing that a check found.

    Attributes:
        level: PROBLEM or NOTE.
        where: the file and line, name, process or directory that it is about.
        what: a sentence that says what is wrong.
        remedy: a sentence that says what to do, without a full stop.
        command: what to type for that, or the text to write instead; may be empty.
    """

    __slots__ = ("command", "level", "remedy", "what", "where")

    def __init__(self, level: str, where: str, what: str, remedy: str, command: str = "") -> None:
        self.level, self.where, self.what = level, where, what
        self.remedy, self.command = remedy, command

    def as_dict(self) -> dict[str, str]:
        """Return it by the names of its attributes."""
        return {
            name: getattr(self, name) for name in ("level", "where", "what", "remedy", "command")
        }


class Answer:
    """What a check has to say.

    Attributes:
        summary: a phrase that says what was looked at and how it is, for a check without findings.
        findings: what is wrong, or worth knowing.
        is_done: whether the check could be made.
        check: its name; the examination gives it.
    """

    __slots__ = ("check", "findings", "is_done", "summary")

    def __init__(self, summary: str, *findings: Finding, is_done: bool = True) -> None:
        self.summary, self.findings, self.is_done = summary, list(findings), is_done
        self.check = ""

    @property
    def problems(self) -> list[Finding]:
        """The findings that matter."""
        return [finding for finding in self.findings if finding.level == PROBLEM]

    def add(self, level: str, where: str, what: str, remedy: str, command: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(level, where, what, remedy, command))


def counted(number: int, what: str) -> str:
    """Return a number with its noun: ``1 line``, ``2 lines``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
