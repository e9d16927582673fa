"""What there is of kept output: of which runs, how much, since when."""

import os

from singlerun.output.compression import SUFFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.paths import StateDir

_LOOKS = 100
"""More than there are segments, each of which is replaced once."""


class Kept:
    """The kept output of one run.

    Attributes:
        run_id: the run.
        size: bytes on the disk.
        is_compressed: whether some of it is.
        written_ns: when something was last written to it, in nanoseconds since the epoch.
    """

    __slots__ = ("is_compressed", "run_id", "size", "written_ns")

    def __init__(self, run_id: int, size: int, written_ns: int, *, is_compressed: bool) -> None:
        self.run_id, self.size, self.written_ns = run_id, size, written_ns
        self.is_compressed = is_compressed


def run_ids(state: "StateDir") -> list[int]:
    """Return the runs of which output is kept, the latest first; or raise StateDirError."""
    try:
        logs = state.open_directory(b"logs", create=False)
    except FileNotFoundError:
        return []
    try:
        return sorted(map(int, filter(str.isdigit, os.listdir(logs))), reverse=True)
    finally:
        os.close(logs)


def measure(state: "StateDir", run_id: int) -> Kept | None:
    """Return what is kept of a run, None if nothing is."""
    directory = os.path.join(state.path, b"logs", b"%d" % run_id)
    for _ in range(_LOOKS):
        try:
            written_ns = os.stat(directory).st_mtime_ns
            names = os.listdir(directory)
        except FileNotFoundError:
            return None
        try:
            paths = [os.path.join(directory, name) for name in names]
            stats = [os.stat(path, follow_symlinks=False) for path in paths]
        except FileNotFoundError:  # a segment has just been compressed
            continue
        times = [
            stat.st_mtime_ns
            for name, stat in zip(names, stats, strict=True)
            if name.removesuffix(SUFFIX).isdigit()
        ]
        is_compressed = any(name.endswith(SUFFIX) for name in names)
        size = sum(stat.st_size for stat in stats)
        return Kept(run_id, size, max(times, default=written_ns), is_compressed=is_compressed)
    return None
