"""The line of each key of a TOML document, which tomllib doesn't tell.

The document is valid, since tomllib has read it. So this needs to tell keys from values only, and
steps over what is in strings.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    Path = tuple[str, ...]

_BLANK = " \t\n\r"
_ESCAPES = {
    "b": "\b",
    "t": "\t",
    "n": "\n",
    "f": "\f",
    "r": "\r",
    "e": "\x1b",
    '"': '"',
    "\\": "\\",
}
_HEX = {"x": 2, "u": 4, "U": 8}


def lines(text: str) -> "dict[Path, int]":
    """Return the line on which each key and table first stands, by the keys that lead to it."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._line, self._counted = text + "\n", 0, 1, 0
        self._found: dict[Path, int] = {}

    def scan(self) -> "dict[Path, int]":
        table: Path = ()
        while self._skip():
            if self._peek() == "[":
                brackets = 2 if self._text.startswith("[[", self._at) else 1
                self._at += brackets
                table = self._key(())
                self._skip()
                self._at += brackets
            else:
                self._pair(table)
        return self._found

    # -- places -------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._text[self._at]

    def _skip(self, extra: str = "") -> bool:
        """Step over blanks, comments and ``extra``; return whether something follows."""
        while self._at < len(self._text):
            character = self._peek()
            if character == "#":
                self._at = self._text.index("\n", self._at)
            elif character in _BLANK or character in extra:
                self._at += 1
            else:
                return True
        return False

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    # -- keys and values ----------------------------------------------------------------------

    def _pair(self, table: "Path") -> None:
        path = self._key(table)
        self._skip("=")
        self._value(path)

    def _key(self, table: "Path") -> "Path":
        """Step over a dotted key; note the line of each key that it names."""
        path, line = table, 0
        while True:
            self._skip()
            line = line or self._line_here()
            path = (*path, self._part())
            self._found.setdefault(path, line)
            self._skip()
            if self._peek() != ".":
                return path
            self._at += 1

    def _part(self) -> str:
        if self._peek() in "\"'":
            begin = self._at
            self._string()
            return _unquoted(self._text[begin : self._at])
        begin = self._at
        while self._peek() not in _BLANK + ".=]":
            self._at += 1
        return self._text[begin : self._at]

    def _value(self, path: "Path") -> None:
        """Step over a value; note the keys of inline tables in it."""
        character = self._peek()
        if character in "\"'":
            self._string()
        elif character == "[":
            self._at += 1
            while self._skip(",") and self._peek() != "]":
                self._value(path)
            self._at += 1
        elif character == "{":
            self._at += 1
            while self._skip(",") and self._peek() != "}":
                self._pair(path)
            self._at += 1
        else:  # a number, a date (which may have a blank in it), true or false
            while self._peek() not in ",]}#\n":
                self._at += 1

    def _string(self) -> None:
        quote = self._peek()
        if self._text.startswith(3 * quote, self._at):
            self._at += 3
            self._until(3 * quote, escapes=quote == '"')
            for _ in range(2):  # up to two quotes may stand before the closing ones
                self._at += self._peek() == quote
        else:
            self._at += 1
            self._until(quote, escapes=quote == '"')

    def _until(self, end: str, *, escapes: bool) -> None:
        while not self._text.startswith(end, self._at):
            self._at += 2 if escapes and self._peek() == "\\" else 1
        self._at += len(end)


def _unquoted(text: str) -> str:
    """Return what a quoted key says."""
    inner = text[1:-1]
    if text[0] == "'" or "\\" not in inner:
        return inner
    parts, at = [], 0
    while at < len(inner):
        if inner[at] != "\\":
            parts.append(inner[at])
            at += 1
            continue
        letter = inner[at + 1]
        digits = _HEX.get(letter, 0)
        code = inner[at + 2 : at + 2 + digits]
        parts.append(chr(int(code, 16)) if digits else _ESCAPES.get(letter, letter))
        at += 2 + digits
    return "".join(parts)
