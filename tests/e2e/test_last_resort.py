"""Law: from the start of a command until its end, nothing of ours frees, raises or exits."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import PATIENCE, is_alive

import singlerun


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
