"""How names stand, as metrics for Prometheus."""

import sys

from singlerun import __version__
from singlerun.outcome import Outcome
from singlerun.render import exposition
from singlerun.render.exposition import COUNTER, GAUGE, HISTOGRAM, INFO, Family, seconds
from singlerun.render.result import Result
from singlerun.store.run import RUNNING, STATES, TIMED_OUT, WAITING
from singlerun.store.tallies import BOUNDS, Tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from singlerun.survey import Survey, Watched

ENDS = tuple(state for state in STATES if state not in {WAITING, RUNNING})
"""The states that are counted."""


class Metrics(Result):
    """Metrics of the names that were looked at, and of the record, which has so many bytes.

    ``quiet``: it is not said which names are left out.
    """

    def __init__(
        self, survey: "Survey", tallies: "Mapping[bytes, Mapping[str, Tally]]", size: int, *,
        openmetrics: bool, quiet: bool, errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._left_out, self._quiet = survey.left_out, quiet
        families = [*_of_names(survey), *_sums(survey, tallies), *_of_record(survey, size)]
        self.text = exposition.text(families, openmetrics=openmetrics)

    def print(self) -> None:
        """Print it, as UTF-8 in any locale."""
        if sys.stdout is not None:
            sys.stdout.flush()
            sys.stdout.buffer.write(self.text)

    def left_out(self) -> "Iterator[str]":
        if self._left_out and not self._quiet:
            are = "1 name is" if self._left_out == 1 else f"{self._left_out} names are"
            yield f"{are} left out; to include more: singlerun metrics --limit N"


class Written(Metrics):
    """Metrics that were written to a file: nothing is left to print."""

    def print(self) -> None:
        """Print nothing."""


def _of_names(survey: "Survey") -> "Iterator[Family]":
    """Yield what is known of each name now."""
    labels = exposition.values_of(each.name for each in survey.watched)
    for name, about, value_of in (
        ("last_start_timestamp_seconds", "When a run last started.",
         lambda each: _time(each.standing.started_ns)),
        ("last_end_timestamp_seconds", "When a run last ended.",
         lambda each: _time(each.standing.ended_ns)),
        ("last_success_timestamp_seconds", "When a run last ended successfully.",
         lambda each: _time(each.standing.succeeded_ns)),
        ("last_exit_status", "Exit status of the run that ended last; 128+n: signal n.",
         _exit_status),
        ("last_duration_seconds", "How long the run took that ended last.",
         lambda each: _time(each.standing.elapsed_ns)),
        ("running", "Runs whose command is running.", lambda each: str(len(each.running))),
        ("waiting", "Runs that are waiting for the lock.", lambda each: str(len(each.waiting))),
        ("orphans", "Runs whose wrapper is dead and whose command is alive.",
         lambda each: str(len(each.orphans))),
        ("zombies", "Runs whose wrapper and command are dead, but not recorded as ended.",
         lambda each: str(len(each.zombies))),
        ("refused_in_a_row", "Runs that were refused or skipped since the last start.",
         lambda each: str(each.standing.refused)),
        ("paused", "Whether the name is paused.", lambda each: str(int(each.pause is not None))),
        ("overdue", "Whether the last success is older than expected.",
         lambda each: None if each.expect is None else str(int(each.is_overdue))),
        ("expected_interval_seconds", "How often a success is expected.",
         lambda each: None if each.expect is None else f"{each.expect:.3f}"),
    ):  # fmt: skip
        family = Family(name, GAUGE, about)
        for each in survey.watched:
            value = value_of(each)
            if value is not None:
                family.add(value, name=labels[each.name])
        yield family
    jobs = Family("jobs", GAUGE, "Jobs in the queue of the name, by state.")
    for each in survey.watched:
        for state, count in each.jobs.items():
            jobs.add(str(count), name=labels[each.name], state=state)
    yield jobs


def _sums(survey: "Survey", tallies: "Mapping[bytes, Mapping[str, Tally]]") -> "Iterator[Family]":
    """Yield what was counted of each name."""
    labels = exposition.values_of(each.name for each in survey.watched)
    about = "Runs that have ended, by how: refused and skipped ones were not started."
    runs = Family("runs", COUNTER, about, survey.since_ns)
    about = "How long runs took."
    durations = Family("run_duration_seconds", HISTOGRAM, about, survey.since_ns)
    for name, label in labels.items():
        of_name = tallies.get(name, {})
        for state in ENDS:
            runs.add(str(of_name.get(state, Tally()).runs), name=label, state=state)
        buckets = [Tally().buckets, *(tally.buckets for tally in of_name.values())]
        counts = [sum(each) for each in zip(*buckets, strict=True)]
        taken = sum(tally.elapsed_ns for tally in of_name.values())
        durations.add_histogram(BOUNDS, counts, seconds(taken), name=label)
    yield runs
    yield durations


def _of_record(survey: "Survey", size: int) -> "Iterator[Family]":
    for name, about, value in (
        ("names", "Names that have been used, are configured, or have something open.",
         len(survey.watched) + survey.left_out),
        ("names_left_out", "Names that these metrics leave out.", survey.left_out),
        ("record_size_bytes", "Size of the database with all runs and jobs.", size),
    ):  # fmt: skip
        family = Family(name, GAUGE, about)
        family.add(str(value))
        yield family
    build = Family("build", INFO, "The version of singlerun.")
    build.add("1", version=__version__, python=".".join(map(str, sys.version_info[:3])))
    yield build


def _time(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else seconds(nanoseconds)


def _exit_status(each: "Watched") -> str | None:
    latest = each.standing
    timed_out = latest.state == TIMED_OUT
    if latest.exit_code is None and latest.signal is None and not timed_out:
        return None
    outcome = Outcome(latest.exit_code, latest.signal, timed_out=timed_out)
    return str(outcome.exit_status)
