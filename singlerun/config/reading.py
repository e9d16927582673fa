"""Reads the files: TOML becomes the data of the settings, and each mistake a problem with its line.

What is wrong is left out, and the rest holds: one key if its value can't be read, a file if it is
not TOML or not to be trusted.
"""

import os
import tomllib
from typing import Any

from singlerun import options
from singlerun.config import files, glob, positions, schema, trust
from singlerun.config.schema import Key
from singlerun.config.settings import EMPTY, merged
from singlerun.errors import SinglerunError, UsageError
from singlerun.paths import SCARCITY
from singlerun.suggestion import nearest

Problem = tuple[bytes, int, str, str]
"""File, line, dotted key, and what is wrong."""
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


class Entry:
    """A value that a file sets.

    Attributes:
        path: the keys that lead to it; key: what the schema says of the last.
        value: as it is read; written: as it was written.
        file, line: where.
    """

    def __init__(
        self, path: tuple[str, ...], key: Key, value: object, written: object, place: "Place"
    ) -> None:
        self.path, self.key, self.value, self.written = path, key, value, written
        self.file, self.line = place.file, place.line(path)


class Place:
    """A file whose keys have lines."""

    def __init__(self, file: bytes, text: str) -> None:
        self.file = file
        try:
            self._lines = positions.lines(text)
        except (IndexError, ValueError, RecursionError):  # pragma: no cover - tomllib has read it
            self._lines = {}

    def line(self, path: tuple[str, ...]) -> int:
        """Return the line of a key, or of the nearest key around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


class Reading:
    """What the files say.

    Attributes:
        files: those that were there, in the order in which they were read.
        entries: what they set, in that order; problems: what is wrong with them.
        is_lasting: whether that is so until a file changes.
    """

    def __init__(self, mains: list[bytes]) -> None:
        self.files: list[bytes] = []
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self.is_lasting = True
        for main in mains:
            self._read_all(main)
        if mains and files.is_chosen() and not self.files and not self.problems:
            what = "SINGLERUN_CONFIG names this file, which is missing"
            self.problems.append((mains[0], 1, "", what))

    def _read_all(self, main: bytes) -> None:
        paths = [main]
        try:
            paths += files.drop_ins(main)
        except OSError as error:
            self._blame(files.drop_in_dir(main), error)
        for path in paths:
            self._read(path)

    def _read(self, path: bytes) -> None:
        try:
            content = trust.read(path)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path):
                self._blame(path, "it is a symbolic link to nothing; remove it")
            return
        except (OSError, trust.UntrustedError) as error:
            self._blame(path, error)
            return
        self.files.append(path)
        self.read_text(path, content)

    def _blame(self, path: bytes, error: object) -> None:
        """Note what is wrong with a whole file; it may be mended without changing the file."""
        if isinstance(error, PermissionError) and os.geteuid() and files.is_of_system(path):
            return  # what root keeps to itself isn't meant for others
        if isinstance(error, OSError) and error.errno in SCARCITY:
            raise error
        self.is_lasting = False
        what = str(error)
        if isinstance(error, OSError):
            what = f"it cannot be read: {(error.strerror or what).lower()}; make it readable"
        self.problems.append((path, 1, "", what))

    def read_text(self, path: bytes, content: bytes) -> None:
        """Read what is in a file."""
        try:
            text = content.decode().removeprefix("\ufeff")
            document = tomllib.loads(text)
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.problems.append((path, line, "", "it is not UTF-8; save it as UTF-8"))
        except (ValueError, RecursionError) as error:
            self.problems.append((path, *_syntax(error, text)))
        else:
            self._table(schema.ROOT, (), document, Place(path, text))

    def _table(
        self, table: Key, path: tuple[str, ...], given: dict[str, Any], place: Place
    ) -> None:
        before = len(self.entries)
        for name, value in given.items():
            try:
                self._key(table, (*path, name), value, place)
            except UsageError as error:
                self._note((*path, name), str(error.args[0]), place)
        if table in {schema.DEFAULTS, schema.JOB}:
            self._check_together(path, before, place)

    def _key(self, table: Key, path: tuple[str, ...], value: object, place: Place) -> None:
        """Read a key of a table; raises UsageError."""
        name = path[-1]
        if (key := table.find(name)) is None or key.refused is not None:
            raise UsageError(complaint(table, name))
        if not key.is_table:
            if isinstance(value, dict):
                raise UsageError(f"it is no table; write {name} = VALUE")
            self.entries.append(Entry(path, key, read_value(key, value), value, place))
            return
        if not isinstance(value, dict):
            raise UsageError(f"it is a table; write [{dotted(path)}] above its keys")
        if table is schema.JOBS and ("\0" in name or not name):
            raise UsageError("no name is like this")
        self._table(key, path, value, place)

    def _check_together(self, path: tuple[str, ...], before: int, place: Place) -> None:
        """Note options of one table that contradict each other, and leave the table out."""
        ours = [entry for entry in self.entries[before:] if len(entry.path) == len(path) + 1]
        values = options.Words().values | {entry.key.dest: entry.value for entry in ours}
        try:
            options.check(values)
        except UsageError as error:
            text = str(error.args[0])
            involved = [entry for entry in ours if f"--{entry.key.name}" in text.split()]
            latest = max(involved or ours, key=lambda entry: entry.line)
            self._note(latest.path, text, place)
            del self.entries[before:]

    def _note(self, path: tuple[str, ...], what: str, place: Place) -> None:
        self.problems.append((place.file, place.line(path), dotted(path), what))

    def data(self) -> dict[str, Any]:
        """Return the data of the settings."""
        defaults: dict[bytes, dict[str, Any]] = {}
        jobs: dict[tuple[str, bytes], dict[str, Any]] = {}
        tables: dict[str, Any] = {}
        for entry in self.entries:
            table, *rest = entry.path
            if table == schema.DEFAULTS.name:
                into = defaults.setdefault(entry.file, {})
            elif table == schema.JOBS.name:
                into = jobs.setdefault((rest.pop(0), entry.file), {})
            else:
                tables = merged(tables, {table: {}})
                into = tables[table]
            _put(into, rest, entry)
        names: dict[str, list[dict[str, Any]]] = {}
        for (name, _), values in jobs.items():
            names.setdefault(name, []).append(values)
        globs = [(name, values) for (name, _), values in jobs.items() if glob.is_glob(name)]
        globs.sort(key=lambda each: glob.literals(each[0]))
        return EMPTY | {
            "defaults": list(defaults.values()), "names": names, "globs": globs, "tables": tables,
            "problems": self.problems,
        }  # fmt: skip


def read(mains: list[bytes]) -> tuple[dict[str, Any], bool]:
    """Return the data of the settings, and whether they hold until a file changes.

    Raises OSError if memory, descriptors or the like are short: no file is to blame.
    """
    reading = Reading(mains)
    return reading.data(), reading.is_lasting


def _put(into: dict[str, Any], path: list[str], entry: Entry) -> None:
    """Put the value of an entry where its path leads."""
    *around, _ = path
    for name in around:
        into = into.setdefault(name.replace("-", "_"), {})
    into[entry.path[-1] if entry.key.name != entry.path[-1] else entry.key.dest] = entry.value


# -- values -----------------------------------------------------------------------------------


def read_value(key: Key, value: object) -> object:
    """Return what a value of TOML says for a key; raises UsageError if it can't be read."""
    if key.many:
        several = value if isinstance(value, list) else [value]
        return tuple(_read_one(key, each) for each in several)
    if isinstance(value, list):
        raise UsageError("it takes one value, not an array")
    return _read_one(key, value)


def _read_one(key: Key, value: object) -> object:
    if key.read is None:
        if not isinstance(value, bool):
            raise UsageError(f"bad value {_brief(value)}: write true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"bad value {_brief(value)}: write a string or a number")
    text = value if isinstance(value, str) else repr(value)
    if "\0" in text:
        raise UsageError("its value has a NUL character")
    try:
        return key.read(os.fsdecode(text.encode()))  # as if it were typed
    except SinglerunError as error:
        raise UsageError(str(error.args[0])) from None


def _brief(value: object) -> str:
    """Return a value as TOML has it, cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{type(value).__name__}" if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


# -- mistakes ---------------------------------------------------------------------------------


def complaint(table: Key, name: str) -> str:
    """Return what to say of a key that a table does not take."""
    found = table.find(name)
    if found is not None and found.refused is not None:
        return f"it cannot be set here: {found.refused}"
    known = [key.name for key in table.keys if key.refused is None]
    if table is schema.ROOT and schema.DEFAULTS.find(name) is not None:
        return "a key must stand in a table; write [defaults] above it"
    near = nearest(name.lower().replace("_", "-"), known)
    if near:
        return f"there is no such key; did you mean: {' or '.join(near)}"
    homes = [each.name for each in schema.ROOT.keys if each.keys and each.find(name) is not None]
    if homes:
        return f"there is no such key here; it belongs in [{homes[0]}]"
    return "there is no such key; to see all: singlerun config init, and man singlerun-config"


def _syntax(error: Exception, text: str) -> tuple[int, str, str]:
    """Return line, key and sentence for what tomllib found."""
    last = text.count("\n") + (not text.endswith("\n"))
    if isinstance(error, RecursionError):
        return 1, "", "its arrays or tables are nested too deeply"
    what, _, where = str(error).rpartition(" (at ")
    if where.startswith("line "):
        line = int(where.removeprefix("line ").partition(",")[0])
    else:
        line = max(last, 1)
        what = what or str(error)
    return line, "", f"it is not TOML: {what[:1].lower()}{what[1:]}"


def dotted(path: tuple[str, ...]) -> str:
    """Return keys as TOML writes them."""
    return ".".join(part if _is_bare(part) else _quoted(part) for part in path)


def _is_bare(part: str) -> bool:
    return part != "" and _BARE.issuperset(part)


def _quoted(part: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"'}
    return '"' + "".join(escapes.get(c) or (c if c.isprintable() else _code(c)) for c in part) + '"'


def _code(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def parse_key(text: str) -> tuple[str, ...]:
    """Return the keys of a dotted key; raises UsageError if it is none."""
    try:
        document = tomllib.loads(f"{text} = 0")
    except (ValueError, RecursionError):
        document = {}
    path = []
    value: object = document
    while isinstance(value, dict) and len(value) == 1:
        ((part, value),) = value.items()
        path.append(part)
    if value != 0 or "\n" in text:
        raise UsageError(f'{text!r} is no key: write one such as jobs."nightly *".timeout')
    return tuple(path)
