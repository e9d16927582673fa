"""A command while all else fails, and one that may not be signalled."""

import subprocess
import sys
import time

import pytest
from conftest import PATIENCE

START = """
import os, signal, time
from singlerun.process import child
from singlerun.process.marks import Marks
from singlerun.process.signals import Signals

output, writing = os.pipe()
command = child.Child(
    ["sh", "-c", {script!r}], os.environb, (), Signals(), marks=Marks(b"x", None, 2**61),
    kill_after=60, redirected={{1: writing}},
)
os.close(writing)
"""


def run(script, rest):
    """Start a shell script in a program, then let that do the rest; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", START.format(script=script) + rest],
        stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True, start_new_session=True,
    )  # fmt: skip
    return result.stdout


@pytest.mark.parametrize("script", ["exec sleep 60", "exec yes"], ids=["silent", "flooding"])
def test_the_last_resort_keeps_a_timeout_whatever_the_command_writes(script):
    begun = time.monotonic()
    rest = "command._until = time.monotonic() + 0.2\nprint(command.last_resort(output).state)"
    assert run(script, rest) == "timed-out\n"
    assert time.monotonic() - begun < 30


def test_the_pid_of_a_lingering_command_is_not_given_away():
    """What asks the rest to end is sent to its process group, too."""
    rest = (
        "import threading\n"
        "def look():\n"
        "    os.waitid(os.P_PID, command.pid, os.WEXITED | os.WNOWAIT)\n"
        "    time.sleep(0.2)\n"
        "    states.append(open(f'/proc/{command.pid}/stat').read().split()[2])\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "states = []\n"
        "threading.Thread(target=look).start()\n"
        "outcome = command.wait(None, output)\n"
        "print(states, outcome.exit_status, outcome.elapsed_ns >= 2e8)"
    )
    assert run("sleep 60 & exit 7", rest) == "['Z'] 7 True\n"


def test_what_fails_after_the_command_has_ended_does_not_hide_its_status():
    rest = "command.wait()\nprint(command.last_resort(output).exit_status)"
    assert run("exit 7", rest) == "7\n"


def test_a_command_that_may_not_be_signalled_is_awaited_all_the_same():
    """As sudo, which became another user."""
    rest = (
        "def kill(pid, number): raise PermissionError\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "os.kill = kill\n"
        "print(command.wait().exit_status)"
    )
    assert run("sleep 0.2; exit 7", rest) == "7\n"
