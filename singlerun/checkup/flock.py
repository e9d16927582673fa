"""A call of flock(1), written with singlerun: the same lock, the same behaviour, and a record."""

import os

from singlerun.render.text import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUED = {"w": "--wait-for", "wait": "--wait-for", "timeout": "--wait-for"}
_STATUS = {"E", "conflict-exit-code"}
_FLAGS = {
    "s": "--shared", "shared": "--shared", "F": "--exec", "no-fork": "--exec",
    "x": "", "e": "", "exclusive": "", "o": "", "close": "", "verbose": "--verbose",
}  # fmt: skip
_NONBLOCK = {"n", "nb", "nonblock"}


class _Call:
    """What a call of flock says; ``is_known`` is false if an option has no counterpart."""

    def __init__(self, words: "Sequence[str]") -> None:
        self.options: list[str] = []
        self.status, self.blocks, self.waits, self.is_known = "", True, False, True
        self.rest = list(words)
        while self.rest and self.rest[0].startswith("-") and self.rest[0] != "-":
            word = self.rest.pop(0)
            if word == "--":
                break
            for name, joined in _letters(word):
                if self._read(name, joined):
                    break

    def _read(self, name: str, joined: str) -> bool:
        """Read an option; return whether the rest of its word was its value."""
        if name in _VALUED or name in _STATUS:
            value = joined or (self.rest.pop(0) if self.rest else "")
            if name in _STATUS:
                self.status = value
            else:
                self.options += ["--wait-for", value]
                self.waits = True
            return True
        if name in _NONBLOCK:
            self.blocks = False
        elif name not in _FLAGS:
            self.is_known = False  # -u, --help
        elif _FLAGS[name]:
            self.options.append(_FLAGS[name])
        return False

    def all_options(self) -> list[str]:
        """Return singlerun's options."""
        found = list(self.options)
        if self.status:
            found += ["--quiet", "-E", self.status]
        elif not self.blocks:
            found.append("--skip")
        if self.blocks and not self.waits:
            found.append("--wait")
        return found


def as_singlerun(words: "Sequence[str]", singlerun: str = "singlerun") -> str | None:
    """Return a command line with the same lock; None if flock does something else with it.

    ``words`` are all of flock's, as the shell passes them.
    """
    call = _Call(words[1:])
    if not (call.is_known and call.rest):
        return None
    file, command = call.rest[0], call.rest[1:]
    options = call.all_options()
    if not command:
        return _line([singlerun, "--lock-fd", file, *options]) if file.isdigit() else None
    if command[0] in {"-c", "--command"}:
        command = ["sh", "-c", *command[1:]]
    return _line([singlerun, "--lock-file", os.path.normpath(file), *options, *command])


def _letters(word: str) -> "Sequence[tuple[str, str]]":
    """Return the options in a word: their names, and the text that may be a value."""
    if word.startswith("--"):
        name, _, value = word[2:].partition("=")
        return [(name, value)]
    return [(letter, word[at + 1 :]) for at, letter in enumerate(word) if at]


def _line(words: "Sequence[str]") -> str:
    return " ".join(map(quoted, words))
