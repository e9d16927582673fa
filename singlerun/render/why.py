"""The answer to "why does it not run?": a sentence, the reasons, and what became of it lately."""

import os
from collections import Counter

from singlerun.ownership.judge import ORPHAN, judge
from singlerun.render import refusal, style
from singlerun.render.causes import MOST_SHOWN, causes, operand, passed, user
from singlerun.render.history import elapsed
from singlerun.render.reason import reason
from singlerun.render.result import Result
from singlerun.render.text import command, cut, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from singlerun.diagnosis import Diagnosis
    from singlerun.ownership.judge import Verdict
    from singlerun.render.causes import Cause
    from singlerun.store.run import Run

LONGEST_NAME = 100
NARROW = 80
"""Columns below which a terminal shows no clock times."""


class Why(Result):
    """One screen about one name."""

    def __init__(self, found: "Diagnosis", *, errors: "Iterable[str]" = ()) -> None:
        super().__init__(errors=errors)
        self._found = found
        self._name = cut(shown(found.name), LONGEST_NAME)
        self._reasons = list(causes(found))
        self._answer = answer(found, self._name, self._reasons)

    def lines(self) -> "Iterator[str]":
        found = self._found
        yield style.paint(self._answer, style.CODES["bold"])
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


def answer(found: "Diagnosis", name: str, reasons: "list[Cause]") -> str:
    """Return in one sentence whether a run could start now, and if not, why."""
    if found.holders or found.claim:
        return _held(found, name)
    kinds = {each.kind for each in reasons}
    if found.pause is not None:
        return f"{name} is paused by user {user(found.pause.uid)}: nothing starts under it."
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


# -- what became of it lately -----------------------------------------------------------------


def _latest(recent: "list[Verdict]") -> "Iterator[str]":
    """Yield a line for each of the latest runs, newest first."""
    rows: list[tuple[str, ...]] = [
        (str(seen.run.id), seen.state, refusal.clock(seen.run.started_ns or seen.run.asked_ns),
         f"{passed(seen.run.started_ns or seen.run.asked_ns)} ago", elapsed(seen.run),
         reason(seen.run))
        for seen in recent
    ]  # fmt: skip
    if style.is_terminal() and style.width() < NARROW:
        rows = [(*row[:2], *row[3:]) for row in rows]  # how long ago is enough
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *row, why in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=False)]
        left = style.width() - sum(map(len, cells)) - 2 * len(cells) - 2
        cells.append(style.fit(why, max(0, left)) if style.is_terminal() else why)
        cells[1] = style.paint(cells[1], style.COLOURS.get(row[1], ""))
        yield ("  " + "  ".join(cells)).rstrip()


def _success(found: "Diagnosis") -> str:
    run = found.latest_success
    if run is None:
        return "It has not succeeded yet."
    at = run.ended_ns or run.asked_ns
    return (
        f"Last success: run {run.id}, {refusal.clock(at)} ({passed(at)} ago), took {elapsed(run)}."
    )


def _refusals(found: "Diagnosis") -> "Iterator[str]":
    count, latest = len(found.refusals), found.refusals[0]
    times = "once" if count == 1 else f"{count} times"
    yield f"Refused {times} in {found.lately_days} days, the latest {passed(latest.asked_ns)} ago:"
    counted = _counted(found).most_common()
    for text, number in counted[:MOST_SHOWN]:
        yield f"  {number} x {text}"
    if len(counted) > MOST_SHOWN:
        yield f"  and {len(counted) - MOST_SHOWN} other reasons"
    words = (b"singlerun", b"history", b"--refused", *operand(found.name))
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
