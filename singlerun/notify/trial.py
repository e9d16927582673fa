"""Delivery at once, with its result: what ``singlerun notify test`` does."""

import os
import signal
import time
import uuid

from singlerun.notify.delivery import deliver
from singlerun.notify.failure import DeliveryError
from singlerun.timings import DELIVERY_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def entry(url: str, name: str, table: "Mapping[str, Any]") -> "dict[str, Any]":
    """Return what is sent to try a URL, as it would stand in the spool."""
    now = time.time()
    event = {
        "schema": 1, "event": "test", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "host": os.uname().nodename, "name": name, "run": None, "job_id": None,
        "exit_status": None, "count": None, "usual_s": None,
    }  # fmt: skip
    made = {"id": uuid.uuid4().hex, "written": now, "url": url, "event": event}
    return made | ({"smtp": table["smtp"]} if table.get("smtp") else {})


def outcome(made: "dict[str, Any]") -> str | None:
    """Deliver something now, within a bounded time; return why it failed, None if it did not."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _deliver(made, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        reason = pipe.read().decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0:
        return None
    if status == -signal.SIGALRM:
        return f"no answer within {DELIVERY_TIMEOUT:.0f} s"
    return reason or f"the process of the try ended with status {status}"


def _deliver(made: "dict[str, Any]", pipe: int) -> None:
    """Be the process of the try."""
    status, reason = 1, ""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(round(DELIVERY_TIMEOUT))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):  # what a library says may hold secrets
            os.dup2(nothing, stream)
        deliver(made)
        status = 0
    except DeliveryError as error:
        reason = error.reason
    except BaseException as error:  # noqa: BLE001 - the parent goes on
        reason = type(error).__name__
    finally:
        try:
            os.write(pipe, reason.encode(errors="replace"))
        finally:
            os._exit(status)
