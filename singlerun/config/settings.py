"""What holds: of several tables for a name, the nearest wins.

The nearest is the table of just this name, then the glob with the most literal characters, then
``[defaults]``. Of tables that are equally near, that of the later file wins (``files.py``).
"""

import os

from singlerun.config import glob
from singlerun.errors import ConfigError, UsageError
from singlerun.options import EXCLUSIONS, RUN_OPTIONS, read_lock_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

EMPTY: "dict[str, Any]" = {
    "defaults": [], "names": {}, "globs": [], "tables": {}, "problems": [], "prior": None,
}  # fmt: skip
"""Settings that say nothing.

    defaults    what each [defaults] sets, by Option.dest, the nearest last
    names       by name, what each [jobs."NAME"] sets, the nearest last
    globs       pairs of a glob and what it sets, the nearest last
    tables      what the other tables set
    problems    file, line, key and sentence of what could not be read
    prior       what was last known when there was no problem: see ``remembered``

It is kept as it is in the cache, so it has no types but those of marshal.
"""

POLICIES = ("wait", "wait_for", "skip", "replace", "queue", "coalesce")
"""What is done if a name is held: one choice, of which a nearer table replaces all."""
OF_THE_LOCK = ("dir", "lock_file", "lock_type", "shared", "slots")
"""Options that say which lock is taken: without them a second command might start beside one."""
WATCH = ("expect", "overlong", "max_queued", "max_refused")
QUEUE_ONLY = ("priority", "delay", "unique", "label", "limit", "env", "all_env")
"""Options of ``singlerun add`` that the prefix form does not have."""
_SEE = "see: singlerun config check"
_RUN = frozenset(option.dest for option in RUN_OPTIONS)


class Settings:
    """The settings of a user.

    Attributes:
        problems: what could not be read, a sentence each, with file and line.
        is_strict: whether nothing may run while there are problems.
    """

    def __init__(self, data: "Mapping[str, Any]") -> None:
        self._data = data
        self.problems: tuple[str, ...] = tuple(map(said, data["problems"]))
        self._prior = data["prior"] if self.problems else None
        self.is_strict = any(
            _fold(source["defaults"]).get("strict")
            for source in (data, self._prior)
            if source is not None
        )

    def warning(self) -> str | None:
        """Return the line to say about problems, None if there are none.

        Raises ConfigError instead if nothing may run.
        """
        if not self.problems:
            return None
        more = len(self.problems) - 1
        others = f", and {more} more like this" if more else ""
        line = f"{self.problems[0]}{others}"
        if self.is_strict:
            raise ConfigError(f"{line}; nothing runs until that is mended; {_SEE}")
        return f"{line}; left out; {_SEE}"

    def options(self, name: bytes) -> "dict[str, Any]":
        """Return the run options for a name, by Option.dest, as Option.read gives them.

        Raises LockFileError if the lock file is not to be trusted.
        """
        values = {dest: value for dest, value in self._for(name).items() if dest in _RUN}
        if values.get("lock_file"):
            values["lock_file"] = read_lock_file(values["lock_file"])  # links may have changed
        if "dir" in values and os.environb.get(b"SINGLERUN_DIR"):
            del values["dir"]  # the environment is nearer
        return values

    def queue_options(self, name: bytes) -> "dict[str, Any]":
        """Return the options that ``singlerun add`` alone has, by their long name with _."""
        return {dest: value for dest, value in self._for(name).items() if dest in QUEUE_ONLY}

    def check_queue(self, name: bytes) -> None:
        """Raise UsageError if a job in the queue of a name might run beside its direct runs."""
        if self._for(name).get("lock_file"):
            shown = os.fsdecode(name)
            why = "which its direct runs lock, and a job in a queue does not"
            raise UsageError(f"the configuration sets a lock-file for {shown}, {why}")

    def watch(self, name: bytes) -> "dict[str, Any]":
        """Return what is expected of a name: those of WATCH that are set."""
        return {dest: value for dest, value in self._for(name).items() if dest in WATCH}

    def table(self, table: str) -> "dict[str, Any]":
        """Return what a table of its own sets: "retention" or "notify"."""
        return dict(self._data["tables"].get(table, {}))

    def notify(self, name: bytes) -> "dict[str, Any]":
        """Return [notify], overlaid with that of the name."""
        found = self.table("notify")
        for layer in _layers(self._data, name):
            found = merged(found, layer.get("notify", {}))
        return found

    def of_events(self, name: bytes) -> "tuple[dict[str, Any], dict[str, Any]]":
        """Return what says which events of a name are told: ``notify``, and ``watch``."""
        return self.notify(name), self.watch(name)

    def names(self) -> list[bytes]:
        """Return the names, no globs, that have a table."""
        return [name.encode() for name in self._data["names"] if not glob.is_glob(name)]

    def directory(self) -> bytes | None:
        """Return the state directory that is configured and not overruled by the environment."""
        value = None if os.environb.get(b"SINGLERUN_DIR") else self._for(b"").get("dir")
        return value if isinstance(value, bytes) else None

    def _for(self, name: bytes) -> "dict[str, Any]":
        """Return the run options, queue options and expectations for a name."""
        values = _fold(_layers(self._data, name))
        if self._prior is not None:
            before = _fold(_layers(self._prior, name))
            for dest in OF_THE_LOCK:
                values.pop(dest, None)
            overlay(values, {dest: before[dest] for dest in OF_THE_LOCK if dest in before})
        return values


def _layers(data: "Mapping[str, Any]", name: bytes) -> "Iterator[dict[str, Any]]":
    """Yield what the tables for a name set, the nearest last."""
    text = name.decode("utf-8", "surrogateescape")
    yield from data["defaults"]
    for pattern, values in data["globs"]:
        if glob.matches(pattern, text):
            yield values
    yield from data["names"].get(text, ())


def _fold(layers: "Iterator[dict[str, Any]] | list[dict[str, Any]]") -> "dict[str, Any]":
    values: dict[str, Any] = {}
    for layer in layers:
        overlay(values, layer)
    values.pop("notify", None)
    return values


def overlay(values: "dict[str, Any]", nearer: "Mapping[str, Any]") -> None:
    """Set options by Option.dest, and take away those that nearer ones contradict."""
    asked = {dest for dest, value in nearer.items() if value}
    if asked.intersection(POLICIES) or nearer.get("wait_for") is not None:
        for dest in POLICIES:
            values.pop(dest, None)
    for dest, others, _ in EXCLUSIONS:
        if dest in asked:
            for other in others:
                values.pop(other, None)
        elif asked.intersection(others):
            values.pop(dest, None)
    values.update(nearer)


def merged(values: "Mapping[str, Any]", nearer: "Mapping[str, Any]") -> "dict[str, Any]":
    """Return a table with another one over it; tables in it likewise."""
    found = {**values}
    for key, value in nearer.items():
        old = found.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merged(old, value)  # noqa: PLW2901
        found[key] = value
    return found


def remembered(data: "Mapping[str, Any]") -> "dict[str, Any] | None":
    """Return what is to be known of settings once they have become unreadable."""
    if data["problems"]:
        prior: dict[str, Any] | None = data["prior"]
        return prior
    return {table: data[table] for table in ("defaults", "names", "globs")}


def said(problem: "tuple[bytes, int, str, str]") -> str:
    """Return the sentence about a problem."""
    path, line, key, what = problem
    file = os.fsdecode(path)
    return f"{file}:{line}: {key}: {what}" if key else f"{file}:{line}: {what}"
