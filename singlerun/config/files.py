"""Which files are read, in this order; of two that say the same, the later one wins.

    /etc/singlerun/config.toml, /etc/singlerun/conf.d/*.toml in order of name
    ~/.config/singlerun/config.toml, ~/.config/singlerun/conf.d/*.toml

The home is that of the password database, as for the state directory. SINGLERUN_CONFIG names one
file instead of both, which has its ``conf.d`` beside it.
"""

import os

from singlerun.paths import CONFIG_VARIABLE, SYSTEM_CONFIG, config_dirs

FILE, DROP_INS, ENDING = b"config.toml", b"conf.d", b".toml"


def main_files() -> list[bytes]:
    """Return the paths of the files that have drop-ins beside them; they may be missing."""
    chosen = os.environb.get(CONFIG_VARIABLE)
    if chosen is None:
        return [os.path.join(directory, FILE) for directory in config_dirs()]
    return [os.path.abspath(chosen)] if chosen else []


def drop_in_dir(main: bytes) -> bytes:
    """Return the directory of the drop-ins of a file."""
    return os.path.join(os.path.dirname(main), DROP_INS)


def drop_ins(main: bytes) -> list[bytes]:
    """Return the paths of the drop-ins of a file, in order; or raise OSError."""
    directory = drop_in_dir(main)
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    # What begins with a dot is an editor's or ours, and not yet finished.
    kept = sorted(name for name in names if name.endswith(ENDING) and not name.startswith(b"."))
    return [os.path.join(directory, name) for name in kept]


def is_chosen() -> bool:
    """Return whether the environment names the file."""
    return bool(os.environb.get(CONFIG_VARIABLE))


def is_of_system(path: bytes) -> bool:
    """Return whether a file is for all users."""
    return path.startswith(SYSTEM_CONFIG + b"/") and not is_chosen()
