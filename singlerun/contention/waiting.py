"""How the command line waits: a thread sleeps in the kernel, and signals are taken meanwhile."""

import os

from singlerun.contention.conflict import Waiter
from singlerun.ownership import holder, reaper
from singlerun.process import block

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from singlerun.contention.replace import Replacement
    from singlerun.lifecycle import Lifecycle
    from singlerun.ownership.judge import Living
    from singlerun.process.signals import Signals
    from singlerun.render.waiting import WaitingLine
    from singlerun.store.sqlite import SqliteStore


class InterruptibleWaiter(Waiter):
    """Waits until a deadline or a signal; block.InterruptedWaitError tells of the latter."""

    def __init__(self, life: "Lifecycle", signals: "Signals") -> None:
        self._life = life
        self._spec = life.spec
        self._signals = signals
        self._replacement: Replacement | None = None
        if self._spec.replace:
            from singlerun.contention import replace  # noqa: PLC0415 - unusual

            self._replacement = replace.Replacement(life, signals)

    @property
    def has_failed(self) -> bool:  # type: ignore[override]  # a class attribute is its default
        return self._replacement is not None and self._replacement.has_failed

    def take(self, deadline: float | None) -> bool:
        locks, only_one = self._life.locks, self._spec.coalesce
        if self._replacement is None:
            return self._wait(lambda: locks.take(unless_occupied=only_one), deadline)
        return self._wait(locks.stand_in_line, deadline) and self._replacement.take(deadline)

    def outlive(self, living: "Living", deadline: float | None) -> bool:
        if self._replacement is not None:
            return self._replacement.end(living)
        sleep = reaper.await_one if self._spec.slots else reaper.await_ends
        return self._wait(lambda: sleep(living), deadline)

    def _wait(self, call: "Callable[[], object]", deadline: float | None) -> bool:
        """Make a call that blocks; return whether it ended before the deadline."""
        self._signals.admit_stops()
        line = None
        if not self._spec.quiet and os.isatty(2):
            from singlerun.render.waiting import WaitingLine  # noqa: PLC0415 - for people only

            line = WaitingLine(self._spec.names)
        tick = None if line is None else lambda: self._draw(line)
        ended = False
        try:
            ended = block.call(call, self._signals.ending_watched, deadline, tick)
        finally:
            if not ended:
                self._life.locks.abandon()  # before anything is said: that may take its time
            if line is not None:
                line.erase()
            self._signals.defer_stops()
        return ended

    def _draw(self, line: "WaitingLine") -> None:
        spec, locks = self._spec, self._life.locks

        def look(store: "SqliteStore") -> "tuple[Living, int | None]":
            former = store.open_runs(spec.names, spec.lock_file)
            living = holder.find_all(former, locks.paths)
            run = living[0][0]
            if run is None:
                return living, None
            name = next((name for name in spec.names if name in run.names), run.names[0])
            return living, store.usual_ns(name, run.argv)

        living, usual_ns = self._life.recorder.attempt(look, ([(None, [])], None))
        run, pids = living[0]
        line.draw(pids, run, usual_ns, locks.place, count=len(living))
