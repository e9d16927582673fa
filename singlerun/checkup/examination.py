"""Carries out checks, each in a process of its own and all at once, until a deadline.

A file system that hangs (a dead NFS server, a stopped FUSE) never returns from a system call, and
not even SIGKILL ends a process in it. So nothing is waited for but the pipes on which the processes
answer, and these have nothing else open, lest a reader of our output wait for them.
"""

import json
import os
import selectors
import signal
import time

from singlerun.checkup.case import Case
from singlerun.errors import RecordError, SinglerunError, said
from singlerun.finding import NOTE, PROBLEM, Answer, Finding
from singlerun.paths import lift
from singlerun.process.descriptors import close_all_but
from singlerun.render.text import quoted, shown
from singlerun.timings import CHECK_PATIENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[Case], Answer]


def examine(
    checks: "Mapping[str, Check]", case: Case, seconds: float = CHECK_PATIENCE
) -> list[Answer]:
    """Return the answer of each check, in their order, after so many seconds at the latest."""
    deadline = time.monotonic() + seconds
    pids: dict[str, int] = {}
    texts: dict[str, bytes] = {}
    alone: dict[str, Answer] = {}
    with selectors.DefaultSelector() as selector:
        for name, check in checks.items():
            try:
                reading, pids[name] = _start(check, case)
            except OSError:  # no process, or no descriptor, is left: here then, without a deadline
                alone[name] = carry_out(check, case)
                continue
            texts[name] = b""
            selector.register(reading, selectors.EVENT_READ, name)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                text = os.read(key.fd, 65536)
                texts[key.data] += text
                if not text:
                    selector.unregister(key.fd)
                    os.close(key.fd)
        late = [key.data for key in selector.get_map().values()]
        for key in list(selector.get_map().values()):
            os.close(key.fd)
    answers = []
    for name in checks:
        if name in late:
            answer = Answer(f"not done within {seconds:g} s", is_done=False)
        else:
            answer = alone.get(name) or _read(texts[name], pids[name])
        answer.check = name
        answers.append(answer)
        if name in pids:
            _end(pids[name], kill=name in late)
    if late:
        first = next(answer for answer in answers if answer.check in late)
        what = f"it was not answered within {seconds:g} s: {', '.join(late)} were not checked"
        remedy = "look which file system does not answer, that of the state directory first"
        typed = f"timeout 5 stat -f {quoted(shown(case.path))}"
        first.findings.append(Finding(PROBLEM, case.shown, what, remedy, typed))
    return answers


def _start(check: "Check", case: Case) -> tuple[int, int]:
    """Start a check; return the descriptor on which it answers, and its process."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid:
        os.close(writing)
        return reading, pid
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        writing, null = lift(writing), os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        writing = os.dup2(writing, 3)
        close_all_but({0, 1, 2, writing})
        text = json.dumps(_as_dict(carry_out(check, case))).encode()
        while text:
            text = text[os.write(writing, text) :]
    finally:
        os._exit(0)


def carry_out(check: "Check", case: Case) -> Answer:
    """Return the answer of a check; what it can't do is a finding, too."""
    try:
        return check(case)
    except RecordError:  # what is wrong with it is the finding of the check of the database
        return Answer("not looked at, because the run-log cannot be read", is_done=False)
    except SinglerunError as error:
        what, _, remedy = str(error).rpartition("; ")
        return Answer("", Finding(PROBLEM, case.shown, what, remedy))
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
        name = getattr(error, "filename", None)
        where = os.fsdecode(name) if isinstance(name, str | bytes) else case.shown
        what = f"this could not be checked: {said(error)}"
        return Answer("", Finding(PROBLEM, where, what, "make it readable"), is_done=False)


def _as_dict(answer: Answer) -> dict[str, object]:
    findings = [finding.as_dict() for finding in answer.findings]
    return {"summary": answer.summary, "is_done": answer.is_done, "findings": findings}


def _read(text: bytes, pid: int) -> Answer:
    try:
        found = json.loads(text)
    except ValueError:
        what = "the check ended without an answer"
        return Answer("", Finding(NOTE, f"PID {pid}", what, "try again"), is_done=False)
    findings = [Finding(**finding) for finding in found["findings"]]
    return Answer(found["summary"], *findings, is_done=found["is_done"])


def _end(pid: int, *, kill: bool) -> None:
    """Reap the process of a check, unless not even SIGKILL ends it."""
    if kill:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, os.WNOHANG if kill else 0)
