"""How a Python program waits: for the locks through a deputy, for processes by their pidfds."""

import time

from singlerun.contention.conflict import Waiter
from singlerun.ownership import reaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from singlerun.lifecycle import Lifecycle
    from singlerun.ownership.judge import Living
    from singlerun.spec import RunSpec
    from singlerun.store.run import Run


class DeputyWaiter(Waiter):
    """Waits for one program, in one of its threads."""

    def __init__(self, life: "Lifecycle", innermost: "Callable[[RunSpec], Run | None]") -> None:
        """``innermost`` returns the block of this thread that a spec would wait for."""
        self._life = life
        self._innermost = innermost

    def outer(self) -> "Run | None":
        return self._innermost(self._life.spec)

    def take(self, deadline: float | None) -> bool:
        from singlerun.api import deputy  # noqa: PLC0415 - only to wait

        return deputy.take(self._life.spec, self._life.locks, self._life.state, deadline)

    def outlive(self, living: "Living", deadline: float | None) -> bool:
        left = None if deadline is None else max(0, deadline - time.monotonic())
        sleep = reaper.await_one if self._life.spec.slots else reaper.await_ends
        return sleep(living, left)
