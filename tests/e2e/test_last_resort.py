"""Law: from the start of a command until its end, nothing of ours frees, raises or exits."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import PATIENCE, is_alive, need

import singlerun


def test_a_worker_without_descriptors_waits_for_its_command(cli, tmp_path):
    """It can't open a pidfd, nor keep the output; the job runs once, and the queue goes on."""
    need("strace")
    ran = tmp_path / "ran"
    cli.run("pause", "x", "--for", "1h")
    script = f"yes | head -c 300000; echo once >> {ran}; exit 3"
    first = cli.add("-n", "x", "--", "sh", "-c", script)
    second = cli.add("-n", "x", "true")
    for pid in cli.workers("x"):
        os.kill(pid, signal.SIGKILL)
    fault = ["-e", "trace=pidfd_open", "-e", "inject=pidfd_open:error=EMFILE"]
    trace = ["strace", "-f", "-qq", "-o", tmp_path / "trace", *fault, cli.binary]
    with subprocess.Popen(
        [*trace, "worker", "-n", "x", "--stay"], env=cli.env, stderr=subprocess.PIPE, text=True
    ) as worker:
        assert cli.run("resume", "x").returncode == 0
        cli.run("wait", str(second), timeout=PATIENCE)
        (worker_pid,) = (run["wrapper_pid"] for run in cli.history("x")[:1])
        os.kill(worker_pid, signal.SIGTERM)
        said = worker.communicate(timeout=PATIENCE)[1]
    assert "too many open files; waiting for the command all the same" in said
    assert ran.read_text() == "once\n"
    assert (cli.job(first)["state"], cli.job(first)["exit_code"]) == ("failed", 3)
    assert cli.job(second)["state"] == "succeeded"


@pytest.fixture
def copied(cli, tmp_path):
    """Start the prefix form from a copy of the package, which can be taken away."""
    code = tmp_path / "code"
    shutil.copytree(os.path.dirname(singlerun.__file__), code / "singlerun")
    command = [sys.executable, "-m", "singlerun"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    def start(*arguments):
        env = cli.env | {"PYTHONPATH": str(code)}
        process = subprocess.Popen(
            [*command, *arguments], env=env, cwd=tmp_path, start_new_session=True, **pipes
        )
        cli.started.append(process)
        pid = int(process.stdout.readline())
        (code / "singlerun").rename(code / "gone")
        return process, pid

    return start


def test_a_package_that_is_replaced_still_hands_on_a_signal(cli, copied):
    wrapper, pid = copied("-n", "x", "sh", "-c", "echo $$; exec cat")
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 143
    assert not is_alive(pid)
    assert b"waiting for the command all the same" in wrapper.stderr.read()
    assert cli.last("x")["state"] == "stopped"


def test_a_package_that_is_replaced_costs_a_hook_and_not_the_status(cli, copied):
    hook = ["--on-failure", "true"]
    wrapper, _ = copied("-n", "x", *hook, "sh", "-c", "echo $$; read line; exit 3")
    assert wrapper.communicate(b"\n", PATIENCE)[1].count(b"a hook could not be run") == 1
    assert wrapper.returncode == 3
    assert cli.last("x")["exit_code"] == 3
