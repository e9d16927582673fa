"""Figures of runs, a row for each name: how often, how long, how well."""

import os
from datetime import UTC, datetime

from singlerun.duration import brief
from singlerun.render import style
from singlerun.render.refusal import clock
from singlerun.render.result import Result
from singlerun.render.text import shown
from singlerun.store.run import FAILED, LOST, REFUSED, SKIPPED, STOPPED, SUCCEEDED, TIMED_OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from singlerun.store.periods import Figures

BARS = 16
"""The latest runs whose durations are drawn."""
BLOCKS, PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
ENDED = (SUCCEEDED, FAILED, TIMED_OUT, STOPPED, LOST)


class Summary:
    """The figures of one name.

    Attributes:
        ended: how many runs ended in each state.
        running: how many have not ended yet.
        refused: how many were not started.
        durations: of those that were measured, in nanoseconds, oldest first.
        longest_id: the run that took longest.
    """

    def __init__(self, name: bytes, runs: "Sequence[Figures]") -> None:
        self.name = name
        started = [run for run in runs if run.has_started]
        self.runs = len(started)
        self.ended = {state: sum(run.state == state for run in started) for state in ENDED}
        self.running = self.runs - sum(self.ended.values())
        self.refused = sum(run.state in {REFUSED, SKIPPED} for run in runs)
        measured = [run for run in started if run.elapsed_ns is not None]
        self.durations = [run.elapsed_ns or 0 for run in measured]
        longest = max(measured, key=lambda run: run.elapsed_ns or 0, default=None)
        self.longest_id = None if longest is None else longest.id
        self.waits = sorted(run.waited_ns for run in started if run.waited_ns is not None)
        self.cpu_us = sum(run.cpu_us or 0 for run in measured)
        self.max_rss_kb = max((run.max_rss_kb or 0 for run in measured), default=0) or None

    @property
    def success_rate(self) -> float | None:
        """The share of the runs that ended which succeeded."""
        ended = sum(self.ended.values())
        return self.ended[SUCCEEDED] / ended if ended else None

    def percentile(self, percent: int) -> int | None:
        """Return the duration that so many percent of the runs did not exceed."""
        return percentile(sorted(self.durations), percent)


def percentile(ordered: "Sequence[int]", percent: int) -> int | None:
    """Return the first of ascending numbers that so many percent of them do not exceed."""
    return ordered[(percent * len(ordered) + 99) // 100 - 1] if ordered else None


def summaries(figures: "Sequence[Figures]", name: bytes | None) -> list[Summary]:
    """Return the figures by name; a run under several names counts for each."""
    by_name: dict[bytes, list[Figures]] = {}
    for run in figures:
        for each in run.names if name is None else (name,):
            by_name.setdefault(each, []).append(run)
    return [Summary(each, by_name[each]) for each in sorted(by_name)]


class Stats(Result):
    """Figures of a period; ``since_ns`` and ``until_ns`` are its ends."""

    columns: "Sequence[str]" = (
        "NAME", "RUNS", "OK", "P50", "P95", "LONGEST", "REFUSED", "WAITED", "CPU", "MEMORY",
        "DURATIONS",
    )  # fmt: skip

    spare = ("MEMORY", "CPU", "WAITED", "DURATIONS", "REFUSED")

    def __init__(
        self, figures: "Sequence[Figures]", since_ns: int, until_ns: int, name: bytes | None = None,
        *, errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._found = summaries(figures, name)
        self._since_ns, self._until_ns = since_ns, until_ns
        period = f"from {clock(since_ns)} to {clock(until_ns)}"
        what = "" if name is None else f" of {shown(name)}"
        self.empty = f"No runs{what} {period}; to look further back: --since 1d"
        if until_ns - since_ns >= 86_400 * 10**9:
            self.empty = self.empty.replace("--since 1d", "--since 365d")

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (
                shown(each.name), str(each.runs), _rate(each.success_rate),
                _brief(each.percentile(50)), _brief(each.percentile(95)),
                _brief(each.percentile(100)), str(each.refused),
                _brief(percentile(each.waits, 95)),
                brief(each.cpu_us / 1e6) if each.durations else "-", _size(each.max_rss_kb),
                sparkline(each.durations[-BARS:]) or "-",
            )
            for each in self._found
        ]  # fmt: skip

    def document(self) -> dict[str, object]:
        return {
            "since": _time(self._since_ns), "until": _time(self._until_ns),
            "stats": [_keys(each) for each in self._found],
        }  # fmt: skip


def sparkline(values: "Sequence[int]") -> str:
    """Return a bar for each value, the highest being the largest of them."""
    blocks = BLOCKS if style.is_unicode() else PLAIN_BLOCKS
    most = max(values, default=0) or 1
    return "".join(blocks[min(len(blocks) - 1, value * len(blocks) // most)] for value in values)


def _keys(each: Summary) -> dict[str, object]:
    return {
        "name": os.fsdecode(each.name), "runs": each.runs, "running": each.running,
        **{state.replace("-", "_"): count for state, count in each.ended.items()},
        "refused": each.refused, "success_rate": each.success_rate,
        "p50_s": _seconds(each.percentile(50)), "p95_s": _seconds(each.percentile(95)),
        "longest_s": _seconds(each.percentile(100)), "longest_id": each.longest_id,
        "total_s": sum(each.durations) / 1e9,
        "waited_p50_s": _seconds(percentile(each.waits, 50)),
        "waited_p95_s": _seconds(percentile(each.waits, 95)),
        "waited_longest_s": _seconds(percentile(each.waits, 100)),
        "cpu_s": each.cpu_us / 1e6, "max_rss_kb": each.max_rss_kb,
        "durations_s": [value / 1e9 for value in each.durations[-BARS:]],
    }  # fmt: skip


def _rate(share: float | None) -> str:
    if share is None:
        return "-"
    # Never 100 % while one has failed, however many there were.
    return "100%" if share == 1 else f"{min(share * 100, 99.9):.1f}%"


def _brief(nanoseconds: int | None) -> str:
    return "-" if nanoseconds is None else brief(nanoseconds / 1e9)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def _size(kib: int | None) -> str:
    if kib is None:
        return "-"
    return f"{kib / 1024:.0f} MB" if kib < 1024 * 1024 else f"{kib / 1024 / 1024:.1f} GB"


def _time(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return moment.isoformat().replace("+00:00", "Z")
