"""What ``prune`` has forgotten, or would forget."""

from singlerun import size
from singlerun.render.result import Result
from singlerun.store import pruning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from singlerun.store.pruning import Pruned

_TITLES = {
    pruning.RUNS: "runs", pruning.JOBS: "jobs", pruning.CONTEXTS: "environments of jobs",
    pruning.PAUSES: "past pauses", pruning.OUTPUT: "kept output", pruning.LOCKS: "lock files",
    pruning.LINES: "waiting lines", pruning.FIFOS: "FIFOs of workers",
    pruning.LEFTOVERS: "leftovers of filelock",
}  # fmt: skip


class Pruning(Result):
    """The kinds of what was forgotten, how many, and how many bytes; None: there is no record."""

    columns: "Sequence[str]" = ("KIND", "COUNT", "SIZE")
    empty = "there is nothing to forget"

    def __init__(self, pruned: "Pruned | None", *, dry_run: bool, quiet: bool) -> None:
        super().__init__()
        self._pruned, self._dry_run, self._quiet = pruned, dry_run, quiet
        if quiet:
            self.columns = ()

    def rows(self) -> "list[tuple[str, ...]]":
        pruned = self._pruned
        if pruned is None:
            return []
        return [
            (_TITLES[kind], f"{pruned.counts[kind]:,}", size.brief(pruned.sizes[kind]))
            for kind in pruning.KINDS
            if pruned.counts[kind]
        ]

    def lines(self) -> "Iterable[str]":
        pruned = self._pruned
        if pruned is None or self._quiet:
            return
        now = size.brief(pruned.after)
        if self._dry_run:
            yield f"the run-log takes {now}; to forget this: singlerun prune"
        else:
            yield f"the run-log took {size.brief(pruned.before)}, and takes {now}"
        if pruned.is_rigid:
            yield "its file cannot shrink yet: there is not enough room beside it to write it anew"

    def document(self) -> dict[str, object]:
        pruned = self._pruned
        if pruned is None:
            return {"dry_run": self._dry_run, "pruned": []}
        return {
            "dry_run": self._dry_run,
            "pruned": [
                {"kind": kind, "count": pruned.counts[kind], "bytes": pruned.sizes[kind]}
                for kind in pruning.KINDS
            ],
            "record_bytes_before": pruned.before,
            "record_bytes": pruned.after,
            "can_shrink": not pruned.is_rigid,
        }
