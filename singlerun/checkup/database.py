"""Checks the database: that it is whole and ours, that it is not kept busy, and what reads it."""

import os
import sqlite3
import time

from singlerun.errors import RecordError
from singlerun.finding import NOTE, PROBLEM, Answer, counted
from singlerun.process import procfs
from singlerun.process.identity import stat_fields
from singlerun.render.text import command, quoted, shown
from singlerun.store import migrations, readonly
from singlerun.store.database import FILE
from singlerun.timings import CHECK_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case
    from singlerun.store.readonly import Condition

LOG_BYTES = 16 * 1024 * 1024
"""Of the write-ahead log, which is truncated at half a megabyte unless a reader keeps it."""
_MOST_ASIDE = 3
_FIRST_WITH_BUG = (3, 7, 0)
_REPAIRED: "dict[tuple[int, ...], int]" = {(3, 44): 6, (3, 50): 7, (3, 51): 3}
"""By series, the release that first had no WAL-reset bug; there is none of it from 3.52 on."""


def check(case: "Case") -> Answer:
    """Check the database in the state directory."""
    path = os.path.join(case.path, FILE)
    answer = Answer("there is none yet: the first run makes it")
    _check_guard(path, answer)
    _check_aside(case, answer)
    if not os.path.lexists(path):
        return answer
    where = os.fsdecode(path)
    case.trust()
    try:
        found = readonly.examine(case.path, CHECK_PATIENCE / 2)
    except RecordError as error:
        answer.add(PROBLEM, where, error.args[1], error.args[2])
        return answer
    runs = "" if found.runs is None else f", {counted(found.runs, 'run')}"
    answer.summary = f"{_size(path)}{runs}, whole"
    _check_condition(found, where, answer)
    _check_log(path, answer)
    return answer


def _check_condition(found: "Condition", where: str, answer: Answer) -> None:
    if found.flaws and not found.application_id:
        pass  # what cannot be read has no version
    elif found.application_id != migrations.APPLICATION_ID:
        what = "it is a database of another program"
        answer.add(PROBLEM, where, what, "move it away: a run would set it aside, too")
        return
    elif found.version > migrations.LATEST:
        what = "a newer version of singlerun wrote it, and this one does not record in it"
        answer.add(PROBLEM, where, what, "upgrade this one")
    elif found.version < migrations.LATEST:
        what = f"it has schema {found.version} of {migrations.LATEST}, which the next run migrates"
        answer.add(NOTE, where, what, "to do so now", "singlerun ps")
    if found.flaws:
        what = f"it is damaged: {'; '.join(found.flaws)}"
        remedy = "the next run sets it aside and begins a new one; to save what can be read of it"
        copy = f"sqlite3 {quoted(shown(where))} .recover | sqlite3 saved.db"
        answer.add(PROBLEM, where, what, remedy, copy)
    elif not found.is_complete:
        what = f"it is too large to be checked within {CHECK_PATIENCE / 2:g} s"
        typed = f"sqlite3 -readonly {quoted(shown(where))} 'PRAGMA quick_check'"
        answer.add(NOTE, where, what, "to check all of it", typed)


def _check_log(path: bytes, answer: Answer) -> None:
    try:
        size = os.stat(path + b"-wal").st_size
    except FileNotFoundError:
        return
    if size > LOG_BYTES:
        what = f"its log has {size // 10**6} MB: a program that reads it keeps it from being cut"
        log = os.fsdecode(path + b"-wal")
        answer.add(NOTE, log, what, "find that program", f"fuser -v {quoted(shown(log))}")


def _check_guard(path: bytes, answer: Answer) -> None:
    """Find a process that was stopped while it kept all others out."""
    for pid in procfs.holding(path + b".lock"):
        try:
            is_stopped = stat_fields(pid)[0] in {b"T", b"t"}
        except (OSError, IndexError):
            continue
        if is_stopped:
            what = f"PID {pid} ({shown(command(tuple(procfs.command_line(pid))))}) keeps the"
            what += " run-log busy, and is stopped: nothing is recorded"
            answer.add(PROBLEM, os.fsdecode(path), what, "let it go on", f"kill -CONT {pid}")


def _check_aside(case: "Case", answer: Answer) -> None:
    """Find the databases that were set aside because they were damaged."""
    try:
        names = os.listdir(case.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    mark = FILE + b".broken-"
    aside = [os.fsencode(name) for name in names if os.fsencode(name).startswith(mark)]
    aside = sorted(name for name in aside if not name.endswith((b"-wal", b"-shm")))[::-1]
    for name in aside[:_MOST_ASIDE]:
        path = os.path.join(case.path, name)
        day = time.strftime("%Y-%m-%d", time.localtime(os.lstat(path).st_mtime))
        what = f"a damaged run-log was set aside here; it was last written on {day}, {_size(path)}"
        answer.add(NOTE, os.fsdecode(path), what, "delete it, if it is of no use",
                   f"rm {quoted(shown(path))}*")  # fmt: skip
    if len(aside) > _MOST_ASIDE:
        what = f"{len(aside) - _MOST_ASIDE} more were set aside: find out what damages them"
        answer.add(PROBLEM, case.shown, what, "check the disk", "dmesg | tail")


def _size(path: bytes) -> str:
    number = os.lstat(path).st_size
    return f"{number / 10**6:.3g} MB" if number >= 10**6 else f"{number / 1000:.3g} kB"


# -- SQLite ----------------------------------------------------------------------------------------


def check_sqlite(_case: "Case") -> Answer:
    """Check the version of SQLite."""
    version = sqlite3.sqlite_version
    answer = Answer(f"SQLite {version}")
    if has_reset_bug(sqlite3.sqlite_version_info):
        what = "it has the WAL-reset bug, which can damage a database that several"
        what += " programs write to; singlerun lets one at a time, and does not meet it"
        remedy = "write to the run-log with no other program, or install 3.51.3 or later"
        answer.add(NOTE, f"SQLite {version}", what, remedy)
    return answer


def has_reset_bug(version: tuple[int, ...]) -> bool:
    """Return whether a version can lose commits when two connections reset the log at once."""
    if version[:3] < _FIRST_WITH_BUG or version[:2] > (3, 51):
        return False
    repaired = _REPAIRED.get(version[:2])
    return repaired is None or version[2] < repaired
