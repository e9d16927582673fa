"""The verbs of a store. Whatever keeps the run-log speaks these, and nothing of how it keeps it.

wait_run                          the job waits for a lock that is held
start_run                         the lock is ours; the command is about to start
name_command                      it has started: this is its process
finish_run                        it has ended; the lock is still ours
refuse_run                        the lock was held, so nothing was started
ask_to_end                        somebody is about to end an open run: this is who
close_run                         a former owner is gone: its run ends as lost or stopped

open_runs, runs, find             what is open, what there was, one run
usual_ns, starts                  how long it usually takes, when it was started
pause_of                          whether nothing may start under its name
exclusively                       nobody else writes meanwhile
"""

import time

from singlerun.process.identity import Owner, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from singlerun.outcome import Outcome

WAITING, RUNNING = "waiting", "running"
SUCCEEDED, FAILED, STOPPED = "succeeded", "failed", "stopped"
REFUSED, SKIPPED, LOST, TIMED_OUT = "refused", "skipped", "lost", "timed-out"
STATES = (WAITING, RUNNING, SUCCEEDED, FAILED, TIMED_OUT, STOPPED, REFUSED, SKIPPED, LOST)


class Run:
    """One run of a command under a lock, from the moment that it was asked for.

    Times are nanoseconds since the epoch, sizes KiB, CPU times microseconds. What is unknown is
    None: ``id`` before it is recorded, ``started_ns`` of what never started.

    Attributes:
        id: grows; no two runs have the same.
        token: grows with each start of a name; SINGLERUN_TOKEN.
        names: what it holds.
        lock_file: the file that the user chose to lock instead, or None.
        shared: whether others may hold it too: all readers, or as many as there are slots.
        slots: how many may hold it at once; None if that is one, or all readers.
        job_id: the job in a queue that it is a try of.
        conflict_id: the run that held the lock when this one was refused.
        detail: why it ended so, where the status doesn't tell.
    """

    __slots__ = (
        "argv", "asked_ns", "boot_id", "command_pid", "command_started", "conflict_id", "cwd",
        "detail", "elapsed_ns", "ended_ns", "exit_code", "host", "id", "job_id", "lock_file",
        "max_rss_kb", "names", "parent_id", "pid_ns", "shared", "signal", "slots", "started_ns",
        "state", "system_us", "token", "uid", "user_us", "wrapper_pid", "wrapper_started",
    )  # fmt: skip

    def __init__(
        self,
        *,
        names: tuple[bytes, ...],
        argv: tuple[bytes, ...],
        wrapper: Owner,
        uid: int,
        asked_ns: int,
        lock_file: bytes | None = None,
        cwd: bytes | None = None,
        shared: bool = False,
        slots: int | None = None,
    ) -> None:
        self.id: int | None = None
        self.token: int | None = None
        self.names = names
        self.lock_file = lock_file
        self.argv = argv
        self.cwd = cwd
        self.shared = shared
        self.slots = slots
        self.state = WAITING
        self.uid = uid
        self.host = wrapper.place.host
        self.boot_id = wrapper.place.boot_id
        self.pid_ns = wrapper.place.pid_ns
        self.wrapper_pid = wrapper.pid
        self.wrapper_started = wrapper.started
        self.command_pid: int | None = None
        self.command_started: int | None = None
        self.asked_ns = asked_ns
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.elapsed_ns: int | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.user_us: int | None = None
        self.system_us: int | None = None
        self.max_rss_kb: int | None = None
        self.parent_id: int | None = None
        self.conflict_id: int | None = None
        self.job_id: int | None = None
        self.detail: str | None = None

    def finish(self, outcome: "Outcome", state: str) -> None:
        """Take over how the command ended."""
        self.state = state
        self.ended_ns = time.time_ns()
        self.exit_code, self.signal = outcome.exit_code, outcome.signal
        self.elapsed_ns = outcome.elapsed_ns
        self.user_us, self.system_us = outcome.user_us, outcome.system_us
        self.max_rss_kb = outcome.max_rss_kb

    @property
    def wrapper(self) -> Owner:
        """The singlerun process of this run."""
        return Owner(self._place, self.wrapper_pid, self.wrapper_started)

    @property
    def command(self) -> Owner | None:
        """The command's process, None if it isn't known (yet)."""
        if self.command_pid is None:
            return None
        return Owner(self._place, self.command_pid, self.command_started)

    @property
    def _place(self) -> Place:
        return Place(self.host, self.boot_id, self.pid_ns)


class Pause:
    """A name under which nothing is to start.

    Attributes:
        since_ns, until_ns: nanoseconds since the epoch; None: until it is taken away.
        uid: who paused it.
    """

    __slots__ = ("name", "since_ns", "uid", "until_ns")

    def __init__(self, name: bytes, since_ns: int, until_ns: int | None, uid: int) -> None:
        self.name = name
        self.since_ns = since_ns
        self.until_ns = until_ns
        self.uid = uid


class PausedError(Exception):
    """Nothing may start: the pause is the first argument."""


def marks_of(env: "Mapping[bytes, bytes]") -> tuple[int, int] | None:
    """Give id and token of the run that an environment is marked with, None if it is not."""
    try:
        marks = int(env[b"SINGLERUN_RUN_ID"]), int(env[b"SINGLERUN_TOKEN"])
    except (KeyError, ValueError):
        return None
    return marks if min(marks) > 0 and max(marks) < 2**63 else None


class Store:
    """A run-log. Each verb raises RecordError when it can't be carried out."""

    def exclusively(self) -> "AbstractContextManager[object]":
        """Keep all other writers out while the context lasts; may be nested."""
        raise NotImplementedError

    def wait_run(self, run: Run) -> None:
        """Record that a run waits; sets its id."""
        raise NotImplementedError

    def start_run(
        self, run: Run, parent: tuple[int, int] | None, *, heed_pause: bool = False
    ) -> None:
        """Record, durably against a crash of ours, that a run starts; sets id, token and parent.

        ``parent`` is the id and the token of the run inside which this one was started; it counts
        only if this store knows it.

        Raises:
            PausedError: nothing may start under its name, and ``heed_pause`` is true.
        """
        raise NotImplementedError

    def name_command(self, run: Run) -> None:
        """Record the command's process."""
        raise NotImplementedError

    def finish_run(self, run: Run, outcome: "Outcome", state: str) -> bool:
        """Record a run's end; tell whether jobs wait in the queue of one of its names.

        A run that the store lost meanwhile is recorded anew.
        """
        raise NotImplementedError

    def refuse_run(self, run: Run, state: str) -> None:
        """Record that a run was not started: refused, skipped or stopped while it waited."""
        raise NotImplementedError

    def ask_to_end(self, run: Run, detail: str | None) -> bool:
        """Record who is about to end an open run; tell whether it was still open.

        However it ends then, it ends as stopped, with this detail. None takes that back: it could
        not be ended.
        """
        raise NotImplementedError

    def close_run(self, run: Run, state: str, detail: str) -> bool:
        """Close the open run of a dead owner; tell whether it was still open."""
        raise NotImplementedError

    def open_runs(self, names: tuple[bytes, ...] = (), lock_file: bytes | None = None) -> list[Run]:
        """Give the open runs: of one of these names, of this lock file, or all; oldest first."""
        raise NotImplementedError

    def runs(self, name: bytes | None = None, *, limit: int) -> list[Run]:
        """Give the latest runs, of a name or all; newest first."""
        raise NotImplementedError

    def find(self, run_id: int) -> Run | None:
        """Give one run."""
        raise NotImplementedError

    def usual_ns(self, name: bytes, argv: tuple[bytes, ...]) -> int | None:
        """Give the median duration of the latest successful runs of a command under a name.

        Where that command has not succeeded yet, of all commands under that name.
        """
        raise NotImplementedError

    def starts(self, name: bytes, *, limit: int) -> list[int]:
        """Give the times of the latest starts of a name, newest first."""
        raise NotImplementedError

    def pause_of(self, names: tuple[bytes, ...]) -> Pause | None:
        """Give the pause of the first of these names that is paused; None if none is."""
        raise NotImplementedError

    def is_young(self) -> bool:
        """Tell whether the store was begun since this machine was booted."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of it."""
        raise NotImplementedError
