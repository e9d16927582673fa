"""The worker in the moments between two of its steps: halted there, while others go on."""

import fcntl
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import BINARY, PATIENCE, Gate, blocked_on, eventually, is_alive, need
from halting import Halted


def rehearsed(cli, calls, *arguments):
    """Run a singlerun to its end; return such calls of it, in order, with paths."""
    need("strace")
    trace = cli.dir.parent / "rehearsal"
    subprocess.run(
        ["strace", "-qq", "-y", "-s", "200", "-o", trace, "-e", f"trace={calls}", BINARY,
         *arguments],
        env=cli.env, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return trace.read_text().splitlines()


def guarded(cli, lines):
    """Return how often the run-log's guard is locked or unlocked in these calls."""
    return sum("flock(" in line and f"{cli.dir}/singlerun.db.lock" in line for line in lines)


def before_it_ends(cli):
    """Return how many of a worker's calls on the guard come before it says that it ends."""
    lines = rehearsed(cli, "flock,fcntl", "worker", "-n", "x")
    unlocks = [i for i, line in enumerate(lines) if "F_OFD_SETLK" in line and "F_UNLCK" in line]
    return guarded(cli, lines[: unlocks[0]])


def await_its_end(cli):
    """Wait until the queue of x has no worker: one that exits has its lock to the last."""

    def is_free():
        fifo = os.open(cli.dir / "workers" / "x", os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.flock(fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(fifo)

    eventually(lambda: not cli.workers("x") and is_free(), "the end of the worker")


def words(path):
    return path.read_text().split() if path.exists() else []


# -- the end of a worker ---------------------------------------------------------------------------


def test_a_job_that_is_added_as_a_worker_ends_is_not_left_behind(cli):
    """The worker has seen that there is nothing to do; the adder, that there is a worker."""
    cli.run("pause", "y")  # there is a run-log
    halted = Halted(
        cli, "flock", cli.dir / "singlerun.db.lock", before_it_ends(cli), "worker", "-n", "x"
    )
    number = cli.add("-n", "x", "true")
    assert cli.workers("x") == [], "the adder relies on the one in the foreground"
    assert cli.job(number)["state"] == "queued"
    assert halted.wait() == 0
    job = cli.job(number)
    assert (job["state"], job["tries"]) == ("succeeded", 1)


def test_a_delayed_job_that_is_added_as_a_worker_ends_is_awaited(cli):
    cli.run("pause", "y")
    halted = Halted(
        cli, "flock", cli.dir / "singlerun.db.lock", before_it_ends(cli), "worker", "-n", "x"
    )
    number = cli.add("-n", "x", "--delay", "0.5", "true")
    assert halted.wait() == 0
    assert cli.job(number)["tries"] == 1


def test_a_worker_that_has_ended_does_not_come_back_beside_the_next_one(cli, tmp_path):
    """It has freed the FIFO; an adder has started another worker before it looks again."""
    cli.run("pause", "y")
    before_it_ends(cli)  # there is a FIFO
    halted = Halted(cli, "flock", cli.dir / "workers" / "x", 2, "worker", "-n", "x")
    gate = Gate(tmp_path / "gate")
    cli.add("-n", "x", *gate.command)
    gate.pid()
    (other,) = cli.workers("x")
    last = cli.add("-n", "x", "true")
    assert halted.wait() == 0, "although a job is queued"
    assert is_alive(other)
    gate.open()
    assert cli.run("wait", "-t", str(PATIENCE), str(last)).returncode == 0
    assert {run["wrapper_pid"] for run in cli.history("x")} == {other}


# -- the lock file is deleted ----------------------------------------------------------------------


def test_a_job_whose_lock_was_deleted_is_given_back_and_runs_later(cli, tmp_path):
    """Between the lock and the claim: another run has a new lock file by then.

    Where the run-log is older than the boot, that run doesn't look for holders of deleted files.
    """
    witness, gate = tmp_path / "witness", Gate(tmp_path / "gate")
    command = ["sh", "-c", f"echo job >> {witness}"]
    cli.run("pause", "x")
    cli.add("-n", "x", "true")
    await_its_end(cli)
    cli.run("resume", "x")
    eventually(lambda: not cli.workers("x") and not cli.queue("x"), "the first job")

    cli.run("pause", "x")
    cli.add("-n", "x", "true")
    await_its_end(cli)
    lines = unpaused(cli, lambda: rehearsed(cli, "flock,fdatasync", "worker", "-n", "x"))
    claim = next(i for i, line in enumerate(lines) if "fdatasync" in line)
    nth = guarded(cli, lines[:claim]) - 1

    cli.run("pause", "x")
    number = cli.add("-n", "x", *command)
    await_its_end(cli)
    halted = unpaused(
        cli,
        lambda: Halted(cli, "flock", cli.dir / "singlerun.db.lock", nth, "worker", "-n", "x"),
    )
    assert cli.job(number)["state"] == "queued"
    cli.lock_path("x").unlink()
    direct = cli.start("-n", "x", *gate.command)
    gate.pid()
    halted.go_on()
    eventually(lambda: blocked_on(cli.lock_path("x")) or words(witness), "the worker's wait")
    assert words(witness) == [], "not beside the other run"
    job = cli.job(number)
    assert (job["state"], job["tries"]) == ("queued", 0)
    gate.open()
    assert (direct.wait(PATIENCE), halted.tracer.wait(PATIENCE)) == (0, 0)
    job = cli.job(number)
    assert (job["state"], job["tries"], words(witness)) == ("succeeded", 1, ["job"])
    refused = [run for run in cli.history("x") if run["state"] == "refused"]
    assert [run["job_id"] for run in refused] == [number]


def unpaused(cli, work):
    """Do work with the queue of x resumed, without a worker that the resuming starts."""
    with closing(sqlite3.connect(cli.dir / "singlerun.db")) as database, database:
        database.execute("DELETE FROM pauses")
        database.execute("UPDATE origin SET boot_id = 'older'")
    return work()


# -- the announced job -----------------------------------------------------------------------------

ANNOUNCING = """
import os, sqlite3, sys
from singlerun.outcome import Outcome
from singlerun.paths import StateDir
from singlerun.process.identity import this_process
from singlerun.queue.worker import Worker
from singlerun.store.queue import Context, Job
from singlerun.store.run import Ending

state = StateDir(os.fsencode(sys.argv[1]))
worker = Worker(state, b"x", state.open_fifo(b"x"))
store = worker._queue

def add(priority):
    job = Job(name=b"x", argv=(b"true",), priority=priority)
    return store.enqueue([job], Context(b"/", 0, (), {}), unique=False, limit=None)[0]

first, second = add(0), add(0)
job = store.claim(b"x", this_process())
worker.announce()
urgent = add(5)
following, _ = worker._finish(job, Ending(Outcome(0)), alone=False)
assert following.id == urgent, following.id
assert store.find_job(first).state == "succeeded"
database = sqlite3.connect(os.path.join(state.path, b"singlerun.db"))
assert database.execute("SELECT count(*) FROM jobs WHERE announced IS NOT NULL").fetchone() == (0,)
"""


def test_what_was_announced_and_overtaken_is_announced_no_more(tmp_path):
    """Else it would count as lost if the machine went down while the urgent one runs."""
    subprocess.run([sys.executable, "-c", ANNOUNCING, tmp_path / "state"], check=True)


# -- what is synced before what --------------------------------------------------------------------


def synced_before(lines, what, *, wholly=True):
    """Return whether the run-log was synced before each such call, and after the one before.

    ``wholly``: nothing was written to it after the sync.
    """
    answers, synced = [], False
    for line in lines:
        if call := re.search(r"(fdatasync|pwrite64)\(\d+<[^>]*singlerun\.db-wal", line):
            synced = call[1] == "fdatasync" or (synced and not wholly)
        elif re.search(what, line):
            answers.append(synced)
            synced = False
    return answers


def test_an_id_is_printed_once_its_job_is_synced(cli):
    cli.run("pause", "x")
    with closing(sqlite3.connect(cli.dir / "singlerun.db")) as other:
        # Else its close would be the last, which writes the log back and syncs that.
        other.execute("SELECT 1 FROM jobs").fetchall()
        lines = rehearsed(cli, "fdatasync,pwrite64,write", "add", "-n", "x", "true")
    assert synced_before(lines, r"write\(1<")[0]


@pytest.mark.parametrize("work", ["true", "sleep 0.1"], ids=["brief", "long"])
def test_a_command_starts_once_its_claim_is_synced(cli, work):
    """A brief one's successor is announced while it runs, and that is synced."""
    need("strace")
    cli.run("pause", "x")
    for _ in range(4):
        cli.add("-n", "x", "sh", "-c", work)
    await_its_end(cli)
    trace = cli.dir.parent / "trace"
    unpaused(
        cli,
        lambda: subprocess.run(
            ["strace", "-f", "-qq", "-y", "-o", trace, "-e", "trace=fdatasync,pwrite64,execve",
             BINARY, "worker", "-n", "x"],
            env=cli.env, check=True,
        ),
    )  # fmt: skip
    lines = trace.read_text().splitlines()
    starts = synced_before(lines, r'execve\("[^"]*/sh", \["sh"', wholly=work != "true")
    assert starts == [True] * 4


def forks(cli):
    """Return the system call of fork(3), and how many of the same a job without output needs."""
    need("strace")
    trace = cli.dir.parent / "forks"
    script = "import os; os.posix_spawn('/bin/true', ['true'], {}); os.fork() or os._exit(0)"
    subprocess.run(
        ["strace", "-qq", "-o", trace, "-e", "trace=clone,clone3,fork,vfork", sys.executable, "-S",
         "-c", script],
        check=True,
    )  # fmt: skip
    lines = [line for line in trace.read_text().splitlines() if "ERESTART" not in line]
    spawned, forked = [line.split("(")[0] for line in lines if "(" in line]
    return forked, int(spawned == forked)


def start_traced(cli, strace, *arguments):
    words = [sys.executable, "-m", "singlerun", *arguments]  # the calls of a launcher do not count
    process = subprocess.Popen([*strace, *words], env=cli.env, stderr=subprocess.PIPE)
    cli.started.append(process)
    return process


# -- its own failures (law 11) ---------------------------------------------------------------------

FAILURES = {
    # Each fails once, in the first job: by the number of the call in the worker.
    "no pidfd": "inject=pidfd_open:error=EMFILE:when=1",
    "no pipe for the relay": "inject=pipe2:error=EMFILE:when=3",
    "no process for the relay": "inject={fork}:error=EAGAIN:when={first}",
    "no poll": "inject=poll:error=ENOMEM:when=1",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_of_the_worker_while_a_command_runs_ends_nothing(cli, tmp_path, failure):
    """The job runs once, its status is recorded, its lock is held, and the queue goes on."""
    need("strace")
    gate = Gate(tmp_path / "gate")
    cli.run("pause", "x")
    script = 'echo $$ > "$1.new"; mv "$1.new" "$1.pid"; echo chatty; cat "$1"; exit 3'
    first = cli.add("-n", "x", "sh", "-c", script, "sh", gate.command[-1])
    second = cli.add("-n", "x", "sh", "-c", "echo fine; exit 4")
    await_its_end(cli)
    fork, others = forks(cli)
    inject = FAILURES[failure].format(fork=fork, first=others + 1)
    calls = re.match("inject=([^:]+)", inject)[1]
    trace = tmp_path / "trace"
    worker = unpaused(
        cli,
        lambda: start_traced(
            cli, ["strace", "-qq", "-o", trace, "-e", f"trace={calls}", "-e", inject],
            "worker", "-n", "x",
        ),
    )  # fmt: skip
    job = gate.pid()
    eventually(lambda: "INJECTED" in trace.read_text(), "the failure")
    assert cli.run("-n", "x", "true").returncode == 75, "its lock is held"
    assert is_alive(job)
    gate.open()
    assert worker.wait(PATIENCE) == 0
    jobs = [cli.job(number) for number in (first, second)]
    assert [(job["state"], job["exit_code"], job["tries"]) for job in jobs] == [
        ("failed", 3, 1), ("failed", 4, 1),
    ]  # fmt: skip
    assert cli.run("logs", str(second)).stdout == "fine\n"
    assert b"waiting for the command all the same" in worker.stderr.read()


def test_a_command_that_cannot_be_started_for_want_of_descriptors_fails_its_job_alone(cli):
    need("strace")
    cli.run("pause", "x")
    first, second = cli.add("-n", "x", "true"), cli.add("-n", "x", "true")
    await_its_end(cli)
    inject = "inject=pipe2:error=EMFILE:when=2"
    worker = unpaused(
        cli,
        lambda: start_traced(
            cli, ["strace", "-qq", "-o", "/dev/null", "-e", "trace=pipe2", "-e", inject],
            "worker", "-n", "x",
        ),
    )  # fmt: skip
    assert worker.wait(PATIENCE) == 0
    job = cli.job(first)
    assert (job["state"], job["exit_code"]) == ("failed", 125)
    assert "too many open files" in job["detail"].lower()
    assert cli.job(second)["state"] == "succeeded"


COUNT = "sleep 0.3; ls -l /proc/$PPID/fd | grep -vc pidfd"
"""Counts what the worker has open while it waits, past its first look at a command by a pidfd."""


@pytest.mark.stress
def test_failures_use_up_no_descriptors(cli):
    """A worker that fails again and again while commands run is no worse off for it."""
    need("strace")
    cli.run("pause", "x")
    numbers = [cli.add("-n", "x", "sh", "-c", COUNT) for _ in range(12)]
    await_its_end(cli)
    fork, others = forks(cli)
    inject = f"inject={fork}:error=EAGAIN:when={2 + 2 * others}..{10 + others}"
    worker = unpaused(
        cli,
        lambda: start_traced(
            cli, ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={fork}", "-e", inject],
            "worker", "-n", "x",
        ),
    )  # fmt: skip
    assert worker.wait(PATIENCE) == 0
    first, last = (int(cli.run("logs", str(number)).stdout) for number in (numbers[0], numbers[-1]))
    assert last <= first


@pytest.mark.stress
def test_jobs_use_up_no_descriptors(cli):
    cli.run("pause", "x")
    numbers = [cli.add("-n", "x", "sh", "-c", COUNT) for _ in range(12)]
    await_its_end(cli)
    cli.run("resume", "x")
    cli.run("wait", str(numbers[-1]))
    first, last = (int(cli.run("logs", str(number)).stdout) for number in (numbers[1], numbers[-1]))
    assert last <= first


def test_commands_that_cannot_be_started_use_up_no_descriptors(cli):
    cli.run("pause", "x")
    commands = [["true"], ["sh", "-c", COUNT], *[["/nonexistent"]] * 5, ["sh", "-c", COUNT]]
    numbers = [cli.add("-n", "x", *command) for command in commands]
    await_its_end(cli)
    cli.run("resume", "x")
    cli.run("wait", str(numbers[-1]))
    assert cli.job(numbers[-2])["exit_code"] == 127
    first, last = (int(cli.run("logs", str(number)).stdout) for number in (numbers[1], numbers[-1]))
    assert last <= first
