"""Real processes, dead ones and some out of sight, as the owners of recorded runs."""

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from conftest import eventually

from singlerun.process.identity import Owner, Place, here, start_time
from singlerun.store.run import Run

ELSEWHERE = Owner(Place("elsewhere", "another boot", 7), 4194303, 1)
"""An owner that can't be seen from here."""


def owner_of(process):
    return Owner(here(), process.pid, start_time(process.pid))


@contextmanager
def living(marks_of=None, *, inheriting=()):
    """Run a process while the block lasts, with the marks of a run if one is given."""
    marks = {}
    if marks_of is not None:
        marks = {"SINGLERUN_RUN_ID": str(marks_of.id), "SINGLERUN_TOKEN": str(marks_of.token)}
    with subprocess.Popen(
        ["sleep", "infinity"], env=os.environ | marks, pass_fds=inheriting
    ) as process:
        # Popen returns in the midst of execve(2), before there is an environment to be read.
        eventually(lambda: Path(f"/proc/{process.pid}/environ").read_bytes(), "the environment")
        try:
            yield process
        finally:
            process.kill()


def dead():
    """Return an owner that has ended."""
    with living() as process:
        return owner_of(process)


def a_run(wrapper, *names, **more):
    return Run(
        names=names or (b"x",), argv=(b"true",), wrapper=wrapper, uid=0,
        asked_ns=time.time_ns(), **more,
    )  # fmt: skip


def waiting(store, wrapper, *names, **more):
    """Return a run that waits, as it is recorded."""
    run = a_run(wrapper, *names, **more)
    store.wait_run(run)
    return run


def running(store, wrapper, *names, command=None, **more):
    """Return a run that has started, as it is recorded."""
    run = a_run(wrapper, *names, **more)
    store.start_run(run, None)
    if command is not None:
        store.name_command(run, command)
    return run
