"""Signals to the wrapper without a terminal, as under cron or systemd."""

import os
import signal
import subprocess
import sys
import time

import pexpect
import pytest
from conftest import PATIENCE, eventually, is_alive

ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


def start(cli, script, *options, count=1, shell="sh"):
    """Start a shell that prints its PIDs, a line each; return the wrapper and those."""
    wrapper = cli.start(
        *options, "-n", "x", shell, "-c", script, stdout=subprocess.PIPE, start_new_session=True
    )
    pids = [int(wrapper.stdout.readline()) for _ in range(count)]
    eventually(lambda: cli.command_is_recorded(wrapper.pid), "the record of the command")
    return wrapper, pids


@pytest.mark.parametrize("number", ENDING)
def test_the_whole_group_ends_and_the_record_is_closed(cli, number):
    # A shell's background child ignores SIGINT and SIGQUIT; Python's does not.
    script = (
        "import os, signal, subprocess as s; signal.signal(signal.SIGINT, signal.SIG_DFL);"
        "p = s.Popen(['sleep', '60']); print(os.getpid(), p.pid, sep='\\n', flush=True); p.wait()"
    )
    wrapper, pids = start(cli, script, count=2, shell=sys.executable)
    wrapper.send_signal(number)
    assert wrapper.wait(PATIENCE) == 128 + number
    for pid in pids:
        assert not is_alive(pid)
    run = cli.last("x")
    assert (run["state"], run["signal"]) == ("stopped", number)
    assert cli.run("-n", "x", "true").returncode == 0


def test_a_command_that_handles_the_signal_keeps_its_status(cli):
    script = "trap 'exit 5' TERM; echo $$; while :; do sleep 0.02; done"
    wrapper, _ = start(cli, script)
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 5


@pytest.mark.stress
def test_what_ignores_the_signal_is_killed_after_the_grace_period(cli):
    """Also a grandchild whose leader has ended at once."""
    script = "sh -c 'trap \"\" TERM; echo $$; exec sleep 60' & echo $$; wait"
    begun = time.monotonic()
    wrapper, pids = start(cli, script, count=2)
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 128 + signal.SIGTERM
    for pid in pids:
        assert not is_alive(pid)
    assert time.monotonic() - begun >= 10, "it had its grace period"


def test_user_signals_reach_the_command_alone(cli):
    script = (
        "sh -c 'echo $$; exec sleep 60' & child=$!; trap 'kill $child; exit 3' USR1; echo $$;"
        "while :; do sleep 0.02; done"
    )
    wrapper, pids = start(cli, script, count=2)
    wrapper.send_signal(signal.SIGUSR1)
    assert wrapper.wait(PATIENCE) == 3
    assert cli.last("x")["state"] == "failed"
    for pid in pids:
        eventually(lambda pid=pid: not is_alive(pid), "the end of the child")


def test_the_callers_group_is_left_alone(cli):
    """The wrapper is in a script's process group; its end must not be the script's."""
    script = f"{cli.binary} -n x sh -c 'echo $$; exec sleep 60'; echo rest $?"
    caller = subprocess.Popen(
        ["sh", "-c", script], env=cli.env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    caller.stdout.readline()
    (run,) = eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the record")
    os.kill(run["wrapper_pid"], signal.SIGTERM)
    assert caller.communicate(timeout=PATIENCE)[0] == "rest 143\n"


def test_a_stopped_command_does_not_stop_the_wrapper(cli):
    wrapper, (pid,) = start(cli, "echo $$; exec sleep 60")
    os.kill(pid, signal.SIGSTOP)
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 143


def test_nohup_survives_a_hangup(cli):
    wrapper = subprocess.Popen(
        ["nohup", cli.binary, "-n", "x", "sh", "-c", "echo $$; exec cat"],
        env=cli.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pid = int(wrapper.stdout.readline())
    eventually(lambda: cli.command_is_recorded(wrapper.pid), "the record of the command")
    wrapper.send_signal(signal.SIGHUP)
    os.kill(pid, signal.SIGHUP)
    assert cli.run("is-running", "x").returncode == 0
    assert wrapper.communicate(timeout=PATIENCE)[0] == b""
    assert wrapper.returncode == 0


OTHERS = sorted(signal.valid_signals() - {*ENDING, signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
LISTENER = """
import os, signal
{prologue}
for number in {numbers}:
    signal.signal(number, lambda number, _: print("got", int(number), flush=True))
print(os.getpid(), flush=True)
while True:
    signal.pause()
"""


class Told:
    """A command that tells the signals which reach it, with or without a terminal."""

    def __init__(self, cli, prologue, *, has_terminal):
        numbers = [int(number) for number in OTHERS]
        script = LISTENER.format(prologue=prologue, numbers=numbers)
        words = ["-n", "x", sys.executable, "-c", script]
        if has_terminal:
            wrapper = pexpect.spawn(
                str(cli.binary), words, env=cli.env, encoding="utf-8", timeout=PATIENCE
            )
            self.line = wrapper.readline
        else:
            wrapper = cli.start(*words, stdout=subprocess.PIPE, start_new_session=True, text=True)
            self.line = wrapper.stdout.readline
        self.wrapper = wrapper.pid
        self.command = int(self.line())
        eventually(lambda: cli.command_is_recorded(self.wrapper), "the record of the command")


@pytest.mark.parametrize(
    "has_terminal, prologue",
    [(False, ""), (True, ""), (True, "os.setpgid(0, 0)"), (True, "os.setsid()")],
)
def test_every_other_signal_reaches_the_command(cli, has_terminal, prologue):
    told = Told(cli, prologue, has_terminal=has_terminal)
    stops = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU} if "sid" in prologue else set()
    for number in OTHERS:
        if number in IGNORED_BY_PYTHON | stops:
            continue
        os.kill(told.wrapper, number)
        assert told.line().strip() == f"got {int(number)}"
    assert cli.run("is-running", "x").returncode == 0
    os.kill(told.command, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU])
def test_a_command_in_a_session_of_its_own_is_stopped_and_continued(cli, number):
    """Its group is orphaned, so that the kernel ignores all stop signals but SIGSTOP."""
    told = Told(cli, "os.setsid()", has_terminal=True)
    os.kill(told.wrapper, number)
    for pid in (told.command, told.wrapper):  # the shell sees a job that has stopped
        eventually(lambda pid=pid: state_of(pid) == "T", "the stop")
    os.kill(told.wrapper, signal.SIGCONT)
    assert told.line().strip() == f"got {int(signal.SIGCONT)}"
    eventually(lambda: state_of(told.wrapper) != "T", "going on")
    os.kill(told.command, signal.SIGKILL)


def test_signals_reach_the_command_of_a_background_job(cli, tmp_path):
    numbers = [int(number) for number in OTHERS if number not in IGNORED_BY_PYTHON]
    script = tmp_path / "listener.py"
    script.write_text(LISTENER.format(prologue="", numbers=numbers))
    told = tmp_path / "told"
    job = f"set -m; {cli.binary} -n x {sys.executable} {script} > {told} & echo $!; wait"
    shell = pexpect.spawn("bash", ["-c", job], env=cli.env, encoding="utf-8", timeout=PATIENCE)
    wrapper = int(shell.readline())
    eventually(lambda: cli.command_is_recorded(wrapper), "the record of the command")
    eventually(lambda: told.exists() and told.read_text(), "the listener")
    for number in numbers:
        os.kill(wrapper, number)
        eventually(lambda number=number: f"got {number}\n" in told.read_text(), f"signal {number}")
    os.kill(wrapper, signal.SIGTERM)
    shell.expect(pexpect.EOF)


def state_of(pid):
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b") ")[2][:1].decode()
