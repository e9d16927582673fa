"""What waits to be told, and how a try went."""

import time

from singlerun import url as urls
from singlerun.duration import brief
from singlerun.render.result import Result
from singlerun.render.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Entry = tuple[dict[str, Any], tuple[int, int, str]]


class Waiting(Result):
    """The notifications in the spool: each with its tries, and what the last of them met."""

    columns = ("EVENT", "NAME", "TARGET", "AGE", "TRIES", "ERROR")
    spare = ("AGE", "TRIES")
    empty = "Nothing waits to be told; what was told: see notify.log in the state directory"

    def __init__(self, entries: "list[Entry]") -> None:
        super().__init__()
        self._entries = entries

    def rows(self) -> "list[tuple[str, ...]]":
        now = time.time()
        return [
            (shown(str(entry["event"].get("event"))), shown(str(entry["event"].get("name"))),
             shown(urls.hidden(entry["url"])), brief(now - float(entry.get("written", now))),
             str(tries), shown(error))
            for entry, (tries, _, error) in self._entries
        ]  # fmt: skip

    def document(self) -> dict[str, object]:
        return {
            "notifications": [
                {"event": entry["event"], "target": urls.hidden(entry["url"]), "tries": tries,
                 "error": error or None}
                for entry, (tries, _, error) in self._entries
            ]
        }  # fmt: skip


class Delivered(Result):
    """How a try went; ``error`` is None if it was accepted."""

    def __init__(self, url: str, error: str | None) -> None:
        super().__init__(status=0 if error is None else 1)
        self._target, self._error = shown(urls.hidden(url)), error

    def lines(self) -> list[str]:
        how = "accepted" if self._error is None else f"failed: {shown(self._error)}"
        return [f"{self._target}: {how}"]

    def document(self) -> dict[str, object]:
        return {"target": self._target, "error": self._error}
