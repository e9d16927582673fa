"""The open descriptors of this process."""

import fcntl
import os

POLLIN = 1
"""As in poll(2): the module select is no import of the plain form."""


def poll(wanted: dict[int, int], seconds: float | None = None) -> dict[int, int]:
    """Sleep until such an event has come, or so long; return those that have, by descriptor."""
    import select  # noqa: PLC0415 - not in the plain form

    waiting = select.poll()
    for descriptor, events in wanted.items():
        waiting.register(descriptor, events)
    return dict(waiting.poll(None if seconds is None else seconds * 1000))


def is_locked(descriptor: int) -> bool:
    """Return whether an open file is flocked through its description, by whichever process."""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb", buffering=0) as file:
            return b"FLOCK" in file.read()
    except OSError:
        return False


def try_lock(descriptor: int) -> bool:
    """Lock an open file (flock(2)) unless another has it; return whether so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def close_all_but(wanted: set[int]) -> None:
    """Close all descriptors of this process but these."""
    try:
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        descriptors = list(range(os.sysconf("SC_OPEN_MAX")))
    for descriptor in descriptors:
        if descriptor not in wanted:
            try:
                os.close(descriptor)
            except OSError:
                pass
