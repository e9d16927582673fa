"""The open descriptors of this process."""

import os


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
