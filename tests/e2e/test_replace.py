"""``--replace`` and ``stop``: the holder of a name is ended by its recorded identity."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import (
    CLOSING,
    PATIENCE,
    blocked_on,
    demand_or_skip,
    eventually,
    is_alive,
    need,
)

from singlerun.process.identity import start_time


def test_the_holder_is_ended_and_its_place_taken(cli):
    with cli.hold("-n", "x") as former:
        result = cli.run("-n", "x", "--replace", "sh", "-c", "echo in; exit 3")
        assert (result.returncode, result.stdout, result.stderr) == (3, "in\n", "")
        assert former.wrapper.wait(PATIENCE) == 128 + signal.SIGTERM
        assert not is_alive(former.pid)
    new, old = cli.history("x")
    assert (old["state"], old["signal"]) == ("stopped", signal.SIGTERM)
    assert old["detail"].startswith(f"replaced by run {new['id']}, PID {new['wrapper_pid']}, user ")
    assert old["ended_at"] <= new["started_at"]
    assert new["state"] == "failed"


def test_nothing_to_replace_is_a_plain_run(cli):
    assert cli.run("-n", "x", "--replace", "sh", "-c", "exit 4").returncode == 4
    assert len(cli.history("x")) == 1


def test_a_replaced_run_is_stopped_also_if_it_ends_well_then(cli):
    script = "trap 'exit 0' TERM; echo $$; while :; do sleep 0.02; done"
    with cli.hold("-n", "x", script=script) as former:
        assert cli.run("-n", "x", "--replace", "true").returncode == 0
        assert former.wrapper.wait(PATIENCE) == 0
    old = cli.history("x")[1]
    assert (old["state"], old["exit_code"]) == ("stopped", 0)
    assert "replaced by run" in old["detail"]


STUBBORN = """
trap '' TERM
setsid sh -c 'trap "" TERM; exec sleep 60' &
echo $$
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("stopped", [None, "command", "wrapper"])
def test_a_holder_that_ignores_term_or_is_stopped_is_killed_after_the_grace_period(cli, stopped):
    """The replacer's grace period counts, not the longer one of the run that it replaces."""
    with cli.hold("-n", "x", "-k", "1000", script=STUBBORN) as former:
        if stopped:
            os.kill(former.pid if stopped == "command" else former.wrapper.pid, signal.SIGSTOP)
        assert cli.run("-n", "x", "--replace", "-k", "0.3", "true").returncode == 0
        former.wrapper.wait(PATIENCE)
        assert not is_alive(former.pid)
    assert cli.history("x")[1]["state"] == "stopped"


def test_an_orphan_is_replaced(cli):
    with cli.hold("-n", "x") as former:
        former.wrapper.kill()
        former.wrapper.wait(PATIENCE)
        assert cli.run("-n", "x", "--replace", "-k", "1", "true").returncode == 0
        assert not is_alive(former.pid)
    assert cli.history("x")[1]["state"] == "stopped"


def test_an_orphan_that_closed_the_lock_is_replaced(cli):
    with cli.hold("-n", "x", script=CLOSING) as former:
        former.wrapper.kill()
        former.wrapper.wait(PATIENCE)
        assert cli.run("-n", "x", "true").returncode == 75
        assert cli.run("-n", "x", "--replace", "-k", "1", "true").returncode == 0
        assert not is_alive(former.pid)


def test_one_that_became_its_command_is_replaced(cli):
    with cli.hold("-n", "x", "--exec") as former:
        assert former.pid == former.wrapper.pid
        assert cli.run("-n", "x", "--replace", "-k", "1", "true").returncode == 0
        assert former.wrapper.wait(PATIENCE) == -signal.SIGTERM
    assert cli.history("x")[1]["state"] == "stopped"


def test_one_that_waits_for_its_next_try_is_replaced(cli):
    former = cli.start("-n", "x", "--retries", "3", "--retry-delay", "1h", "false")
    eventually(lambda: [run for run in cli.json("ps") if run["state"] == "waiting"], "the delay")
    assert cli.run("-n", "x", "--replace", "true").returncode == 0
    assert former.wait(PATIENCE) == 128 + signal.SIGTERM
    assert cli.history("x")[1]["state"] == "stopped"


def test_a_stranger_is_left_alone(cli, tmp_path):
    need("flock")
    file = tmp_path / "file"
    stranger = subprocess.Popen(
        ["flock", file, "sh", "-c", "echo in; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert stranger.stdout.readline() == b"in\n"
    result = cli.run("--lock-file", str(file), "--replace", "true")
    assert result.returncode == 75
    assert "was not started by singlerun" in result.stderr
    assert stranger.poll() is None
    stranger.communicate()
    assert cli.run("--lock-file", str(file), "--replace", "true").returncode == 0


def test_look_alikes_are_left_alone(cli, tmp_path):
    """The same program with other arguments, and the same command line without singlerun."""
    program = tmp_path / "frob"
    program.write_text("#!/bin/sh\necho $$\nread line\n")
    program.chmod(0o755)
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    quoted = cli.start(str(program), "a b", **piped)
    apart = cli.start(str(program), "a", "b", **piped)
    alone = subprocess.Popen([program, "a", "b"], **piped)
    cli.started.append(alone)
    pids = [int(process.stdout.readline()) for process in (quoted, apart, alone)]
    eventually(lambda: cli.command_is_recorded(apart.pid), "the record of the command")
    assert len({run["name"] for run in cli.json("ps")}) == 2
    new = cli.start("--replace", str(program), "a", "b", **piped)
    assert int(new.stdout.readline()) not in pids
    assert apart.wait(PATIENCE) == 143
    assert not is_alive(pids[1])
    for process, pid in ((quoted, pids[0]), (alone, pids[2])):
        assert process.poll() is None
        assert is_alive(pid)
        process.communicate(b"end\n", timeout=PATIENCE)
        assert process.returncode == 0
    new.communicate(b"end\n", timeout=PATIENCE)


def test_all_readers_are_replaced_by_a_writer_and_none_by_a_reader(cli):
    with cli.hold("-s", "-n", "x") as one, cli.hold("-s", "-n", "x") as other:
        assert cli.run("-s", "-n", "x", "--replace", "true").returncode == 0
        assert one.wrapper.poll() is None
        assert cli.run("-n", "x", "--replace", "true").returncode == 0
        assert {one.wrapper.wait(PATIENCE), other.wrapper.wait(PATIENCE)} == {143}


def test_replacers_stand_in_line(cli, tmp_path):
    """Each ends the one before it, in order of arrival."""
    witness = tmp_path / "witness"
    script = "echo {0} >> {1}; echo; exec cat"
    with cli.hold("-n", "x"):
        waiter = cli.start("-w", "-n", "x", "sh", "-c", script.format("waiter", witness),
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        replacer = cli.start("--replace", "-n", "x", "sh", "-c", script.format("new", witness),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        eventually(lambda: len(cli.json("ps", "x")) == 3, "the second in line")
        assert not witness.exists(), "the holder isn't ended before the replacer is at the front"
    assert replacer.stdout.readline() == b"\n"
    assert waiter.wait(PATIENCE) == 143
    replacer.communicate(timeout=PATIENCE)
    # The waiter had its turn before, but may have been ended before its first word.
    assert witness.read_text().split() in (["waiter", "new"], ["new"])
    new, first, _ = cli.history("x")
    assert "replaced by run" in first["detail"]
    assert first["started_at"] < new["started_at"]


def test_replacing_the_run_around_oneself_is_refused(cli):
    inner = f"{cli.binary} -n x --replace true; echo $?"
    result = cli.run("-n", "x", "sh", "-c", inner)
    assert result.stdout == "75\n"
    assert "the run that this one is a part of" in result.stderr


ALONE = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # no moment between mkdir and rmdir
try:
    os.mkdir("in")
except FileExistsError:
    sys.exit(open("overlap", "w").close())
signal.sigtimedwait([signal.SIGTERM], 0.2)
os.rmdir("in")
"""


def test_many_replacers_at_once_never_overlap(cli, tmp_path):
    """Each command makes a directory and removes it: the second of two at once fails to make it."""
    command = ["-n", "x", "--replace", sys.executable, "-c", ALONE]
    runs = [cli.start(*command, cwd=tmp_path) for _ in range(8)]
    statuses = [run.wait(PATIENCE) for run in runs]
    assert not (tmp_path / "overlap").exists()
    assert statuses.count(0) >= 1
    states = [run["state"] for run in cli.history("x")]
    assert states[0] in {"succeeded", "stopped"}
    assert set(states) <= {"succeeded", "stopped"}
    assert cli.json("ps") == []


@pytest.mark.parametrize("other", ["--skip", "--coalesce"])
def test_replace_excludes_what_would_not(cli, other):
    result = cli.run("-n", "x", "--replace", other, "true")
    assert result.returncode == 125
    assert "--replace and --" in result.stderr


@pytest.mark.parametrize(
    "command", [("stop", "-k", "20", "x"), ("-n", "x", "--replace", "-k", "20", "true")]
)
def test_a_run_that_has_recorded_its_end_is_left_to_its_hooks(cli, tmp_path, command):
    """The lock is free then, and a hook may take longer than the command's grace period."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"cat {gate}; echo hooked; :"
    former = cli.start("-n", "x", "--on-finish", script, "sleep", "60", stdout=subprocess.PIPE)
    eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    assert cli.run(*command).returncode == 0
    assert former.poll() is None
    gate.write_text("")
    assert former.stdout.read() == b"hooked\n"
    assert former.wait(PATIENCE) == 143


@pytest.mark.parametrize("command", [("stop", "x"), ("-n", "x", "--replace", "true")])
def test_a_holder_that_cannot_be_ended_is_not_recorded_as_stopped(cli, command):
    """In another PID namespace it cannot be judged from here; it ends by itself, successfully."""
    need("unshare")
    if os.geteuid() != 0:
        demand_or_skip("only root can make a PID namespace")
    apart = subprocess.Popen(
        ["unshare", "-pf", "--mount-proc", cli.binary, "-n", "x", "sh", "-c", "echo in; exec cat"],
        env=cli.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert apart.stdout.readline() == b"in\n"
    result = cli.run(*command)
    assert result.returncode == (125 if command[0] == "stop" else 75)
    assert "could not be stopped" in result.stderr
    apart.communicate(timeout=PATIENCE)
    first = cli.history("x")[-1]
    assert (first["state"], first["exit_code"], first["detail"]) == ("succeeded", 0, None)


# -- stop ------------------------------------------------------------------------------------------


def test_stop_ends_what_holds_a_name(cli):
    with cli.hold("-n", "x") as holding, cli.hold("-n", "y") as other:
        result = cli.run("stop", "x")
        assert (result.returncode, result.stdout) == (0, "1 x: stopped\n")
        assert holding.wrapper.wait(PATIENCE) == 143
        assert other.wrapper.poll() is None
    run = cli.last("x")
    assert run["state"] == "stopped"
    assert run["detail"].startswith("stopped with singlerun stop, user ")
    result = cli.run("stop", "x")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1


def test_stop_by_id_ends_that_run_alone(cli):
    with cli.hold("-s", "-n", "x") as one, cli.hold("-s", "-n", "x") as other:
        assert cli.run("stop", "-q", "2").stdout == ""
        assert other.wrapper.wait(PATIENCE) == 143
        assert one.wrapper.poll() is None
        assert cli.run("stop", "2").returncode == 1


def test_stop_by_id_takes_a_waiter_out_of_the_line(cli):
    with cli.hold("-n", "x") as holding:
        waiter = cli.start("-w", "-n", "x", "true")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        assert cli.run("stop", "2").returncode == 0
        assert waiter.wait(PATIENCE) == 143
        assert holding.wrapper.poll() is None
        assert cli.last("x")["state"] == "stopped"
        assert "stopped with singlerun stop" in cli.last("x")["detail"]


def test_a_stopped_job_is_not_started_again(cli):
    former = cli.start("-n", "x", "--restart", "always", "sleep", "60")
    eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    assert cli.run("stop", "x").returncode == 0
    assert former.wait(PATIENCE) == 143
    assert len(cli.history("x")) == 1


def test_stop_ends_an_orphan(cli):
    with cli.hold("-n", "x") as holding:
        holding.wrapper.kill()
        holding.wrapper.wait(PATIENCE)
        assert cli.run("stop", "x").returncode == 0
        assert not is_alive(holding.pid)
    assert cli.last("x")["state"] == "stopped"


def test_stop_never_signals_a_pid_that_belongs_to_another_now(cli):
    """The record names a living process, but with another start time: that is not the holder."""
    with cli.hold("-n", "x") as holding:
        then = start_time(holding.pid)
        holding.wrapper.kill()
        holding.release()
    eventually(lambda: not is_alive(holding.pid), "the end of what it left")
    # Two processes that start within one tick of 10 ms differ by their PID alone.
    while True:
        stranger = subprocess.Popen(["sleep", "60"])
        if start_time(stranger.pid) != then:
            break
        stranger.kill()
        stranger.wait()
    cli.sql(f"UPDATE runs SET wrapper_pid = {stranger.pid}, command_pid = {stranger.pid}")
    assert cli.run("stop", "x").returncode == 1
    assert cli.run("stop", "1").returncode == 0, "there is nothing left to end"
    assert cli.run("-n", "x", "--replace", "true").returncode == 0
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


# -- wait ------------------------------------------------------------------------------------------


def has_a_pidfd(pid):
    files = f"/proc/{pid}/fd"
    try:
        return "anon_inode:[pidfd]" in {os.readlink(f"{files}/{fd}") for fd in os.listdir(files)}
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("target", ["x", "1"])
def test_wait_ends_with_the_run_and_with_its_status(cli, target):
    with cli.hold("-n", "x", script="echo $$; cat; exit 7"):
        waiting = cli.start("wait", target)
        assert cli.run("wait", "-t", "0.05", target).returncode == 124
        assert waiting.poll() is None
    assert waiting.wait(PATIENCE) == 7
    assert cli.run("wait", target).returncode == 7, "of one that has ended, at once"


def test_wait_for_one_that_waits_and_is_then_started_again_and_again(cli):
    with cli.hold("-n", "x"):
        again = cli.start("-w", "-n", "x", "--restart", "always", "--retry-delay", "0", "false")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        waiting = cli.start("wait", "2")
        eventually(lambda: has_a_pidfd(waiting.pid), "the waiting for the one that waits")
    assert waiting.wait(PATIENCE) == 1
    assert again.poll() is None
    again.terminate()
    assert again.wait(PATIENCE) in {1, 143}


def test_wait_for_what_a_signal_ended(cli):
    cli.run("-n", "x", "sh", "-c", "kill -9 $$")
    assert cli.run("wait", "x").returncode == 128 + 9
    cli.run("-n", "x", "-t", "0.1", "sleep", "60")
    assert cli.run("wait", "x").returncode == 124


def test_wait_for_several_gives_the_first_failure(cli):
    with cli.hold("-s", "-n", "x", script="echo $$; cat; exit 0"):
        with cli.hold("-s", "-n", "x", script="echo $$; cat; exit 5"):
            waiting = cli.start("wait", "x")
            eventually(lambda: has_a_pidfd(waiting.pid), "the waiting")
        assert waiting.poll() is None
    assert waiting.wait(PATIENCE) == 5


def test_wait_sees_that_a_run_was_lost(cli):
    with cli.hold("-n", "x") as holding:
        waiting = cli.start("wait", "x", stderr=subprocess.PIPE)
        eventually(lambda: has_a_pidfd(waiting.pid), "the waiting")
        holding.wrapper.kill()
        assert waiting.poll() is None, "its command lives"
    assert waiting.wait(PATIENCE) == 125
    assert b"lost" in waiting.stderr.read()


def test_wait_for_nothing(cli):
    result = cli.run("wait", "x")
    assert result.returncode == 125
    assert "no such run" in result.stderr


def test_wait_for_a_name_waits_for_all_tries(cli, tmp_path):
    file = tmp_path / "file"
    script = f"echo $$; read line; [ -e {file} ] || {{ touch {file}; exit 4; }}"
    tries = cli.start(
        "-n", "x", "--retries", "1", "--retry-delay", "0.2", "sh", "-c", script,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert tries.stdout.readline()
    by_name, by_id = cli.start("wait", "x"), cli.start("wait", "1")
    eventually(lambda: has_a_pidfd(by_name.pid) and has_a_pidfd(by_id.pid), "the waiting")
    tries.stdin.write(b"\n\n")
    tries.stdin.flush()
    assert by_id.wait(PATIENCE) == 4
    assert by_name.wait(PATIENCE) == 0


LISTENS = "trap 'echo asked; exit 4' {signal}; echo; while :; do sleep 0.02; done"


@pytest.mark.parametrize("number", ["INT", "USR1"])
@pytest.mark.parametrize("form", [["stop"], ["-n", "x", "--replace"]])
def test_another_signal_asks_it_to_end(cli, number, form):
    """One that a wrapper forwards to all, and one that it would forward to the command alone."""
    command = [*form, "--signal", number, *(["x"] if form == ["stop"] else ["true"])]
    script = LISTENS.format(signal=number)
    holder = cli.start("-n", "x", "--retries", "3", "sh", "-c", script, stdout=subprocess.PIPE)
    holder.stdout.readline()
    eventually(lambda: cli.command_is_recorded(holder.pid), "the record of the command")
    assert cli.run(*command).returncode == 0
    assert holder.communicate(timeout=PATIENCE)[0] == b"asked\n"
    assert holder.returncode == 4
    states = [run["state"] for run in cli.history("x")]
    assert states == ["stopped"] if form == ["stop"] else ["succeeded", "stopped"], "not retried"


@pytest.mark.parametrize("number", ["INT", "USR1", "KILL"])
def test_a_run_that_waits_for_its_next_try_gets_a_signal_that_ends_it(cli, number):
    waiter = cli.start("-n", "x", "--retries", "1", "--retry-delay", "1h", "false")
    eventually(lambda: [run["state"] for run in cli.history("x")] == ["waiting", "failed"], "retry")
    run = cli.json("ps")[0]["id"]
    assert cli.run("stop", "--signal", number, str(run)).returncode == 0
    assert waiter.wait(PATIENCE) in {128 + signal.SIGTERM, 128 + signal.SIGINT}
    assert cli.last("x")["state"] == "stopped"


def test_killing_leaves_the_wrapper_to_record_the_end(cli):
    holder = cli.start("-n", "x", "--retries", "3", "sleep", "60")
    eventually(lambda: cli.command_is_recorded(holder.pid), "the record of the command")
    assert cli.run("stop", "--signal", "KILL", "x").returncode == 0
    assert holder.wait(PATIENCE) == 128 + signal.SIGKILL
    (run,) = cli.history("x")
    assert (run["state"], run["signal"]) == ("stopped", signal.SIGKILL)
