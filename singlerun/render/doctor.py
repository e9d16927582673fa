"""The findings of ``doctor``: problems and notes with their remedies, then what is well."""

import textwrap

from singlerun.finding import NOTE, PROBLEM, counted
from singlerun.render import style
from singlerun.render.result import Result
from singlerun.render.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from singlerun.finding import Answer, Finding

HEADINGS = {PROBLEM: "Problems", NOTE: "Notes"}
_COLOURS = {PROBLEM: style.CODES["red"], NOTE: style.CODES["yellow"]}
_UNCHECKED = "Not checked"


class Diagnoses(Result):
    """All findings; status 1 if one of them is a problem. ``quiet`` leaves only the problems."""

    def __init__(self, directory: str, answers: "Sequence[Answer]", *, quiet: bool = False) -> None:
        super().__init__()
        self._directory, self._answers, self._quiet = directory, answers, quiet
        self._found = [(answer.check, finding) for answer in answers for finding in answer.findings]
        self.status = 1 if self._of(PROBLEM) else 0

    def _of(self, level: str) -> "list[tuple[str, Finding]]":
        return [each for each in self._found if each[1].level == level]

    def lines(self) -> "Iterator[str]":
        if not self._quiet:
            yield style.paint(self._sentence(), style.CODES["bold"])
        for level in (PROBLEM,) if self._quiet else (PROBLEM, NOTE):
            if found := self._of(level):
                if not self._quiet:
                    yield from ("", style.paint(HEADINGS[level], _COLOURS[level]))
                for check, finding in found:
                    yield from _drawn(check, finding)
        if not self._quiet:
            yield from self._rest(_UNCHECKED, is_done=False)
            yield from self._rest("Well", is_done=True)

    def _sentence(self) -> str:
        problems, notes = len(self._of(PROBLEM)), len(self._of(NOTE))
        if not problems and not notes:
            return "All is well."
        what = counted(problems, "problem") if problems else "No problem"
        return f"{what}, {counted(notes, 'note')}." if notes else f"{what}."

    def _rest(self, heading: str, *, is_done: bool) -> "Iterator[str]":
        """Yield a line for each check without findings."""
        rest = [each for each in self._answers if not each.findings and each.is_done == is_done]
        if rest:
            yield from ("", style.paint(heading, style.CODES["green"] if is_done else ""))
        width = max((len(answer.check) for answer in self._answers), default=0)
        for answer in rest:
            yield from _wrapped(shown(answer.summary), f"  {answer.check:{width}}  ", width + 4)

    def document(self) -> dict[str, object]:
        return {
            "directory": self._directory,
            "problems": len(self._of(PROBLEM)),
            "notes": len(self._of(NOTE)),
            "findings": [{"check": check, **finding.as_dict()} for check, finding in self._found],
            "checks": [
                {"name": answer.check, "summary": answer.summary or None, "done": answer.is_done,
                 "findings": len(answer.findings)}
                for answer in self._answers
            ],
        }  # fmt: skip


def _drawn(check: str, finding: "Finding") -> "Iterator[str]":
    where = shown(finding.where)
    yield from _wrapped(check if where == check else f"{check}: {where}", "  ", 4)
    yield from _wrapped(_sentence(shown(finding.what)), "    ", 4)
    remedy, command = _sentence(shown(finding.remedy)), shown(finding.command)
    if not command:
        yield from _wrapped(remedy, "      ", 6)
        return
    whole = f"{remedy}: {command}"
    if len(whole) + 6 <= _width():
        yield f"      {whole}"
        return
    yield from _wrapped(f"{remedy}:", "      ", 6)
    yield f"      {command}"  # never broken: it is to be copied


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _wrapped(text: str, first: str, indent: int) -> "Iterable[str]":
    """Return a text in lines that fit; in a pipe it is one line."""
    if not style.is_terminal():
        return [first + text]
    return textwrap.wrap(
        text, max(_width(), indent + 20), initial_indent=first, subsequent_indent=" " * indent,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def _width() -> int:
    return style.width() if style.is_terminal() else 10**6
