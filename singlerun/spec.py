"""What to run, under which name, and under which policy."""

import os

from singlerun import options
from singlerun.errors import UsageError
from singlerun.process.search import find_program
from singlerun.timings import KILL_AFTER, RETRY_DELAY, backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HASH_BYTES = 6
SIGTERM = 15
OF_A_JOB = (
    "timeout", "kill_after", "signal", "on_start", "on_success", "on_failure", "on_finish",
    "notify",
)  # fmt: skip
"""Options that a job in a queue takes along."""


class RunSpec:
    """A command and its policy.

    Attributes:
        names: what it holds, at least one.
        lock_file: the file that the user chose to lock instead, or None.
        lock_fd: the caller's descriptor that is to be locked, and the path of its file, or None.
        lock_type: auto, flock or lockfile.
        wait_for: seconds to wait at most; infinity to wait without end, 0 not to wait.
        wait_hint: how the caller would ask to wait.
        job_options: the options that a job in a queue takes along.
        signal: what asks the command, or the holder that is replaced, to end.
        become: whether to replace this process by the command.
        hooks: shell commands, by the event that they are run at.
        in_queue: configured options that only a job in a queue has, by their long name with _.
        notify: which events are told where, as ``WHEN:URL``.
        tables: what the configuration says of notifications, and of what to watch.
        conflict_status: the exit status if the lock is held.
    """

    # The options whose value is the attribute of that name.
    coalesce: bool
    dir: bytes | None
    jitter: float | None
    linger: bool
    lock_fd: tuple[int, bytes] | None
    lock_file: bytes | None
    log: bool
    max_starts: tuple[int, float] | None
    min_interval: float | None
    only_failed: bool
    queue: bool
    quiet: bool
    replace: bool
    require_record: bool
    restart: str | None
    shared: bool
    skip: bool
    slots: int | None
    timeout: float | None
    verbose: bool

    def __init__(self, argv: list[str], values: "Mapping[str, Any]") -> None:
        """Make a spec of a command and the values of run options, by their Option.dest.

        Raises UsageError if the options contradict each other, or there is no command.
        """
        options.check(values)
        for name in RunSpec.__annotations__:
            setattr(self, name, values[name])
        if self.lock_fd is not None:
            if argv:
                raise UsageError("--lock-fd takes no command: what follows in the script is run")
            from singlerun.process.procfs import command_line  # noqa: PLC0415 - rare

            self.lock_file = self.lock_fd[1]
            argv = [os.fsdecode(word) for word in command_line(os.getppid())] or ["?"]
        if not argv:
            raise UsageError("no command was given")
        self.timeout = self.timeout or None  # none, as for timeout(1)
        self.argv = argv
        names = tuple(dict.fromkeys(values["name"]))
        self.names: tuple[bytes, ...] = names or (self.lock_file or derived_name(argv),)
        self.lock_type: str = values["lock_type"] or "auto"
        self.wait_for: float = values["wait_for"]
        if self.wait_for is None:
            endless = values["wait"] or self.coalesce or self.replace
            self.wait_for = float("inf") if endless else 0.0
        self.wait_hint = "--wait"
        status = values["conflict_exit_code"]
        self.conflict_status: int = (0 if self.skip else 75) if status is None else status
        self.kill_after: float = _or(values["kill_after"], KILL_AFTER)
        self.signal: int = values["signal"] or SIGTERM
        self.retries: int = values["retries"] or 0
        self.retry_delay: float = _or(values["retry_delay"], RETRY_DELAY)
        self.become: bool = values["exec"]
        self.job_options: dict[str, object] = {
            name: values[name] for name in OF_A_JOB if values[name] not in (None, ())
        }
        self.in_queue: Mapping[str, Any] = values.get("in_queue", {})
        self.notify: tuple[str, ...] = tuple(values["notify"])
        self.tables: tuple[Mapping[str, Any], Mapping[str, Any]] = values.get("tables", ({}, {}))
        self.hooks: dict[str, str] = {
            event: script
            for event in ("start", "success", "failure", "conflict", "finish")
            if (script := values[f"on_{event}"]) is not None
        }

    def tells(self, *kinds: str) -> bool:
        """Return whether one of these events is to be told, without an import for it."""
        words = [word for text in self.notify for word in text.partition(":")[0].split(",")]
        named = {word.partition("=")[0].strip() for word in words}
        named.update(key.replace("_", "-") for key in self.tables[0])
        return not named.isdisjoint(kinds)

    def tells_start(self, *, lost: object) -> bool:
        """Return whether a start is to be told, or that former runs were ``lost``."""
        return self.tells("start", "overlong", *(["lost"] if lost else []))

    def tells_end(self, status: int) -> bool:
        """Return whether an end with this exit status may be news that is to be told."""
        return self.tells("change", *(["failure"] if status else ["success", "recovery"]))

    @property
    def end_hooks(self) -> bool:
        """Whether there are hooks that are run when it has ended."""
        return bool(self.hooks.keys() - {"start"})

    def delay_before_next(self, exit_status: int, attempts: int) -> float | None:
        """Return the seconds until the command, which has run so often, runs again, or None."""
        failed = exit_status != 0
        if self.restart is not None:
            wanted = {"always": True, "on-failure": failed, "on-success": not failed}
            return self.retry_delay if wanted[self.restart] else None
        return backoff(self.retry_delay, attempts) if failed and attempts <= self.retries else None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def derived_name(argv: list[str]) -> bytes:
    """Name a command by its absolute path and exact arguments, as ``basename-hash``.

    Symbolic links are not followed: where a path leads through ``current`` to the latest release,
    the old and the new release are the same job.
    """
    try:
        from _blake2 import blake2b  # noqa: PLC0415 - hashlib around it costs 1 ms
    except ImportError:
        from hashlib import blake2b  # noqa: PLC0415

    path = argv[0] if "/" in argv[0] else find_program(argv[0]) or argv[0]
    if "/" in path:
        try:
            path = os.path.abspath(path)
        except FileNotFoundError:  # the working directory was deleted
            pass
    identity = b"\0".join(os.fsencode(word) for word in [path, *argv[1:]])
    digest = blake2b(identity, digest_size=HASH_BYTES).hexdigest()
    return os.fsencode(os.path.basename(path) or path) + b"-" + digest.encode()
