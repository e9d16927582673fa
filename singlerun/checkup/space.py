"""Checks the file system of the state directory: its kind, and the room that is left on it."""

import os

from singlerun.finding import NOTE, PROBLEM, Answer
from singlerun.lock.filesystem import distrusted, type_at
from singlerun.render.text import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case

LEAST_BYTES = 32 * 1024 * 1024
"""Below which a burst of kept output or of queued jobs fills it."""
LEAST_FILES = 1000
"""Each name, waiter and kept output is a file."""
_VOLATILE = {"tmpfs", "ramfs"}


def check(case: "Case") -> Answer:
    """Check the file system of the state directory, or of the directory above that is there."""
    path = case.path
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    where = os.fsdecode(path)
    kind = type_at(path) or "of an unknown type"
    room = os.statvfs(path)
    free = room.f_bavail * room.f_frsize
    answer = Answer(f"{kind}, {_size(free)} free")
    if (unsafe := distrusted(path)) is not None:
        what = f"kernel locks are not trusted on {unsafe}: slower lock files are used, and after a"
        what += " crash a claim may stay until reap breaks it"
        answer.add(PROBLEM, where, what, "use a directory on a local file system",
                   "singlerun --dir DIR")  # fmt: skip
    if kind in _VOLATILE:
        what = f"it is on {kind}: a boot deletes the record and the queued jobs"
        answer.add(NOTE, where, what, "use a directory on a disk", "singlerun --dir DIR")
    if room.f_flag & os.ST_RDONLY:
        what = "its file system is mounted read-only: nothing can be recorded or queued"
        answer.add(PROBLEM, where, what, "see why, and mount it writable", "dmesg | tail")
    if free < LEAST_BYTES:
        what = f"only {_size(free)} are free: runs are not recorded, and jobs not accepted, without"
        answer.add(PROBLEM, where, f"{what} room", "make room", f"df -h {quoted(where)}")
    if room.f_files and room.f_favail < LEAST_FILES:
        what = f"only {room.f_favail:,} files can still be made: each name and waiter needs one"
        answer.add(PROBLEM, where, what, "delete files", f"df -i {quoted(where)}")
    return answer


def _size(number: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number // 1000} kB"
