"""Puts jobs into a queue: commits them durably. Their caller makes sure of a worker (wakeup.py)."""

import os
import time

from singlerun.errors import QueueFullError, UsageError
from singlerun.paths import StateDir, state_path
from singlerun.process.marks import Marks
from singlerun.process.spawn import environment
from singlerun.queue import wakeup
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.store.queue import Context, FullError, Job, NoSuchJobError, ReplacedError
from singlerun.store.sqlite_queue import SqliteQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from singlerun.spec import RunSpec

KEPT = (
    "HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "SINGLERUN_CONFIG", "SINGLERUN_DIR",
    "TMPDIR", "TZ", "USER",
)  # fmt: skip
"""The variables that a job keeps, and those with LC_. Others, perhaps secrets, only on demand."""


def context_here(
    variables: "Sequence[str]" = (), options: dict[str, object] | None = None, *,
    all_env: bool = False,
) -> Context:  # fmt: skip
    """Return the context of this process: directory, file mode mask, and the environment to keep.

    ``variables`` are ``NAME``, to keep that one too, or ``NAME=VALUE``; ``all_env`` keeps all.
    Raises UsageError if a variable is not set, or the working directory was deleted.
    """
    ours = environment()
    # The marks of the run in which the job is added are not the job's.
    kept = {
        key: value
        for key, value in ours.items()
        if key.decode(errors="replace") in KEPT
        or key.startswith(b"LC_")
        or (all_env and not key.startswith(b"SINGLERUN_"))
    }
    for variable in map(os.fsencode, variables):
        key, equals, value = variable.partition(b"=")
        if not key or (not equals and key not in ours):
            raise UsageError(f"{shown(key) or variable!r} is not set in the environment")
        kept[key] = value if equals else ours[key]
    try:
        cwd = os.getcwdb()
    except FileNotFoundError:
        raise UsageError("the working directory was deleted; go to another") from None
    umask = os.umask(0o77)
    os.umask(umask)
    env = tuple(key + b"=" + value for key, value in kept.items())
    return Context(cwd, umask, env, options or {})


def enqueue(
    state: StateDir, jobs: "Sequence[Job]", context: Context, *, unique: bool = False,
    limit: int | None = None,
) -> list[int]:  # fmt: skip
    """Accept jobs of one name, all or none; return their ids: they survive kill -9 and power loss.

    Raises RecordError or StateDirError if they can't be accepted, QueueFullError if as many are
    pending as may be, UsageError if a job is to follow one that does not exist, or that it
    replaces.
    """
    queue = SqliteQueue(state)
    name = jobs[0].name
    try:
        return queue.enqueue(jobs, context, unique=unique, limit=limit)
    except FullError as error:
        raise QueueFullError(shown(name), error.args[0]) from None
    except NoSuchJobError as error:
        raise UsageError(f"there is no job {error.args[0]} to follow") from None
    except ReplacedError as error:
        raise UsageError(f"a job cannot both follow and replace job {error.args[0]}") from None
    finally:
        for notice in queue.notices:
            say(notice)
        queue.close()


def enqueue_command(spec: "RunSpec") -> int:
    """Put a command in the queue of its name, and make sure of a worker; return the job's id.

    Raises SinglerunError as ``enqueue`` does, or if no worker can be started.
    """
    more = spec.in_queue
    delay = more.get("delay")
    job = Job(
        name=spec.names[0], argv=tuple(os.fsencode(word) for word in spec.argv),
        retries=spec.retries, retry_delay=spec.retry_delay,
        priority=more.get("priority", 0), label=more.get("label"),
        not_before_ns=None if delay is None else time.time_ns() + round(delay * 1e9),
    )  # fmt: skip
    marks = Marks.from_environ(os.environb)
    job.parent_id = None if marks is None else marks.run_id
    state = StateDir(state_path(spec.dir))
    context = context_here(
        more.get("env", ()), spec.job_options, all_env=more.get("all_env", False)
    )
    (number,) = enqueue(
        state, [job], context, unique=more.get("unique", False), limit=more.get("limit")
    )
    wakeup.ensure(state, spec.names[0])
    return number
