"""The answer to "why does it not run?": a sentence, the reasons, and what became of it lately."""

import os
import time
from collections import Counter

from singlerun.duration import brief
from singlerun.ownership.judge import ORPHAN, judge
from singlerun.render import refusal, style
from singlerun.render.reason import reason
from singlerun.render.result import Result, is_terminal
from singlerun.render.text import command, cut, shown
from singlerun.store.queue import DELAYED, QUEUED, RUNNING
from singlerun.store.run import LOST, REFUSED, SKIPPED, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singlerun.diagnosis import Diagnosis
    from singlerun.ownership.judge import Verdict
    from singlerun.store.queue import Job
    from singlerun.store.run import Run

LONGEST_NAME = 100
MOST_SHOWN = 3
"""Waiters, or reasons of refusals, that are shown."""


class Reason:
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


class Why(Result):
    """One screen about one name."""

    def __init__(self, found: "Diagnosis", *, errors: "Iterable[str]" = ()) -> None:
        super().__init__(errors=errors)
        self._found = found
        self._name = cut(shown(found.name), LONGEST_NAME)
        self._reasons = list(_reasons(found))
        self._answer = answer(found, self._name, self._reasons)

    def lines(self) -> "Iterator[str]":
        found = self._found
        yield style.paint(self._answer, style.BOLD)
        for each in self._reasons:
            yield ""
            yield f"  {each.text}"
            yield f"      {each.purpose}: {each.remedy}"
        if not found.is_known:
            yield from _similar(found)
        if found.recent:
            yield ""
            yield "Latest runs"
            yield from _latest(found.recent)
            yield ""
            yield _success(found)
        if found.refusals:
            yield from _refusals(found)

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        found = self._found
        held = [judge(run) for run, _ in found.holders if run is not None]
        success = found.latest_success
        return {
            "name": os.fsdecode(found.name),
            "answer": self._answer,
            "held": bool(found.holders or found.claim),
            "pids": [pid for _, pids in found.holders for pid in pids],
            "reasons": [
                {"kind": each.kind, "text": each.text,
                 "command": ["singlerun", *map(os.fsdecode, each.words)]}
                for each in self._reasons
            ],
            "holders": json.runs(held),
            "waiting": json.runs(
                [judge(run) for run, _ in found.waiting],
                {run.id: place for run, place in found.waiting},
            ),
            "jobs": list(map(json.job_keys, found.jobs)),
            "queued": found.queued, "delayed": found.delayed,
            "runs": json.runs(found.recent),
            "latest_success": None if success is None else json.runs([judge_ended(success)])[0],
            "refusals": [
                {"reason": text, "count": count} for text, count in _counted(found).most_common()
            ],
        }  # fmt: skip


def judge_ended(run: "Run") -> "Verdict":
    """Return the verdict on a run that has ended: as recorded."""
    from singlerun.ownership.judge import Verdict  # noqa: PLC0415 - only for JSON

    return Verdict(run, run.state, [])


# -- the answer -------------------------------------------------------------------------------


def answer(found: "Diagnosis", name: str, reasons: list[Reason]) -> str:
    """Return in one sentence whether a run could start now, and if not, why."""
    if found.holders or found.claim:
        return _held(found, name)
    kinds = {each.kind for each in reasons}
    if found.pause is not None:
        return f"{name} is paused by user {_user(found.pause.uid)}: nothing starts under it."
    if "line" in kinds:
        return f"{name} is about to start: it is free, and a run in line takes it."
    if not found.is_known:
        return f"{name} is free, and unknown: nothing has run, waited or been queued under it."
    for kind, what in (
        ("worker", "its queue stands still: it has no worker"),
        ("job", "its queue waits"),
        ("limit", "its latest run came too soon"),
    ):
        if kind in kinds:
            return f"{name} is free, but {what}."
    if "next" in kinds:
        return f"{name} is free, and its worker is about to start the next job."
    return f"{name} is free: nothing keeps it from starting."


def _held(found: "Diagnosis", name: str) -> str:
    if not found.holders or (found.claim is not None and not found.holders[0][1]):
        assert found.claim is not None
        return f"{name} is held by {refusal.unseen(found.claim)}."
    run, pids = found.holders[0]
    orphan = "an orphan, " if run is not None and judge(run).state == ORPHAN else ""
    by = orphan + refusal.holder(pids, run, found.usual_ns)
    count = len(found.holders)
    if run is None or not run.shared:
        return f"{name} is held by {by}."
    others = "" if count == 1 else f" and {count - 1} more"
    if run.slots is None:
        return f"{name} is held by {by}{others}, and shared: other readers can start."
    if count < run.slots:
        return f"{name} has {count} of {run.slots} slots taken: another run can start."
    return f"{name} has all of its {run.slots} slots taken, by {by}{others}."


# -- the reasons ------------------------------------------------------------------------------


def _reasons(found: "Diagnosis") -> "Iterator[Reason]":
    yield from _holders(found)
    if found.pause is not None:
        pause = found.pause
        until = "until it is resumed"
        if pause.until_ns is not None:
            until = f"until {_when(pause.until_ns)}"
        text = f"paused by user {_user(pause.uid)}, since {_when(pause.since_ns)}, {until}"
        yield Reason("paused", text, "to resume it", "resume", *_operand(found.name))
    yield from _line(found)
    yield from _queue(found)
    for run in found.zombies[:MOST_SHOWN]:
        text = f"run {run.id}, PID {run.wrapper_pid}, died without recording an exit status"
        yield Reason("zombie", text, "to close its record", "reap", *_operand(found.name))
    yield from _limit(found)


def _holders(found: "Diagnosis") -> "Iterator[Reason]":
    operand = _operand(found.name)
    if found.claim is not None:
        yield Reason("claim", "a lock file claims it", "if its owner is dead", "reap",
                     "--break-lock", found.claim.token[: refusal.SHOWN_DIGITS])  # fmt: skip
    for run, pids in found.holders:
        if run is None:
            if not pids:
                continue
            text = f"PID {pids[0]} is not a run that singlerun has recorded"
            yield Reason("stranger", text, "to see it", "is-running", *operand)
        elif judge(run).state == ORPHAN:
            text = f"run {run.id} is an orphan: singlerun was killed, and PID {pids[0]} lives on"
            yield Reason("orphan", text, "to end it", "reap", "--kill-orphans", *operand)
        elif run.state == WAITING:
            text = f"run {run.id} holds it between two tries: the last one failed"
            yield Reason("retry", text, "to give up", "stop", str(run.id))
        else:
            text = f"run {run.id} holds it, {_progress(run, found.usual_ns)}"
            yield Reason("held", text, "to stop it", "stop", str(run.id))


def _progress(run: "Run", usual_ns: int | None) -> str:
    spent_ns = max(0, time.time_ns() - (run.started_ns or run.asked_ns))
    spent = brief(spent_ns / 1e9)
    if usual_ns is None:
        return f"for {spent}"
    usual = brief(usual_ns / 1e9)
    if spent_ns > usual_ns:
        return f"for {spent}, {brief((spent_ns - usual_ns) / 1e9)} longer than its usual {usual}"
    return f"for {spent} of about {usual}: free in about {brief((usual_ns - spent_ns) / 1e9)}"


def _line(found: "Diagnosis") -> "Iterator[Reason]":
    if not found.waiting:
        return
    parts = [
        f"#{place or '?'} run {run.id} (PID {run.wrapper_pid}, for {_ago(run.asked_ns)})"
        for run, place in found.waiting[:MOST_SHOWN]
    ]
    more = len(found.waiting) - len(parts)
    text = f"in line: {', '.join(parts)}" + (f" and {more} more" if more else "")
    first = found.waiting[0][0]
    yield Reason("line", text, "to take the first out", "stop", str(first.id))


def _queue(found: "Diagnosis") -> "Iterator[Reason]":
    if not found.queued and not found.delayed:
        return
    operand = _operand(found.name)
    counts = [f"{count} {what}" for count, what in
              ((found.queued, QUEUED), (found.delayed, DELAYED)) if count]  # fmt: skip
    first = next((job for job in found.jobs if job.state in {QUEUED, DELAYED}), None)
    after = "" if first is None else f"; {_waits(first, found)}"
    text = f"its queue has {' and '.join(counts)}{after}"
    kind = "next" if found.queued else "job"
    yield Reason(kind, text, "to see it", "queue", *operand)
    if not found.has_worker:
        said = shown(found.worker_message).removeprefix("singlerun: ")
        text = "its queue has no worker" + (f", whose last message was: {said}" if said else "")
        yield Reason("worker", text, "to start one", "reap", *operand)
    blocker = found.blockers.get(first.after_id or 0) if first is not None else None
    if blocker is not None and first is not None and not found.queued:
        text = f"job {first.id} waits for job {blocker.id}, which is {blocker.state}"
        yield Reason("after", text, "to see why", "why", *_operand(blocker.name))


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


def _limit(found: "Diagnosis") -> "Iterator[Reason]":
    latest = found.recent[0].run if found.recent else None
    if latest is None or latest.state not in {REFUSED, SKIPPED}:
        return
    if not (latest.detail or "").startswith("too soon"):
        return
    text = f"run {latest.id} was refused {_ago(latest.asked_ns)} ago: {reason(latest)}"
    yield Reason("limit", text, "to see the starts", "history", *_operand(found.name))


# -- what became of it lately -----------------------------------------------------------------


def _latest(recent: "list[Verdict]") -> "Iterator[str]":
    """Yield a line for each of the latest runs, newest first."""
    rows = [
        (str(seen.run.id), seen.state, refusal.clock(seen.run.started_ns or seen.run.asked_ns),
         f"{_ago(seen.run.started_ns or seen.run.asked_ns)} ago", _took(seen.run),
         reason(seen.run))
        for seen in recent
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, why = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        used = sum(map(len, cells)) + 2 * len(cells) + 2
        if is_terminal():
            why = style.fit(why, max(0, style.width() - used))
        cells[1] = style.paint(cells[1], style.COLOURS.get(row[1], ""))
        yield ("  " + "  ".join([*cells, why])).rstrip()


def _took(run: "Run") -> str:
    if run.elapsed_ns is not None:
        return brief(run.elapsed_ns / 1e9)
    if run.started_ns is None or run.state == LOST:
        return "-"
    return brief(((run.ended_ns or time.time_ns()) - run.started_ns) / 1e9)


def _success(found: "Diagnosis") -> str:
    run = found.latest_success
    if run is None:
        return "It has not succeeded yet."
    at = run.ended_ns or run.asked_ns
    return f"Last success: run {run.id}, {_when(at)} ({_ago(at)} ago), took {_took(run)}."


def _refusals(found: "Diagnosis") -> "Iterator[str]":
    count, latest = len(found.refusals), found.refusals[0]
    times = "once" if count == 1 else f"{count} times"
    yield f"Refused {times} in {found.lately_days} days, the latest {_ago(latest.asked_ns)} ago:"
    counted = _counted(found).most_common()
    for text, number in counted[:MOST_SHOWN]:
        yield f"  {number} x {text}"
    if len(counted) > MOST_SHOWN:
        yield f"  and {len(counted) - MOST_SHOWN} other reasons"
    words = (b"singlerun", b"history", b"--refused", *_operand(found.name))
    yield f"      to see them: {command(words)}"


def _counted(found: "Diagnosis") -> "Counter[str]":
    return Counter(reason(run) or run.state for run in found.refusals)


def _similar(found: "Diagnosis") -> "Iterator[str]":
    """Yield the names that this one may be meant for, and where all are."""
    import difflib  # noqa: PLC0415 - rare

    names = list(map(shown, found.similar))
    alike = difflib.get_close_matches(shown(found.name), names, MOST_SHOWN)
    if alike:
        yield f"  similar names: {', '.join(cut(name, LONGEST_NAME) for name in alike)}"
    yield "      to see which names have run: singlerun history"


# -- small things -----------------------------------------------------------------------------


def _operand(name: bytes) -> tuple[bytes, ...]:
    """Return a name as words of a command line."""
    return (b"--", name) if name.startswith(b"-") else (name,)


def _user(uid: int) -> str:
    return shown(refusal.user_name(uid))


def _ago(time_ns: int) -> str:
    return brief((time.time_ns() - time_ns) / 1e9)


def _when(time_ns: int) -> str:
    return refusal.clock(time_ns)
