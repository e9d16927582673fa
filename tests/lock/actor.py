"""Processes that a test leads step by step, and stops in the middle of a step."""

import os
import select
import signal
import subprocess
import sys

import pytest
from conftest import PATIENCE, eventually, need

SCRIPT = """
import os, sys
from singlerun import lock
from singlerun.lock.flock import ChosenFile, NamedLock
from singlerun.paths import StateDir

state = StateDir(os.fsencode(sys.argv[1]))
for line in sys.stdin:
    try:
        answer = repr(eval(line))
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(answer, flush=True)
"""


class Actor:
    """A process with a set of locks, ``locks``: it evaluates what it is told, and answers."""

    def __init__(self, directory, locks):
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self._tracer = None
        self.ask(f"(locks := {locks})")

    def begin(self, step):
        """Let it begin a step, which may block."""
        self._process.stdin.write(step + "\n")
        self._process.stdin.flush()

    def answer(self):
        """Return what the step that was begun has given."""
        eventually(self.is_done, "the answer")
        return self._process.stdout.readline().strip()

    def ask(self, step):
        self.begin(step)
        return self.answer()

    def is_done(self):
        """Return whether the step that was begun has ended."""
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def inject(self, call, what, trace, *, path=None):
        """Tamper with its next system calls, as strace(1) does; only with those on a path."""
        need("strace")
        command = ["strace", "-f", "-o", trace, "-e", f"trace={call}", "-p", str(self.pid)]
        command += ["-e", f"inject={call}:{what}", *(["-P", path] if path else [])]
        self._tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert "attached" in self._tracer.stderr.readline()

    def begin_and_stop_at(self, step, call, trace, *, when=1, path=None):
        """Let it begin a step, and stop it as it returns from its WHENth such system call."""
        self.inject(call, f"signal=SIGSTOP:when={when}", trace, path=path)
        self.begin(step)
        eventually(lambda: "stopped by SIGSTOP" in trace.read_text(), f"the stop at {call}")

    def go_on(self):
        """Let it go on, untraced."""
        self._tracer.terminate()
        self._tracer.wait(PATIENCE)
        self._tracer.stderr.close()
        os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process.stdin.close()
        self._process.stdout.close()
        if self._tracer is not None:
            self._tracer.wait(PATIENCE)
            self._tracer.stderr.close()


def names(*names, shared=False, slots=None, lock_type="auto"):
    """Return the expression for the locks of some names."""
    encoded = tuple(name.encode() for name in names)
    return f"lock.of_names({encoded}, state, {shared=}, {slots=}, {lock_type=})"


@pytest.fixture
def actors(tmp_path):
    """Start actors that share a state directory, and kill them at the end."""
    made = []

    def start(locks, directory=None):
        made.append(Actor(directory or tmp_path / "state", locks))
        return made[-1]

    yield start
    for actor in made:
        actor.kill()
