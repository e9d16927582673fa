"""What ``reap`` closed, left alone, resumed and broke."""

import os

from singlerun.lock.claims import BROKEN
from singlerun.ownership import reaper
from singlerun.process.identity import DEAD
from singlerun.render.refusal import unseen
from singlerun.render.result import Result
from singlerun.render.text import names, shown
from singlerun.store.run import LOST, STOPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from singlerun.lock.claims import Claim, Swept
    from singlerun.ownership.reaper import Reaped as ReapedRun


class Reaped(Result):
    """The runs and claims that were closed or left alone, and the queues that got a worker.

    ``quiet`` leaves only what was left alone.
    """

    def __init__(
        self, runs: "list[ReapedRun]", resumed: list[bytes], claims: "list[Swept]", *,
        dry_run: bool, quiet: bool, errors: "Iterable[str]",
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._runs, self._resumed, self._claims = runs, resumed, claims
        self._dry_run, self._quiet = dry_run, quiet

    def lines(self) -> "Iterable[str]":
        for one in self._runs:
            if not (self._quiet and one.state in {LOST, STOPPED}):
                yield f"{one.run.id} {names(one.run.names)}: {_said(one)}"
        for name in [] if self._quiet else self._resumed:
            yield f"{shown(name)}: {'would start' if self._dry_run else 'started'} a worker"
        for swept in self._claims:
            if swept.state not in {BROKEN, DEAD}:
                yield f"{shown(swept.claim.path)}: held by {unseen(swept.claim)}"
            elif not self._quiet:
                yield f"{_broken(swept.claim, dry_run=swept.state != BROKEN)}, which is dead"

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {
            "runs": json.runs(self._runs),
            "claims": [_claim_keys(one.claim, one.state) for one in self._claims],
        }


def _said(one: "ReapedRun") -> str:
    """Say what became of a run."""
    pids = ", ".join(map(str, one.pids))
    what = "a zombie that waited" if one.state == STOPPED else "a zombie"
    if one.run.fd is not None:
        what = "its caller closed the descriptor"
    closed = f"{what}, {one.action} as {one.state}"
    return {
        reaper.LEFT: f"an orphan, PID {pids} is alive; to end it: singlerun reap --kill-orphans",
        reaper.STILL_HELD: f"a zombie, its lock is still held by PID {pids}",
        reaper.CLOSED: closed,
        reaper.WOULD_CLOSE: closed,
        reaper.WOULD_KILL: f"an orphan, would kill PID {pids}",
        reaper.UNKILLABLE: f"an orphan, PID {pids} could not be killed; see: singlerun ps",
        reaper.HALF_KILLED: f"an orphan, killed PID {pids}, but something that it started is alive",
        reaper.KILLED: f"an orphan, killed PID {pids}, closed as lost",
    }[one.action]


class BrokenClaim(Result):
    """One claim that was broken on demand; ``state`` is what was known of its owner."""

    def __init__(self, claim: "Claim", state: str, *, dry_run: bool) -> None:
        super().__init__(f"{_broken(claim, dry_run=dry_run)} on {shown(claim.host)}")
        self._claim = claim
        self._state = state if dry_run else BROKEN

    def document(self) -> dict[str, object]:
        return {"runs": [], "claims": [_claim_keys(self._claim, self._state)]}


def _broken(claim: "Claim", *, dry_run: bool) -> str:
    done = "would break" if dry_run else "broke"
    return f"{shown(claim.path)}: {done} the claim of PID {claim.pid}"


def _claim_keys(claim: "Claim", state: str) -> dict[str, object]:
    return {
        "path": os.fsdecode(claim.path), "claim": claim.token, "state": state,
        "pid": claim.pid, "host": claim.host,
    }  # fmt: skip
