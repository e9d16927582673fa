"""The hook of the start: it runs beside the command, and changes nothing of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, eventually, is_alive

HANGS = "echo $$ > pid.new; mv pid.new pid; sleep 60; :"
"""A hook that says its PID, and never ends by itself."""


def pid_of(tmp_path):
    """Wait until the hook of the start has said its PID."""
    file = tmp_path / "pid"
    eventually(file.exists, "the start of the hook")
    return int(file.read_text())


def minder_of(pid):
    """Return the PID of the process that minds a hook."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_it_runs_while_the_command_does(cli, tmp_path):
    """The command waits for what the hook says, and the hook for a name that is held."""
    os.mkfifo(tmp_path / "gate")
    hook = f"{cli.binary} is-running -q x && echo $SINGLERUN_STATE > gate"
    result = cli.run("-n", "x", "--on-start", hook, "cat", "gate", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "running\n")


def test_what_it_is_told(cli):
    script = (
        'cat; echo "$SINGLERUN_EVENT $SINGLERUN_NAME $SINGLERUN_RUN_ID [$SINGLERUN_EXIT_STATUS]";'
        'echo "$SINGLERUN_JSON"; ls /proc/self/fd'
    )
    result = cli.run("-n", "x", "--on-start", script, "sh", "-c", "exit 3", input="secret")
    told, text, *descriptors = result.stdout.splitlines()
    assert (result.returncode, told) == (3, "start x 1 []")
    assert descriptors == ["0", "1", "2", "3"], "not the lock; ls itself has opened the last"
    event, (run,) = json.loads(text), cli.history("x")
    assert (event["event"], event["at"], event["exit_status"]) == ("start", run["started_at"], None)
    assert (event["run"]["state"], event["run"]["pid"]) == ("running", run["pid"])


@pytest.mark.parametrize("hook", ["exit 9", "kill -9 $$", "nosuch-command"])
def test_its_failure_is_a_warning(cli, hook):
    result = cli.run("-n", "x", "--on-start", hook, "echo", "out")
    assert (result.returncode, result.stdout) == (0, "out\n")
    assert "singlerun: x: --on-start hook " in result.stderr
    assert cli.last("x")["state"] == "succeeded"


def test_the_end_does_not_wait_for_it(cli, tmp_path):
    """The end is recorded and the lock free while the hook hangs; a signal ends it."""
    wrapper = cli.start(
        "-n", "x", "--on-start", HANGS, "sh", "-c", "exit 3", cwd=tmp_path, stderr=subprocess.PIPE
    )
    pid = pid_of(tmp_path)
    assert cli.run("wait", "1").returncode == 3
    assert cli.run("-n", "x", "true").returncode == 0
    assert wrapper.poll() is None
    assert is_alive(pid)
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 3, "the outcome is the command's"
    eventually(lambda: not is_alive(pid), "the end of the hook")
    assert b"singlerun: x: --on-start hook was interrupted" in wrapper.stderr.read()


def test_hooks_of_the_end_come_after_it(cli, tmp_path):
    hook = "until [ -e ended ]; do sleep 0.01; done; echo start"
    options = ["--on-start", hook, "--on-success", "echo success", "--on-finish", "echo finish"]
    wrapper = cli.start("-n", "x", *options, "true", cwd=tmp_path, stdout=subprocess.PIPE)
    eventually(lambda: any(run["ended_at"] for run in cli.history("x")), "the end")
    (tmp_path / "ended").touch()
    assert wrapper.stdout.read() == b"start\nsuccess\nfinish\n"
    assert wrapper.wait(PATIENCE) == 0


def test_with_retries_there_is_one_start(cli):
    result = cli.run(
        "-n", "x", "--retries", "2", "--retry-delay", "0", "--on-start", "echo start",
        "sh", "-c", "exit 2",
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "start\n")


@pytest.mark.parametrize("command", ["/nosuch", "/"])
def test_what_did_not_start_has_no_start(cli, command):
    result = cli.run("-n", "x", "--on-start", "echo start", command)
    assert (result.returncode in {126, 127}, result.stdout) == (True, "")
    with cli.hold("-n", "x"):
        assert cli.run("-n", "x", "--on-start", "echo start", "true").stdout == ""


def test_the_command_is_as_without_it(cli):
    script = (
        "import os, json, signal; fds = sorted(os.listdir('/proc/self/fd'));"
        "mask = sorted(signal.pthread_sigmask(0, []));"
        "ignored = open('/proc/self/status').read().partition('SigIgn:')[2].split()[0];"
        "print(json.dumps([dict(os.environ), fds, mask, ignored, os.getpgid(0) == os.getpid()]))"
    )
    said = [
        json.loads(cli.run("-n", "x", *options, sys.executable, "-c", script).stdout)
        for options in ([], ["--on-start", "sleep 0.1"])
    ]
    for document in said:
        for key in ("SINGLERUN_RUN_ID", "SINGLERUN_TOKEN"):
            document[0].pop(key)
    assert said[0] == said[1]


def test_its_minder_may_be_killed(cli, tmp_path):
    wrapper = cli.start(
        "-n", "x", "--on-start", HANGS, "sh", "-c", "read line; exit 4", cwd=tmp_path,
        stdin=subprocess.PIPE,
    )  # fmt: skip
    pid = pid_of(tmp_path)
    os.kill(minder_of(pid), signal.SIGKILL)
    wrapper.stdin.close()
    assert wrapper.wait(PATIENCE) == 4
    os.kill(pid, signal.SIGKILL)


def test_it_does_not_hold_the_lock(cli, tmp_path):
    """Wrapper and command are killed, and the name is free while the hook lives."""
    wrapper = cli.start("-n", "x", "--on-start", HANGS, "sleep", "60", cwd=tmp_path)
    pid = pid_of(tmp_path)
    (run,) = eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the record")
    for each in (wrapper.pid, run["pid"]):
        os.kill(each, signal.SIGKILL)
    eventually(lambda: not is_alive(run["pid"]), "the end of the command")
    assert cli.run("-n", "x", "true").returncode == 0
    assert is_alive(pid)
    os.kill(minder_of(pid), signal.SIGTERM)
    eventually(lambda: not is_alive(pid), "the end of the hook, which its minder ends")


def test_a_timeout_is_the_commands(cli, tmp_path):
    """Then orphans of the command are our children; the hook and its children are not of them."""
    hook = "sleep 60 & echo $! > pid.new; mv pid.new pid; wait; echo over"
    wrapper = cli.start(
        "-n", "x", "-t", "0.5", "-k", "0.1", "--on-start", hook,
        "sh", "-c", "trap '' TERM; sleep 60", cwd=tmp_path, stdout=subprocess.PIPE,
    )  # fmt: skip
    child = pid_of(tmp_path)
    assert cli.run("wait", "1").returncode == 124
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)
    assert wrapper.stdout.read() == b"over\n"
    assert wrapper.wait(PATIENCE) == 124


def test_it_ends_with_its_group_when_it_times_out(tmp_path):
    """It takes thirty seconds to time out: here the limits are shorter."""
    script = (
        "from singlerun import hooks, runner, spec, options\nimport sys\n"
        "hooks.HOOK_TIMEOUT, hooks.HOOK_GRACE = 0.5, 0.2\n"
        "hook = \"trap '' TERM; sleep 60 & echo $! $$ > pids; wait; sleep 60\"\n"
        "values = options.Words().values | {'name': (b'x',), 'on_start': hook}\n"
        "sys.exit(runner.run(spec.RunSpec(['sh', '-c', 'exit 3'], values)).exit_status)"
    )
    env = os.environ | {"SINGLERUN_DIR": str(tmp_path / "state")}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (3, "")
    assert "singlerun: x: --on-start hook timed out after 0s\n" in result.stderr
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        eventually(lambda pid=pid: not is_alive(pid), "its end")


def test_without_a_process_more_the_command_runs_on(tmp_path):
    script = (
        "import os, sys\nfrom singlerun import runner, spec, options\n"
        "def fork(): raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "os.fork = fork\n"
        "values = options.Words().values | {'name': (b'x',), 'on_start': 'echo start'}\n"
        "sys.exit(runner.run(spec.RunSpec(['sh', '-c', 'exit 3'], values)).exit_status)"
    )
    env = os.environ | {"SINGLERUN_DIR": str(tmp_path / "state")}
    result = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("singlerun: a hook could not be run: ")
    assert result.stderr.count("\n") == 1


def test_no_process_is_left_to_be_waited_for(cli):
    script = (
        "import ctypes, os, subprocess, sys; assert not ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
        "assert subprocess.run(sys.argv[1:]).returncode == 0\n"
        "try: print(os.waitpid(-1, 0))\n"
        "except ChildProcessError: print('none')"
    )
    words = [cli.binary, "-n", "x", "--on-start", "sleep 0.1", "-t", "60", "true"]
    result = subprocess.run(
        [sys.executable, "-c", script, *words], env=cli.env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert result.stdout == "none\n"


@pytest.mark.parametrize(
    "option", [["--exec"], ["--lock-fd", "1"], ["--queue", "--on-conflict", "true"]]
)
def test_what_it_cannot_be_combined_with(cli, option):
    command = [] if "--lock-fd" in option else ["true"]
    assert cli.run("-n", "x", *option, "--on-start", "true", *command).returncode == 125
