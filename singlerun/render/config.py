"""The configuration for people and for scripts: files, what they set, and mistakes in them."""

import os

from singlerun.render.result import Result
from singlerun.render.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from singlerun.config.origin import Setting
    from singlerun.config.reading import Problem

READ, MISSING, REFUSED = "read", "missing", "refused"


class Files(Result):
    """Which files are read."""

    columns = ("FILE", "STATE")

    def __init__(self, files: "Sequence[tuple[bytes, str]]") -> None:
        super().__init__()
        self._files = files

    def rows(self) -> list[tuple[str, ...]]:
        return [(shown(path), state) for path, state in self._files]

    def document(self) -> dict[str, object]:
        return {
            "files": [{"path": os.fsdecode(path), "state": state} for path, state in self._files]
        }


class Settings(Result):
    """What is set, and where."""

    columns = ("KEY", "VALUE", "TABLE", "FROM")
    spare = ("TABLE",)
    empty = "nothing is configured; to begin: singlerun config init"

    def __init__(self, settings: "Sequence[Setting]", errors: "Iterable[str]") -> None:
        super().__init__(errors=errors)
        self._settings = settings

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (shown(each.key), shown(written(each.value)), shown(each.table) or "-", _place(each))
            for each in self._settings
        ]

    def document(self) -> dict[str, object]:
        return {
            "settings": [
                {
                    "key": each.key,
                    "value": each.value,
                    "table": each.table or None,
                    "file": None if each.file is None else os.fsdecode(each.file),
                    "line": each.line,
                }
                for each in self._settings
            ]
        }


class Problems(Result):
    """What is wrong with the files."""

    def __init__(self, problems: "Sequence[Problem]", fine: str) -> None:
        super().__init__(status=1 if problems else 0)
        self._problems, self._fine = problems, fine

    def lines(self) -> "Iterable[str]":
        if not self._problems:
            return [self._fine]
        return [
            f"{shown(file)}:{line}: {shown(f'{key}: {what}' if key else what)}"
            for file, line, key, what in self._problems
        ]

    def document(self) -> dict[str, object]:
        return {
            "problems": [
                {"file": os.fsdecode(file), "line": line, "key": key or None, "problem": what}
                for file, line, key, what in self._problems
            ]
        }


def _place(setting: "Setting") -> str:
    if setting.file is None:
        return "last known"
    return f"{shown(setting.file)}:{setting.line}"


def written(value: object) -> str:
    """Return a value as TOML has it, on one line."""
    import tomli_w  # noqa: PLC0415

    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
