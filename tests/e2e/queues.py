"""What the tests of queues share."""

import os
import signal
from pathlib import Path

from conftest import PATIENCE, eventually, is_alive


def ended(cli, number, status=0):
    """Wait for the end of a job, as users do; return the job."""
    result = cli.run("wait", "-t", str(PATIENCE / 2), str(number))
    log = (cli.dir / "workers.log").read_text()
    assert result.returncode == status, (result.stderr, log, cli.queue(), cli.workers())
    return cli.job(number)


def worker_of(cli, name):
    (pid,) = eventually(lambda: cli.workers(name), "the worker")
    return pid


def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        eventually(lambda pid=pid: not is_alive(pid), "the end of a process")


def sleeps_until_woken(pid):
    """Return whether a worker sleeps until it is woken."""
    calls = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/wchan")]
    return any("poll" in call for call in calls)


def asleep_in(cli, name):
    """Wait until the worker of a name has nothing to do; return its PID."""
    pid = worker_of(cli, name)
    eventually(lambda: sleeps_until_woken(pid), "the worker's sleep")
    return pid


def working(cli, *options, **more):
    """Start a worker that stays; return it once it waits for jobs."""
    worker = cli.start("worker", "-n", "x", "--stay", *options, **more)
    eventually(lambda: sleeps_until_woken(worker.pid), "the worker's sleep")
    return worker


def witness(path, word):
    return ["sh", "-c", f"echo {word} >> {path}"]


def words(path):
    return path.read_text().split() if path.exists() else []
