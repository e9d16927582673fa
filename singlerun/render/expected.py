"""Guesses, durations and reasons of open runs and jobs, in a few words."""

import time

from singlerun.duration import UNITS, brief
from singlerun.ownership.judge import ORPHAN, ZOMBIE
from singlerun.render.reason import reason
from singlerun.render.refusal import clock, user_name
from singlerun.render.table import Alarming
from singlerun.render.text import quoted, shown
from singlerun.store.queue import PAUSED, PENDING, QUEUED
from singlerun.store.run import WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.ownership.outlook import Seen
    from singlerun.store.queue import Job
    from singlerun.store.run import Pause


def rough(seconds: float) -> str:
    """Return seconds in one unit, for a guess: ``~5m``."""
    for unit, size in UNITS.items():
        if seconds >= 0.95 * size and unit != "s":
            return f"~{seconds / size:.0f}{unit}"
    return f"~{seconds:.0f}s" if seconds >= 9.5 else f"~{max(seconds, 0):.1f}s"


def left(until_ns: int) -> str:
    """Return how long it is until then: ``in 40s``."""
    return f"in {brief((until_ns - time.time_ns()) / 1e9)}"


def about(until_ns: int) -> str:
    """Return how long it is until then, of a guess: ``in ~5m``."""
    return f"in {rough((until_ns - time.time_ns()) / 1e9)}"


def took(seen: "Seen") -> str:
    """Return how long a run takes so far, and of how long it usually takes: ``2m of ~5m``."""
    elapsed = seen.elapsed_ns
    if elapsed is None:
        return "-"
    text = brief(elapsed / 1e9)
    if seen.usual_ns is None or seen.state in {WAITING, ZOMBIE} or seen.run.ended_ns is not None:
        return text
    text = f"{text} of {rough(seen.usual_ns / 1e9)}"
    return Alarming(text) if seen.is_overlong else text


def why(seen: "Seen") -> str:
    """Return why an open run is in its state, and what is expected of it."""
    run = seen.run
    if seen.state == ZOMBIE:
        last = "" if seen.last_sign_ns is None else f"last seen {clock(seen.last_sign_ns)}; "
        return f"{last}singlerun reap"
    parts = [reason(run)]
    if seen.state == ORPHAN:
        parts.append(f"its singlerun died; singlerun stop {run.id}")
    elif seen.state == WAITING and seen.place is None and run.not_before_ns is not None:
        parts.append(f"next try {left(run.not_before_ns)}")
    elif seen.state == WAITING:
        parts.append(_held_by(seen.held_by))
        if seen.starts_ns is not None:
            parts.append(f"starts {about(seen.starts_ns)}")
    elif seen.is_overlong:
        parts.append(f"overlong; singlerun stop {run.id}")
    if seen.taken is not None:
        parts.append(f"{seen.taken} of {run.slots} slots")
    elif run.shared and run.ended_ns is None and run.slots is None:
        parts.append("shared")
    if seen.job is not None:
        parts += [shown(seen.job.label or ""), _try(seen.job)]
    return "; ".join(filter(None, parts))


def why_job(job: "Job", pause: "Pause | None" = None) -> str:
    """Return why a job is in its state."""
    if job.state == PAUSED and pause is not None:
        return f"its name is paused{until(pause)}"
    if job.ended_ns is not None:
        return shown(job.detail or "") or (reason(job.run) if job.run is not None else "")
    stranded = "no worker; singlerun reap" if job.is_stranded else ""
    return "; ".join(filter(None, (_try(job), stranded)))


def start_of(job: "Job", starts_ns: int | None) -> str:
    """Return when a pending job starts."""
    if job.state in PENDING and job.after_id is not None and job.is_blocked:
        return f"after job {job.after_id}"
    if job.state in PENDING and job.not_before_ns is not None:
        return left(job.not_before_ns) if job.not_before_ns > time.time_ns() else ""
    if job.state == QUEUED and starts_ns is not None and starts_ns > time.time_ns():
        return f"starts {about(starts_ns)}"
    return ""


def until(pause: "Pause") -> str:
    """Return until when a name is paused, or how to resume it."""
    if pause.until_ns is None:
        return f"; singlerun resume {quoted(shown(pause.name))}"
    return f" until {clock(pause.until_ns)} ({left(pause.until_ns)})"


def paused(pause: "Pause") -> str:
    """Return that a name is paused, by whom, since when and until when."""
    by = f"by {shown(user_name(pause.uid))} since {clock(pause.since_ns)}"
    return f"{shown(pause.name)} is paused {by}{until(pause)}"


def _held_by(seen: "Seen | None") -> str:
    if seen is None:
        return ""
    return f"held by PID {seen.pids[0]}" if seen.pids else f"held by run {seen.run.id}"


def _try(job: "Job") -> str:
    """Return which retry of a job comes next, or runs; nothing of the first try."""
    number = job.tries if job.state in {*PENDING, PAUSED} else job.tries - 1
    return f"retry {number} of {job.retries}" if number > 0 and job.retries else ""
