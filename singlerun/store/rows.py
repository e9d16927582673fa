"""Runs and their rows in the database, of which any byte may be damaged."""

from singlerun.outcome import Outcome
from singlerun.process.identity import Owner, Place
from singlerun.store.run import TIMED_OUT, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from singlerun.store.run import Change


class DamagedError(Exception):
    """The database can't be used, and is to be set aside: why."""


_OWNER = ("wrapper_pid", "wrapper_started", "host", "boot_id", "pid_ns")
_COMMAND = ("command_pid", "command_started")
_OUTCOME = ("exit_code", "signal", "elapsed_ns", "user_us", "system_us", "max_rss_kb")
_PLAIN = (
    "id", "token", "names", "lock_file", "argv", "cwd", "shared", "state", "uid", "asked_ns",
    "started_ns", "ended_ns", "parent_id", "conflict_id", "detail", "slots", "job_id", "fd",
    "not_before_ns",
)  # fmt: skip
_COLUMNS = (*_PLAIN, *_OWNER, *_COMMAND, *_OUTCOME)
_BYTES = {"names", "lock_file", "argv", "cwd"}
_TEXTS = {"state", "detail", "host", "boot_id"}
_KINDS = tuple(bytes if name in _BYTES else str if name in _TEXTS else int for name in _COLUMNS)
_NEEDED = {"id", "names", "argv", "state", "uid", "asked_ns", "wrapper_pid", "host", "boot_id"}
_CHECKS = tuple((kind, name in _NEEDED, name) for kind, name in zip(_KINDS, _COLUMNS, strict=True))
SELECT_RUNS = f"SELECT {', '.join(f'runs.{column}' for column in _COLUMNS)} FROM runs"  # noqa: S608
_LARGEST_PID = 2**31 - 1


def columns_of(change: "Change") -> "dict[str, Any]":
    """Return the columns that attributes of a run are kept in."""
    columns: dict[str, Any] = {}
    for attribute, value in change.items():
        if attribute == "wrapper":
            assert isinstance(value, Owner)
            place = value.place
            kept = (value.pid, value.started, place.host, place.boot_id, place.pid_ns)
            columns.update(zip(_OWNER, kept, strict=True))
        elif attribute == "command":
            pid, started = (value.pid, value.started) if isinstance(value, Owner) else (None, None)
            columns.update(zip(_COMMAND, (pid, started), strict=True))
        elif attribute == "outcome":
            columns.update((name, getattr(value, name, None)) for name in _OUTCOME)
        elif attribute in {"names", "argv"}:
            assert isinstance(value, tuple)
            columns[attribute] = b"\0".join(value)
        else:
            columns[attribute] = value
    return columns


def read_run(row: "Sequence[Any]") -> Run:
    """Read a row, of which any byte may be damaged; raise DamagedError if it can't be a run."""
    for value, (kind, is_needed, name) in zip(row, _CHECKS, strict=True):
        if type(value) is not kind and (value is not None or is_needed):
            raise DamagedError(f"run {row[0]!r} has a damaged {name}")
    values = dict(zip(_COLUMNS, row, strict=True))
    for name in ("wrapper_pid", "command_pid"):
        if not 0 <= (values[name] or 0) <= _LARGEST_PID:
            raise DamagedError(f"run {row[0]} has a damaged {name}")
    place = Place(values["host"], values["boot_id"], values["pid_ns"] or 0)
    run = Run(
        names=tuple(values["names"].split(b"\0")), argv=tuple(values["argv"].split(b"\0")),
        wrapper=Owner(place, values["wrapper_pid"], values["wrapper_started"]),
        uid=values["uid"], asked_ns=values["asked_ns"], shared=bool(values["shared"]),
    )  # fmt: skip
    for name in _PLAIN:
        if name not in {"names", "argv", "uid", "asked_ns", "shared"}:
            setattr(run, name, values[name])
    if values["command_pid"] is not None:
        run.command = Owner(place, values["command_pid"], values["command_started"])
    if values["elapsed_ns"] is not None or values["signal"] is not None:
        measured = {name: values[name] or 0 for name in _OUTCOME[2:-1]}
        ended = values["exit_code"], values["signal"]
        run.outcome = Outcome(
            *ended, timed_out=run.state == TIMED_OUT, max_rss_kb=values["max_rss_kb"], **measured
        )
    return run


def is_int(value: object) -> bool:
    """Return whether a value that should be an integer is one."""
    return type(value) is int
