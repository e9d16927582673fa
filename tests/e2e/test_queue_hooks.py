"""Hooks of jobs in a queue: those of the prefix form, with the job in what they are told."""

import json
import os
import signal
import subprocess

import pytest
from conftest import PATIENCE, eventually, is_alive
from queues import ended, witness, words, working

HOOKS = ("start", "success", "failure", "finish")


def hooked(path):
    """Return options with each hook: it notes its event, the job, and the exit status."""
    tell = f'echo "$SINGLERUN_EVENT:$SINGLERUN_JOB_ID:$SINGLERUN_EXIT_STATUS" >> {path}'
    return [word for event in HOOKS for word in (f"--on-{event}", tell)]


def told(path, count):
    return eventually(lambda: len(found := words(path)) >= count and found, "the hooks")


@pytest.mark.parametrize("status, event", [(0, "success"), (3, "failure")])
@pytest.mark.parametrize("how", ["add", "stdin", "queue"])
def test_a_job_has_the_hooks_it_was_added_with(cli, tmp_path, how, status, event):
    log = tmp_path / "log"
    script = f"exit {status}"
    if how == "add":
        assert cli.add("-n", "x", *hooked(log), "sh", "-c", script) == 1
    elif how == "stdin":
        assert cli.add("-n", "x", *hooked(log), "--stdin", input=f"{script}\n") == [1]
    else:
        assert cli.run("-n", "x", "--queue", *hooked(log), "sh", "-c", script).returncode == 0
    ended(cli, 1, status)
    assert told(log, 3) == ["start:1:", f"{event}:1:{status}", f"finish:1:{status}"]


def test_each_job_has_its_own(cli, tmp_path):
    log = tmp_path / "log"
    cli.run("pause", "x")
    cli.add("-n", "x", *hooked(log), "true")
    cli.add("-n", "x", *witness(log, "plain"))
    cli.add("-n", "x", "--on-finish", f"echo mine >> {log}", "true")
    cli.run("resume", "x")
    ended(cli, 3)
    assert told(log, 5) == ["start:1:", "success:1:0", "finish:1:0", "plain", "mine"]


def test_in_the_foreground_too(cli, tmp_path):
    worker = working(cli, stdout=subprocess.PIPE)
    cli.add("-n", "x", *hooked("/dev/stdout"), "true")
    assert cli.run("wait", "1").returncode == 0
    worker.terminate()
    assert worker.stdout.read().split() == [b"start:1:", b"success:1:0", b"finish:1:0"]
    assert worker.wait(PATIENCE) == 0


def test_the_event_names_job_and_run(cli, tmp_path):
    path = tmp_path / "event"
    cli.add("-n", "other", "true")
    number = cli.add("-n", "x", "--on-failure", f'echo "$SINGLERUN_JSON" > {path}', "false")
    ended(cli, number, 1)
    event = json.loads(eventually(lambda: path.exists() and path.read_text(), "the hook"))
    assert (event["event"], event["name"], event["job_id"]) == ("failure", "x", number)
    assert event["run"] == cli.last("x")


def test_each_try_is_a_run_with_its_own(cli, tmp_path):
    log = tmp_path / "log"
    cli.add("-n", "x", "--retries", "1", "--retry-delay", "0", *hooked(log), "false")
    ended(cli, 1, 1)
    assert told(log, 6) == ["start:1:", "failure:1:1", "finish:1:1"] * 2


def test_a_start_hook_that_hangs_does_not_keep_the_next_job(cli, tmp_path):
    pid = tmp_path / "pid"
    hook = f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 60; :"
    cli.add("-n", "x", "--on-start", hook, "sh", "-c", f"until [ -e {pid} ]; do sleep 0.01; done")
    ended(cli, cli.add("-n", "x", "true"))
    hanging = int(pid.read_text())
    assert is_alive(hanging)
    eventually(lambda: not cli.workers(), "the end of the worker")
    os.kill(hanging, signal.SIGKILL)


def test_a_hook_that_hangs_is_ended_by_a_signal_to_the_worker(cli, tmp_path):
    worker = working(cli, "--now")
    script = f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 60; :"
    cli.add("-n", "x", "--on-failure", script, "false")
    eventually((tmp_path / "pid").exists, "the hook")
    assert cli.job(1)["state"] == "failed", "its end was recorded before"
    assert cli.run("-n", "x", "true").returncode == 0, "and the lock is free"
    worker.terminate()
    assert worker.wait(PATIENCE) == 0
    eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())), "the end of the hook")


def test_a_failing_hook_is_told_in_the_log_of_the_workers(cli):
    cli.add("-n", "x", "--on-start", "exit 4", "--on-success", "exit 5", "true")
    ended(cli, 1)
    ended(cli, cli.add("-n", "x", "true"))
    log = (cli.dir / "workers.log").read_text()
    assert "singlerun: x: --on-start hook exited with status 4\n" in log
    assert "singlerun: x: --on-success hook exited with status 5\n" in log


def test_a_hook_may_be_any_text(cli, tmp_path):
    """Also what is not UTF-8, as it stands in the record as JSON."""
    path = tmp_path / "said"
    hook = os.fsdecode(b"printf '\xff' > ") + str(path)
    cli.add("-n", "x", "--on-success", hook, "true")
    ended(cli, 1)
    assert eventually(lambda: path.exists() and path.read_bytes(), "the hook") == b"\xff"
