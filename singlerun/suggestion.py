"""What was probably meant by a word that is no subcommand, or no option."""

from singlerun.options import SUBCOMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

SYNONYMS = {
    "abort": "stop",
    "clean": "prune",
    "cleanup": "prune",
    "continue": "resume",
    "delete": "cancel",
    "diagnose": "doctor",
    "drain": "worker",
    "enqueue": "add",
    "exec": "run",
    "exporter": "metrics",
    "explain": "why",
    "gc": "prune",
    "health": "check",
    "info": "ps",
    "jobs": "queue",
    "kill": "stop",
    "list": "ps",
    "log": "logs",
    "ls": "ps",
    "man": "help",
    "monitor": "check",
    "nagios": "check",
    "output": "logs",
    "past": "history",
    "prioritize": "move",
    "prometheus": "metrics",
    "push": "add",
    "remove": "cancel",
    "requeue": "retry",
    "rerun": "retry",
    "rm": "cancel",
    "runs": "history",
    "show": "ps",
    "start": "run",
    "state": "ps",
    "statistics": "stats",
    "status": "ps",
    "submit": "add",
    "suspend": "pause",
    "tail": "logs --follow",
    "terminate": "stop",
    "top": "ps --watch",
    "unpause": "resume",
    "usage": "help",
    "verify": "check",
    "version": "--version",
    "watch": "ps --watch",
}
"""What other tools call our subcommands."""
FEWEST_LETTERS = 2
"""So many letters of a longer word are enough to recognize it."""
MOST = 3


def subcommand(word: str) -> str | None:
    """Return which subcommand, with its options, a word comes near; None if none does."""
    synonym = SYNONYMS.get(word.lower(), "")
    if synonym.startswith("-") or synonym.partition(" ")[0] in SUBCOMMANDS:
        return synonym
    return next(iter(nearest(word.lower(), SUBCOMMANDS)), None)


def nearest(word: str, words: "Collection[str]") -> list[str]:
    """Return the words that begin with a word, else those that differ from it least; at most 3.

    A word may differ by one edit, and longer ones by an edit for each three letters.
    """
    typed = word.lstrip("-")
    begun = sorted(each for each in words if each.startswith(word))
    if begun and len(typed) >= FEWEST_LETTERS:
        return begun[:MOST]
    edits = {each: distance(word, each) for each in words}
    least = min(edits.values(), default=0)
    if least > max(1, len(typed) // 3) or least >= len(typed):
        return []
    return sorted(each for each in words if edits[each] == least)[:MOST]


def distance(a: str, b: str) -> int:
    """Return how many edits turn one word into the other.

    An edit inserts, deletes or replaces a letter, or swaps two neighbours (optimal string
    alignment).
    """
    before, above = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, other in enumerate(b, 1):
            cost = min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other))
            if i > 1 < j and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]
