"""The end of a run, seen from outside: brought about by ``stop`` and ``--replace``, or awaited.

    record who asks -> TERM to the run's singlerun -> await its end -> KILL what is left later

A singlerun that gets TERM hands it to all that it has started, and records the end itself: as
stopped, by whom the record says. Where it is dead or hangs, its command is ended without it, and
its record is closed here. Whom to signal is decided by the recorded identity, never by a pattern,
and each signal goes through a pidfd that was opened before the identity was checked.
"""

import os
import select
import signal
import time

from singlerun import owner, processes, reaper
from singlerun.render.refusal import user_name
from singlerun.render.text import shown
from singlerun.store.base import LOST, REFUSED, SKIPPED, STOPPED, TIMED_OUT, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.store.base import Run, Store

SHORTEST_NAP, LONGEST_NAP = 0.002, 0.5
"""Seconds between two looks at a record whose end no process tells of."""
RECORDING = 2.0
"""Seconds that a singlerun has to record the end of a command that was killed."""


def by_whom(what: str) -> str:
    """Say who does something to a run: this process and its user."""
    return f"{what}, user {shown(user_name(os.getuid()))}"


def ask(store: "Store", run: "Run", what: str) -> None:
    """Record who is about to end a run, and so that it was stopped, when it has ended.

    Nothing is recorded of a run that ``end`` can't touch: it ends by itself, and however it does.
    """
    if owner.life(run.wrapper) != owner.UNKNOWN:
        store.ask_to_end(run, by_whom(what))


def end(run: "Run", kill_after: float) -> bool:
    """End a run's processes: TERM, KILL after so many seconds; tell whether all of it ended.

    Nothing is touched that can't be judged from here (another host or PID namespace), and what may
    not be signalled is left.
    """
    life = owner.life(run.wrapper)
    if life == owner.UNKNOWN:
        return False
    if life == owner.ALIVE:
        try:
            pidfd = os.pidfd_open(run.wrapper_pid)
        except ProcessLookupError:
            pass
        else:
            try:
                # Looked at again: what the pidfd stands for can't change any more.
                if owner.life(run.wrapper) == owner.ALIVE and not _end(run, pidfd, kill_after):
                    return False
            except PermissionError:
                return False
            finally:
                os.close(pidfd)
    if run.state == WAITING:
        return True
    left = reaper.survivors(run)
    return not left or reaper.kill(run, left, kill_after)


def close(store: "Store", run: "Run") -> None:
    """Close the record of a run that was ended, unless its singlerun did."""
    now = store.find(run.id or 0)
    if now is not None and now.ended_ns is None and owner.life(now.wrapper) == owner.DEAD:
        store.close_run(now, STOPPED, run.detail or "")


def await_end(store: "Store", run: "Run", deadline: float | None) -> "Run | None":
    """Sleep until a run has ended; give it as it is then, None if the deadline came first.

    A run that nobody can tell the end of any more is given as lost. ``deadline`` is by
    time.monotonic.

    Raises:
        RecordError: the record can't be read.
    """
    nap = SHORTEST_NAP
    while run.ended_ns is None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return None
        run, state, pids = reaper.look_at(store, run)
        if state == reaper.ZOMBIE:
            run.state = LOST
            return run
        command = run.command
        if pids and not (command and owner.life(command) == owner.DEAD):
            processes.await_end(pids, left)
            nap = SHORTEST_NAP
        else:
            # Only its singlerun is left (it records the end, lingers, or lives where we can't see).
            time.sleep(nap if left is None else min(nap, left))
            nap = min(2 * nap, LONGEST_NAP)
        run = store.find(run.id or 0) or run
    return run


def exit_status_of(run: "Run") -> int:
    """Give the exit status of a run that has ended; 125 of one that nobody saw the end of."""
    if run.state in {REFUSED, SKIPPED}:
        return 75 if run.state == REFUSED else 0
    if run.state == TIMED_OUT:
        return 124
    if run.signal is not None:
        return 128 + run.signal
    return 125 if run.exit_code is None else run.exit_code


def _end(run: "Run", pidfd: int, kill_after: float) -> bool:
    """End a live singlerun with what it has started; tell whether it ended.

    Raises:
        PermissionError: it may not be signalled.
    """
    others = _started_by(run) if run.command_pid == run.wrapper_pid else set()  # after --exec
    for number in (signal.SIGTERM, signal.SIGCONT):  # who is stopped must go on to end
        _send(pidfd, number)
        for pid in others:
            _signal(pid, run, number)
    if _has_ended(pidfd, kill_after):
        return True
    # Its own grace may be longer than ours, and it may hang: then what it has started goes first.
    deadline = time.monotonic() + RECORDING
    while time.monotonic() < deadline:
        for pid in _started_by(run):
            _signal(pid, run, signal.SIGKILL)
        if _has_ended(pidfd, 0.1):
            return True
    _send(pidfd, signal.SIGKILL)
    return _has_ended(pidfd, RECORDING)


def _started_by(run: "Run") -> set[int]:
    found = set(reaper.survivors(run))
    if run.command_pid is not None and run.command_pid in found:
        found.update(processes.group(run.command_pid), processes.descendants([run.command_pid]))
    return found


def _signal(pid: int, run: "Run", number: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in _started_by(run):
            _send(pidfd, number)
    finally:
        os.close(pidfd)


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass


def _has_ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
