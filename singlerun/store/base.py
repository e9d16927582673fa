"""The verbs of a store. Every store speaks these, and none tells how it keeps what it keeps.

wait_run                          the run waits for a lock that is held
start_run                         the lock is ours; the command is about to start
name_command                      the command has started: this is its process
finish_run                        it has ended; the lock is still ours
refuse_run                        nothing was started, and nothing will be
ask_to_end                        an open run is signalled: this is who does it
close_run                         the owner has died: its run ends as lost or stopped

open_runs, runs, find             what is open, what there was, one run
search                            what there was that a filter selects
usual_ns, starts                  how long it usually takes, when it was started
pause_of                          whether a name is paused
run_before, refused_in_a_row      of a name: its run before another, its latest refusals
tell_once                         whether this is the first to tell of something
runs_in, figures, pauses_in       what there was in a period
latest_success, count_pending     of a name: its latest success, the jobs in its queue
similar_names                     the names that begin with the same byte
tally, tally_some                 the runs that have ended since are counted: all, a few of them
tallies, tallied_since_ns         how many ended how, how long they took, since when that is counted
standings, latest_names           what became of names lately, those that were used last
job_counts, set_told              jobs by name and state; what was told of a name
exclusively                       all other writers are kept out

A verb either commits and then changes the run that it was given, or raises and leaves it as it was.
"""

from singlerun.store.run import Pause, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Protocol

    from singlerun.process.identity import Owner
    from singlerun.process.marks import Marks
    from singlerun.store.history import Filter, Search
    from singlerun.store.periods import Figures
    from singlerun.store.run import Ending
    from singlerun.store.tallies import Standing, Tally
else:
    Protocol = object


class Store(Protocol):
    """A run-log. Each verb raises RecordError when it can't be carried out."""

    def exclusively(self) -> "AbstractContextManager[object]":
        """Keep all other writers out while the context lasts; may be nested."""

    def wait_run(self, run: Run) -> None:
        """Record that a run waits."""

    def start_run(self, run: Run, parent: "Marks | None", *, heed_pause: bool = False) -> None:
        """Record, durably against a crash of ours, that a run starts.

        ``parent`` are the marks of the run inside which this one was started; they count only if
        this store knows that run. Raises PausedError if ``heed_pause``, and its name is paused.
        """

    def name_command(self, run: Run, command: "Owner") -> None:
        """Record the command's process."""

    def hand_over(self, run: Run, keeper: "Owner", fd: int) -> None:
        """Record that another process keeps the lock of a run, through this descriptor."""
        raise NotImplementedError

    def finish_run(self, run: Run, ending: "Ending") -> bool:
        """Record a run's end; return whether jobs wait in the queue of one of its names.

        A run that the store lost meanwhile is recorded anew.
        """

    def refuse_run(
        self, run: Run, state: str, detail: str | None, *, conflict_id: int | None = None,
        signal: int | None = None,
    ) -> None:  # fmt: skip
        """Record that a run was not started: refused, skipped, or stopped by a signal."""

    def ask_to_end(self, run: Run, detail: str, signal: "Callable[[], bool]") -> bool:
        """Signal an open run, and record who does it; return whether the run was still open.

        ``signal`` sends the signal and returns whether that was allowed; it is called within the
        transaction, so there is no note without a signal. However a run with a note ends, it ends
        as stopped, with this detail.
        """

    def take_back(self, run: Run) -> None:
        """Remove the note of ``ask_to_end``: the run could not be stopped."""

    def close_run(self, run: Run, state: str, detail: str) -> bool:
        """Close the open run of a dead owner; return whether it was still open."""

    def open_runs(self, names: tuple[bytes, ...] = (), lock_file: bytes | None = None) -> list[Run]:
        """Return the open runs: of one of these names, of this lock file, or all; oldest first."""

    def runs(self, name: bytes | None = None, *, limit: int) -> list[Run]:
        """Return the latest runs, of a name or all; newest first."""

    def search(self, wanted: "Filter") -> "Search":
        """Return the runs that a filter selects, to be read page by page; newest first."""
        raise NotImplementedError

    def find(self, run_id: int) -> Run | None:
        """Return one run."""

    def usual_ns(self, name: bytes, argv: tuple[bytes, ...]) -> int | None:
        """Return the median duration of the latest successful runs of a command under a name.

        Where that command has not succeeded yet, of all commands under that name. Only the latest
        ten thousand runs of the name are looked at.
        """

    def starts(self, name: bytes, *, limit: int) -> list[int]:
        """Return the times of the latest starts of a name, newest first."""

    def pause_of(self, names: tuple[bytes, ...]) -> Pause | None:
        """Return the pause of the first of these names that is paused; None if none is."""

    def run_before(self, run: Run) -> Run | None:
        """Return the latest run of the first name that started, and ended, before one was asked
        for; of its latest ten thousand, and not of the same job.
        """

    def refused_in_a_row(self, run: Run) -> tuple[int, int]:
        """Return how many runs of the first name were refused or skipped since one started.

        And when that was, 0 if there was none; both of its latest ten thousand runs.
        """
        raise NotImplementedError

    def tell_once(self, name: bytes, kind: str, occasion: int) -> bool:
        """Return whether this kind of thing was not yet told of a name on this occasion."""
        raise NotImplementedError

    def is_young(self) -> bool:
        """Return whether the store was begun since this machine was booted."""

    def close(self) -> None:
        """Let go of it."""


class Retrospect(Store, Protocol):
    """A run-log in which screens look back. Each verb raises RecordError as those of Store do."""

    def runs_in(self, since_ns: int, until_ns: int, name: bytes | None = None) -> list[Run]:
        """Return the runs that waited or ran in a period, of a name or all; oldest first."""

    def figures(self, since_ns: int, until_ns: int, name: bytes | None = None) -> "list[Figures]":
        """Return what was measured of the runs asked for in a period; oldest first."""

    def pauses_in(self, since_ns: int, until_ns: int, name: bytes | None = None) -> list[Pause]:
        """Return the pauses in a period, of a name or all, oldest first; past ones have an end."""

    def latest_success(self, name: bytes) -> Run | None:
        """Return the latest run of a name that succeeded, of its latest ten thousand."""

    def count_pending(self, name: bytes) -> tuple[int, int]:
        """Return how many jobs of a name are queued, and how many are delayed."""

    def similar_names(self, name: bytes, *, limit: int) -> list[bytes]:
        """Return names that have run and begin with the same byte as this one."""


class Tallying(Store, Protocol):
    """A run-log that counts what became of names; verbs raise RecordError as those of Store."""

    def tally(self) -> None:
        """Count the runs that have ended since the last call, a few at a time."""

    def tally_some(self) -> bool:
        """Count a few of the runs that have ended since; return whether there are more."""
        raise NotImplementedError

    def tallies(self, names: "Iterable[bytes]") -> "dict[bytes, dict[str, Tally]]":
        """Return what was counted of these names, by name and state."""
        raise NotImplementedError

    def tallied_since_ns(self) -> int:
        """Return since when runs are counted, in nanoseconds since the epoch; 0: none was."""
        raise NotImplementedError

    def standings(self, names: "Iterable[bytes]") -> "dict[bytes, Standing]":
        """Return what became of each of these names lately, as far as it was counted."""
        raise NotImplementedError

    def latest_names(self, limit: int, since_ns: int = 0) -> tuple[list[bytes], int]:
        """Return the names that were used since then, at most so many, the latest first; count all.

        A name is used when a run of it is asked for, starts or ends, as far as that was counted.
        """
        raise NotImplementedError

    def job_counts(self, states: "Sequence[str]") -> dict[bytes, dict[str, int]]:
        """Return how many jobs are in each of these states, by name, of all names that have any."""
        raise NotImplementedError

    def set_told(self, name: bytes, told: str | None) -> None:
        """Remember what was told of a name."""
