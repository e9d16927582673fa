"""What is kept, and for how long: ``[retention]``.

The defaults are generous, since what is forgotten can't be had back, and what is kept costs little:

    age     400 days: a job that runs once a year can be compared with the last time
    count   10,000 runs of a name: a week of one run a minute, three years of one a day
    bytes   1 GiB of kept output: a hundred runs that have filled what is kept of one
    idle    30 days: the files of a name are made again in a millisecond
"""

import time

from singlerun import config
from singlerun.errors import ConfigError
from singlerun.paths import is_configured
from singlerun.store.pruning import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DAY = 86_400.0
AGE, COUNT, BYTES, IDLE = 400 * DAY, 10_000, 1024**3, 30 * DAY


class Rules:
    """What is kept.

    Attributes:
        age: how long runs, jobs that have ended, their output, and past pauses; in seconds.
        count: how many runs of a name; of its jobs, how many in each state.
        bytes: how much output in all; the oldest goes first.
        idle: how long the files of a name that is not used: lock file, line, FIFO; in seconds.
    """

    __slots__ = ("age", "bytes", "count", "idle")

    def __init__(
        self, age: float = AGE, count: int = COUNT, bytes: int = BYTES, idle: float = IDLE  # noqa: A002
    ) -> None:  # fmt: skip
        self.age, self.count, self.bytes, self.idle = age, count, bytes, idle

    def limits(self) -> Limits:
        """Return what the record keeps, as of now."""
        return Limits(time.time_ns() - round(self.age * 1e9), self.count)

    def idle_before_ns(self) -> int:
        """Return until when a name must have been used for the last time to be idle."""
        return time.time_ns() - round(self.idle * 1e9)


def of(
    table: "Mapping[str, object]", *, older_than: float | None = None, keep: int | None = None
) -> Rules:
    """Return the rules of a table of settings, read already, and of options, which override it."""
    rules = Rules(**{key: table[key] for key in Rules.__slots__ if key in table})  # type: ignore[arg-type]
    if older_than is not None:
        rules.age, rules.idle = older_than, min(older_than, rules.idle)
    if keep is not None:
        rules.count = keep
    return rules


def configured(path: bytes) -> "Mapping[str, object]":
    """Return the table of settings for a state directory; empty if nothing is configured.

    Raises ConfigError if some of the configuration can't be read: perhaps that more is to be kept.
    """
    if not is_configured():
        return {}
    settings = config.load(path)
    if settings.problems:
        raise ConfigError(f"{settings.problems[0]}; nothing is forgotten until that is mended")
    return settings.table("retention")
