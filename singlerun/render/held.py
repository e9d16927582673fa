"""The holders of one lock, as ``is-running`` shows them."""

from singlerun.process.identity import DEAD, life
from singlerun.render import refusal
from singlerun.render.runs import OpenRuns
from singlerun.render.style import is_terminal
from singlerun.render.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from singlerun.lock.claims import Claim
    from singlerun.ownership.outlook import Seen
    from singlerun.store.run import Run


class Held(OpenRuns):
    """Whether a lock is held, and by which runs and processes; status 1 if it is free.

    ``claim`` is a claim on its lock file, if that is all that is known of a holder.
    """

    def __init__(
        self, what: bytes, holders: "list[tuple[Run | None, list[int]]]", claim: "Claim | None",
        runs: "list[Seen]", *, quiet: bool, errors: "Iterable[str]",
    ) -> None:  # fmt: skip
        super().__init__(runs, errors=errors)
        self.status = 0 if holders else 1
        self._what, self._holders, self._claim = what, holders, claim
        self._quiet = quiet
        if quiet or not runs or not is_terminal():
            self.columns = ()

    def lines(self) -> "Iterable[str]":
        if self.columns or self._quiet:
            return
        for run, pids in self._holders:
            by = refusal.holder(pids, run, None)
            if self._claim is not None and not pids:
                by = refusal.unseen(self._claim)
            orphan = ", an orphan" if run is not None and life(run.wrapper) == DEAD else ""
            yield f"{shown(self._what)} is held by {by}{orphan}"

    def document(self) -> dict[str, object]:
        return {
            "runs": super().document()["runs"],
            "held": bool(self._holders),
            "pids": [pid for _, pids in self._holders for pid in pids],
        }
