"""All failures that singlerun reports: an exception's docstring is its message.

``exit_status`` is that of the prefix form. A message is one sentence that says what happened and
what to do next; ``{0}``, ``{1}`` stand for the exception's arguments.
"""


class SinglerunError(Exception):
    """{0}"""

    exit_status = 125

    def __str__(self) -> str:
        """Return the message; under ``python -OO``, which drops docstrings, the bare arguments."""
        template = type(self).__doc__
        return template.format(*self.args) if template else ": ".join(map(str, self.args))


class UsageError(SinglerunError):
    """{0}; see: singlerun --help"""


class HeldError(SinglerunError):
    """{0}"""

    exit_status = 75

    def __init__(
        self, message: str, *, names: tuple[str, ...] = (), pids: tuple[int, ...] = (),
        run_id: int | None = None, user: str | None = None, since: float | None = None,
        waited: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.names, self.pids, self.run_id = names, pids, run_id
        self.user, self.since, self.waited = user, since, waited

    @property
    def pid(self) -> int | None:
        """The process that holds it; None if it is not visible from here."""
        return self.pids[0] if self.pids else None


class StateDirError(SinglerunError):
    """cannot use the state directory {0}: {1}; {2}"""


class DamagedOutputError(SinglerunError):
    """the kept output in {0} is damaged; what could be read of it was printed"""


class ConfigError(SinglerunError):
    """{0}"""


class LockFileError(SinglerunError):
    """cannot lock {0}: {1}; {2}"""


class ClaimError(SinglerunError):
    """cannot break claim {0}: {1}; {2}"""


class RecordError(SinglerunError):
    """cannot use the run-log {0}: {1}; {2}"""


class QueueFullError(SinglerunError):
    """queue {0} is full: {1} jobs are pending; to see them: singlerun queue {0}"""

    exit_status = 75


class NoWorkerError(SinglerunError):
    """cannot start a worker for queue {0}: {1}; run one: singlerun worker -n {0}"""


class CommandNotFoundError(SinglerunError):
    """{0}: command not found; {1}"""

    exit_status = 127


class CommandNotExecutableError(SinglerunError):
    """{0}: cannot execute: {1}; {2}"""

    exit_status = 126


class CommandNotStartedError(SinglerunError):
    """{0}: cannot start: {1}; {2}"""


class ThreadError(SinglerunError):
    """{0}"""


def said(error: Exception) -> str:
    """Return what an exception says, for a person."""
    if isinstance(error, SinglerunError):
        return str(error)
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return f"{type(error).__name__}: {error}".removesuffix(": ")
