"""How a command ended."""


class Outcome:
    """The end of a command: its status and what it used.

    Attributes:
        exit_code: what it passed to exit(), or None if a signal ended it.
        signal: the signal that ended it, or None.
        elapsed_ns: nanoseconds from start to end, by the monotonic clock.
        user_us, system_us: microseconds of CPU time, of the command and of the children it waited
            for (getrusage(2)).
        max_rss_kb: the largest resident set of any of them, in KiB; None if it was no larger than
            singlerun's own, from which the kernel does not tell it apart (process/child.py).
        timed_out: whether it was ended because its time was over.
    """

    __slots__ = (
        "elapsed_ns", "exit_code", "max_rss_kb", "signal", "system_us", "timed_out", "user_us",
    )  # fmt: skip

    def __init__(
        self, exit_code: int | None, signal: int | None = None, *, elapsed_ns: int = 0,
        user_us: int = 0, system_us: int = 0, max_rss_kb: int | None = None,
        timed_out: bool = False,
    ) -> None:  # fmt: skip
        self.exit_code, self.signal, self.timed_out = exit_code, signal, timed_out
        self.elapsed_ns, self.user_us, self.system_us = elapsed_ns, user_us, system_us
        self.max_rss_kb = max_rss_kb

    @property
    def exit_status(self) -> int:
        """The command's own, as a shell's ``$?``: 128+n for signal n; 124 if its time was over."""
        if self.timed_out:
            return 124
        if self.signal is not None:
            return 128 + self.signal
        return self.exit_code or 0

    @property
    def state(self) -> str:
        """The state of a run that ended so."""
        if self.timed_out:
            return "timed-out"
        return "succeeded" if self.exit_status == 0 else "failed"
