"""A queue whose user may have hardly a process more: ``ulimit -u``, as another user than root."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import click
import pytest
from conftest import PATIENCE, demand_or_skip, eventually, is_alive, need

import singlerun

COMMAND = 'echo $$ >> "$1.pids"; echo chatty; exec cat "$1"'
"""Records its start, and waits at a gate; without a process of its own for that."""


class User:
    """A user who has no other processes, with a copy of the package in a directory of theirs."""

    def __init__(self, directory):
        self.python = shutil.which("python3", path="/usr/bin")
        if os.geteuid() != 0:
            demand_or_skip("only root can become another user")
        if self.python is None:
            demand_or_skip("no interpreter that another user may execute")
        need("setpriv", "prlimit")
        self.home = directory / "home"
        self.home.mkdir()
        code = directory / "code"
        for package in (singlerun, click):
            path = Path(package.__file__).parent
            shutil.copytree(path, code / path.name)
        subprocess.run(["chmod", "-R", "a+rX", code], check=True)
        directory.chmod(0o755)
        uid = 20_000 + os.getpid() % 10_000  # of this process alone, should tests run side by side
        os.chown(self.home, uid, uid)
        self.who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        self.env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(code), "SINGLERUN_CONFIG": ""}
        self.env["SINGLERUN_DIR"] = str(self.home / "state")
        self.started = []

    def start(self, *arguments, processes=None):
        """Start a singlerun of this user, who may have so many processes by its count."""
        limit = [] if processes is None else ["prlimit", f"--nproc={processes}:"]
        return self.popen(*limit, self.python, "-m", "singlerun", *arguments)

    def popen(self, *words):
        process = subprocess.Popen(
            [*self.who, *words],
            env=self.env, cwd=self.home, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *arguments, processes=None):
        process = self.start(*arguments, processes=processes)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def add(self, *arguments):
        """Add a job; there is no process left that could be its worker."""
        status, out, err = self.run("add", "-n", "x", *arguments, processes=1)
        assert (status, err.count("\n")) == (125, 1), err
        assert "cannot start a worker for queue x: resource temporarily unavailable" in err
        return int(out)

    def job(self, number):
        status, out, err = self.run("queue", "--all", "--json")
        assert (status, err) == (0, "")
        return next(job for job in json.loads(out)["jobs"] if job["id"] == number)


@pytest.fixture
def user():
    # Not in tmp_path: any session of pytest that begins denies other users all that is there.
    with tempfile.TemporaryDirectory() as directory:
        user = User(Path(directory))
        yield user
        for process in user.started:
            if process.poll() is None:
                process.kill()
        for pid in pids(user.home / "gate"):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        for process in user.started:
            process.communicate()


@pytest.fixture
def gate(user):
    path = user.home / "gate"
    os.mkfifo(path)
    path.chmod(0o666)
    return path


def pids(gate):
    path = Path(f"{gate}.pids")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def test_a_command_whose_output_no_process_can_take_runs_once_under_its_lock(user, gate):
    """The worker and the command are all there may be: there is none to keep what it writes."""
    first = user.add("sh", "-c", COMMAND, "sh", str(gate))
    second = user.add("true")
    worker = user.start("worker", "-n", "x", processes=2)
    eventually(lambda: pids(gate), "the start of the job")
    (pid,) = pids(gate)
    # It says so once it has failed, and has gone on to wait for the command alone.
    assert "waiting for the command all the same" in worker.stderr.readline()
    assert user.run("-n", "x", "true")[0] == 75
    assert is_alive(pid)
    gate.write_text("")
    assert worker.wait(PATIENCE) == 0
    jobs = [user.job(number) for number in (first, second)]
    assert [(job["state"], job["tries"]) for job in jobs] == [("succeeded", 1)] * 2
    assert pids(gate) == [pid]
    assert user.run("-n", "x", "true")[0] == 0


def test_a_command_that_no_process_can_be_made_for_is_tried_again(user, gate):
    number = user.add("--retries", "1000000", "--retry-delay", "0.01", "sh", "-c", COMMAND, "sh",
                      str(gate))  # fmt: skip
    other = user.popen("sleep", "infinity")
    worker = user.start("worker", "-n", "x", processes=2)
    detail = eventually(lambda: user.job(number)["detail"], "the failure of a try")
    assert "resource temporarily unavailable" in detail
    assert pids(gate) == []
    other.kill()
    other.wait()
    eventually(lambda: pids(gate) or worker.poll() is not None, "the start of the job")
    assert len(pids(gate)) == 1
    assert user.run("-n", "x", "true")[0] == 75
    gate.write_text("")
    assert worker.wait(PATIENCE) == 0
    assert user.job(number)["state"] == "succeeded"
    assert len(pids(gate)) == 1
