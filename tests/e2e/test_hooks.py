"""Hooks: what they learn, and that they change nothing."""

import json
import signal
import subprocess
import sys

import pytest
from conftest import PATIENCE, eventually, is_alive

ALL = ("--on-success", "--on-failure", "--on-conflict", "--on-finish")
TELL = 'echo "$SINGLERUN_EVENT $SINGLERUN_NAME $SINGLERUN_STATE $SINGLERUN_EXIT_STATUS"'


def hooked(*more):
    return ("-n", "x", *(word for option in ALL for word in (option, TELL)), *more)


@pytest.mark.parametrize(
    "command, shown, status",
    [
        (("true",), "success x succeeded 0\nfinish x succeeded 0\n", 0),
        (("sh", "-c", "exit 3"), "failure x failed 3\nfinish x failed 3\n", 3),
        (("sh", "-c", "kill -9 $$"), "failure x failed 137\nfinish x failed 137\n", 137),
        (("/nosuch",), "failure x failed 127\nfinish x failed 127\n", 127),
        (("-t", "0.1", "sleep", "60"), "failure x timed-out 124\nfinish x timed-out 124\n", 124),
    ],
)
def test_each_end_has_its_hooks(cli, command, shown, status):
    result = cli.run(*hooked(*command))
    assert (result.stdout, result.returncode) == (shown, status)


@pytest.mark.parametrize(
    "options, shown, status",
    [
        ((), "conflict x refused 75\n", 75),
        (("-E", "4"), "conflict x refused 4\n", 4),
        (("--skip",), "conflict x skipped 0\n", 0),
        (("--wait-for", "0.05"), "conflict x refused 75\n", 75),
    ],
)
def test_conflict(cli, options, shown, status):
    with cli.hold("-n", "x") as holding:
        result = cli.run(*hooked(*options, "true"))
        assert (result.stdout, result.returncode) == (shown, status)
        script = 'echo "$SINGLERUN_HOLDER_ID $SINGLERUN_DETAIL"'
        result = cli.run("-n", "x", "--on-conflict", script, "true")
        assert result.stdout.startswith("1 held by PID ")
        assert str(holding.pid) in result.stdout
    assert cli.run("-n", "x", "--min-interval", "1h", "--on-conflict", TELL, "true").stdout == (
        "conflict x refused 75\n"
    )


def test_hooks_run_after_the_end_is_recorded_and_the_lock_is_free(cli):
    script = f"{cli.binary} -n x echo free; {cli.binary} wait 1; echo $?"
    result = cli.run("-n", "x", "--on-failure", script, "sh", "-c", "exit 6")
    assert result.stdout == "free\n6\n"


def test_the_whole_event_as_json(cli):
    script = 'printf "%s\\n" "$SINGLERUN_JSON"'
    hooks = [word for option in ALL for word in (option, script)]
    result = cli.run("-n", "x", *hooks, "sh", "-c", "exit 3")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0] == events[1], "--on-finish tells what has happened, as --on-failure does"
    (run,) = cli.history("x")
    assert events[0] == {
        "schema": 1, "event": "failure", "at": run["ended_at"], "host": run["host"], "name": "x",
        "run": run, "job_id": None, "exit_status": 3, "count": None, "usual_s": None,
    }  # fmt: skip
    with cli.hold("-n", "x"):
        event = json.loads(cli.run("-n", "x", *hooks, "true").stdout)
        assert (event["event"], event["run"]["state"]) == ("conflict", "refused")
        assert (event["run"]["conflict_id"], event["exit_status"]) == (2, 75)


def test_json_of_a_command_line_that_is_too_long_is_shortened(cli):
    words = ["x" * 1000] * 200
    script = 'printf %s "$SINGLERUN_JSON"'
    event = json.loads(cli.run("-n", "x", "--on-success", script, "true", *words).stdout)
    assert (event["event"], event["shortened"]) == ("success", True)


@pytest.mark.parametrize("hook", ["exit 9", "kill -9 $$", "nosuch-command"])
def test_a_hook_that_fails_is_a_warning(cli, hook):
    result = cli.run("-n", "x", "--on-success", hook, "--on-finish", "echo on", "true")
    assert (result.returncode, result.stdout) == (0, "on\n")
    assert "singlerun: x: --on-success " in result.stderr
    assert cli.last("x")["state"] == "succeeded"


def test_a_hook_gets_no_input_and_no_marks(cli):
    script = 'cat; echo "[$SINGLERUN_TOKEN]"'
    result = cli.run("-n", "x", "--on-success", script, "true", input="secret")
    assert result.stdout == "[]\n"


def test_a_signal_ends_a_hook_that_hangs(cli):
    wrapper = cli.start(
        "-n", "x", "--on-success", "echo $$; sleep 60; :", "true",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    pid = int(wrapper.stdout.readline())
    wrapper.send_signal(signal.SIGTERM)
    assert wrapper.wait(PATIENCE) == 0, "the outcome is the command's"
    eventually(lambda: not is_alive(pid), "the end of the hook")
    assert b"--on-success hook was interrupted" in wrapper.stderr.read()


def test_retries_have_one_end(cli):
    result = cli.run(*hooked("--retries", "2", "--retry-delay", "0", "sh", "-c", "exit 2"))
    assert result.stdout == "failure x failed 2\nfinish x failed 2\n"


def test_a_stopped_run_failed(cli):
    wrapper = cli.start(*hooked("sleep", "60"), stdout=subprocess.PIPE)
    eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    assert cli.run("stop", "x").returncode == 0
    assert wrapper.stdout.read() == b"failure x stopped 143\nfinish x stopped 143\n"


def test_a_run_that_is_stopped_and_exits_with_0_has_succeeded(cli):
    script = "trap 'exit 0' TERM; while :; do sleep 0.02; done"
    wrapper = cli.start(*hooked("sh", "-c", script), stdout=subprocess.PIPE)
    eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    assert cli.run("stop", "x").returncode == 0
    assert wrapper.stdout.read() == b"success x stopped 0\nfinish x stopped 0\n"
    assert wrapper.wait(PATIENCE) == 0


def test_a_command_line_that_is_too_long_for_a_variable_is_cut(cli):
    words = [f"word-{number}" for number in range(20_000)]
    hook = 'echo "$SINGLERUN_EXIT_STATUS ${#SINGLERUN_COMMAND}"'
    result = cli.run("-n", "x", "--on-failure", hook, "sh", "-c", "exit 3", *words)
    assert (result.returncode, result.stdout, result.stderr) == (3, "3 100000\n", "")


def test_hooks_work_without_a_record(cli):
    cli.run("-n", "x", "true")
    (cli.dir / "singlerun.db").unlink()
    (cli.dir / "singlerun.db").mkdir()
    result = cli.run(*hooked("sh", "-c", "exit 3"))
    assert (result.stdout, result.returncode) == ("failure x failed 3\nfinish x failed 3\n", 3)


@pytest.mark.parametrize("option", ["--on-success", "--on-failure", "--on-finish"])
def test_exec_leaves_no_process_to_call_them(cli, option):
    assert cli.run("-n", "x", "--exec", option, "true", "true").returncode == 125
    assert cli.run("-n", "x", "--exec", "--on-conflict", "true", "true").returncode == 0


def test_a_hook_that_times_out_is_ended_with_its_group(tmp_path):
    """It takes thirty seconds to time out: here the limits are shorter."""
    script = (
        "from singlerun import hooks\nfrom singlerun.process.signals import Signals\nimport os\n"
        "hooks.HOOK_TIMEOUT, hooks.HOOK_GRACE = 1, 0.2\n"
        "hook = \"trap '' TERM; sleep 60 & echo $! $$ > pids; wait; sleep 60\"\n"
        "print(hooks._run(hook, 'success', dict(os.environb), Signals(), 'x'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n", "no signal ended it"
    assert result.stderr == "singlerun: x: --on-success hook timed out after 1s\n"
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        # SIGKILL has been sent to it, and only the hook itself is waited for.
        eventually(lambda pid=pid: not is_alive(pid), "its end")
