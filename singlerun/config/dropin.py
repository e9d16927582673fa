"""The drop-in that ``config set`` and ``unset`` write, so that they never touch a person's file.

Two writers lose nothing: each reads, changes and replaces it under a lock.
"""

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from singlerun.config import files, schema, trust
from singlerun.config.reading import Entry, Reading, complaint, dotted, read_value
from singlerun.errors import ConfigError, UsageError
from singlerun.paths import SYSTEM_CONFIG, reason

NAME = b"90-set.toml"
_LOCK = b".90-set.lock"
_HEAD = b"""\
# Written by "singlerun config set"; comments are not kept. What you write yourself belongs in
# another file: those after this one, by name, win over it.

"""


def path_beside(main: bytes) -> bytes:
    """Return the path of the drop-in of a file."""
    return os.path.join(files.drop_in_dir(main), NAME)


def set_value(main: bytes, path: tuple[str, ...], value: object) -> list[Entry]:
    """Set a key; return what other files say of it and wins.

    Raises UsageError if the value can't be read or contradicts another one of the drop-in,
    ConfigError if the drop-in can't be written.
    """

    def change(document: dict[str, Any]) -> None:
        table = document
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value

    ours = path_beside(main)
    with locked(main):
        _change(ours, change)
    entries = [entry for entry in Reading(files.main_files()).entries if entry.path == path]
    later = next((at for at, entry in enumerate(entries) if entry.file == ours), len(entries))
    return entries[later + 1 :]


def unset(main: bytes, path: tuple[str, ...]) -> bool:
    """Take a key, or a table, out of the drop-in; return whether it was there."""
    found = False

    def change(document: dict[str, Any]) -> None:
        nonlocal found
        tables = [document]
        for part in path[:-1]:
            inner = tables[-1].get(part)
            if not isinstance(inner, dict):
                return
            tables.append(inner)
        found = tables[-1].pop(path[-1], None) is not None
        for table, part in zip(tables[-2::-1], path[-2::-1], strict=True):
            if not table[part]:  # a table that is left empty goes, too
                del table[part]

    if not os.path.exists(path_beside(main)):
        return False
    with locked(main):
        _change(path_beside(main), change)
    return found


def _change(path: bytes, change: Any) -> None:
    """Read a drop-in, change and check it, and put the new one in its place."""
    import tomli_w  # noqa: PLC0415 - only to write

    document = _document(path)
    change(document)
    content = tomli_w.dumps(document).encode()
    checked = Reading([])
    checked.read_text(path, content)
    if checked.problems:
        _, _, key, what = checked.problems[0]
        raise UsageError(f"{key}: {what}")
    replace(path, _HEAD + content)


def _document(path: bytes) -> dict[str, Any]:
    shown = os.fsdecode(path)
    try:
        return tomllib.loads(trust.read(path).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {shown}: {reason(error)}; make it readable") from None
    except trust.UntrustedError as error:
        raise ConfigError(f"{shown}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{shown} was damaged: {error}; repair or remove it") from None


@contextmanager
def locked(main: bytes) -> Iterator[None]:
    """Hold the lock of a directory of drop-ins, which is made if it is missing."""
    from filelock import FileLock  # noqa: PLC0415 - only to write

    directory = files.drop_in_dir(main)
    make_directory(directory)
    lock = FileLock(os.fsdecode(os.path.join(directory, _LOCK)), mode=0o600)
    try:
        lock.acquire()
    except OSError as error:
        raise unwritable(directory, error) from None
    try:
        yield
    finally:
        lock.release()


# -- files ------------------------------------------------------------------------------------


def make_directory(path: bytes) -> None:
    """Make a directory of configuration if it is missing; raises ConfigError if it cannot be."""
    mode = 0o755 if _is_system(path) else 0o700
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    try:
        trust.check_directory(path)
        for each in reversed(missing):
            os.mkdir(each, mode)
            os.chmod(each, mode)  # whatever the umask
    except FileExistsError:  # another was faster, or there is a file
        if not os.path.isdir(missing[0]):
            make_directory(missing[0])
    except OSError as error:
        raise unwritable(path, error) from None
    except trust.UntrustedError as error:
        raise ConfigError(str(error)) from None


def replace(path: bytes, content: bytes, *, new: bool = False) -> None:
    """Write a file whole, under the lock: a reader sees the old one or this one.

    With ``new`` it must not be there yet: raises FileExistsError. Raises ConfigError if it can't
    be written.
    """
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    temporary = os.path.join(directory, b".%s.new" % os.path.basename(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        trust.check_directory(directory)
        mode = os.stat(path).st_mode if os.path.exists(path) else None
        file = os.open(temporary, flags, 0o600)
        try:
            os.fchmod(file, mode or (0o644 if _is_system(path) else 0o600))
            while content:
                content = content[os.write(file, content) :]
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            os.link(temporary, path)
            os.unlink(temporary)
        else:
            os.rename(temporary, path)
    except FileExistsError:
        os.unlink(temporary)
        raise
    except OSError as error:
        raise unwritable(path, error) from None
    except trust.UntrustedError as error:
        raise ConfigError(str(error)) from None


def _is_system(path: bytes) -> bool:
    return path == SYSTEM_CONFIG or files.is_of_system(path)


def unwritable(path: bytes, error: OSError) -> ConfigError:
    """Return the error for a file of configuration that cannot be written."""
    advice = "run this as root" if _is_system(path) and os.geteuid() else "make it writable"
    return ConfigError(f"cannot write {os.fsdecode(path)}: {reason(error)}; {advice}")


# -- values -----------------------------------------------------------------------------------


def key_at(path: tuple[str, ...]) -> schema.Key:
    """Return the key that a path leads to; raises UsageError if there is none, or it is refused."""
    key = schema.ROOT
    for at, part in enumerate(path, 1):
        found = key.find(part) if key.is_table else None
        if found is None or found.refused is not None:
            raise UsageError(f"{dotted(path[:at])}: {complaint(key, part)}")
        key = found
    return key


def typed(key: schema.Key, texts: tuple[str, ...]) -> object:
    """Return the value of TOML for what was typed; raises UsageError if there are too many."""
    if key.many:
        return [_typed(key, text) for text in texts]
    if len(texts) != 1:
        raise UsageError(f"{key.name} takes one value; quote it if it has blanks")
    return _typed(key, texts[0])


def _typed(key: schema.Key, text: str) -> object:
    if key.read is None:
        words = {"true": True, "false": False}
        if text not in words:
            raise UsageError(f"bad value {text!r} for {key.name}: write true or false")
        return words[text]
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    # A number is written as one, unless it is a text that happens to look so.
    if text.isascii() and text.isdecimal() and len(text) < 16 and str(int(text)) == text:
        return int(text) if isinstance(read_value(key, text), int | float) else text
    return text
