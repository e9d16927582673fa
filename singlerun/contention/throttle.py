"""Refusing a start that comes too soon after others, though the lock is free.

Judged with the lock held, so two starts can't both be the last that is allowed. Intervals are
differences of epoch time: no time zone moves them. A start that lies in the future, because the
clock was set back, counts for nothing.
"""

import os
import time

from singlerun.duration import brief
from singlerun.errors import HeldError
from singlerun.render.line import say
from singlerun.render.refusal import paused
from singlerun.render.text import names
from singlerun.store.base import REFUSED, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.recorder import Recorder
    from singlerun.spec import RunSpec
    from singlerun.store.base import Pause, Run


def refuse_early(job: "RunSpec", this: "Run", recorder: "Recorder") -> bool:
    """Refuse a job whose time has not come: tell so and record it."""
    wait = max((_seconds_to_wait(job, name, recorder) for name in job.names), default=0.0)
    if wait <= 0:
        return False
    this.detail = f"too soon, by {brief(wait)}"
    recorder.refuse(this, SKIPPED if job.skip else REFUSED)
    message = f"{names(job.names)} was started too recently; it may be again in {brief(wait)}"
    if job.raises and not job.skip:
        raise HeldError(message, names=tuple(os.fsdecode(name) for name in job.names))
    if not (job.skip or job.quiet):
        say(message)
    return True


def refuse_paused(job: "RunSpec", this: "Run", recorder: "Recorder", pause: "Pause") -> None:
    """Refuse a job whose name is paused: tell so and record it."""
    message = paused(pause)
    this.detail = message
    recorder.refuse(this, SKIPPED if job.skip else REFUSED)
    if job.verbose or not (job.skip or job.quiet):
        say(message)


def _seconds_to_wait(job: "RunSpec", name: bytes, recorder: "Recorder") -> float:
    count, period = job.max_starts or (0, 0.0)
    starts: list[int] = []
    starts += recorder.attempt(lambda store: store.starts(name, limit=max(count, 1)), [])
    now = time.time_ns()
    ages = [age for start in starts if (age := (now - start) / 1e9) >= 0]
    waits = [0.0]
    if job.min_interval and ages:
        waits.append(job.min_interval - ages[0])
    if count and len(ages) >= count:
        waits.append(period - ages[count - 1])
    return max(waits)
