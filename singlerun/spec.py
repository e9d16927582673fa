"""What to run, under which name, and what to do when that is held."""

import os

from singlerun.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

HASH_BYTES = 6
KILL_AFTER = 10.0
"""Seconds between a signal that asks to end and SIGKILL."""
RETRY_DELAY = 1.0
"""Seconds before the first retry."""
LONGEST_DELAY = 86_400.0
"""Seconds at which the delay stops doubling."""

UNABLE_AFTER_EXEC = (
    "timeout", "retries", "restart", "linger", "on_success", "on_failure", "on_finish", "log",
    "only_failed",
)  # fmt: skip
"""Options for which somebody must be there when the command ends."""

SENSELESS_IN_QUEUE = (
    "lock_file", "lock_type", "shared", "slots", "wait", "wait_for", "skip", "replace", "coalesce",
    "min_interval", "max_starts", "restart", "jitter", "exec", "linger", "only_failed",
    "require_record",
)  # fmt: skip
"""Options that are of how to meet a held lock, or that a job in a queue can't have."""
OF_A_QUEUED_JOB = (
    "timeout", "kill_after", "on_success", "on_failure", "on_finish",
)  # fmt: skip
"""Options that a job in a queue takes along."""


class RunSpec:
    """A command and its policy.

    Attributes:
        argv: the command and its arguments.
        names: what it holds, at least one.
        lock_file: the file that the user chose to lock instead, or None.
        lock_type: auto, flock or lockfile.
        wait_for: seconds to wait at most; infinity to wait without end, 0 not to wait.
        kept: the values of options that a job in a queue takes along.
        hooks: shell commands, by the event that they are run at.
        conflict_status: what to exit with if the lock is held.
        raises: whether to raise HeldError instead: for who asks from Python.
        latest: its latest run, None before the first.
    """

    __slots__ = (
        "argv", "become", "coalesce", "conflict_status", "dir", "hooks", "jitter", "kept",
        "kill_after", "latest", "linger", "lock_file", "lock_type", "log", "max_starts",
        "min_interval", "names", "only_failed", "queue", "quiet", "raises", "replace",
        "require_record", "restart", "retries", "retry_delay", "shared", "skip", "slots", "timeout",
        "verbose", "wait_for",
    )  # fmt: skip

    latest: "Any"  # a Run, which is known on higher floors only

    def __init__(self, argv: list[str], options: "Mapping[str, Any]") -> None:
        """Make a job of a command and the values of run options, by their Option.dest.

        Raises:
            UsageError: the options contradict each other, or there is no command.
        """
        if not argv:
            raise UsageError("no command was given")
        self.argv = argv
        self.lock_file: bytes | None = options["lock_file"]
        self.lock_type: str = options["lock_type"] or "auto"
        self.names: tuple[bytes, ...] = tuple(dict.fromkeys(options["name"]))
        if self.lock_file is not None and len(self.names) > 1:
            raise UsageError("with --lock-file there can be only one --name")
        if not self.names:
            self.names = (self.lock_file or derived_name(argv),)
        self.dir: bytes | None = options["dir"]
        self.shared: bool = options["shared"]
        self.slots: int | None = options["slots"]
        if self.shared and self.slots is not None:
            raise UsageError("--shared and --slots exclude each other")
        self.wait_for: float = float("inf") if options["wait"] else 0.0
        if options["wait_for"] is not None:
            self.wait_for = options["wait_for"]
        self.coalesce: bool = options["coalesce"]
        self.replace: bool = options["replace"]
        if (self.coalesce or self.replace) and options["wait_for"] is None:
            self.wait_for = float("inf")
        self.skip: bool = options["skip"]
        for other in ("coalesce", "skip"):
            if self.replace and options[other]:
                raise UsageError(f"--replace and --{other} exclude each other")
        self.queue: bool = options["queue"]
        for other in SENSELESS_IN_QUEUE:
            if self.queue and options[other]:
                flag = other.replace("_", "-")
                raise UsageError(f"--queue and --{flag} exclude each other")
        if self.queue and len(self.names) > 1:
            raise UsageError("with --queue there can be only one --name")
        status = options["conflict_exit_code"]
        self.conflict_status: int = (0 if self.skip else 75) if status is None else status
        self.min_interval: float | None = options["min_interval"]
        self.max_starts: tuple[int, float] | None = options["max_starts"]
        self.jitter: float | None = options["jitter"]
        self.timeout: float | None = options["timeout"]
        grace = options["kill_after"]
        self.kill_after: float = KILL_AFTER if grace is None else grace
        self.restart: str | None = options["restart"]
        self.retries: int = options["retries"] or 0
        if self.restart is not None and options["retries"] is not None:
            raise UsageError("--retries and --restart exclude each other")
        delay = options["retry_delay"]
        self.retry_delay: float = RETRY_DELAY if delay is None else delay
        self.kept: dict[str, object] = {
            option: options[option] for option in OF_A_QUEUED_JOB if options[option] is not None
        }
        self.become: bool = options["exec"]
        self.hooks: dict[str, str] = {
            event: script
            for event in ("success", "failure", "conflict", "finish")
            if (script := options[f"on_{event}"]) is not None
        }
        for other in UNABLE_AFTER_EXEC:
            if self.become and options[other]:
                flag = other.replace("_", "-")
                raise UsageError(f"--exec leaves nobody who could do what --{flag} asks for")
        self.linger: bool = options["linger"]
        self.log: bool = options["log"]
        self.only_failed: bool = options["only_failed"]
        self.require_record: bool = options["require_record"]
        self.quiet: bool = options["quiet"]
        self.verbose: bool = options["verbose"]
        self.raises, self.latest = False, None

    def delay_before_next(self, exit_status: int, attempts: int) -> float | None:
        """Give the seconds after which to run the command again, None to leave it at that.

        ``attempts`` is how often it has run.
        """
        failed = exit_status != 0
        if self.restart is not None:
            wanted = {"always": True, "on-failure": failed, "on-success": not failed}
            return self.retry_delay if wanted[self.restart] else None
        if not failed or attempts > self.retries:
            return None
        return min(self.retry_delay * 2.0 ** min(attempts - 1, 64), LONGEST_DELAY)


def derived_name(argv: list[str]) -> bytes:
    """Name a command by its absolute path and exact arguments, as ``basename-hash``.

    Symbolic links are not followed: where a path leads through ``current`` to the latest release,
    the old and the new release are the same job.
    """
    try:
        from _blake2 import blake2b  # noqa: PLC0415 - hashlib around it costs 1 ms
    except ImportError:
        from hashlib import blake2b  # noqa: PLC0415

    command = argv[0]
    path = command
    if "/" in command:
        try:
            path = os.path.abspath(command)
        except FileNotFoundError:  # the working directory was deleted
            pass
    else:
        for directory in os.environ.get("PATH", "/bin:/usr/bin").split(":"):
            candidate = os.path.join(directory or ".", command)
            if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
                path = os.path.abspath(candidate)
                break
    identity = b"\0".join(os.fsencode(word) for word in [path, *argv[1:]])
    digest = blake2b(identity, digest_size=HASH_BYTES).hexdigest()
    return os.fsencode(os.path.basename(path) or path) + b"-" + digest.encode()
