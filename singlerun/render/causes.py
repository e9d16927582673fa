"""What keeps a name from starting, each with the command that mends it."""

import os
import time

from singlerun.duration import brief
from singlerun.ownership.judge import ORPHAN, judge
from singlerun.render import refusal
from singlerun.render.reason import DIED, reason
from singlerun.render.text import command, shown
from singlerun.store.queue import DELAYED, QUEUED, RUNNING
from singlerun.store.run import REFUSED, SKIPPED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from singlerun.diagnosis import Diagnosis
    from singlerun.store.queue import Job
    from singlerun.store.run import Pause, Run

MOST_SHOWN = 3
"""Waiters and zombies that are shown."""


class Cause:
    """Something that keeps a name from starting, and the command that mends it.

    Attributes:
        kind: one word, for scripts.
        text: what it is, without the name.
        purpose, words: what the command is for, and the command.
    """

    __slots__ = ("kind", "purpose", "text", "words")

    def __init__(self, kind: str, text: str, purpose: str, *words: str | bytes) -> None:
        self.kind, self.text, self.purpose = kind, text, purpose
        self.words = tuple(os.fsencode(word) for word in words)

    @property
    def remedy(self) -> str:
        """The command, quoted for a shell and safe to show."""
        return command((b"singlerun", *self.words))


def causes(found: "Diagnosis") -> "Iterator[Cause]":
    """Yield what keeps a name from starting, the most telling first."""
    yield from _holders(found)
    if found.pause is not None:
        yield of_pause(found.pause)
    yield from _line(found)
    yield from _queue(found)
    for run in found.zombies[:MOST_SHOWN]:
        yield of_zombie(run, found.name)
    yield from _limit(found)


def of_pause(pause: "Pause") -> Cause:
    """Return that a name is paused."""
    until = "until it is resumed"
    if pause.until_ns is not None:
        until = f"until {refusal.clock(pause.until_ns)}"
    text = f"paused by user {user(pause.uid)}, since {refusal.clock(pause.since_ns)}, {until}"
    return Cause("paused", text, "to resume it", "resume", *operand(pause.name))


def of_zombie(run: "Run", name: bytes) -> Cause:
    """Return that nothing lives of a run whose record is open."""
    text = f"run {run.id}, PID {run.wrapper_pid}, {DIED}"
    return Cause("zombie", text, "to close its record", "reap", *operand(name))


def of_orphan(run: "Run", pid: int, name: bytes) -> Cause:
    """Return that the wrapper of a run is dead, and its command lives."""
    text = f"run {run.id} is an orphan: singlerun was killed, and PID {pid} lives on"
    return Cause("orphan", text, "to end it", "reap", "--kill-orphans", *operand(name))


def _holders(found: "Diagnosis") -> "Iterator[Cause]":
    name = operand(found.name)
    if found.claim is not None:
        yield Cause("claim", "a lock file claims it", "if its owner is dead", "reap",
                     "--break-lock", found.claim.token[: refusal.SHOWN_DIGITS])  # fmt: skip
    for run, pids in found.holders:
        if run is None:
            if not pids:
                continue
            text = f"PID {pids[0]} is not a run that singlerun has recorded"
            yield Cause("stranger", text, "to see it", "is-running", *name)
        elif judge(run).state == ORPHAN:
            yield of_orphan(run, pids[0], found.name)
        elif run.state == WAITING:
            text = f"run {run.id} holds it between two tries: the last one failed"
            yield Cause("retry", text, "to give up", "stop", str(run.id))
        else:
            text = f"run {run.id} holds it, {_progress(run, found.usual_ns)}"
            yield Cause("held", text, "to stop it", "stop", str(run.id))


def _progress(run: "Run", usual_ns: int | None) -> str:
    spent_ns = max(0, time.time_ns() - (run.started_ns or run.asked_ns))
    spent = brief(spent_ns / 1e9)
    if usual_ns is None:
        return f"for {spent}"
    usual = brief(usual_ns / 1e9)
    if spent_ns > usual_ns:
        return f"for {spent}, {brief((spent_ns - usual_ns) / 1e9)} longer than its usual {usual}"
    return f"for {spent} of about {usual}: free in about {brief((usual_ns - spent_ns) / 1e9)}"


def _line(found: "Diagnosis") -> "Iterator[Cause]":
    if not found.waiting:
        return
    parts = [
        f"#{place or '?'} run {run.id} (PID {run.wrapper_pid}, for {passed(run.asked_ns)})"
        for run, place in found.waiting[:MOST_SHOWN]
    ]
    more = len(found.waiting) - len(parts)
    text = f"in line: {', '.join(parts)}" + (f" and {more} more" if more else "")
    first = found.waiting[0][0]
    yield Cause("line", text, "to take the first out", "stop", str(first.id))


def _queue(found: "Diagnosis") -> "Iterator[Cause]":
    if not found.queued and not found.delayed:
        return
    name = operand(found.name)
    counts = [f"{count} {what}" for count, what in
              ((found.queued, QUEUED), (found.delayed, DELAYED)) if count]  # fmt: skip
    first = next((job for job in found.jobs if job.state in {QUEUED, DELAYED}), None)
    after = "" if first is None else f"; {_waits(first, found)}"
    text = f"its queue has {' and '.join(counts)}{after}"
    kind = "next" if found.queued else "job"
    yield Cause(kind, text, "to see it", "queue", *name)
    if not found.has_worker:
        said = shown(found.worker_message).removeprefix("singlerun: ")
        text = "its queue has no worker" + (f", whose last message was: {said}" if said else "")
        yield Cause("worker", text, "to start one", "reap", *name)
    blocker = found.blockers.get(first.after_id or 0) if first is not None else None
    if blocker is not None and first is not None and not found.queued:
        text = f"job {first.id} waits for job {blocker.id}, which is {blocker.state}"
        yield Cause("after", text, "to see why", "why", *operand(blocker.name))


def _waits(job: "Job", found: "Diagnosis") -> str:
    """Say when the next job of a queue starts, or what it waits for."""
    if job.state == QUEUED:
        holds = any(each.state == RUNNING for each in found.jobs) or found.holders
        return f"job {job.id} is next" + (" when it is free" if holds else "")
    if job.is_blocked:
        return f"job {job.id} waits for job {job.after_id} to succeed"
    left = max(0.0, ((job.not_before_ns or 0) - time.time_ns()) / 1e9)
    if job.tries:
        status = "failed" if job.exit_code is None else f"failed with exit status {job.exit_code}"
        return f"job {job.id} {status}, and is tried again in {brief(left)}"
    return f"job {job.id} starts in {brief(left)}"


def _limit(found: "Diagnosis") -> "Iterator[Cause]":
    latest = found.recent[0].run if found.recent else None
    if latest is None or latest.state not in {REFUSED, SKIPPED}:
        return
    if not (latest.detail or "").startswith("too soon"):
        return
    text = f"run {latest.id} was refused {passed(latest.asked_ns)} ago: {reason(latest)}"
    yield Cause("limit", text, "to see the starts", "history", *operand(found.name))


def operand(name: bytes) -> tuple[bytes, ...]:
    """Return a name as words of a command line."""
    return (b"--", name) if name.startswith(b"-") else (name,)


def user(uid: int) -> str:
    """Return a user's name, safe to show."""
    return shown(refusal.user_name(uid))


def passed(time_ns: int) -> str:
    """Return the time that has passed since a moment."""
    return brief((time.time_ns() - time_ns) / 1e9)
