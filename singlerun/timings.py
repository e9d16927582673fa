"""Every grace period, patience, poll and limit in seconds, with the reason for its size."""

KILL_AFTER = 10.0
"""Grace period between a signal that asks to end and SIGKILL: systemd gives 90 s, timeout(1) none;
a crontab line wants an end within its minute."""
RETRY_DELAY = 1.0
"""Delay before the first retry."""
LONGEST_DELAY = 86_400.0
"""Where the delay between retries stops doubling: once a day is still a retry."""


def backoff(delay: float, attempts: int) -> float:
    """Return the delay before the next attempt, doubled with each attempt after the first."""
    return min(delay * 2.0 ** min(attempts - 1, 64), LONGEST_DELAY)


SHORTEST_NAP, LONGEST_NAP = 0.002, 0.5
"""Between two looks at a record whose end no process's end tells of, doubling."""
RECORDING = 2.0
"""How long a wrapper may take to record the end of a command that was killed: a transaction of 0.3
ms, behind a crowd of others."""
LOOK = 0.05
"""Between two looks at whether a wrapper that lives on has recorded its run's end."""
STRANGER_AFTER = 2.0
"""After which a holder that the record doesn't know is not a run that has only just begun: between
taking a lock and recording that lies one transaction."""
STARTING = 10.0
"""How long a worker may take from its start to its first look: 60 ms for an interpreter, on a
machine that is a hundred times too busy."""
MOMENT = 0.02
"""How long a wrapper may take from the end of a try to the record of the next."""
