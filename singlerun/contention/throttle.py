"""Refusing a start although the lock is free: too soon after others, or paused.

Judged with the lock held, so two starts can't both be the last that is allowed. Intervals are
differences of epoch time: no time zone moves them. A start that lies in the future, because the
clock was set back, counts for nothing.
"""

import os
import time

from singlerun.duration import exactly
from singlerun.errors import HeldError
from singlerun.lifecycle import RefusedError
from singlerun.render import refusal
from singlerun.store.run import REFUSED, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lifecycle import Lifecycle
    from singlerun.recorder import Recorder
    from singlerun.spec import RunSpec
    from singlerun.store.run import Pause


def check_limits(life: "Lifecycle") -> None:
    """Refuse a run that comes too soon: record that, and raise RefusedError."""
    spec = life.spec
    waits = [each for name in spec.names for each in _waits(spec, name, life.recorder)]
    wait, limit = max(waits, default=(0.0, ""))
    if wait > 0:
        # The same each time, so that many in a row are one line of the history.
        raise _refused(life, f"too soon: {limit}", refusal.too_soon(spec.names, limit, wait))


def paused(life: "Lifecycle", pause: "Pause") -> RefusedError:
    """Record that a run is refused because its name is paused; return the error that says so."""
    return _refused(life, refusal.paused_by(pause), refusal.paused(pause))


def _refused(life: "Lifecycle", detail: str, message: str) -> RefusedError:
    life.recorder.refuse(life.run, SKIPPED if life.spec.skip else REFUSED, detail)
    life.release()
    return RefusedError(HeldError(message, names=tuple(map(os.fsdecode, life.spec.names))))


def _waits(spec: "RunSpec", name: bytes, recorder: "Recorder") -> "list[tuple[float, str]]":
    """Return the seconds until each limit of a name allows a start, and the limit in words."""
    count, period = spec.max_starts or (0, 0.0)
    starts: list[int] = []
    starts += recorder.attempt(lambda store: store.starts(name, limit=max(count, 1)), [])
    now = time.time_ns()
    ages = [age for start in starts if (age := (now - start) / 1e9) >= 0]
    waits = []
    if spec.min_interval and ages:
        limit = f"{exactly(spec.min_interval)} between starts"
        waits.append((spec.min_interval - ages[0], limit))
    if count and len(ages) >= count:
        limit = f"{count} start{'' if count == 1 else 's'} in {exactly(period)}"
        waits.append((period - ages[count - 1], limit))
    return waits
