"""Deletes kept output: of runs that were forgotten, and the oldest where there is too much.

The directory of a run is locked by what writes there (output/segments.py), and then it stays.
"""

import fcntl
import os

from singlerun.errors import StateDirError
from singlerun.output.kept import measure
from singlerun.output.segments import path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.paths import StateDir
    from singlerun.store.pruning import PruningStore

SOME = 100
"""Directories that the record is asked about in one transaction."""


def kept(state: "StateDir") -> "Iterator[tuple[int, int]]":
    """Yield the runs of which output is kept, oldest first, and its bytes."""
    try:
        names = os.listdir(os.path.join(state.path, b"logs"))
    except OSError:
        return
    for number in sorted(int(name) for name in names if name.isdigit() and len(name) < 19):
        yield number, size(state, number)


def is_kept(state: "StateDir", run_id: int) -> bool:
    """Return whether output of a run is kept: none of it may have come."""
    return os.path.isdir(os.path.join(state.path, path_of(run_id)))


def size(state: "StateDir", run_id: int) -> int:
    """Return the bytes that are kept of a run's output."""
    try:
        found = measure(state, run_id)
    except OSError:
        return 0
    return 0 if found is None else found.size


def strays(store: "PruningStore", found: "list[int]") -> "Iterator[set[int]]":
    """Yield those of some runs that the record has forgotten, a few at a time.

    One that it never had is of a record that was lost, and another may get its id: it is left.
    """
    for at in range(0, len(found), SOME):
        some = found[at : at + SOME]
        known, highest = store.known_runs(some)
        yield {number for number in some if number not in known and number <= highest}


def delete(state: "StateDir", run_id: int) -> bool:
    """Delete what is kept of a run's output; return whether it is gone. Nothing is raised."""
    path = os.path.join(state.path, path_of(run_id))
    try:
        directory = state.open_directory(path_of(run_id), create=False)
    except (OSError, StateDirError):
        return False
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, there = os.fstat(directory), os.stat(path, follow_symlinks=False)
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            return False
        for name in os.listdir(directory):
            os.unlink(name, dir_fd=directory)
        os.rmdir(path)
    except OSError:  # it is being written, or another has put something there
        return False
    finally:
        os.close(directory)
    return True
