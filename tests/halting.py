"""Halt a singlerun between two steps: stopped as it returns from a system call on a given file."""

import os
import signal
import subprocess
from pathlib import Path

from conftest import BINARY, PATIENCE, eventually, need


class Halted:
    """A process that is stopped right after its nth such call on a file, until it may go on.

    What it starts is not traced.

    Attributes:
        pid: of the process that is stopped.
        tracer: strace, which exits with the status of the program.
    """

    def __init__(self, cli, call, path, nth, *arguments, program=(BINARY,), **more):
        need("strace")
        self.trace = cli.dir.parent / f"halted-{len(cli.started)}"
        inject = f"inject={call}:signal=SIGSTOP:when={nth}"
        self.tracer = subprocess.Popen(
            ["strace", "-qq", "-o", self.trace, "-P", path, "-e", f"trace={call}",
             "-e", inject, *map(str, program), *arguments],
            env=cli.env, **more,
        )  # fmt: skip
        cli.started.append(self.tracer)
        eventually(
            lambda: self.trace.exists() and "--- stopped by SIGSTOP" in self.trace.read_text(),
            f"{call} number {nth} on {path}",
        )
        children = Path(f"/proc/{self.tracer.pid}/task/{self.tracer.pid}/children").read_text()
        self.pid = int(children.split()[0])

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        """Kill the process where it is."""
        os.kill(self.pid, signal.SIGKILL)
        self.tracer.wait(PATIENCE)

    def wait(self):
        """Let it go on; return its exit status."""
        self.go_on()
        return self.tracer.wait(PATIENCE)
