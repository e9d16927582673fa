"""The verbs of a store that forgets, and what it must not.

forget_jobs, forget_runs          jobs and runs that have ended, and are too old or too many
forget_contexts, forget_pauses    what no job refers to; pauses that are over
known_runs                        which of these runs the record still has
names_in_use, last_use_ns         what may not be taken for idle, and since when a name is
shrink                            the file does
compact                           a file of an earlier version is made able to shrink
settle, latest_write              the log beside the file is kept short; tells of writes

Never forgotten: what is open; the latest run of a name, its latest start and its latest success;
a run whose job is kept; a job that a pending one follows; and the fencing token of a name. What is
forgotten was counted before (tallies.py).

Verbs that may take long are iterators: each step is one short transaction, and nothing is held
between two, so that whatever else uses the record gets its turn.
"""

from singlerun.store.queue import QueueStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Protocol

else:
    Protocol = object


RUNS, JOBS, CONTEXTS, PAUSES = "runs", "jobs", "contexts", "pauses"
OUTPUT, LOCKS, LINES, FIFOS, LEFTOVERS = "output", "locks", "lines", "fifos", "leftovers"
KINDS = (RUNS, JOBS, CONTEXTS, PAUSES, OUTPUT, LOCKS, LINES, FIFOS, LEFTOVERS)


class Pruned:
    """What was forgotten, or would be.

    Attributes:
        counts, sizes: how many, and about how many bytes, by kind.
        before, after: the bytes of the record on disk.
        is_complete: whether there was time for all of it.
        is_rigid: whether the record can't shrink, being of an earlier version.
    """

    def __init__(self, before: int = 0) -> None:
        self.counts, self.sizes = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
        self.before = self.after = before
        self.is_complete, self.is_rigid = True, False

    def add(self, kind: str, count: int, size: int) -> None:
        """Count what was forgotten."""
        self.counts[kind] += count
        self.sizes[kind] += size


class Limits:
    """What is kept of runs and jobs.

    Attributes:
        before_ns: what ended before that, in nanoseconds since the epoch, is too old.
        count: how many runs of a name are kept; of its jobs, how many in each state.
    """

    __slots__ = ("before_ns", "count")

    def __init__(self, before_ns: int, count: int) -> None:
        self.before_ns, self.count = before_ns, count


class Step:
    """What one transaction has forgotten, or would forget.

    Attributes:
        rows: how many rows.
        size: about how many bytes they took.
        ids: their ids, of runs.
    """

    __slots__ = ("ids", "rows", "size")

    def __init__(self, rows: int = 0, size: int = 0, ids: "tuple[int, ...]" = ()) -> None:
        self.rows, self.size, self.ids = rows, size, ids


class InUse:
    """What open runs, pending jobs and pauses use: ``names``, and ``lock_files`` of open runs."""

    __slots__ = ("lock_files", "names")

    def __init__(self, names: "set[bytes]", lock_files: "set[bytes]") -> None:
        self.names, self.lock_files = names, lock_files


class PruningStore(QueueStore, Protocol):
    """A run-log with queues that forgets. Each verb raises RecordError if it can't be carried out.

    With ``dry_run`` nothing is forgotten, and the steps tell what would be.
    """

    def forget_jobs(self, limits: Limits, *, dry_run: bool = False) -> "Iterator[Step]":
        """Forget jobs that have ended. Jobs keep their runs: ``forget_runs`` comes later."""
        raise NotImplementedError

    def forget_runs(self, limits: Limits, *, dry_run: bool = False) -> "Iterator[Step]":
        """Forget runs that have ended; of several names, one that is too many for each of them."""
        raise NotImplementedError

    def forget_contexts(self, *, dry_run: bool = False) -> "Iterator[Step]":
        """Forget the contexts that no job has."""
        raise NotImplementedError

    def forget_pauses(self, limits: Limits, *, dry_run: bool = False) -> "Iterator[Step]":
        """Forget pauses that are over for too long."""
        raise NotImplementedError

    def known_runs(self, ids: "Collection[int]") -> "tuple[set[int], int]":
        """Return which of these runs are in the record, and the highest id that was ever given."""
        raise NotImplementedError

    def names_in_use(self) -> InUse:
        """Return what is used now."""
        raise NotImplementedError

    def last_use_ns(self, name: bytes) -> int | None:
        """Return when the latest run of a name ended; None if the record knows none."""

    def size(self) -> int:
        """Return the bytes that the record takes on disk."""
        raise NotImplementedError

    def shrink(self) -> "Iterator[int]":
        """Give what is free in the file back to the file system; the steps tell the bytes."""
        raise NotImplementedError

    def compact(self, most: int | None = None) -> bool:
        """Make a file of an earlier version able to shrink; return whether it was that, and is not.

        The record is kept busy meanwhile, so only if no more than ``most`` bytes are to be written;
        and only where there is room. Whatever waits for the record sees that there is progress.
        """
        raise NotImplementedError

    def latest_write(self) -> object:
        """Return what changes with each write to the record, by whichever process."""
        raise NotImplementedError

    def settle(self, most: int = ...) -> None:
        """Write the log beside the file back if it has grown, so that no start has to.

        ``most`` is how many bytes it may have.
        """
