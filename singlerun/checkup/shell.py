"""Takes the command lines of a shell apart: as much of sh(1) as crontabs have.

It does not run, expand or guess: a word with an expansion that is not known is not literal.
"""

import re

MOST_WORDS = 2000
_OPERATORS = ("&&", "||", ";;", "|&", ";", "|", "&", "(", ")", "\n")
_REDIRECTION = re.compile(r"\d*(?:&>>|&>|>>|>\||>&|<<<|<<-|<<|<&|<>|>|<)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_PLAIN = re.compile(r"[^\s\\'\"$`;&|()<>#]+")
_GROUPING = {"{", "}", "!", "if", "then", "else", "elif", "fi", "do", "done", "while", "until"}


class UnreadableError(ValueError):
    """A quotation does not end."""


class Word:
    """A word, and whether it is known letter by letter."""

    __slots__ = ("literal", "text")

    def __init__(self, text: str = "", *, literal: bool = True) -> None:
        self.text, self.literal = text, literal


def commands(line: str, variables: dict[str, str]) -> list[list[Word]]:
    """Return the simple commands of a line, each a list of words, without redirections.

    Raises UnreadableError if a quotation or a substitution does not end.
    """
    found: list[list[Word]] = [[]]
    at, wants_target = 0, False
    while at < len(line) and sum(map(len, found)) < MOST_WORDS:
        if line[at] in " \t":
            at += 1
        elif line[at] == "#":
            at = line.find("\n", at) % (len(line) + 1)
        elif (operator := _operator(line, at)) and not _REDIRECTION.match(line, at):
            found.append([])
            at += len(operator)
        elif (match := _REDIRECTION.match(line, at)) is not None:
            at, wants_target = match.end(), True
        else:
            word, at = _read_word(line, at, variables)
            if wants_target:
                wants_target = False
            elif found[-1] or word.text not in _GROUPING:
                found[-1].append(word)
    return [words for words in found if words]


def _operator(line: str, at: int) -> str:
    return next((each for each in _OPERATORS if line.startswith(each, at)), "")


def _read_word(line: str, at: int, variables: dict[str, str]) -> tuple[Word, int]:
    word, begin = Word(), at
    while at < len(line) and line[at] not in " \t" and not _operator(line, at):
        character = line[at]
        if character in "<>":
            break
        if (plain := _PLAIN.match(line, at)) is not None:
            text = plain[0]
            if at == begin and (text == "~" or text.startswith("~/")) and "HOME" in variables:
                text = variables["HOME"] + text[1:]
            word.literal &= not set(text) & set("*?[~") and not ("{" in text and "," in text)
            word.text += text
            at = plain.end()
        elif character == "\\":
            word.text += line[at + 1 : at + 2]
            at += 2
        elif character == "'":
            end = _find(line, "'", at + 1)
            word.text += line[at + 1 : end]
            at = end + 1
        elif character == '"':
            at = _read_quoted(line, at + 1, word, variables)
        elif character in "$`":
            at = _read_expansion(line, at, word, variables)
        else:  # a # within a word
            word.text += character
            at += 1
    return word, at


def _read_quoted(line: str, at: int, word: Word, variables: dict[str, str]) -> int:
    """Add what stands between double quotes; return where the line goes on."""
    while at < len(line):
        if line[at] == '"':
            return at + 1
        if line[at] == "\\" and line[at + 1 : at + 2] in {"$", "`", '"', "\\", "\n"}:
            word.text += line[at + 1]
            at += 2
        elif line[at] in "$`":
            at = _read_expansion(line, at, word, variables)
        else:
            word.text += line[at]
            at += 1
    raise UnreadableError("a quotation does not end")


def _read_expansion(line: str, at: int, word: Word, variables: dict[str, str]) -> int:
    """Add an expansion: the value of a known variable, or its text; return where it ends."""
    if (match := _VARIABLE.match(line, at)) is not None:
        name = match[1] or match[2]
        known = name in variables
        word.text += variables[name] if known else match[0]
        word.literal &= known
        return match.end()
    word.literal = False
    if line[at] == "`":
        end = _find(line, "`", at + 1) + 1
    elif line.startswith(("$(", "${"), at):
        end = _end_of_nested(line, at + 1)
    else:
        end = at + 1
    word.text += line[at:end]
    return end


def _end_of_nested(line: str, at: int) -> int:
    """Return where a parenthesis or brace that opens here has been closed."""
    depth, quote = 0, ""
    for place in range(at, len(line)):
        character = line[place]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "({":
            depth += 1
        elif character in ")}":
            depth -= 1
            if not depth:
                return place + 1
    raise UnreadableError("a substitution does not end")


def _find(line: str, character: str, at: int) -> int:
    end = line.find(character, at)
    if end < 0:
        raise UnreadableError("a quotation does not end")
    return end
