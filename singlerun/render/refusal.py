"""Messages about a held lock: its holder, since when, and how long it usually takes."""

import os
import shlex
import time

from singlerun import duration
from singlerun.lock.claims import MARK, SUFFIX
from singlerun.ownership.outlook import is_overlong
from singlerun.process import procfs
from singlerun.render.text import command, cut, names, quoted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.lock.claims import Claim
    from singlerun.store.run import Pause, Run

SHOWN_DIGITS = 12
"""Digits of a claim's 32 that are shown: enough to name it."""


def user_name(uid: int) -> str:
    """Return a user's name, or the UID if it has none."""
    import pwd  # noqa: PLC0415 - may ask the network; only for people

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def by_us(what: str) -> str:
    """Say that this process's user does something to a run or a job."""
    return f"{what}, user {shown(user_name(os.getuid()))}"


def clock(time_ns: int) -> str:
    """Return a local time: of the last 20 hours without its date, else with it."""
    then = time.localtime(time_ns // 10**9)
    today = abs(time.time_ns() - time_ns) < 20 * 3600 * 10**9
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", then)


def holder(pids: list[int], run: "Run | None", usual_ns: int | None, *, count: int = 1) -> str:
    """Describe a holder, whose live processes are ``pids``, the most significant first.

    ``count`` is the number of holders, of which this is the oldest.
    """
    parts = []
    if pids:
        what = command(tuple(procfs.command_line(pids[0])))
        parts.append(f"PID {pids[0]}" + (f" ({cut(what, 60)})" if what else ""))
        uid = procfs.user_of(pids[0])
        uid = run.uid if uid is None and run is not None else uid
        if uid is not None:
            parts.append(f"user {shown(user_name(uid))}")
    elif run is not None:
        parts.append(f"run {run.id} on {shown(run.host)}, user {shown(user_name(run.uid))}")
    else:
        parts.append("a process that is not visible from here")
    if run is not None and run.started_ns is not None:
        elapsed = duration.brief((time.time_ns() - run.started_ns) / 1e9)
        parts.append(f"since {clock(run.started_ns)} ({elapsed})")
    if usual_ns is not None:
        parts.append(f"usually takes {duration.brief(usual_ns / 1e9)}")
    return (f"{count} runs, the oldest " if count > 1 else "") + ", ".join(parts)


def to_stop(run: "Run", usual_ns: int | None) -> str:
    """Return the command that stops a holder which is far over its usual time, else nothing."""
    if run.started_ns is None or not is_overlong(time.time_ns() - run.started_ns, usual_ns):
        return ""
    name = shown(run.names[0])
    # Of several holders it is this one; and a name must be typed as it is shown.
    is_plain = run.lock_file is None and not run.shared and os.fsencode(name) == run.names[0]
    target = quoted(name) if is_plain and name[0] != "-" and not name.isdecimal() else run.id
    return f"singlerun stop {target}"


def unseen(claim: "Claim") -> str:
    """Describe the owner of a claim that cannot be judged from here, and how to break the claim."""
    command = f"singlerun reap --break-lock {claim.token[:SHOWN_DIGITS]}"
    if not claim.path.endswith(SUFFIX):
        command += f" --lock-file {shlex.quote(os.fsdecode(claim.path))}"
    host = claim.host.partition(MARK)[0]
    place = f"on {shown(host)}" + (", in a container" if host != claim.host else "")
    if_dead = f"(if it is dead: {shown(command)})"
    return f"PID {claim.pid} {place}, which cannot be checked from here {if_dead}"


def paused(pause: "Pause") -> str:
    """Return the message that a name is paused, and how to resume it."""
    name = shown(pause.name)
    until = "" if pause.until_ns is None else f" until {clock(pause.until_ns)}"
    by = shown(user_name(pause.uid))
    return f"{cut(name, 100)} is paused{until} by user {by}; to resume: singlerun resume {name}"


def paused_by(pause: "Pause") -> str:
    """Return who paused a name and until when, for the record."""
    until = ""
    if pause.until_ns is not None:
        moment = time.localtime(pause.until_ns // 10**9)
        until = time.strftime(" until %Y-%m-%d %H:%M", moment)
    return f"paused by {user_name(pause.uid)}{until}"


def too_soon(names_: tuple[bytes, ...], limit: str, wait: float) -> str:
    """Return the message that a limit is reached, and when the next start is possible."""
    at = clock(time.time_ns() + round(wait * 1e9))
    when = f"the next at {at} (in {duration.brief(wait)})"
    return f"{cut(names(names_), 100)} was started too recently: {limit}, {when}"


def nested(held: tuple[bytes, ...], by: str) -> str:
    """Return the message that a run would wait for the run that it is a part of."""
    what = cut(names(held), 100)
    return f"{what} is held by the run that this one is a part of, {by}; waiting would never end"


def irreplaceable(held: tuple[bytes, ...], by: str, *, stranger: bool) -> str:
    """Return the message that the holder could not be replaced."""
    why = "the holder could not be stopped"
    if stranger:
        why = "the holder was not started by singlerun, so stop it yourself"
    return f"{cut(names(held), 100)} is held by {by}; {why}"


def refusal(
    held: tuple[bytes, ...], by: str, *, waited: float | None, orphan: bool,
    slots: int | None = None, how: str = "--wait", stop: str = "",
) -> str:  # fmt: skip
    """Return the message that a lock is held, by whom, and what to do.

    ``how`` is how to wait; ``stop`` is how to stop a holder that is far over its usual time.
    """
    what = cut(names(held), 100)
    if slots is not None and slots > 1:
        what += f" ({slots} slots)"
    over = f"; far over its usual time, to stop it: {stop}" if stop else ""
    if waited is not None:
        return f"{what} is still held after {duration.brief(waited)} by {by}{over}"
    if orphan:
        return f"{what} is held by an orphan, {by}; to kill it: singlerun reap --kill-orphans"
    return f"{what} is held by {by}{over}; to wait: {how}"
