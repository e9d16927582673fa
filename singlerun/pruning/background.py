"""Prunes now and then, after a run has ended, in a process of its own.

A run that has ended, and has freed its lock, looks at the time of the file ``pruned``: once an hour
it touches it, and starts this process, which outlives it. So there are seldom two, and the lock of
that file makes sure that one of them has nothing to do. Whatever fails here is tried again in an
hour, and is told by nothing but ``singlerun prune``.
"""

import fcntl
import os
import sys
from contextlib import contextmanager

from singlerun.errors import SinglerunError, StateDirError
from singlerun.lifecycle import PRUNED, is_time_to_prune
from singlerun.paths import CONFIG_VARIABLE, StateDir
from singlerun.process import interpreter
from singlerun.process.descriptors import close_all_but
from singlerun.timings import PRUNE_FOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn


@contextmanager
def alone(state: StateDir) -> "Iterator[bool]":
    """Keep other prunes of a state directory out; the value is whether there was none."""
    try:
        descriptor = state.open_file(PRUNED)
    except StateDirError:  # a read-only file system
        yield True
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def start_in_time(state: StateDir) -> None:
    """Start a prune unless that was done a while ago; where it can't be, another time will do."""
    try:
        if is_time_to_prune(state):
            start(state)
    except (OSError, SinglerunError):
        pass


def start(state: StateDir) -> None:
    """Start a prune that no process waits for; raise OSError or SinglerunError if it can't be.

    It inherits nothing: what the caller has open may be locked, or waited for.
    """
    words = [*interpreter.words(__name__), os.fsdecode(state.path)]
    null = [
        (os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)
    ]  # fmt: skip
    inherited = [(os.POSIX_SPAWN_CLOSE, number) for number in _inheritable()]
    os.posix_spawn(
        words[0], [*map(os.fsencode, words)], interpreter.environment(CONFIG_VARIABLE),
        file_actions=[*null, *inherited], setsid=True,
    )  # fmt: skip


def _inheritable() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:  # that of the list
            pass
    return found


def main() -> "NoReturn":
    """Prune the state directory that is the argument, for a while, and say nothing."""
    try:
        close_all_but({0, 1, 2})
        os.chdir("/")
        _prune(os.fsencode(sys.argv[1]))
    except BaseException:  # noqa: BLE001 - there is none to tell
        os._exit(125)
    os._exit(0)


def _prune(path: bytes) -> None:
    from singlerun.pruning import rules  # noqa: PLC0415 - not to start one
    from singlerun.pruning.prune import Pruner  # noqa: PLC0415
    from singlerun.store.sqlite_pruning import SqlitePruning  # noqa: PLC0415

    # It interrupts no other process when it wakes up, yet is not starved with the run-log held.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    state = StateDir(path, create=False)
    with alone(state) as is_alone:
        if is_alone:
            kept = rules.of(rules.configured(state.path))
            Pruner(state, SqlitePruning(state), kept, seconds=PRUNE_FOR).prune()
