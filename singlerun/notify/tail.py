"""The end of a run's kept output, as it goes into a notification."""

from collections import deque

from singlerun.errors import SinglerunError
from singlerun.output import segments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.paths import StateDir

BYTES = 10_000
"""As much as Healthchecks keeps of a ping on every plan, and a person reads of a mail."""


def of(state: "StateDir", run_id: int | None) -> str | None:
    """Return the end of what is kept of a run's output; None if nothing is."""
    if run_id is None:
        return None
    try:
        reader = segments.reader(state, run_id)
        if reader is None:
            return None
        parts: deque[bytes] = deque()
        size = 0
        for _, data, _ in reader.read():
            parts.append(bytes(data[-BYTES:]))
            size += len(parts[-1])
            while size - len(parts[0]) >= BYTES:
                size -= len(parts.popleft())
    except (SinglerunError, OSError):
        return None
    whole = b"".join(parts)
    text = whole[-BYTES:].decode("utf-8", "replace")
    if len(whole) > BYTES and "\n" in text:
        text = text.partition("\n")[2]  # no half a line
    return text or None
