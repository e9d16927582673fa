"""A queue has one worker, and never none while there is work: no wake-up is lost on the way."""

import os
import socket
import subprocess
import sys
import threading

import pytest
from conftest import PATIENCE, eventually, is_alive
from halting import Halted

from singlerun.errors import NoWorkerError
from singlerun.paths import StateDir
from singlerun.queue import wakeup

HOLDER = """
import os, socket, sys
from singlerun.paths import StateDir
from singlerun.queue import wakeup

fifo = StateDir(os.fsencode(sys.argv[1])).open_fifo(b"x")
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Holder:
    """A process with a queue's FIFO: it evaluates what it is told."""

    def __init__(self, cli, **more):
        self._process = cli.start_python(HOLDER, cli.dir, **more)

    def ask(self, step):
        self._process.stdin.write(step + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def kill(self):
        self._process.kill()
        self._process.wait(PATIENCE)


@pytest.fixture
def state(cli):
    return StateDir(os.fsencode(cli.dir))


@pytest.fixture
def fifo(state):
    fifo = state.open_fifo(b"x")
    yield fifo
    os.close(fifo)


@pytest.fixture
def holder(cli):
    def start_python(script, *arguments, **more):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **more,
        )  # fmt: skip
        cli.started.append(process)
        return process

    cli.start_python = start_python
    return lambda **more: Holder(cli, **more)


class Ensuring(threading.Thread):
    """An adder that makes sure of a worker, in a thread of its own."""

    def __init__(self, state):
        super().__init__()
        self._state = state
        self.answer = None
        self.start()

    def run(self):
        try:
            self.answer = wakeup.ensure(self._state, b"x")
        except NoWorkerError as error:
            self.answer = error

    def has_woken(self, fifo):
        """Return whether it has met a holder of the lock, or is done."""
        return not self.is_alive() or _readable(fifo)

    def result(self):
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.answer


def _readable(fifo):
    import select

    return bool(select.select([fifo], [], [], 0)[0])


def begins(cli):
    """Wait for a worker that ``ensure`` started: with nothing to do it ends."""
    eventually(lambda: not cli.workers("x"), "the end of the worker")


# -- the FIFO ----------------------------------------------------------------------------------


def test_one_at_a_time_is_the_worker(state, fifo):
    other = state.open_fifo(b"x")
    assert wakeup.try_lock(fifo)
    assert not wakeup.try_lock(other)
    assert not wakeup.has_begun(other)
    wakeup.begin(fifo)
    assert wakeup.has_begun(other)
    wakeup.unlock(fifo)
    assert not wakeup.has_begun(other)
    assert wakeup.try_lock(other)
    os.close(other)


def test_wake_ups_never_block_and_are_cleared_at_once(fifo):
    for _ in range(70_000):
        wakeup.wake(fifo)
    wakeup.clear(fifo)
    assert not _readable(fifo)
    wakeup.clear(fifo)


def test_a_worker_is_seen_without_its_lock_being_tried(state, holder):
    assert not wakeup.has_worker(state, b"x")
    assert wakeup.ensure(state, b"x", dry_run=True) is True
    one = holder()
    one.ask("wakeup.try_lock(fifo)")
    assert wakeup.has_worker(state, b"x")
    assert wakeup.ensure(state, b"x", dry_run=True) is False
    one.kill()
    assert not wakeup.has_worker(state, b"x")


# -- ensure ------------------------------------------------------------------------------------


def test_a_queue_without_a_worker_gets_one(cli, state):
    assert wakeup.ensure(state, b"x") is True
    begins(cli)


def test_a_worker_that_has_begun_is_woken(state, fifo, holder):
    one = holder()
    assert one.ask("(wakeup.try_lock(fifo), wakeup.begin(fifo))[0]") == "True"
    assert wakeup.ensure(state, b"x") is False
    assert os.read(fifo, 10) == b"!"


def test_a_holder_that_dies_before_it_has_begun_is_made_up_for(cli, state, fifo, holder):
    """An adder may be killed between taking the lock and starting a worker, which has it then."""
    one = holder()
    assert one.ask("wakeup.try_lock(fifo)") == "True"
    adder = Ensuring(state)
    eventually(lambda: adder.has_woken(fifo), "the first look")
    one.kill()
    assert adder.result() is True
    begins(cli)


def test_a_holder_that_begins_at_last_is_enough(state, fifo, holder):
    one = holder()
    one.ask("wakeup.try_lock(fifo)")
    adder = Ensuring(state)
    eventually(lambda: adder.has_woken(fifo), "the first look")
    assert adder.is_alive()
    one.ask("wakeup.begin(fifo)")
    assert adder.result() is False


def test_a_lock_without_a_living_holder_is_no_worker(cli, state, fifo, holder):
    """As in the moment between a worker's death and the end of its lock.

    That is held open: the worker's FIFO is on its way to another process, in a message that is
    never read, so the lock is held and no process has it.
    """
    here, there = socket.socketpair()
    one = holder(pass_fds=[there.fileno()])
    one.ask("(wakeup.try_lock(fifo), wakeup.begin(fifo))")
    one.ask(f"socket.send_fds(socket.socket(fileno={there.fileno()}), [b'!'], [fifo])")
    there.close()
    one.kill()
    assert not wakeup.try_lock(fifo)
    assert wakeup.has_begun(fifo)
    adder = Ensuring(state)
    eventually(lambda: adder.has_woken(fifo), "the first look")
    here.close()
    assert adder.result() is True
    begins(cli)


def test_a_holder_that_never_begins_is_an_error(state, holder, monkeypatch):
    monkeypatch.setattr(wakeup, "STARTING", 0.1)
    one = holder()
    one.ask("wakeup.try_lock(fifo)")
    with pytest.raises(NoWorkerError, match="starting it for"):
        wakeup.ensure(state, b"x")
    one.kill()


def test_a_worker_that_cannot_be_started_is_an_error_and_leaves_the_lock(
    state, fifo, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(NoWorkerError, match="no such file"):
        wakeup.ensure(state, b"x")
    assert wakeup.try_lock(fifo)


def test_a_long_log_is_begun_anew(cli, state):
    log = cli.dir / "workers.log"
    log.write_bytes(bytes(wakeup.LOG_BYTES + 1))
    wakeup.ensure(state, b"x")
    assert log.stat().st_size == 0
    assert (cli.dir / "workers.log.old").stat().st_size == wakeup.LOG_BYTES + 1
    begins(cli)


# -- adders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fate", ["goes on", "is killed", "cannot start one"])
def test_an_adder_halted_with_the_lock_costs_the_next_one_no_job(cli, fate):
    """It has the FIFO's lock, and there is no worker yet."""
    cli.run("pause", "y")  # the state directory is there
    state = StateDir(os.fsencode(cli.dir))
    os.close(state.open_fifo(b"x"))
    fifo = cli.dir / "workers" / "x"
    if fate == "cannot start one":
        (cli.dir / "workers.log").mkdir()
    halted = Halted(
        cli, "flock", fifo, 1, "add", "-n", "x", "true",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    second = cli.start("add", "-n", "x", "true", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: second.poll() is not None or waits_for_a_worker(second.pid), "its wait")
    assert second.poll() is None, "it is not known yet whether there will be a worker"
    if fate == "cannot start one":
        assert halted.wait() == 125
        # So does the second, which must say so.
        assert second.wait(PATIENCE) == 125
        assert b"cannot start a worker for queue x" in second.stderr.read()
        (cli.dir / "workers.log").rmdir()
        cli.run("reap")
    elif fate == "is killed":
        halted.kill()
        assert (second.wait(PATIENCE), second.stderr.read()) == (0, b"")
    else:
        assert halted.wait() == 0
        assert (second.wait(PATIENCE), second.stderr.read()) == (0, b"")
    numbers = [job["id"] for job in cli.queue("--all")]
    assert len(numbers) == 2
    for number in numbers:
        assert cli.run("wait", "-t", str(PATIENCE), str(number)).returncode == 0
        assert cli.job(number)["tries"] == 1


def waits_for_a_worker(pid):
    """Return whether an adder sleeps, its job committed, until a worker has begun."""
    try:
        with open(f"/proc/{pid}/wchan") as file:
            sleeps = "nanosleep" in file.read()
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return sleeps and any(link.endswith("/workers/x") for link in links)


def test_a_worker_killed_before_it_has_begun_costs_the_next_adder_no_job(cli):
    """It has inherited the lock, and has not looked into the queue."""
    cli.run("pause", "y")
    first = cli.start("add", "-n", "x", "true", stdout=subprocess.PIPE)
    assert first.wait(PATIENCE) == 0
    eventually(lambda: not cli.workers("x"), "the end of the worker")
    words = wakeup.interpreter.words("singlerun.queue.worker")
    state = StateDir(os.fsencode(cli.dir))
    fifo = state.open_fifo(b"x")
    assert wakeup.try_lock(fifo)
    os.set_inheritable(fifo, True)
    halted = Halted(
        cli, "chdir", "/", 1, cli.dir, "x",
        program=[*map(os.fsdecode, words), fifo], pass_fds=[fifo],
    )  # fmt: skip
    os.close(fifo)
    second = cli.start("add", "-n", "x", "true", stdout=subprocess.PIPE)
    eventually(lambda: second.poll() is not None or waits_for_a_worker(second.pid), "its wait")
    assert second.poll() is None
    halted.kill()
    eventually(lambda: not is_alive(halted.pid), "its end")
    assert second.wait(PATIENCE) == 0
    number = int(second.stdout.read())
    assert cli.run("wait", "-t", str(PATIENCE), str(number)).returncode == 0
