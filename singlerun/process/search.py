"""The search of PATH, as execvp(3) does it."""

import os


def find_program(command: str, path: str | None = None, *, executable: bool = True) -> str | None:
    """Return where a command is: the first such program in PATH, or the command if it is a path.

    ``path`` stands in for PATH. The result is relative where the entry of PATH is, and None if
    there is none. Without ``executable`` a file counts also if it may not be executed.
    """
    if "/" in command:
        return command if os.path.exists(command) else None
    if path is None:
        path = os.environ.get("PATH", "/bin:/usr/bin")
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", command)
        if os.path.isfile(candidate) and (not executable or os.access(candidate, os.X_OK)):
            return candidate
    return None
