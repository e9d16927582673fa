"""The holders of one lock, as ``is-running`` shows them."""

from singlerun.render import refusal
from singlerun.render.result import is_terminal
from singlerun.render.runs import OpenRuns
from singlerun.render.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from singlerun.lock.claims import Claim
    from singlerun.render.runs import Judged
    from singlerun.store.run import Run


class Holder:
    """A holder of a lock.

    Attributes:
        run: its run, None if it has none.
        pids: its live processes.
        is_orphan: whether its wrapper is dead.
        claim: its claim on a lock file, if that is all that is known.
    """

    def __init__(
        self, run: "Run | None", pids: list[int], *, is_orphan: bool, claim: "Claim | None"
    ) -> None:
        self.run = run
        self.pids = pids
        self.is_orphan = is_orphan
        self.claim = claim


class Held(OpenRuns):
    """Whether a lock is held, and by which runs and processes; status 1 if it is free."""

    def __init__(
        self,
        what: bytes,
        holders: list[Holder],
        runs: "list[Judged]",
        *,
        quiet: bool,
        errors: "Iterable[str]",
    ) -> None:
        super().__init__(runs, {}, errors=errors)
        self.status = 0 if holders else 1
        self._what = what
        self._holders = holders
        self._quiet = quiet
        if quiet or not runs or not is_terminal():
            self.columns = ()

    def lines(self) -> "Iterable[str]":
        if self.columns or self._quiet:
            return
        for holder in self._holders:
            by = refusal.holder(holder.pids, holder.run, None)
            if holder.claim is not None:
                by = refusal.unseen(holder.claim)
            orphan = ", an orphan" if holder.is_orphan else ""
            yield f"{shown(self._what)} is held by {by}{orphan}"

    def document(self) -> dict[str, object]:
        return {
            "runs": super().document()["runs"],
            "held": bool(self._holders),
            "pids": [pid for holder in self._holders for pid in holder.pids],
        }
