"""The end of processes: asked, given a grace period, killed until nothing is left."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE, is_alive

from singlerun.process import procfs
from singlerun.process.termination import Escalation, Targets, await_none, send_each, terminate
from singlerun.timings import LONGEST_PAUSE

IGNORES = "trap '' TERM; echo $$; while :; do sleep 0.01; done"
FORKS = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
while True:
    time.sleep(0.02)
    if os.fork():
        os._exit(0)
"""
"""A program that has another PID each time that it is looked for."""


@pytest.fixture
def group():
    """Start programs in a process group of their own, of which nothing is left afterwards."""
    started = []

    def start(*words):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, process_group=0)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdout.close()


def targets_in(process):
    return Targets(lambda: procfs.Snapshot().group(process.pid))


def test_what_heeds_the_signal_has_its_grace_period_and_needs_no_more(group):
    process = group("sh", "-c", "trap 'sleep 0.2; exit 7' TERM; echo; while :; do sleep 0.01; done")
    targets = targets_in(process)
    assert terminate(process.send_signal, targets.await_end, PATIENCE)
    assert process.wait() == 7


def test_what_ignores_the_signal_is_killed_after_the_grace_period(group):
    process = group("sh", "-c", IGNORES)
    targets = targets_in(process)
    begun = time.monotonic()
    assert terminate(targets.send, targets.await_end, 0.3)
    assert time.monotonic() - begun >= 0.3
    assert process.wait() == -signal.SIGKILL
    assert procfs.Snapshot().group(process.pid) == []


def test_what_forks_on_and_on_is_killed(group):
    """A signal meets a process that has handed over to the next already, so one is not enough."""
    process = group(sys.executable, "-c", FORKS)
    sent = []

    def send(number):
        sent.append(number)
        targets.send(number)

    targets = targets_in(process)
    assert terminate(send, targets.await_end, 0.1)
    assert procfs.Snapshot().group(process.pid) == []
    assert sent[0] == signal.SIGTERM
    assert set(sent[1:]) == {signal.SIGKILL}


def test_what_appears_during_the_grace_period_is_asked_too(group):
    """A script that was about to start one command more; the latter would outlive it for long.

    By posix_spawn: a shell's child loses a signal that comes between its fork and its exec.
    """
    script = (
        "import os, signal\n"
        "def end(*_):\n"
        "    os.posix_spawn('/bin/sleep', ['sleep', '60'], os.environ)\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print(flush=True)\n"
        "signal.pause()"
    )
    process = group(sys.executable, "-c", script)
    targets = targets_in(process)
    begun = time.monotonic()
    assert terminate(targets.send, targets.await_end, PATIENCE)
    assert time.monotonic() - begun < PATIENCE / 2


def test_what_cannot_be_killed_ends_the_patience(group):
    process = group("sh", "-c", IGNORES)
    begun = time.monotonic()
    sent = []
    assert not terminate(sent.append, targets_in(process).await_end, 0.1, patience=0.5)
    assert 0.6 <= time.monotonic() - begun < PATIENCE
    assert sent[0] == signal.SIGTERM
    assert 2 <= sent.count(signal.SIGKILL) <= 6, "again and again, but not without a pause"


def test_the_grace_period_comes_before_sigkill_and_the_patience_after_it(monkeypatch):
    """Though what waits for the end returns early, as it may; the pauses grow meanwhile."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    sent = []

    def await_end(seconds):
        clock[0] += min(seconds, 1) + 0.001
        assert clock[0] < 1000
        return False

    assert not terminate(lambda number: sent.append((clock[0], number)), await_end, 60, patience=30)
    (asked, first), (killed, second), *others = sent
    assert (asked, first, second) == (0, signal.SIGTERM, signal.SIGKILL)
    assert 60 <= killed < 62
    assert killed + 30 <= clock[0] <= killed + 32
    assert len(others) < 30 / LONGEST_PAUSE + 10


def test_first_request_begins_the_grace_period():
    sent = []
    escalation = Escalation(sent.append, 60)
    assert escalation.deadline is None
    escalation.ask(signal.SIGINT)
    deadline = escalation.deadline
    escalation.ask(signal.SIGTERM)
    assert escalation.deadline == deadline, "a second one does not prolong it"
    escalation.kill()
    assert escalation.deadline < time.monotonic() + LONGEST_PAUSE
    assert sent == [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def test_a_hundred_processes_under_a_low_limit_of_descriptors():
    """In a process of its own, which has that limit."""
    script = (
        "import os, resource, sys\n"
        "from singlerun.process import procfs\n"
        "from singlerun.process.termination import Targets, terminate\n"
        "pids = [os.posix_spawn('/bin/sleep', ['sleep', '60'], os.environ) for _ in range(100)]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)\n"
        "targets = Targets(lambda: procfs.Snapshot().descendants([os.getpid()]))\n"
        "assert len(procfs.Snapshot().descendants([os.getpid()])) == 100\n"
        "assert terminate(targets.send, targets.await_end, 60)\n"
        "print({os.waitpid(pid, 0)[1] for pid in pids})"
    )
    for limit in (64, 8):  # beside the standard streams
        result = subprocess.run(
            [sys.executable, "-c", script, str(limit)],
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert (result.stdout, result.stderr) == ("{15}\n", "")


def test_no_descriptors_at_all_is_an_error():
    script = (
        "import os, resource\n"
        "from singlerun.process.termination import send_each\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "try: send_each([os.getpid()] * 3, (0,), lambda pids: pids)\n"
        "except OSError as error: print(error.strerror, len(os.listdir('/proc/self/fd')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "Too many open files 4\n", result.stderr


def test_pidfds_are_opened_before_the_check_and_none_stays_open(group, monkeypatch):
    opened = set(os.listdir("/proc/self/fd"))
    process = group("sh", "-c", IGNORES)
    before = set(os.listdir("/proc/self/fd"))
    seen = []

    def confirm(pids):
        seen.append((sorted(pids), set(os.listdir("/proc/self/fd")) - before))
        return pids

    gone = subprocess.Popen(["true"])
    gone.wait()
    send_each([gone.pid, process.pid], (signal.SIGCONT,), confirm)
    assert [(pids, len(fds)) for pids, fds in seen] == [([process.pid], 1)]
    assert set(os.listdir("/proc/self/fd")) == before
    assert opened <= before


def test_what_is_not_confirmed_is_not_signalled(group):
    """Its PID was given to another process between the search and the signal."""
    process = group("sh", "-c", "echo; exec sleep 60")
    send_each([process.pid], (signal.SIGKILL,), lambda _: ())
    assert process.poll() is None
    send_each([process.pid], (signal.SIGKILL,), lambda pids: pids)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_refusal_is_reported_after_all_others_were_signalled(group):
    """Among twenty processes the first and the last belong to another user."""
    other = [group("sh", "-c", IGNORES) for _ in range(2)]
    ours = subprocess.Popen(
        [sys.executable, "-c", REFUSED, *(str(process.pid) for process in other)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert ours.communicate(timeout=PATIENCE)[0] == "Operation not permitted\n{9}\n"
    assert all(is_alive(process.pid) for process in other)


REFUSED = """
import os, signal, subprocess, sys
from singlerun.process.termination import send_each
first, last = map(int, sys.argv[1:])
os.setuid(65534)
children = [os.posix_spawn("/bin/sleep", ["sleep", "60"], {}) for _ in range(30)]
try:
    send_each([first, *children, last], (signal.SIGKILL,), lambda pids: pids)
except PermissionError as error:
    print(error.strerror)
print({os.waitpid(pid, 0)[1] for pid in children})
"""


def test_processes_that_a_pidfd_calls_ended_are_not_spun_on():
    """As in a PID namespace that sees the /proc of another."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    looks = []

    def find():
        looks.append(1)
        return [gone.pid]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert not await_none(find, 0.5)
    assert len(looks) <= 52
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 0.3


def test_none_is_what_several_looks_in_a_row_find():
    """A program that replaces itself by forking may slip through one of them."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    looks = [[], [], [gone.pid], [], [], [gone.pid], [], [], []]
    assert await_none(lambda: looks.pop(0), PATIENCE)
    assert looks == []
