"""A run, from the moment it was asked for, and the transitions of its life.

    waiting -> running -> succeeded | failed | timed-out | stopped | lost
            -> refused | skipped | stopped

A transition returns what changes and changes nothing itself. A store writes the change, and applies
it once it is written: an attempt that fails leaves the run as it was.
"""

import time

from singlerun.outcome import Outcome
from singlerun.process.identity import Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    Change = dict[str, object]

WAITING, RUNNING = "waiting", "running"
SUCCEEDED, FAILED, STOPPED = "succeeded", "failed", "stopped"
REFUSED, SKIPPED, LOST, TIMED_OUT = "refused", "skipped", "lost", "timed-out"
STATES = (WAITING, RUNNING, SUCCEEDED, FAILED, TIMED_OUT, STOPPED, REFUSED, SKIPPED, LOST)
RELEASED = "its caller closed the descriptor"
"""Why a run without a command of ours (--lock-fd) is over."""


class Ending:
    """How a run ends.

    Attributes:
        outcome: how its command ended.
        state: what the run becomes; by default what the outcome says.
        detail: why, where the status doesn't tell.
    """

    __slots__ = ("detail", "outcome", "state")

    def __init__(
        self, outcome: Outcome, state: str | None = None, detail: str | None = None
    ) -> None:
        self.outcome = outcome
        self.state = outcome.state if state is None else state
        self.detail = detail


class Run:
    """One run of a command under a lock.

    Times are nanoseconds since the epoch. What is unknown is None: ``id`` before the run is
    recorded, ``started_ns`` of a run that never started.

    Attributes:
        id: grows; no two runs have the same.
        token: the fencing token; grows with each start of a name.
        names: what the run holds.
        lock_file: the file that the user chose to lock instead, or None.
        shared: whether others may hold the lock too: readers, or as many as there are slots.
        slots: how many may hold it at once; None if that is one, or all readers.
        wrapper: the singlerun process.
        command: the command's process, None while it is unknown.
        outcome: how the command ended, None before that and for a run that never started.
        job_id: the job in a queue that this run is a try of.
        fd: the descriptor through which its owner, not started by us, keeps the lock (--lock-fd).
        conflict_id: the run that held the lock when this one was refused.
        not_before_ns: when it is started, if it is another try that holds the lock meanwhile.
        detail: why it ended so, where the status doesn't tell; of an open run, who has asked it to
            stop.
    """

    __slots__ = (
        "argv", "asked_ns", "command", "conflict_id", "cwd", "detail", "ended_ns", "fd", "id",
        "job_id", "lock_file", "names", "not_before_ns", "outcome", "parent_id", "shared", "slots",
        "started_ns", "state", "token", "uid", "wrapper",
    )  # fmt: skip

    def __init__(
        self, *, names: tuple[bytes, ...], argv: tuple[bytes, ...], wrapper: Owner, uid: int,
        asked_ns: int, lock_file: bytes | None = None, cwd: bytes | None = None,
        shared: bool = False, slots: int | None = None, job_id: int | None = None,
        parent_id: int | None = None,
    ) -> None:  # fmt: skip
        self.names, self.argv, self.cwd = names, argv, cwd
        self.lock_file, self.shared, self.slots = lock_file, shared, slots
        self.wrapper, self.uid, self.asked_ns = wrapper, uid, asked_ns
        self.parent_id, self.job_id = parent_id, job_id
        self.state = WAITING
        self.id: int | None = None
        self.token: int | None = None
        self.command: Owner | None = None
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.outcome: Outcome | None = None
        self.conflict_id: int | None = None
        self.fd: int | None = None
        self.not_before_ns: int | None = None
        self.detail: str | None = None

    # -- the transitions -----------------------------------------------------------------------

    def waits(self) -> "Change":
        """Return the change to a run that waits for a lock."""
        return {"state": WAITING}

    def starts(self, token: int | None, parent_id: int | None) -> "Change":
        """Return the change to a run whose command is about to start."""
        return {
            "state": RUNNING, "started_ns": time.time_ns(), "token": token, "parent_id": parent_id,
        }  # fmt: skip

    def is_named(self, command: Owner) -> "Change":
        """Return the change to a run whose command has a process."""
        return {"command": command}

    def is_kept(self, keeper: Owner, fd: int) -> "Change":
        """Return the change to a run whose lock another process keeps, through a descriptor."""
        return {"wrapper": keeper, "command": keeper, "fd": fd}

    def ends(self, ending: Ending) -> "Change":
        """Return the change to a run whose command has ended, or could not be started."""
        return {
            "state": ending.state, "ended_ns": time.time_ns(), "outcome": ending.outcome,
            "detail": ending.detail, "command": self.command,
        }  # fmt: skip

    def is_refused(
        self, state: str, detail: str | None, *, conflict_id: int | None = None,
        signal: int | None = None,
    ) -> "Change":  # fmt: skip
        """Return the change to a run that was not started: refused, skipped or stopped."""
        outcome = None if signal is None else Outcome(None, signal)
        return {
            "state": state, "ended_ns": time.time_ns(), "detail": detail, "outcome": outcome,
            "conflict_id": conflict_id,
        }  # fmt: skip

    def is_closed(self, state: str, detail: str) -> "Change":
        """Return the change to a run whose owner has died: lost, or stopped while it waited."""
        return {"state": state, "ended_ns": time.time_ns(), "detail": detail}

    def apply(self, change: "Change") -> None:
        """Take over a change that has been written."""
        for attribute, value in change.items():
            setattr(self, attribute, value)

    @property
    def wrapper_pid(self) -> int:
        """The PID of the singlerun process."""
        return self.wrapper.pid

    @property
    def command_pid(self) -> int | None:
        """The command's PID, None while it is unknown."""
        return None if self.command is None else self.command.pid

    @property
    def host(self) -> str:
        """The host that the run is on."""
        return self.wrapper.place.host

    @property
    def exit_code(self) -> int | None:
        """What the command passed to exit(), None if it did not."""
        return None if self.outcome is None else self.outcome.exit_code

    @property
    def signal(self) -> int | None:
        """The signal that ended the command, or a run that waited."""
        return None if self.outcome is None else self.outcome.signal

    @property
    def elapsed_ns(self) -> int | None:
        """Nanoseconds from start to end by the monotonic clock."""
        return self._measured("elapsed_ns")

    @property
    def user_us(self) -> int | None:
        """Microseconds of CPU time in user mode."""
        return self._measured("user_us")

    @property
    def system_us(self) -> int | None:
        """Microseconds of CPU time in the kernel."""
        return self._measured("system_us")

    @property
    def max_rss_kb(self) -> int | None:
        """The largest resident set, in KiB, None if it is not known (outcome.py)."""
        return self._measured("max_rss_kb")

    def _measured(self, what: str) -> int | None:
        """Return a figure of the outcome; a run that never started has none."""
        ran = self.outcome is not None and self.started_ns is not None
        return getattr(self.outcome, what) if ran else None


class Pause:
    """A name under which nothing is to start.

    Attributes:
        since_ns, until_ns: nanoseconds since the epoch; None: until it is resumed.
        uid: the user who paused it.
    """

    __slots__ = ("name", "since_ns", "uid", "until_ns")

    def __init__(self, name: bytes, since_ns: int, until_ns: int | None, uid: int) -> None:
        self.name, self.uid = name, uid
        self.since_ns, self.until_ns = since_ns, until_ns


class Declined(Exception):  # noqa: N818 - an answer, not an error: the store works
    """A store's answer that what was asked for is not to be done."""


class PausedError(Declined):
    """Nothing may start: the pause is the first argument."""
