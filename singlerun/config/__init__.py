"""The configuration: which options, thresholds and addresses hold for a name.

    settings = config.load(state_path)
    settings.options(b"backup.sh")

Files are read in the order of ``files.py``, and what was read is kept compiled (``cache.py``), so
that a run pays for a few calls of stat(2) and not for a parser of TOML. ``schema.py`` says which
keys there are, ``settings.py`` which of several tables holds.
"""

import os

from singlerun.config.settings import EMPTY, Settings, overlay, said
from singlerun.errors import StateDirError
from singlerun.errors import said as said_of
from singlerun.options import RUN_OPTIONS, WITH_ONE_NAME
from singlerun.paths import is_configured
from singlerun.paths import state_path as default_state_path
from singlerun.spec import derived_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


__all__ = ["Settings", "apply", "directory", "load", "load_here", "said"]


def load(state_path: bytes | None, *, create: bool = False) -> Settings:
    """Return the settings of this user; ``state_path`` is the directory that has their cache.

    With ``create`` it is made if it is missing. Never raises: what cannot be read is left out, and
    in ``problems`` of the settings.
    """
    from singlerun.config import cache  # noqa: PLC0415 - a caller may only want the class

    try:
        return Settings(cache.data(state_path, create=create))
    except Exception as error:  # noqa: BLE001 - such as MemoryError
        # No mistake in a file: which lock was configured isn't known, so nothing may take another.
        what = f"the configuration cannot be read: {said_of(error)}"
        problem = os.fsencode(__file__), 1, "", what
        return Settings(EMPTY | {"defaults": [{"strict": True}], "problems": [problem]})


def load_here(*, create: bool = False) -> Settings:
    """Return the settings, with their cache in the state directory that is none of theirs."""
    try:
        return load(default_state_path(None), create=create)
    except StateDirError:  # no home: what the system's configuration says may help
        return load(None)


def directory(*, is_kept: bool = True) -> bytes | None:
    """Return the state directory that is configured, and that the environment does not overrule.

    Unless ``is_kept``, what is read is not written to the cache.
    """
    if not is_configured():
        return None
    return (load_here() if is_kept else load(None)).directory()


def apply(values: "Mapping[str, Any]", argv: list[str]) -> "tuple[dict[str, Any], str | None]":
    """Return the values of the run options as configured, and what is to be warned of.

    ``values`` are those of the command line, by Option.dest; what was given there wins, and takes
    the place of what contradicts it. Raises ConfigError if the configuration is broken, and strict.
    """
    directory = values["dir"]
    settings = load(directory, create=True) if directory else load_here(create=True)
    warning = settings.warning()
    given = {
        option.dest: values[option.dest]
        for option in RUN_OPTIONS
        if values[option.dest] != option.default
    }
    names = values["name"]
    if not names:
        files = values["lock_file"], (values["lock_fd"] or (None, None))[1]
        names = tuple(file for file in files if file)[:1]
        if not names and argv:
            names = given["name"] = (derived_name(argv),)
    name = names[0] if names else b""
    configured = settings.options(name)
    if len(set(names)) > 1:  # these need a single one, and the command line does not ask for them
        for dest in WITH_ONE_NAME:
            configured.pop(dest, None)
    overlay(configured, given)
    if configured.get("queue"):
        settings.check_queue(name)
    more = {"in_queue": settings.queue_options(name), "tables": settings.of_events(name)}
    return {**values, **configured, **more}, warning
