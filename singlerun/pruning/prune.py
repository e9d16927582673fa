"""Forgets what is too old, too many or too large, a little at a time, beside everything else.

    output that no run has, and the oldest where there is too much: it makes the most room
    jobs, then runs, each with its output; then what no job and no run refers to
    the files of names that are not used (files.py)
    the file of the record shrinks

Whatever ends this process, at any moment, leaves a whole record: each transaction stands by itself,
a run's output goes after its row, and what is left of it is found by the next prune.
"""

import time

from singlerun.pruning import output
from singlerun.pruning.files import IdleFiles
from singlerun.store.pruning import (
    CONTEXTS,
    FIFOS,
    JOBS,
    LEFTOVERS,
    LINES,
    LOCKS,
    OUTPUT,
    PAUSES,
    RUNS,
    Pruned,
)
from singlerun.timings import PRUNE_BURST, PRUNE_HEED, PRUNE_PAUSE, PRUNE_REST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from singlerun.paths import StateDir
    from singlerun.pruning.rules import Rules
    from singlerun.store.pruning import Limits, PruningStore, Step

AT_ONCE = 16 * 1024 * 1024
"""Bytes of a record that a prune in the background may write anew at once: 0.3 s."""


class _OutOfTimeError(Exception):
    """There is no time left."""


class Pruner:
    """One prune of a state directory.

    ``seconds`` is how long it may take, None as long as it needs. RecordError: the record can't be
    used; what was forgotten until then is.
    """

    def __init__(
        self, state: "StateDir", store: "PruningStore", rules: "Rules", *,
        dry_run: bool = False, seconds: float | None = None,
    ) -> None:  # fmt: skip
        self._state, self._store, self._rules, self._dry_run = state, store, rules, dry_run
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._begun = self._disturbed = time.monotonic()
        self._seen: set[int] = set()
        self.pruned = Pruned(store.size())

    def prune(self) -> Pruned:
        """Do all of it."""
        limits = self._rules.limits()
        try:
            self._forget_output()
            self._forget_rows(limits)
            self._forget_files()
            if not self._dry_run:
                self._shrink()
        except _OutOfTimeError:
            self.pruned.is_complete = False
        if not self._dry_run:
            self._store.settle(0)
        self.pruned.after = self._store.size()
        return self.pruned

    def _forget_output(self) -> None:
        kept = dict(output.kept(self._state))
        for strays in output.strays(self._store, list(kept)):
            for number in sorted(strays):
                self._forget_output_of(number, kept.pop(number))
            self._rest()
        surplus = sum(kept.values()) - self._rules.bytes
        for number, size in kept.items():
            if surplus <= 0:
                break
            if self._forget_output_of(number, size):
                surplus -= size
            self._rest()

    def _forget_output_of(self, run_id: int, size: int) -> bool:
        if run_id in self._seen or not (self._dry_run or output.delete(self._state, run_id)):
            return False
        self._seen.add(run_id)
        self.pruned.add(OUTPUT, 1, size)
        return True

    def _forget_rows(self, limits: "Limits") -> None:
        store, dry_run = self._store, self._dry_run
        self._count(JOBS, store.forget_jobs(limits, dry_run=dry_run))
        self._count(RUNS, store.forget_runs(limits, dry_run=dry_run), self._forget_their_output)
        self._count(CONTEXTS, store.forget_contexts(dry_run=dry_run))
        self._count(PAUSES, store.forget_pauses(limits, dry_run=dry_run))

    def _count(
        self, kind: str, steps: "Iterator[Step]", then: "Callable[[Step], None] | None" = None
    ) -> None:
        for step in steps:
            self.pruned.add(kind, step.rows, step.size)
            if then is not None:
                then(step)
            self._rest()

    def _forget_their_output(self, step: "Step") -> None:
        for number in step.ids:
            if output.is_kept(self._state, number):
                self._forget_output_of(number, output.size(self._state, number))

    def _forget_files(self) -> None:
        before_ns = self._rules.idle_before_ns()
        files = IdleFiles(self._state, self._store, before_ns, dry_run=self._dry_run)
        for kind, found in (
            (LOCKS, files.lock_files()),
            (LINES, files.lines()),
            (FIFOS, files.fifos()),
            (LEFTOVERS, files.leftovers()),
        ):
            for count, size in found:
                self.pruned.add(kind, count, size)
                self._rest()

    def _shrink(self) -> None:
        most = None if self._deadline is None else AT_ONCE
        self.pruned.is_rigid = self._store.compact(most)
        for _ in self._store.shrink():
            self._rest()

    def _rest(self) -> None:
        """Leave the record, and the processor, to others for a while."""
        now = time.monotonic()
        if self._deadline is not None and now > self._deadline:
            raise _OutOfTimeError
        if now - self._begun < PRUNE_BURST:
            return
        self._store.settle()
        heeds_others = now - self._disturbed < PRUNE_HEED
        rest = PRUNE_REST if heeds_others else PRUNE_PAUSE
        before = self._store.latest_write()
        time.sleep(rest * (time.monotonic() - self._begun))
        self._begun = time.monotonic()
        if self._store.latest_write() != before:
            self._disturbed = self._begun
