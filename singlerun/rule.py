"""Rules of notification: ``WHEN:URL``, which events are told, and where."""

from singlerun import url
from singlerun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

KINDS = {
    "start": "the start of a run",
    "success": "a success",
    "failure": "a failure",
    "recovery": "the first success after a failure",
    "change": "a failure after a success, and a success after a failure",
    "refused": "several refusals in a row",
    "overlong": "a run that takes far longer than usual",
    "overdue": "a run that did not take place",
    "lost": "a run that died without recording an exit status",
    "queue-empty": "a queue that has been worked off",
}
"""The events that a rule can name, and what they are; event.KINDS has those of hooks, too."""
REFUSED_AFTER = 3
"""Refusals in a row before they are told: one is no news where runs may overlap."""
OVERLONG = 3.0
"""How many times its usual duration is too long for a run."""
WITH_NUMBER = {"refused": float(REFUSED_AFTER), "overlong": OVERLONG}
_EXAMPLE = "write WHEN:URL, such as failure,recovery:mailto:ops@example.org"


class Rule:
    """One event, and where it is told.

    Attributes:
        kind: one of KINDS.
        target: a URL, or the name of one in ``[notify.targets]``.
        number: how many refusals in a row, or how many times the usual duration; 0 for others.
    """

    __slots__ = ("kind", "number", "target")

    def __init__(self, kind: str, target: str, number: float = 0.0) -> None:
        self.kind, self.target, self.number = kind, target, number


def read(text: str) -> str:
    """Return a rule's text if it is well-formed, else raise UsageError."""
    parse(text)
    return text


def parse(text: str) -> list[Rule]:
    """Return the rules in ``WHEN[,WHEN]...:URL``; UsageError tells what is wrong, and no secret."""
    when, colon, target = text.partition(":")
    if not colon or not target:
        raise UsageError(f"bad notification {_brief(when)}: {_EXAMPLE}")
    kinds = [_kind(word.strip()) for word in when.split(",")]
    check_target(target)
    return [Rule(kind, target, number) for kind, number in kinds]


def check_target(target: str) -> None:
    """Raise UsageError unless this is a URL, or may be the name of one."""
    if url.is_url(target):
        url.check(target)
    elif not target.isprintable() or set(target) & set(" /@,"):
        what = f"bad target {_brief(target)}"
        raise UsageError(f"{what}: write a URL, or the name of one in [notify.targets]")


def _brief(text: str) -> str:
    """Return the beginning of what is no rule: a URL without its scheme may hold a secret."""
    for mark in "/@?":
        text = text.partition(mark)[0]
    return repr(text)


def _kind(word: str) -> tuple[str, float]:
    kind, equals, text = word.partition("=")
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise UsageError(f"there is no event {_brief(kind)}; there are: {known}; {_EXAMPLE}")
    if not equals:
        return kind, WITH_NUMBER.get(kind, 0.0)
    if kind not in WITH_NUMBER:
        raise UsageError(f"{kind} takes no number; write {kind}:URL")
    return kind, read_number(kind, text)


def read_number(kind: str, text: str) -> float:
    """Read the number of ``refused=N`` or ``overlong=X``; raise UsageError if it is none."""
    whole = kind == "refused"
    is_number = text.isascii() and text.replace(".", "", not whole).isdecimal() and len(text) < 9
    if not is_number or float(text) < 1:
        example = f"a whole number such as {REFUSED_AFTER}" if whole else "a number such as 1.5"
        raise UsageError(f"bad number {text!r}: {kind}= takes {example}")
    return float(text)


def wanted(texts: "Iterable[str]", table: "Mapping[str, Any]", **more: float) -> list[Rule]:
    """Return all rules of a run: those of ``--notify``, and those of ``[notify]``, each once.

    ``more`` are the numbers of kinds that the table has them for elsewhere.
    """
    numbers = WITH_NUMBER | more
    numbers["refused"] = float(table.get("refused_after", numbers["refused"]))
    rules = [rule for text in texts for rule in parse(text)]
    for kind in KINDS:
        targets = table.get(kind.replace("-", "_"), ())
        several = [targets] if isinstance(targets, str) else targets
        rules += [Rule(kind, target, numbers.get(kind, 0.0)) for target in several]
    found: dict[tuple[str, str], Rule] = {}
    for rule in rules:
        found.setdefault((rule.kind, address(rule.target, table) or rule.target), rule)
    return list(found.values())


def address(target: str, table: "Mapping[str, Any]") -> str | None:
    """Return the URL of a target, None if there is no target of that name."""
    if url.is_url(target):
        return target
    named = table.get("targets", {}).get(target)
    return named if isinstance(named, str) else None
