"""Checks the state directory: who may change it, and that what is in it is ours."""

import os
import stat
import time
from collections import Counter

from singlerun.checkup.case import user_of
from singlerun.errors import StateDirError
from singlerun.finding import NOTE, PROBLEM, Answer, counted
from singlerun.render.text import quoted, shown
from singlerun.timings import CHECK_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.checkup.case import Case

OURS = (
    b"singlerun.db", b"locks", b"lines", b"logs", b"workers", b"workers.log", b"workers.log.old",
    b"config.cache", b"config.cache.new", b"notify", b"notify.log", b"notify.log.old", b"pruned",
    b"check.lock",
)  # fmt: skip
"""What is in a state directory (paths.py), but for what begins like the database's file."""
_EARLIER = (b"drainers", b"drainers.log")
MOST_ENTRIES = 200_000
_DEEPEST = 4
_REGULAR, _DIRECTORY, _FIFO = stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO
_KINDS = {_REGULAR, _DIRECTORY, _FIFO}

_FOREIGN, _WRITABLE, _READABLE = "foreign", "writable", "readable"
_LINKED, _KIND = "linked", "kind"
_SAYS = {
    _FOREIGN: (PROBLEM, "belongs to another user", "give it back", "chown -R {user} {dir}"),
    _WRITABLE: (PROBLEM, "may be written to by others", "forbid it", "chmod -R go-rwx {dir}"),
    _READABLE: (NOTE, "may be read by others: it tells commands, output and environments",
                "forbid it", "chmod -R go-rwx {dir}"),
    _LINKED: (PROBLEM, "has a second name, a hard link, through which it may be changed",
              "look at it, and remove it", "ls -li {path}"),
    _KIND: (PROBLEM, "is a link or a device, which singlerun never makes and refuses to use",
            "look at it, and remove it", "ls -l {path}"),
}  # fmt: skip
"""For each flaw its level, what it is, and what to do."""


def check(case: "Case") -> Answer:
    """Check the state directory, and each file in it."""
    where = case.shown
    if not os.path.lexists(case.path):
        return Answer(f"{where} is not made yet: the first run makes it")
    answer = Answer("")
    try:
        state = case.state()
    except StateDirError as error:
        answer.add(PROBLEM, where, error.args[1], error.args[2])
        state = None
    if state is not None and state.is_exchangeable:
        what = (
            "a directory above it may be changed by other users, who can put another in its place"
        )
        remedy = "choose a directory below those of root and of your own"
        answer.add(PROBLEM, where, what, remedy, "singlerun --dir DIR")
    count = _check_files(case, answer)
    answer.summary = f"{where}, {counted(count, 'file')}, all of user {user_of(case.uid)}"
    return answer


def _check_files(case: "Case", answer: Answer) -> int:
    """Check all that is in the directory; return how many files there are."""
    flaws: Counter[str] = Counter()
    examples: dict[str, bytes] = {}
    count, end = 0, time.monotonic() + CHECK_PATIENCE / 2
    entry = os.lstat(case.path)
    is_open = bool(stat.S_ISDIR(entry.st_mode) and entry.st_mode & 0o077)
    if is_open and not entry.st_mode & 0o022:  # else the directory is not used at all
        flaws[_READABLE], examples[_READABLE] = 1, case.path
    for path, entry in _walk(case.path, 1):
        count += 1
        for flaw in _flaws(entry, case.uid, is_open=is_open):
            flaws[flaw] += 1
            examples.setdefault(flaw, path)
        if count >= MOST_ENTRIES or time.monotonic() > end:
            what = f"it has more than {count:,} files, of which the rest was not looked at"
            answer.add(NOTE, case.shown, what, "look which they are", f"du -a {case.shown}")
            break
    for flaw, number in flaws.items():
        _add(flaw, number, examples[flaw], case, answer)
    _check_names(case, answer)
    return count


def _add(flaw: str, number: int, example: bytes, case: "Case", answer: Answer) -> None:
    level, what, remedy, command = _SAYS[flaw]
    others = "" if number == 1 else f", and so do {number - 1:,} more" if "belongs" in what else ""
    if number > 1 and not others:
        others = f"; so it is with {number - 1:,} more"
    words = {name: quoted(shown(path)) for name, path in (("dir", case.path), ("path", example))}
    typed = command.format(user=user_of(case.uid), **words)
    answer.add(level, os.fsdecode(example), f"it {what}{others}", remedy, typed)


def _walk(directory: bytes, depth: int) -> "Iterator[tuple[bytes, os.stat_result]]":
    """Yield all that is in a directory, without following links."""
    try:
        with os.scandir(directory) as found:
            for each in found:
                try:
                    entry = each.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted just now
                    continue
                yield each.path, entry
                if stat.S_ISDIR(entry.st_mode) and depth < _DEEPEST:
                    yield from _walk(each.path, depth + 1)
    except (FileNotFoundError, NotADirectoryError):
        return


def _flaws(entry: os.stat_result, uid: int, *, is_open: bool) -> "Iterator[str]":
    kind = stat.S_IFMT(entry.st_mode)
    if kind not in _KINDS:
        yield _KIND
        return
    if entry.st_uid != uid:
        yield _FOREIGN
    if entry.st_mode & 0o022:
        yield _WRITABLE
    elif entry.st_mode & 0o044 and is_open:
        yield _READABLE
    if kind == _REGULAR and entry.st_nlink > 1:
        yield _LINKED


def _check_names(case: "Case", answer: Answer) -> None:
    """Find what does not belong there."""
    try:
        names = sorted(os.fsencode(name) for name in os.listdir(case.path))
    except NotADirectoryError:
        return
    strange = [name for name in names if name not in OURS and not name.startswith(b"singlerun.db")]
    for name in strange[:3]:
        path = os.path.join(case.path, name)
        what = "it is not singlerun's, or was left by an earlier version"
        if name in _EARLIER:
            what = "it was left by an earlier version"
        answer.add(NOTE, os.fsdecode(path), what, "remove it, if it is of no use",
                   f"rm -r {quoted(shown(path))}")  # fmt: skip
    if len(strange) > 3:
        what = f"{len(strange) - 3} more are not singlerun's"
        answer.add(NOTE, case.shown, what, "look at them", f"ls -A {quoted(case.shown)}")
