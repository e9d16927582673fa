"""Which events a run makes, by the rules for it; and what of them is news.

    success, failure    how it ended
    change, recovery    and its run before ended otherwise
    refused             the Nth refusal in a row; once until a run starts again
    lost                a run before it was found dead, and closed
    start, overlong     it has started; a watch of the sender tells when it takes too long

All is told when it is decided and recorded: the end and a refusal when the lock is free, the rest
while the command runs. What can't be told is a warning.
"""

import os
import time

from singlerun import rule as rules
from singlerun.errors import SinglerunError, said
from singlerun.event import Event
from singlerun.notify import tail, wakeup
from singlerun.notify.spool import Spool, SpoolFullError, spooled
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.store.run import LOST, REFUSED, SKIPPED, STOPPED, SUCCEEDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Protocol

    from singlerun.lifecycle import Lifecycle
    from singlerun.paths import StateDir
    from singlerun.recorder import Recorder
    from singlerun.rule import Rule
    from singlerun.spec import RunSpec
    from singlerun.store.base import Store
    from singlerun.store.run import Run

    class Settings(Protocol):
        """What the configuration says of notifications."""

        def of_events(self, name: bytes) -> tuple[Mapping[str, Any], Mapping[str, Any]]: ...


_TELLING = ("recovery", "failure", "change", "success")
"""What an end can be, the most telling first."""


class Teller:
    """Tells of the runs of one spec, or the jobs of one queue.

    Attributes:
        pid: of the sender, if the latest event has started it here; None otherwise.
    """

    def __init__(
        self, state: "StateDir", rules_: "list[Rule]", table: "Mapping[str, Any]",
        warn: "Callable[[str], object]" = say,
    ) -> None:  # fmt: skip
        self._state, self._rules, self._table, self._warn = state, rules_, table, warn
        self.pid: int | None = None
        self._has_put = False

    def started(self, run: "Run", lost: "Iterable[Run]" = ()) -> None:
        """Tell that a run has started, and that others were ``lost``; ask to watch it."""
        self.lost(lost, durable=False)
        self.tell(Event("start", run.names[0], run=run, at_ns=run.started_ns), durable=False)
        event = Event("overlong", run.names[0], run=run)
        for rule in self._rules:
            if rule.kind == "overlong" and run.id is not None:
                self._put(rule, event, {"overlong": rule.number}, watch=True, durable=False)
        self.wake()

    def lost(self, runs: "Iterable[Run]", *, durable: bool = True) -> None:
        """Tell that runs were closed as lost."""
        for run in runs:
            if run.state == LOST:
                self.tell(Event("lost", run.names[0], run=run), durable=durable)

    def ended(
        self, run: "Run", status: int, recorder: "Recorder", first: "Run | None" = None
    ) -> None:
        """Tell how a run has ended or why it did not start; ``status`` is our exit status.

        ``first`` is its first try, if this is another: news is what differs from before that.
        """
        if run.state in {REFUSED, SKIPPED}:
            self._refused(run, status, recorder)
        elif run.started_ns is not None:
            kinds = ["failure" if status else "success"]
            if any(rule.kind in {"change", "recovery"} for rule in self._rules):
                begun = first or run
                before = recorder.attempt(lambda store: store.run_before(begun), None)
                kinds += news(before, failed=status != 0)
            self._tell_end(run, status, sorted(kinds, key=_TELLING.index))
        self.wake()

    def _tell_end(self, run: "Run", status: int, kinds: list[str]) -> None:
        """Tell of an end: each target once, by the first of these kinds that it is to have."""
        told: set[str | None] = set()
        output: dict[str, Any] | None = None
        for kind in kinds:
            for rule in [rule for rule in self._rules if rule.kind == kind]:
                target = rules.address(rule.target, self._table)
                if target not in told or target is None:
                    event = Event(
                        kind, run.names[0], run=run, exit_status=status, at_ns=run.ended_ns
                    )
                    output = output or {"output": tail.of(self._state, run.id)}
                    self._put(rule, event, output)
                told.add(target)

    def _refused(self, run: "Run", status: int, recorder: "Recorder") -> None:
        name = run.names[0]
        wanted = [rule for rule in self._rules if rule.kind == "refused"]
        if not wanted:
            return
        count, since = recorder.attempt(lambda store: store.refused_in_a_row(run), (0, 0))
        for rule in wanted:
            kind = f"refused {rule.number:g} {self._digest(rule)}"
            if count >= rule.number and recorder.attempt(_first_to_tell(name, kind, since), False):
                event = Event("refused", name, run=run, exit_status=status, count=count)
                self._put(rule, event, {})

    def tell(self, event: Event, *, output: str | None = None, durable: bool = True) -> None:
        """Tell of an event wherever a rule says so."""
        for rule in self._rules:
            if rule.kind == event.kind:
                self._put(rule, event, {"output": output}, durable=durable)

    def _put(
        self, rule: "Rule", event: Event, more: "dict[str, Any]", *, watch: bool = False,
        durable: bool = True,
    ) -> None:  # fmt: skip
        """Write an event to the spool, for the target of one rule."""
        what = f"{shown(event.name)}: its {event.kind} is not told"
        url = rules.address(rule.target, self._table)
        if url is None:
            self._warn(f"{what}: there is no {rule.target!r} in [notify.targets]")
            return
        entry = {"id": os.urandom(16).hex(), "written": time.time(), "url": url,
                 "event": spooled(event), **more}  # fmt: skip
        if smtp := self._table.get("smtp"):
            entry["smtp"] = smtp
        try:
            spool = Spool(self._state)
            try:
                spool.put(entry, watch=watch, durable=durable)
            finally:
                spool.close()
            for dropped in spool.dropped:
                wakeup.log(self._state, f"dropped: {dropped}: the spool is full")
        except SpoolFullError:
            self._warn(f"{what}: as many runs are watched as may be")
        except (SinglerunError, OSError) as error:
            self._warn(f"{what}: {said(error)}")
        else:
            self._has_put = True

    def wake(self) -> None:
        """Make sure that what was told is delivered."""
        if not self._has_put:
            return
        self._has_put = False
        try:
            self.pid = wakeup.ensure(self._state)
        except (SinglerunError, OSError) as error:
            self._warn(f"notifications wait: {said(error)}; to send them: singlerun notify flush")

    def _digest(self, rule: "Rule") -> str:
        """Return what stands for a target in the record, where no secret may be."""
        from hashlib import blake2b  # noqa: PLC0415 - only for refusals

        return blake2b(rule.target.encode(errors="replace"), digest_size=8).hexdigest()


# -- what runner and worker tell --------------------------------------------------------------


def run_started(life: "Lifecycle", spec: "RunSpec", strangers: "set[int]") -> None:
    """Tell that a command has started, and that former runs were found dead.

    The sender, if it is a child of ours then, is one of the ``strangers`` among them.
    """
    if life.state is None:
        return
    teller = of_spec(life.state, spec.notify, *spec.tables, life.recorder.tell)
    lost, life.lost = life.lost, []
    teller.started(life.run, lost)
    if teller.pid is not None:
        strangers.add(teller.pid)


def run_ended(
    life: "Lifecycle", spec: "RunSpec", run: "Run", status: int, first: "Run | None" = None
) -> None:
    """Tell what became of a run, which has ended or was refused with our exit status."""
    if life.state is None:
        return
    teller = of_spec(life.state, spec.notify, *spec.tables, life.recorder.tell)
    lost, life.lost = life.lost, []
    teller.lost(lost)
    teller.ended(run, status, life.recorder, first)


def queue_empty(state: "StateDir", spec: "RunSpec", name: bytes) -> None:
    """Tell that a queue has been worked off."""
    teller = of_spec(state, spec.notify, *spec.tables)
    teller.tell(Event("queue-empty", name))
    teller.wake()


def _first_to_tell(name: bytes, kind: str, occasion: int) -> "Callable[[Store], bool]":
    return lambda store: store.tell_once(name, kind, occasion)


def news(before: "Run | None", *, failed: bool) -> list[str]:
    """Return which of change and recovery a run makes, by the run before; the first is no change.

    Unless it fails: what was set up a moment ago should work.
    """
    had_failed = before is not None and not _succeeded(before)
    if failed:
        return ["change"] if not had_failed else []
    return ["change", "recovery"] if had_failed else []


def _succeeded(run: "Run") -> bool:
    return run.state == SUCCEEDED or (run.state == STOPPED and run.exit_code == 0)


def of_spec(
    state: "StateDir", texts: "Iterable[str]", table: "Mapping[str, Any]",
    watch: "Mapping[str, Any]", warn: "Callable[[str], object]" = say,
) -> Teller:  # fmt: skip
    """Return what tells of runs that have these ``--notify`` options and settings."""
    more = {"overlong": float(watch["overlong"])} if watch.get("overlong") else {}
    return Teller(state, rules.wanted(texts, table, **more), table, warn)
