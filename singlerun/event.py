"""An event: what has happened to a run, a job or a queue, for hooks and notifications.

It can't be changed, so nothing that is told of an event can change it for what is told next.
"""

import os
import time

from singlerun.store.run import REFUSED, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from singlerun.store.run import Run

SCHEMA = 1
KINDS = (
    "start", "success", "failure", "conflict", "recovery", "change", "refused", "overlong",
    "overdue", "lost", "queue-empty",
)  # fmt: skip


class Event:
    """What has happened.

    Attributes:
        kind: one of KINDS.
        at_ns: when, in nanoseconds since the epoch.
        host: where.
        name: the name of the lock or the queue.
        run: the run that it happened to, None if it is about no single run.
        job_id: the job in a queue, or None.
        exit_status: singlerun's own, None while the command runs or if nothing was to run.
        count: how many runs in a row were refused, or None.
        usual_ns: the nanoseconds that a run of the name usually takes, or None.
    """

    __slots__ = (
        "at_ns", "count", "exit_status", "host", "job_id", "kind", "name", "run", "usual_ns",
    )  # fmt: skip

    kind: str
    at_ns: int
    host: str
    name: bytes
    run: "Run | None"
    job_id: int | None
    exit_status: int | None
    count: int | None
    usual_ns: int | None

    def __init__(
        self, kind: str, name: bytes, *, run: "Run | None" = None, job_id: int | None = None,
        exit_status: int | None = None, count: int | None = None, usual_ns: int | None = None,
        at_ns: int | None = None, host: str | None = None,
    ) -> None:  # fmt: skip
        """Describe an event: by default one of now, and here or on the host of the run.

        Raises ValueError if there is no such kind.
        """
        if kind not in KINDS:
            raise ValueError(f"no such kind of event: {kind!r}")
        values = {
            "kind": kind, "name": name, "run": run, "exit_status": exit_status, "count": count,
            "usual_ns": usual_ns, "at_ns": time.time_ns() if at_ns is None else at_ns,
            "host": host or (os.uname().nodename if run is None else run.host),
            "job_id": run.job_id if job_id is None and run is not None else job_id,
        }  # fmt: skip
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def __setattr__(self, attribute: str, value: object) -> "NoReturn":
        """Refuse."""
        raise AttributeError(f"an event cannot be changed: {attribute}")

    def __delattr__(self, attribute: str) -> "NoReturn":
        """Refuse."""
        raise AttributeError(f"an event cannot be changed: {attribute}")

    def as_json(self) -> dict[str, object]:
        """Return the document of the event; its run is as ``--json`` prints it."""
        from singlerun.render import json  # noqa: PLC0415 - costs 2 ms

        return {
            "schema": SCHEMA, "event": self.kind, "at": json.time_of(self.at_ns),
            "host": self.host, "name": os.fsdecode(self.name),
            "run": None if self.run is None else json.run(self.run),
            "job_id": self.job_id, "exit_status": self.exit_status, "count": self.count,
            "usual_s": None if self.usual_ns is None else self.usual_ns / 1e9,
        }  # fmt: skip

    def as_text(self, most: int | None = None) -> str:
        """Return that as JSON text of ASCII characters, ``most`` of them if that is not None.

        What is too long for that has its longest texts and lists cut, and says so with the key
        ``shortened``.
        """
        from json import dumps  # noqa: PLC0415 - rare

        document = self.as_json()
        text = dumps(document)
        longest = most or 0
        while most is not None and len(text) > most and longest > 1:
            longest //= 2
            text = dumps({**_shortened(document, longest), "shortened": True})
        return text


def of_end(run: "Run", exit_status: int) -> Event:
    """Return the event of a run that has ended with this exit status of ours, or was refused."""
    if run.state in {REFUSED, SKIPPED}:
        kind = "conflict"
    else:
        kind = "failure" if exit_status else "success"
    return Event(kind, run.names[0], run=run, exit_status=exit_status, at_ns=run.ended_ns)


def _shortened(value: object, longest: int) -> "dict[str, object]":
    """Return a document whose texts and lists are no longer than that."""

    def cut(value: object) -> object:
        if isinstance(value, str):
            return value[:longest]
        if isinstance(value, list):
            return [cut(item) for item in value[:longest]]
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        return value

    document = cut(value)
    assert isinstance(document, dict)
    return document
