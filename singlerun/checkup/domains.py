"""Checks for a second lock domain: a name held in one state directory is free in every other.

They come about by sudo (root's record and the user's), by SINGLERUN_DIR where one environment has
it and another has not, and by a HOME that is not the one of the password database.
"""

import os
import pwd

from singlerun.checkup import crontabs, task
from singlerun.checkup.case import record_in, user_of
from singlerun.errors import RecordError, StateDirError
from singlerun.finding import NOTE, PROBLEM, Answer
from singlerun.paths import HOME_DIR, SYSTEM_DIR, default_dir
from singlerun.render.text import names as shown_names
from singlerun.render.text import quoted, shown
from singlerun.store.database import FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from singlerun.checkup.case import Case
    from singlerun.checkup.task import Task
    from singlerun.store.run import Run

LOOKED_AT = 2000
"""The latest runs of each record."""
MOST_RECORDS = 50
MOST_NAMES = 3
_LOCAL_USERS = "/etc/passwd"
_MOST_BYTES = 4 * 1024 * 1024


def check(case: "Case") -> Answer:
    """Compare this record with others that this user may read, and with crontab lines."""
    answer = Answer("")
    case.trust()
    own = _runs_by_name(case.path)
    count = 1
    for directory, owner in _others(case):
        try:
            other = _runs_of_user(directory, owner)
        except (RecordError, OSError, KeyError):
            continue
        count += 1
        _compare(own, other, directory, owner, answer)
    tasks = [
        each
        for source in crontabs.all_readable()
        for each in task.of_source(source)
        if each.kind == task.SINGLERUN and each.names()
    ]
    _check_lines(case, own, tasks, answer)
    _check_sudo(own, tasks, answer)
    records = "the only record" if count == 1 else f"{count} records that share no name"
    answer.summary = f"{records} that {user_of(case.uid)} may read"
    return answer


def _runs_by_name(directory: bytes) -> "dict[bytes, list[Run]]":
    store = record_in(directory)
    found: dict[bytes, list[Run]] = {}
    for run in [] if store is None else store.runs(limit=LOOKED_AT):
        for name in run.names:
            if run.started_ns is not None and run.lock_file is None:
                found.setdefault(name, []).append(run)
    return found


def _runs_of_user(directory: bytes, owner: str) -> "dict[bytes, list[Run]]":
    """Return the runs that another user's record has; root reads it as that user.

    In a directory of its own a user may have anything, and root must not be led by it.
    """
    entry = pwd.getpwnam(owner)
    if os.geteuid() != 0 or entry.pw_uid == 0:
        return _runs_by_name(directory)
    os.setgroups([])
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        return _runs_by_name(directory)
    finally:
        os.seteuid(0)
        os.setegid(0)


def _others(case: "Case") -> "Iterator[tuple[bytes, str]]":
    """Yield the other state directories that may have a record, each with its owner."""
    candidates: dict[bytes, str] = {}
    me = user_of(case.uid)
    try:
        candidates[default_dir()] = me
    except StateDirError:
        pass
    for variable, below in ((b"HOME", HOME_DIR), (b"XDG_STATE_HOME", b"singlerun")):
        if value := os.environb.get(variable):
            candidates.setdefault(os.path.join(os.path.abspath(value), below), me)
    candidates.setdefault(SYSTEM_DIR, "root")
    for name, home in _local_users() if case.uid == 0 else ():
        candidates.setdefault(os.path.join(home, HOME_DIR), name)
    count, here = 0, os.path.realpath(case.path)
    for directory, owner in candidates.items():
        path = os.path.realpath(directory)
        if path != here and os.access(os.path.join(path, FILE), os.R_OK) and count < MOST_RECORDS:
            count += 1
            yield path, owner


def _local_users() -> "Iterator[tuple[str, bytes]]":
    """Yield the users of this machine alone, with their homes: a directory may have thousands."""
    try:
        with open(_LOCAL_USERS, "rb") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(b":")
        if len(fields) == 7 and fields[5].startswith(b"/"):
            yield os.fsdecode(fields[0]), fields[5]


def _compare(
    own: "dict[bytes, list[Run]]", other: "dict[bytes, list[Run]]", directory: bytes, owner: str,
    answer: Answer,
) -> None:  # fmt: skip
    """Find names that are in both records, and runs of them that were at work at once."""
    shared = sorted(own.keys() & other.keys())
    if not shared:
        return
    where = f"{os.fsdecode(directory)} of {owner}"
    remedy = "use one user and one directory for both, or lock one file: --lock-file PATH"
    for name in shared:
        if (both := _overlap(own[name], other[name])) is not None:
            what = f"the name {shown(name)} ran twice at once: run {both[0].id} of this record,"
            what += f" and run {both[1].id} of that one, which does not exclude it"
            answer.add(PROBLEM, where, what, remedy)
            return
    more = f" and {len(shared) - MOST_NAMES} more" if len(shared) > MOST_NAMES else ""
    what = f"also run there: {shown_names(tuple(shared[:MOST_NAMES]))}{more}; a name excludes only"
    answer.add(
        NOTE,
        where,
        f"{what} runs in its own directory",
        f"nothing, if it is meant so; else {remedy}",
    )


def _overlap(own: "list[Run]", other: "list[Run]") -> "tuple[Run, Run] | None":
    for run in own:
        for one in other:
            if _was_exclusive(run, one) and _met(run, one):
                return run, one
    return None


def _was_exclusive(run: "Run", other: "Run") -> bool:
    return not (run.shared or other.shared or run.slots or other.slots)


def _met(run: "Run", other: "Run") -> bool:
    """Return whether two ended runs were at work at the same time."""
    ends = run.ended_ns, other.ended_ns
    if run.started_ns is None or other.started_ns is None or ends[0] is None or ends[1] is None:
        return False
    return run.started_ns < ends[1] and other.started_ns < ends[0]


def _check_lines(
    case: "Case", own: "dict[bytes, list[Run]]", tasks: "Sequence[Task]", answer: Answer
) -> None:
    """Find crontab lines of this user that use another state directory."""
    me = user_of(case.uid)
    for each in tasks:
        path = each.state_path()
        if each.user != me or each.is_sudo or os.path.realpath(path) == os.path.realpath(case.path):
            continue
        known = [name for name in each.names() if name in own]
        what = f"this line keeps its record in {os.fsdecode(path)}, not in {case.shown}"
        level = NOTE
        if known:
            level = PROBLEM
            what += f", where {shown(known[0])} runs, too: neither excludes the other"
        remedy = "name one directory for all: by SINGLERUN_DIR above the line, and in your shell"
        setting = f"SINGLERUN_DIR={quoted(case.shown)}"
        answer.add(
            level,
            each.line.where,
            what,
            f"{remedy}; edit it ({each.source.edit}) and write",
            setting,
        )


def _check_sudo(own: "dict[bytes, list[Run]]", tasks: "Sequence[Task]", answer: Answer) -> None:
    """Find lines that run a name as root by sudo, where it runs as the user elsewhere."""
    plain = {name for each in tasks if not each.is_sudo for name in each.names()} | own.keys()
    for each in tasks:
        name = next((name for name in each.names() if name in plain), None)
        if not each.is_sudo or name is None or os.geteuid() == 0 or each.values.get("dir"):
            continue
        what = f"the name {shown(name)} is held in root's record here, because of sudo, and in"
        what += " the user's elsewhere"
        remedy = "put singlerun before sudo, or sudo before all"
        answer.add(PROBLEM, each.line.where, what, f"{remedy}: edit it ({each.source.edit})")
