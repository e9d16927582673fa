"""Every grace period, patience and poll, in seconds, with the reason for its size."""

KILL_AFTER = 10.0
"""Grace period between a signal that asks to end and SIGKILL: systemd gives 90 s, timeout(1) none;
a crontab line wants an end within its minute."""
RETRY_DELAY = 1.0
"""Delay before the first retry."""
LONGEST_DELAY = 86_400.0
"""Where the delay between retries stops doubling: once a day is still a retry."""
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
SHORTEST_TRY, LONGEST_TRY = 0.01, 0.5
"""Between two tries to claim a lock file, which has no queue in the kernel; growing by a fifth each
time, so that many waiters spare the processor."""
TRY_PATIENCE = 5.0
"""How long a try in another thread may take before it counts as stuck: a slow NFS server, not a
dead one."""
REMAINS_PATIENCE = 1.0
"""How long to wait, after SIGKILL, for what is left of a command that has ended itself."""
KILL_PATIENCE = 10.0
"""How long after the first SIGKILL a process may still be on its way out; one in an
uninterruptible system call never is."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Between two SIGKILLs, doubling: a process that could fork meanwhile is still there."""
TREE_LOOK = 1.0
"""Between two looks for processes that were started since."""
TREE_NAP = 0.01
"""How long to sleep when processes are found that a pidfd calls ended: they must not be spun on."""
WITHOUT_THREAD = 1.0
"""How often a worker looks by itself while its user may have no thread more (``ulimit -u``)."""
TICK = 1.0
"""How often the live line of a waiter is redrawn."""
INTERRUPT_GRACE = 0.25
"""How long Ctrl-C has to end the command by itself, as in ``subprocess.run``."""
DEPUTY_GRACE = 2.0
"""How long a deputy has to end by itself when it was let go."""
LONGEST_SLEEP = 60.0
"""After which the clock is looked at again: it may have been set, or the machine slept."""
STORE_DELAYS = (0.1, 0.5, 2.0, 5.0, 15.0, 30.0)
"""Between tries to use a run-log that can't be used: a full disk, a stopped process."""
BRIEF = 0.005
"""After which the process of a command is recorded. Until then its marks tell what is left
of it, should we be killed; and a thousand short jobs need not pay for a thousand commits more."""
SILENT = 0.05
"""How long a command is watched before its output gets a process of its own, unless it
writes something."""
STARTING_NAP = 0.005
"""Between two looks at whether a worker has begun: a fraction of an interpreter's start."""
FLUSH = 0.05
"""After which what is to be kept is on the disk. To write every byte of a gigabyte there,
only to delete it a moment later, would halve the rate."""
GUARD_PATIENCE = 10.0
"""How long the run-log may be kept busy without progress. A singlerun that was
stopped must not stop every job with it."""
TAB_PATIENCE = 0.5
"""How long a completion waits while the run-log is kept busy without progress: typing is faster."""
BUSY_PATIENCE = 5.0
"""How long to wait for another program that has locked the database."""
HOOK_TIMEOUT = 30.0
"""How long a hook may take: it runs when the lock is free, but its run is not over for ``wait``."""
HOOK_GRACE = 2.0
"""Grace period between SIGTERM and SIGKILL for a hook."""
DELIVERY_TIMEOUT = 30.0
"""How long one try to deliver a notification may take, looking up the host included."""
DELIVERY_RETRY, LONGEST_DELIVERY_RETRY = 0.5, 600.0
"""Between two tries to deliver a notification, doubling."""
SENDER_LIFE = 900.0
"""How long the sender goes on trying after the latest event; the next one starts it again."""
GIVE_UP = 86_400.0
"""After which a notification is no news, and dropped."""
REFUSED_TRIES = 3
"""How often a notification is tried that the server refuses for good: a moment's wrong setting
must not lose one, and one that is wrong itself must not hold up those behind it."""
WATCH_LOOK = 1.0
"""Between two looks at a run whose process has ended, and its record not yet."""
REDRAW = 1.0
"""Between two looks with --watch."""
LOG_POLL = 0.1
"""Between two looks for more output."""
TALLY_BURST = 0.002
"""Processor time after which no more runs are read in a transaction that counts them; to write the
sums takes as long again at most."""
TALLY_REST = 0.002
"""Between two such transactions: about as long as one takes, so that starts get their turn."""
CHECK_PATIENCE = 10.0
"""How long the checks of ``doctor`` may take, all at once: a file system that hangs never answers,
and a database of a gigabyte is read in less."""

PRUNE_EVERY = 3600.0
"""How often a run, when it has ended, starts a prune in the background: often enough that little
has come since, and rarely enough that 60 ms of processor time are nothing."""
PRUNE_FOR = 60.0
"""How long a prune in the background works at most; the next one goes on. By then it has forgotten
as many runs as fifty starts a second make in an hour."""
PRUNE_BURST = 0.002
"""How long a prune works before it rests; a transaction is never longer than a few times that."""
PRUNE_REST, PRUNE_PAUSE = 9.0, 1.0
"""How much longer than it has worked a prune then leaves the run-log to others, while others write
to it; and while none does. A start meets it one time in ten, for some milliseconds; and where
everything takes longer, it backs off. It has no low priority instead: a process that holds the
run-log must not be kept from the processor."""
PRUNE_HEED = 2.0
"""How long ago others may have written to the run-log that a prune still makes room for them."""


def backoff(delay: float, attempts: int) -> float:
    """Return the delay before the next attempt, doubled with each attempt after the first."""
    return min(delay * 2.0 ** min(attempts - 1, 64), LONGEST_DELAY)
