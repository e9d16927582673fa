"""Globs as fnmatch(3) has them: ``*``, ``?``, ``[a-z]`` and ``[!a-z]``; no character is special.

Python's fnmatch makes regular expressions, and importing those costs more than a configuration may.
"""


def is_glob(pattern: str) -> bool:
    """Return whether a text has wildcards."""
    return not set("*?[").isdisjoint(pattern)


def literals(pattern: str) -> int:
    """Return how many characters of a glob stand for themselves: what makes it near."""
    return sum(len(part) == 1 and part not in "*?" for part in _parts(pattern))


def matches(pattern: str, text: str) -> bool:
    """Return whether a glob matches a text, in time of at most their lengths' product."""
    parts = _parts(pattern)
    at = position = 0
    star, resumed = -1, 0
    while position < len(text):
        if at < len(parts) and parts[at] == "*":
            star, resumed, at = at, position, at + 1
        elif at < len(parts) and _fits(parts[at], text[position]):
            at, position = at + 1, position + 1
        elif star >= 0:  # the last star takes one character more
            resumed += 1
            at, position = star + 1, resumed
        else:
            return False
    return all(part == "*" for part in parts[at:])


def _parts(pattern: str) -> list[str]:
    """Split a glob into characters and sets; a set begins with its bracket, and has no other."""
    parts, at = [], 0
    while at < len(pattern):
        end = at + 1
        if pattern[at] == "[":
            close = pattern.find("]", at + (3 if pattern[at + 1 : at + 2] == "!" else 2))
            end = close + 1 if close > 0 else end
        parts.append(pattern[at:end])
        at = end
    return parts


def _fits(part: str, character: str) -> bool:
    if len(part) == 1:
        return part in ("?", character)
    negated = part[1] == "!"
    inner, found, at = part[2:-1] if negated else part[1:-1], False, 0
    while at < len(inner):
        if inner[at + 1 : at + 2] == "-" and at + 2 < len(inner):
            found = found or inner[at] <= character <= inner[at + 2]
            at += 3
        else:
            found = found or inner[at] == character
            at += 1
    return found != negated
