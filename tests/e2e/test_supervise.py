"""Supervision: timeouts, retries, restarts, and becoming the command."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, demand_or_skip, eventually, is_alive, need, signals_in


def test_timeout_ends_the_command_with_124(cli):
    begun = time.monotonic()
    result = cli.run("-n", "x", "-t", "0.3", "sleep", "60")
    assert result.returncode == 124
    assert result.stderr == "singlerun: x: timed out after 0.3 s\n"
    assert 0.3 <= time.monotonic() - begun < 60
    run = cli.last("x")
    assert (run["state"], run["signal"]) == ("timed-out", signal.SIGTERM)
    assert cli.run("-n", "x", "true").returncode == 0


def test_timeout_that_is_not_reached_changes_nothing(cli):
    assert cli.run("-n", "x", "-t", "60", "sh", "-c", "exit 3").returncode == 3
    assert cli.last("x")["state"] == "failed"


@pytest.mark.parametrize("timeout", ["0", "0s", "infinity", "4294967295"])
def test_timeout_that_is_none(cli, timeout):
    assert cli.run("-n", "x", "-t", timeout, "sh", "-c", "sleep 0.1; exit 3").returncode == 3


def test_timeout_is_124_also_if_the_command_ends_well_then(cli):
    script = "trap 'exit 0' TERM; while :; do sleep 0.02; done"
    assert cli.run("-n", "x", "-t", "0.2", "sh", "-c", script).returncode == 124


TREE = """
trap '' TERM
sh -c 'trap "" TERM; echo $$; exec sleep 60' &
setsid sh -c 'trap "" TERM; echo $$; exec sleep 60' &
(setsid sh -c 'trap "" TERM; echo $$; exec env -i sleep 60' &)
setsid env -i sh -c 'trap "" TERM; echo $$; exec sleep 60' &
echo $$
"""


@pytest.mark.parametrize("leader", ["exec sleep 60", "exit 0"])
@pytest.mark.stress
def test_the_whole_tree_dies_with_what_ignores_the_signal_or_left_the_group(cli, leader):
    """A leader that stays, and one that ends at the signal, before its children."""
    stay = leader if leader != "exit 0" else "trap 'exit 0' TERM; while :; do sleep 0.02; done"
    wrapper = cli.start(
        "-n", "x", "-t", "8", "-k", "0.3", "sh", "-c", TREE + stay,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pids = [int(wrapper.stdout.readline()) for _ in range(5)]
    assert wrapper.wait(PATIENCE) == 124
    assert [pid for pid in pids if is_alive(pid)] == []


FOREIGN_PROC = ["unshare", "--pid", "--fork", "--map-root-user", "--kill-child"]
"""A PID namespace that still sees the /proc of the one around it."""


@pytest.fixture
def foreign_proc():
    need("unshare")
    probe = subprocess.run([*FOREIGN_PROC, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        demand_or_skip(f"no PID namespace can be made: {probe.stderr}")
    return FOREIGN_PROC


@pytest.mark.parametrize("first", [[], ["sh", "-c", '"$@"; exit $?', "sh"]], ids=["init", "child"])
@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60 & wait", "trap '' TERM; sleep 60"])
def test_timeout_where_proc_belongs_to_another_pid_namespace(cli, foreign_proc, first, script):
    """Its numbers name other processes: kernel threads, of which none ever ends."""
    result = subprocess.run(
        [*foreign_proc, *first, cli.binary, "-n", "x", "-t", "0.3", "-k", "0.3",
         "sh", "-c", script],
        env=cli.env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert result.returncode == 124, result.stderr
    assert cli.run("-n", "x", "true").returncode == 0


def test_a_signal_where_proc_belongs_to_another_pid_namespace(cli, foreign_proc):
    script = '"$@" & job=$!; trap "kill -TERM $job" USR1; wait $job; wait $job; echo "status $?"'
    command = ["sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(
        [*foreign_proc, "sh", "-c", script, "sh", cli.binary, "-n", "x", "-k", "0.3", *command],
        env=cli.env, stdout=subprocess.PIPE, text=True,
    ) as outer:  # fmt: skip
        assert outer.stdout.readline() == "ready\n"
        (shell,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(shell), signal.SIGUSR1)
        assert outer.communicate(timeout=PATIENCE)[0] == "status 143\n"


def test_a_stopped_command_can_be_ended(cli):
    wrapper = cli.start("-n", "x", "-t", "1", "-k", "0.3", "sh", "-c", "kill -STOP $$; sleep 60")
    assert wrapper.wait(PATIENCE) == 124


def test_kill_after_shortens_the_grace_period(cli):
    script = "trap '' TERM; echo $$; exec sleep 60"
    wrapper = cli.start("-n", "x", "-k", "0.2", "sh", "-c", script, stdout=subprocess.PIPE)
    wrapper.stdout.readline()
    begun = time.monotonic()
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 128 + signal.SIGKILL
    assert time.monotonic() - begun < 60
    assert cli.last("x")["state"] == "stopped"


def test_retries_run_again_after_failure_under_one_hold(cli, tmp_path):
    tries = tmp_path / "tries"
    script = f'echo try >> {tries}; [ "$(wc -l < {tries})" -ge 3 ]'
    assert (
        cli.run("-n", "x", "--retries", "5", "--retry-delay", "0", "sh", "-c", script).returncode
        == 0
    )
    runs = cli.history("x")
    assert [run["state"] for run in runs] == ["succeeded", "failed", "failed"]
    assert [run["token"] for run in runs] == sorted((run["token"] for run in runs), reverse=True)


def test_retries_come_to_an_end_with_the_last_status(cli):
    result = cli.run("-n", "x", "--retries", "2", "--retry-delay", "0.01", "sh", "-c", "exit 9")
    assert result.returncode == 9
    assert len(cli.history("x")) == 3


def test_delay_doubles():
    from singlerun.options import split
    from singlerun.spec import RunSpec

    words = split(["--retries", "4", "--retry-delay", "3", "true"])
    job = RunSpec(words.command, words.values)
    assert [job.delay_before_next(1, n) for n in range(1, 6)] == [3, 6, 12, 24, None]
    assert job.delay_before_next(0, 1) is None
    words = split(["--retries", "999999999", "true"])
    assert RunSpec(words.command, words.values).delay_before_next(1, 999999998) == 86_400


def test_lock_is_held_between_the_tries_and_a_signal_ends_the_wait(cli):
    wrapper = cli.start("-n", "x", "--retries", "3", "--retry-delay", "60", "false")
    eventually(lambda: [run for run in cli.json("ps") if run["state"] == "waiting"], "the wait")
    assert cli.run("-n", "x", "true").returncode == 75
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 143
    assert [run["state"] for run in cli.history("x")] == ["refused", "stopped", "failed"]
    assert cli.json("ps") == []


@pytest.mark.parametrize(
    "when, script, count",
    [
        ("on-failure", "[ $n -ge 3 ]", 3),
        ("on-success", "[ $n -lt 3 ]", 3),
        ("on-failure", "true", 1),
        ("on-success", "false", 1),
    ],
)
def test_restart(cli, tmp_path, when, script, count):
    tries = tmp_path / "tries"
    script = f"echo >> {tries}; n=$(wc -l < {tries}); {script}"
    cli.run("-n", "x", "--restart", when, "--retry-delay", "0", "sh", "-c", script)
    assert len(tries.read_text().splitlines()) == count


def test_a_command_that_ends_well_when_asked_to_is_not_restarted(cli, tmp_path):
    tries = tmp_path / "tries"
    script = f"trap 'exit 0' TERM; echo >> {tries}; while :; do sleep 0.02; done"
    wrapper = cli.start("-n", "x", "--restart", "always", "--retry-delay", "0", "sh", "-c", script)
    eventually(tries.exists, "the command")
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 0
    assert tries.read_text() == "\n"


def test_retries_are_no_starts_that_a_limit_refuses(cli):
    for limit in (["--min-interval", "1h"], ["--max-starts", "1/1h"]):
        name = limit[0][2:]
        result = cli.run(
            "-n", name, *limit, "--retries", "2", "--retry-delay", "0", "sh", "-c", "exit 3"
        )
        assert (result.returncode, result.stderr) == (3, "")
        assert [run["state"] for run in cli.history(name)] == ["failed"] * 3


def test_restart_always_goes_on_until_it_is_asked_to_end(cli, tmp_path):
    tries = tmp_path / "tries"
    wrapper = cli.start(
        "-n", "x", "--restart", "always", "--retry-delay", "0", "sh", "-c",
        f"echo >> {tries}; exec sleep 0.02",
    )  # fmt: skip
    eventually(lambda: tries.exists() and len(tries.read_text()) > 4, "the restarts")
    wrapper.terminate()
    # The command's status: it may have ended by itself in that moment.
    assert wrapper.wait(PATIENCE) in {0, 143}
    assert cli.run("-n", "x", "true").returncode == 0


def test_exec_becomes_the_command_and_keeps_the_lock(cli):
    wrapper = cli.start(
        "--exec", "-n", "x", "sh", "-c", "echo $$; exec cat", stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert int(wrapper.stdout.readline()) == wrapper.pid, "no wrapper stays"
    refused = cli.run("-n", "x", "true")
    assert refused.returncode == 75
    assert f"PID {wrapper.pid} " in refused.stderr
    (run,) = cli.json("ps")
    assert (run["state"], run["pid"]) == ("running", wrapper.pid)
    wrapper.stdin.close()
    assert wrapper.wait(PATIENCE) == 0
    assert cli.run("-n", "x", "true").returncode == 0
    assert cli.json("ps") == []


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exec_gives_the_commands_status(cli, status):
    assert cli.run("--exec", "sh", "-c", f"exit {status}").returncode == status


def test_exec_of_what_cannot_be_started(cli, tmp_path):
    result = cli.run("--exec", "-n", "x", "no-such-program")
    assert result.returncode == 127
    assert result.stderr.count("\n") == 1
    assert cli.last("x")["state"] == "failed"
    script = tmp_path / "script"
    script.write_text('exit "$1"\n')
    script.chmod(0o755)
    assert cli.run("--exec", str(script), "4").returncode == 4


def test_exec_leaves_signals_as_they_were(cli):
    grep = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    bare = subprocess.run(grep, capture_output=True, text=True, check=True)
    assert signals_in(cli.run("--exec", *grep).stdout) == signals_in(bare.stdout)


@pytest.mark.parametrize(
    "options",
    [["--exec", "-t", "1"], ["--exec", "--linger"], ["--retries", "1", "--restart", "always"]],
)
def test_options_that_contradict_each_other(cli, options):
    result = cli.run(*options, "true")
    assert result.returncode == 125
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("spelling", ["INT", "SIGINT", "int", "2"])
def test_another_signal_ends_what_times_out(cli, spelling):
    script = "trap 'exit 3' TERM; trap 'echo asked' INT; echo; while :; do sleep 0.02; done"
    result = cli.run("-n", "x", "-t", "0.5", "-k", "0.3", "--signal", spelling, "sh", "-c", script)
    assert (result.returncode, result.stdout) == (124, "\nasked\n")
    assert cli.last("x")["signal"] == signal.SIGKILL, "it had its grace period"


@pytest.mark.parametrize("spelling", ["", "0", "STOP", "19", "99", "NOTHING", "TERM ", "٢"])
def test_bad_signals_are_refused(cli, spelling):
    result = cli.run("-n", "x", "--signal", spelling, "true")
    assert result.returncode == 125
    assert f"bad signal {spelling!r}: write a name such as INT" in result.stderr


def test_a_job_has_a_signal_too(cli):
    script = "trap 'exit 3' TERM; trap 'echo asked; exit 4' INT; while :; do sleep 0.02; done"
    number = cli.add("-n", "x", "-t", "0.5", "--signal", "INT", "sh", "-c", script)
    assert cli.run("wait", str(number)).returncode == 124
    assert cli.run("logs", str(number)).stdout == "asked\n"
