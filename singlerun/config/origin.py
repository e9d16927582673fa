"""Where each value comes from: for ``config show``."""

import os
from typing import Any

from singlerun import url
from singlerun.config import glob, schema
from singlerun.config.reading import Entry, Reading, dotted
from singlerun.config.settings import OF_THE_LOCK, Settings


class Setting:
    """A value that holds.

    Attributes:
        key: its key, dotted.
        value: as TOML has it, with secrets hidden.
        table: the table that it comes from.
        file, line: where; None if that is only remembered, since the file can't be read now.
    """

    def __init__(
        self, key: str, value: object, table: str, file: bytes | None, line: int | None
    ) -> None:
        self.key, self.value, self.table, self.file, self.line = key, value, table, file, line


def everything(reading: Reading) -> list[Setting]:
    """Return all that the files set, each key as the last file has it."""
    last = {entry.path: entry for entry in reading.entries}
    return [_setting(entry, dotted(entry.path)) for entry in last.values()]


def holding(reading: Reading, settings: Settings, name: bytes) -> list[Setting]:
    """Return what holds for a name."""
    held: dict[str, Any] = {
        **settings.options(name), **settings.queue_options(name), **settings.watch(name),
    }  # fmt: skip
    found: dict[str, Setting] = {}
    for entry in _by_nearness(reading, name):
        rest = entry.path[-1:] if _is_option(entry) else entry.path[entry.path.index("notify") :]
        if rest[0] == "notify" or entry.key.dest in held:
            found[dotted(rest)] = _setting(entry, dotted(rest))
    for dest in OF_THE_LOCK:
        option = dest.replace("_", "-")
        if option in found and dest not in held:
            del found[option]
        elif option not in found and dest in held:
            value = os.fsdecode(held[dest]) if isinstance(held[dest], bytes) else held[dest]
            found[option] = Setting(option, value, "", None, None)
    return list(found.values())


def _is_option(entry: Entry) -> bool:
    return "notify" not in entry.path[:1] and entry.path[2:3] != ("notify",)


def _by_nearness(reading: Reading, name: bytes) -> list[Entry]:
    """Return what is set for a name, the nearest last."""
    text = name.decode("utf-8", "surrogateescape")

    def nearness(entry: Entry) -> tuple[int, int]:
        if entry.path[0] != schema.JOBS.name:
            return 0, 0
        pattern = entry.path[1]
        return (2, 0) if pattern == text else (1, glob.literals(pattern))

    ours = [
        entry
        for entry in reading.entries
        if entry.path[0] in {schema.DEFAULTS.name, schema.NOTIFY.name}
        or (
            entry.path[0] == schema.JOBS.name
            and (entry.path[1] == text or glob.matches(entry.path[1], text))
        )
    ]
    return sorted(ours, key=nearness)


def _setting(entry: Entry, key: str) -> Setting:
    value = hidden(entry.written) if entry.key.secret else entry.written
    table = dotted(entry.path[:-1])
    return Setting(key, value, table, entry.file, entry.line)


def hidden(value: object) -> object:
    """Return a value without what may be secret: URLs are as url.hidden shows them."""
    if isinstance(value, list):
        return [hidden(each) for each in value]
    return url.hidden(value) if isinstance(value, str) else url.ELLIPSIS
