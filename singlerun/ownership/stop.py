"""The end of a run, seen from outside: brought about by ``stop`` and ``--replace``, or awaited.

    record who asks -> TERM to the run's singlerun -> await its end -> KILL what is left later

A singlerun that gets TERM hands it to all that it has started, and records the end itself: as
stopped, by whom the record says. With that the run is over, though its process may live on: for its
hooks, or, where the run was a block of a program's, for what comes after. Where it is dead or
hangs, its command is ended without it, and its record is closed here. Whom to signal is decided by
the recorded identity, never by a pattern, and each signal goes through a pidfd that was opened
before the identity was checked.
"""

import os
import select
import signal
import time

from singlerun.errors import RecordError
from singlerun.ownership import reaper
from singlerun.process import identity, procfs
from singlerun.render.refusal import user_name
from singlerun.render.text import shown
from singlerun.store.base import LOST, REFUSED, SKIPPED, STOPPED, TIMED_OUT, WAITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from singlerun.store.base import Run, Store

SHORTEST_NAP, LONGEST_NAP = 0.002, 0.5
"""Seconds between two looks at a record whose end no process tells of."""
MOMENT = 0.02
"""Seconds that a singlerun has to record what it does next."""
RECORDING = 2.0
"""Seconds that a singlerun has to record the end of a command that was killed."""
LOOK = 0.05
"""Seconds between two looks at whether the process of a run has recorded its end, and lives on."""


def by_whom(what: str) -> str:
    """Say who does something to a run: this process and its user."""
    return f"{what}, user {shown(user_name(os.getuid()))}"


def end(run: "Run", kill_after: float, is_over: "Callable[[], bool]") -> bool:
    """End a run's processes: TERM, KILL after so many seconds; tell whether all of it ended.

    ``is_over`` tells whether the run's end is recorded. Nothing is touched that can't be judged
    from here (another host or PID namespace), and what may not be signalled is left.
    """
    life = identity.life(run.wrapper)
    if life == identity.UNKNOWN:
        return False
    # Who works off a queue has more to do; the command's end is all that is asked for.
    if life == identity.ALIVE and run.job_id is None:
        try:
            pidfd = os.pidfd_open(run.wrapper_pid)
        except ProcessLookupError:
            pass
        else:
            try:
                # Looked at again: what the pidfd stands for can't change any more.
                if identity.life(run.wrapper) == identity.ALIVE and not _end(
                    run, pidfd, kill_after, is_over
                ):
                    return False
                if is_over():
                    return True
            except PermissionError:
                return False
            finally:
                os.close(pidfd)
    if run.state == WAITING:
        return True
    left = reaper.survivors(run)
    if run.job_id is not None and life == identity.ALIVE:
        # A job is recorded as started a moment before there is a process of it.
        deadline = time.monotonic() + RECORDING
        while not left and not is_over() and time.monotonic() < deadline:
            time.sleep(SHORTEST_NAP)
            left = reaper.survivors(run)
    return not left or reaper.kill(run, left, kill_after)


def is_over(store: "Store", run: "Run") -> bool:
    """Tell whether the end of a run is recorded; not if that can't be told."""
    try:
        now = store.find(run.id or 0)
    except RecordError:
        return False
    return now is not None and now.asked_ns == run.asked_ns and now.ended_ns is not None


def close(store: "Store", run: "Run") -> None:
    """Close the record of a run that was ended, unless its singlerun did."""
    now = store.find(run.id or 0)
    if now is not None and now.ended_ns is None and identity.life(now.wrapper) == identity.DEAD:
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
        pause = nap if left is None else min(nap, left)
        if pids and command and pids[0] == command.pid != run.wrapper_pid:
            procfs.await_end(pids, left)
            nap = SHORTEST_NAP
        else:
            # Only its singlerun is there, which can outlive the run (it waits, records the end,
            # lingers, tries again, calls hooks), or a program that holds a name for a while.
            if pids:
                procfs.await_end(pids[-1:], pause)
            else:
                time.sleep(pause)
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


def _end(run: "Run", pidfd: int, kill_after: float, is_over: "Callable[[], bool]") -> bool:
    """End a live singlerun with what it has started; tell whether it ended.

    Raises:
        PermissionError: it may not be signalled.
    """
    # After --exec, and in a program that holds a name, what runs is the process itself.
    others = _started_by(run) - {run.wrapper_pid} if run.command_pid == run.wrapper_pid else set()
    for number in (signal.SIGTERM, signal.SIGCONT):  # who is stopped must go on to end
        _send(pidfd, number)
        for pid in others:
            _signal(pid, run, number)
    if _has_ended(pidfd, kill_after, is_over):
        return True
    # Its own grace may be longer than ours, and it may hang: then what it has started goes first.
    deadline = time.monotonic() + RECORDING
    while time.monotonic() < deadline:
        for pid in _started_by(run):
            _signal(pid, run, signal.SIGKILL)
        if _has_ended(pidfd, 0.1, is_over):
            return True
    _send(pidfd, signal.SIGKILL)
    return _has_ended(pidfd, RECORDING, is_over)


def _started_by(run: "Run") -> set[int]:
    found = set(reaper.survivors(run))
    if run.command_pid is not None and run.command_pid in found:
        found.update(procfs.group(run.command_pid), procfs.descendants([run.command_pid]))
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


def _has_ended(pidfd: int, seconds: float, is_over: "Callable[[], bool]") -> bool:
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if poll.poll(max(0, min(left, LOOK)) * 1000) or is_over():
            return True
        if left <= 0:
            return False
