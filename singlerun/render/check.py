"""How names stand, for a monitoring system: the output of a plugin for Nagios, Icinga and others.

See https://www.monitoring-plugins.org/doc/guidelines.html: one line that says it all, performance
data behind a bar, and the details below.
"""

import os

from singlerun.duration import brief
from singlerun.render.causes import passed
from singlerun.render.findings import (
    CRITICAL,
    EXIT_STATUS,
    ORDER,
    UNKNOWN,
    WARNING,
    findings,
    worst,
)
from singlerun.render.result import Result
from singlerun.render.text import cut, shown
from singlerun.store.queue import QUEUED
from singlerun.store.run import SUCCEEDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from singlerun.render.findings import Finding
    from singlerun.survey import Survey, Watched

IN_FIRST_LINE = 3
"""Findings that the first line names."""
IN_DETAIL = 100
"""Findings that stand below it: a monitoring system keeps a few kilobytes."""
MEASURED = 20
"""Names whose figures are printed."""
LONGEST_NAME = 100
TO_CHECK_ONE = "singlerun check NAME"


class Checked:
    """A name and what was found wrong with it, the worst first."""

    def __init__(self, watched: "Watched") -> None:
        self.watched, self.findings = watched, findings(watched)
        self.status = worst([each.status for each in self.findings])

    @property
    def kinds(self) -> str:
        """What is wrong, a word each: the same words as long as nothing changes."""
        return ",".join(sorted({each.cause.kind for each in self.findings}))


class Check(Result):
    """How names stand.

    ``is_all``: they are all names that there are, rather than those that were asked for.
    ``problems`` are warnings that are about no name.

    Attributes:
        state: the worst status of all.
        is_quiet: whether nothing is printed if all is well.
        changed: the names that have changed; nothing is printed if there are none. None: not asked.
    """

    def __init__(self, survey: "Survey", *, is_all: bool, problems: "Sequence[str]" = ()) -> None:
        super().__init__()
        self.names = [Checked(watched) for watched in survey.watched]
        self.changed: set[bytes] | None = None
        self.is_quiet = False
        self._left_out, self._is_all, self._problems = survey.left_out, is_all, list(problems)
        statuses = [each.status for each in self.names] + [WARNING] * bool(self._problems)
        self.state = worst(statuses or [UNKNOWN])
        self.status = EXIT_STATUS[self.state]

    def lines(self) -> "Iterator[str]":
        if (self.is_quiet and self.status == 0) or (self.changed is not None and not self.changed):
            return
        figures = " ".join(self._figures())
        yield f"{first_line(self.state, self._summary())} | {figures}"
        listed = self._listed()
        for checked, finding in listed[:IN_DETAIL]:
            cause = finding.cause
            yield plain(f"{finding.status.upper()} {shown(checked.watched.name)}: {cause.text}")
            yield plain(f"    {cause.purpose}: {cause.remedy}")
        if len(listed) > IN_DETAIL:
            yield f"and {len(listed) - IN_DETAIL} more"
        for problem in self._problems:
            yield plain(f"WARNING {shown(problem)}")
        if self._left_out:
            yield f"{self._left_out} more names were not checked; to check one: {TO_CHECK_ONE}"

    def document(self) -> dict[str, object]:
        return {
            "status": self.state, "exit_status": self.status,
            "names": [_keys(each) for each in self.names],
            "problems": self._problems, "left_out": self._left_out,
        }  # fmt: skip

    def _listed(self) -> "list[tuple[Checked, Finding]]":
        """Return the findings of all names, the worst first."""
        pairs = [(each, finding) for each in self.names for finding in each.findings]
        return sorted(pairs, key=lambda pair: -ORDER.index(pair[1].status))

    def _summary(self) -> str:
        """Return what the first line says."""
        pairs = self._listed()
        if pairs:
            said = [
                f"{cut(shown(checked.watched.name), LONGEST_NAME)}: {finding.cause.text}"
                for checked, finding in pairs[:IN_FIRST_LINE]
            ]
            more = len(pairs) - len(said)
            return "; ".join(said) + (f"; and {more} more" if more else "")
        if self._problems:
            return shown(self._problems[0])
        if not self.names:
            return f"there is no name to check; to check one: {TO_CHECK_ONE}"
        if len(self.names) == 1:
            watched = self.names[0].watched
            return f"{cut(shown(watched.name), LONGEST_NAME)}: {_well(watched)}"
        return f"{len(self.names)} names"

    def _figures(self) -> "Iterator[str]":
        """Yield the performance data: 'label'=value, unit, and thresholds; see the guidelines."""
        counts = dict.fromkeys((WARNING, CRITICAL, UNKNOWN), 0)
        for each in self.names:
            if each.status in counts:
                counts[each.status] += 1
        if self._is_all:
            yield f"'names'={len(self.names)};;;0"
            for status, count in counts.items():
                yield f"'{status}'={count};;;0"
        for each in self.names[:MEASURED]:
            yield from _figures_of(each.watched)


def first_line(state: str, text: str) -> str:
    """Return the line that a monitoring system shows."""
    return plain(f"SINGLERUN {state.upper()} - {text}")


def plain(text: str) -> str:
    """Return text without the bar, behind which performance data begins."""
    return text.replace("|", "\\x7c")


def _well(found: "Watched") -> str:
    """Say of a name that nothing is wrong with it."""
    parts = [f"{len(found.running)} running"] if len(found.running) > 1 else []
    if len(found.running) == 1:
        parts = [f"run {found.running[0].run.id} is running"]
    if found.standing.succeeded_ns is not None:
        took = found.standing.elapsed_ns if found.standing.state == SUCCEEDED else None
        after = "" if took is None else f", took {brief(took / 1e9)}"
        parts.append(f"last success {passed(found.standing.succeeded_ns)} ago{after}")
    return ", ".join(parts) or "nothing of it has ended yet"


def _figures_of(found: "Watched") -> "Iterator[str]":
    label = shown(found.name)
    for character, stands_for in (("|", "\\x7c"), ("=", "\\x3d"), ("'", "''")):
        label = label.replace(character, stands_for)
    warn, expect = (_number(limit) for limit in (found.warn, found.expect))
    if found.age is not None:
        yield f"'{label} age'={_number(found.age)}s;{warn};{expect};0"
    if found.standing.elapsed_ns is not None:
        yield f"'{label} duration'={_number(found.standing.elapsed_ns / 1e9)}s;;;0"
    yield f"'{label} running'={len(found.running)};;;0"
    yield f"'{label} waiting'={len(found.waiting)};;;0"
    yield f"'{label} queued'={found.jobs[QUEUED]};{_number(found.max_queued)};;0"
    yield f"'{label} refused'={found.standing.refused};{_number(found.max_refused)};;0"


def _number(value: float | None) -> str:
    """Return a number in digits, to the millisecond; nothing for None."""
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _keys(checked: Checked) -> dict[str, object]:
    from singlerun.render import json  # noqa: PLC0415

    found = checked.watched
    latest = found.standing
    return {
        "name": os.fsdecode(found.name), "status": checked.status,
        "findings": [
            {"kind": each.cause.kind, "status": each.status, "text": each.cause.text,
             "command": ["singlerun", *map(os.fsdecode, each.cause.words)]}
            for each in checked.findings
        ],
        "latest_start_at": json.time_of(latest.started_ns),
        "latest_end_at": json.time_of(latest.ended_ns), "latest_state": latest.state,
        "latest_success_at": json.time_of(latest.succeeded_ns), "success_age_s": found.age,
        "elapsed_s": None if latest.elapsed_ns is None else latest.elapsed_ns / 1e9,
        "running": len(found.running), "waiting": len(found.waiting),
        "queued": found.jobs[QUEUED], "refused": latest.refused,
        "paused": found.pause is not None,
        "expect_s": found.expect, "warning_s": found.warn, "overlong": found.overlong,
        "max_queued": found.max_queued, "max_refused": found.max_refused,
    }  # fmt: skip
