"""The marks of a run: environment variables that everything started by it inherits.

A program that holds a lock itself can't change what /proc shows of its own environment. It flies a
pennant: an open file in memory, named after the lock file (memfd_create(2)).
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME, RUN_ID, TOKEN = b"SINGLERUN_NAME", b"SINGLERUN_RUN_ID", b"SINGLERUN_TOKEN"
LOCKS = b"SINGLERUN_LOCKS"
_BETWEEN = b"//"
"""Stands in no resolved path."""


class Marks:
    """What identifies the processes of a run.

    Attributes:
        name: the name that it holds.
        run_id: its number in the run-log; None, and no variable, if it could not be recorded.
        token: its fencing token.
        locks: the lock files that it holds; of a run that is only read about, none.
    """

    __slots__ = ("locks", "name", "run_id", "token")

    def __init__(
        self, name: bytes, run_id: int | None, token: int, locks: "Iterable[bytes]" = ()
    ) -> None:
        self.name, self.run_id, self.token = name, run_id, token
        self.locks = tuple(map(os.path.realpath, locks))

    @classmethod
    def from_environ(cls, env: "Mapping[bytes, bytes]") -> "Marks | None":
        """Return the marks of the recorded run that an environment belongs to, None without one."""
        try:
            run_id, token = int(env[RUN_ID]), int(env[TOKEN])
        except (KeyError, ValueError):
            return None
        if not (0 < run_id < 2**63 and 0 < token < 2**63):
            return None
        return cls(env.get(NAME, b""), run_id, token)

    def environ(self) -> dict[bytes, bytes]:
        """Return the variables that carry the marks."""
        env = {NAME: self.name, TOKEN: b"%d" % self.token}
        if self.run_id is not None:
            env[RUN_ID] = b"%d" % self.run_id
        if self.locks:
            env[LOCKS] = _BETWEEN.join(self.locks)
        return env

    def apply(self, env: "dict[bytes, bytes]") -> None:
        """Mark an environment; the id of an outer run does not stay in it."""
        for key in (RUN_ID, LOCKS):
            env.pop(key, None)
        env.update(self.environ())


def locks_of(entries: "Iterable[bytes]") -> list[bytes]:
    """Return the lock files that the marks among some environment entries name."""
    prefix = LOCKS + b"="
    values = (entry.removeprefix(prefix) for entry in entries if entry.startswith(prefix))
    return [path for value in values for path in value.split(_BETWEEN)]


def pennant(lock_file: bytes) -> str:
    """Return the name of the pennant for a lock file; a name takes at most 249 bytes."""
    from hashlib import blake2b  # noqa: PLC0415 - rare

    return f"singlerun:{blake2b(os.path.realpath(lock_file), digest_size=16).hexdigest()}"
