"""Checks the queues: workers that are missing, what workers complained of, forgotten pauses."""

import os
import stat
import time

from singlerun.checkup.case import user_of
from singlerun.duration import brief
from singlerun.finding import NOTE, PROBLEM, Answer, counted
from singlerun.paths import lock_file_name
from singlerun.process import procfs
from singlerun.queue import wakeup
from singlerun.render.text import quoted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case
    from singlerun.store.sqlite_queue import SqliteQueue

LONG_PAUSE_NS = 7 * 86_400 * 10**9
"""After which a pause without an end was probably forgotten."""
LOG_TAIL = 16_384
MOST_MESSAGES = 3
MOST_QUEUES = 5
FRESH, LATELY = 86_400, 7 * 86_400
"""Seconds within which the log was written to for its messages to matter, and to be shown."""


def check(case: "Case") -> Answer:
    """Check that each queue with work has a worker, and what workers wrote lately."""
    answer = Answer("no queue has work")
    store = case.store()
    names = [] if store is None else store.names_with_jobs()
    if store is not None and names:
        answer.summary = f"{counted(len(names), 'queue')} with jobs, each with its worker"
        _check_workers([name for name in names if _wants_worker(name, store)], case, answer)
    _check_log(case, answer)
    return answer


def _wants_worker(name: bytes, store: "SqliteQueue") -> bool:
    return store.look(name) is not None or any(run.job_id for run in store.open_runs((name,)))


def _check_workers(names: list[bytes], case: "Case", answer: Answer) -> None:
    more = 0
    for name in names:
        if len(answer.findings) == MOST_QUEUES:
            more += not has_worker(case.path, name, is_quick=True)
        elif not has_worker(case.path, name):
            what = f"the queue {shown(name)} has work and no worker: nothing of it starts"
            typed = f"singlerun reap {quoted(shown(name))}"
            answer.add(PROBLEM, shown(name), what, "start one", typed)
    if more:
        what = f"{counted(more, 'queue')} more with work and no worker"
        answer.add(PROBLEM, "all queues", what, "start one for each", "singlerun reap")


def has_worker(directory: bytes, name: bytes, *, is_quick: bool = False) -> bool:
    """Return whether a queue has a worker, without making its FIFO as wakeup.has_worker does.

    ``is_quick``: one that is only being started does not count, and no process is looked at.
    """
    path = os.path.join(directory, b"workers", lock_file_name(name).removesuffix(b".lock"))
    try:
        if not stat.S_ISFIFO(os.lstat(path).st_mode):
            return False
        fifo = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return wakeup.has_begun(fifo) or (not is_quick and bool(procfs.holding(path)))
    finally:
        os.close(fifo)


def _check_log(case: "Case", answer: Answer) -> None:
    path = os.path.join(case.path, wakeup.LOG)
    try:
        with open(path, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL))
            begun = log.read()
            # The first line is not whole, unless it begins the log.
            lines = begun.splitlines()[size > len(begun) :]
            age = time.time() - os.fstat(log.fileno()).st_mtime
    except FileNotFoundError:
        return
    messages = [shown(line.removeprefix(b"singlerun: ")) for line in lines if line.strip()]
    latest = list(dict.fromkeys(reversed(messages)))[:MOST_MESSAGES]
    if not latest or age > LATELY:
        return
    where = os.fsdecode(path)
    for message in latest:
        what = f"a worker wrote, {brief(age)} ago or earlier: {message}"
        level = PROBLEM if age < FRESH else NOTE
        answer.add(level, where, what, "see all of it", f"tail {quoted(shown(path))}")


def check_pauses(case: "Case") -> Answer:
    """Find the pauses that have no end and are old."""
    store = case.store()
    pauses = [] if store is None else store.pauses()
    answer = Answer(f"{counted(len(pauses), 'name')} paused" if pauses else "no name is paused")
    now = time.time_ns()
    for pause in pauses:
        if pause.until_ns is None and now - pause.since_ns > LONG_PAUSE_NS:
            age = brief((now - pause.since_ns) / 1e9)
            what = f"it has been paused for {age}, without an end, by user"
            what += f" {user_of(pause.uid)}: nothing starts under it"
            typed = f"singlerun resume {quoted(shown(pause.name))}"
            answer.add(PROBLEM, shown(pause.name), what, "if that was forgotten", typed)
    return answer
