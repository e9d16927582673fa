"""Checks the clock: whether it was set back behind what is recorded, or was never set."""

import os
import time

from singlerun.duration import brief
from singlerun.finding import NOTE, PROBLEM, Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case

AHEAD_NS = 60 * 10**9
"""By which a run may lie ahead: clocks that are kept right by jumps differ by less."""
LATEST = 1000
"""Runs that are looked at."""


def check(case: "Case") -> Answer:
    """Check the clock against the installation, the boot and the latest runs."""
    now = time.time_ns()
    booted = now - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    answer = Answer(f"{_said(now)}, booted {brief((now - booted) / 1e9)} ago")
    installed = os.stat(__file__).st_mtime_ns
    remedy, typed = "set the clock", "timedatectl"
    if now < installed - AHEAD_NS:
        what = (
            f"it says {_said(now)}, which is before this program was installed, {_said(installed)}"
        )
        answer.add(PROBLEM, "clock", what, remedy, typed)
    store = case.store()
    runs = [] if store is None else store.runs(limit=LATEST)
    ahead = [run for run in runs if run.asked_ns > now + AHEAD_NS]
    if ahead:
        last = max(ahead, key=lambda run: run.asked_ns)
        what = f"run {last.id} is of {_said(last.asked_ns)}, {brief((last.asked_ns - now) / 1e9)}"
        what += " from now: the clock was ahead then, or was set back since; limits such as"
        what += " --min-interval count from there"
        answer.add(PROBLEM, "clock", what, "if the time above is wrong, set the clock", typed)
    back = next((run for run in runs if _began_before_asked(run.asked_ns, run.started_ns)), None)
    if back is not None:
        what = f"it was set back while run {back.id} waited"
        answer.add(NOTE, "clock", what, "see what sets the clock by jumps", typed)
    return answer


def _began_before_asked(asked_ns: int, started_ns: int | None) -> bool:
    return started_ns is not None and started_ns < asked_ns - AHEAD_NS


def _said(nanoseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(nanoseconds // 10**9))
