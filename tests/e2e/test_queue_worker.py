"""The workers of a queue: detached or in the foreground, and made up for when they are killed."""

import json
import os
import re
import signal
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import BINARY, PATIENCE, blocked_on, eventually, is_alive, is_idle, need
from queues import asleep_in, ended, kill, witness, words, worker_of, working

# -- the worker ---------------------------------------------------------------------------------


def test_the_worker_is_detached_from_all_that_started_it(cli, tmp_path, gate):
    inherited = os.open(tmp_path / "inherited", os.O_WRONLY | os.O_CREAT)
    where = tmp_path / "where"
    where.mkdir()
    secret = cli.env | {"SINGLERUN_RUN_ID": "77", "SINGLERUN_TOKEN": "5"}
    cli.add("-n", "x", *gate.command, pass_fds=[inherited], cwd=where, env=secret)
    job = gate.pid()
    pid = worker_of(cli, "x")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    _, parent, group, session, terminal, *_ = fields
    assert (int(group), int(session), terminal) == (pid, pid, "0")
    assert int(parent) != os.getpid()
    links = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links[int(path.name)] = os.readlink(path)
    assert (links[0], links[1]) == ("/dev/null", "/dev/null")
    assert links[2] == str(cli.dir / "workers.log")
    own = ("/dev/null", str(cli.dir), "pipe:", "anon_inode:[pidfd]")
    assert [link for link in links.values() if not link.startswith(own)] == []
    assert b"SINGLERUN_RUN_ID" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.getsid(job) == pid
    assert stat.S_IMODE((cli.dir / "workers.log").stat().st_mode) == 0o600
    gate.open()
    eventually(lambda: not is_alive(pid), "its end, as there is no work")


@pytest.mark.parametrize("doing", ["job", "delay", "line"])
def test_the_worker_costs_nothing_while_it_waits(cli, gate, doing):
    if doing == "line":
        cli.lock_path("x").parent.mkdir(parents=True)
        cli.dir.chmod(0o700)
        with cli.hold("-n", "x"):
            cli.add("-n", "x", "true")
            eventually(lambda: blocked_on(cli.lock_path("x")), "the worker's wait")
            eventually(lambda: is_idle(worker_of(cli, "x")), "an idle wait")
        return
    cli.add("-n", "x", *(gate.command if doing == "job" else ["--delay", "1h", "true"]))
    if doing == "job":
        gate.pid()
        eventually(lambda: cli.json("ps")[0]["pid"], "the record of the command")
    else:
        asleep_in(cli, "x")
    eventually(lambda: is_idle(worker_of(cli, "x")), "an idle wait")


def test_the_worker_keeps_no_directory_busy(cli, tmp_path):
    """The file system of a job's directory can be unmounted afterwards."""
    where = tmp_path / "where"
    where.mkdir()
    cli.run("pause", "x")
    number = cli.add("-n", "x", "true", cwd=where)
    cli.add("-n", "x", "--delay", "1h", "true", cwd=where)
    cli.run("resume", "x")
    ended(cli, number)
    assert os.readlink(f"/proc/{asleep_in(cli, 'x')}/cwd") == "/"


def test_the_worker_survives_the_session_in_which_it_was_started(cli, gate):
    script = f"trap '' HUP; {BINARY} add -n x {' '.join(map(repr, gate.command))}; kill -HUP 0"
    subprocess.run(["setsid", "-w", "sh", "-c", script], env=cli.env, check=False,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    gate.pid()
    gate.open()
    (job,) = cli.queue("--all")
    ended(cli, job["id"])


def test_the_worker_survives_the_terminal_in_which_it_was_started(cli, tmp_path, gate):
    need("tmux")
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]
    script = f"{BINARY} add -n x {' '.join(map(repr, gate.command))}; exec sleep 60"
    subprocess.run([*tmux, "new-session", "-d", script], env=cli.env, check=True)
    job = gate.pid()
    worker = worker_of(cli, "x")
    subprocess.run([*tmux, "kill-server"], env=cli.env, check=True)
    eventually(
        lambda: subprocess.run([*tmux, "ls"], capture_output=True, check=False).returncode,
        "the end of the terminal",
    )
    assert is_alive(worker)
    assert is_alive(job)
    gate.open()
    (found,) = cli.queue("--all")
    assert ended(cli, found["id"])["tries"] == 1


def test_one_worker_serves_all_adders(cli, gate):
    cli.add("-n", "x", *gate.command)
    gate.pid()
    pid = worker_of(cli, "x")
    adders = [cli.start("add", "-n", "x", "true", stdout=subprocess.PIPE) for _ in range(6)]
    numbers = [int(adder.communicate(timeout=PATIENCE)[0]) for adder in adders]
    assert cli.workers("x") == [pid]
    gate.open()
    ended(cli, max(numbers))
    assert {run["wrapper_pid"] for run in cli.history("x")} == {pid}
    eventually(lambda: not cli.workers(), "its end, as there is no work")
    assert (cli.dir / "workers.log").read_text() == ""


def test_a_deleted_fifo_may_make_two_workers_but_never_two_jobs(cli, tmp_path, gate):
    first = cli.add("-n", "x", *gate.command)
    pid = gate.pid()
    (cli.dir / "workers" / "x").unlink()
    path = tmp_path / "witness"
    numbers = [cli.add("-n", "x", *witness(path, i)) for i in range(3)]
    assert len(cli.workers("x")) == 2
    assert [job["state"] for job in cli.queue("x")] == ["running", *["queued"] * 3]
    assert is_alive(pid)
    gate.open()
    for number in (first, *numbers):
        assert ended(cli, number)["tries"] == 1
    assert words(path) == ["0", "1", "2"]


def test_a_worker_works_in_the_foreground_and_ends_with_the_queue(cli, tmp_path, gate):
    path = tmp_path / "witness"
    # Adding starts no worker while there is one, even a stopped one; then that is killed.
    former = working(cli)
    former.send_signal(signal.SIGSTOP)
    numbers = [cli.add("-n", "x", *gate.command), cli.add("-n", "x", *witness(path, "a"))]
    former.kill()
    former.wait(PATIENCE)
    worker = cli.start("worker", "-n", "x", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert os.getsid(gate.pid()) == os.getsid(worker.pid) == os.getsid(0)
    numbers.append(cli.add("-n", "x", *witness(path, "b")))
    assert cli.workers() == []
    gate.open()
    assert worker.communicate(timeout=PATIENCE) == (b"", b"")
    assert worker.returncode == 0
    assert words(path) == ["a", "b"]
    assert {run["wrapper_pid"] for run in cli.history("x")} == {worker.pid}
    assert [cli.job(number)["state"] for number in numbers] == ["succeeded"] * 3
    assert cli.run("worker", "-n", "x").returncode == 0, "at once, as there is no work"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_after_the_present_job(cli, gate, number):
    worker = working(cli)
    first = cli.add("-n", "x", *gate.command)
    second = cli.add("-n", "x", "true")
    assert cli.workers() == []
    pid = gate.pid()
    other = cli.run("worker", "-n", "x")
    assert other.returncode == 75
    assert "already" in other.stderr
    worker.send_signal(number)
    gate.open()
    assert worker.wait(PATIENCE) == 0
    assert not is_alive(pid)
    assert [cli.job(job)["state"] for job in (first, second)] == ["succeeded", "queued"]


def test_a_worker_may_be_told_to_end_at_once(cli, gate):
    worker = working(cli, "--now")
    number = cli.add("-n", "x", *gate.command)
    pending = cli.add("-n", "x", "true")
    pid = gate.pid()
    assert cli.workers() == []
    worker.terminate()
    assert worker.wait(PATIENCE) == 0
    assert not is_alive(pid)
    job = cli.job(number)
    assert (job["state"], job["signal"], job["detail"]) == ("failed", 15, "stopped")
    assert cli.job(pending)["state"] == "queued"


def test_a_worker_that_stays_waits_for_the_present_worker(cli, gate):
    cli.add("-n", "x", *gate.command)
    gate.pid()
    pid = worker_of(cli, "x")
    worker = cli.start("worker", "-n", "x", "--stay")
    eventually(lambda: blocked_on(cli.dir / "workers" / "x"), "the worker's wait")
    gate.open()
    eventually(lambda: not is_alive(pid), "the worker's end")
    ended(cli, cli.add("-n", "x", "true"))
    assert cli.last("x")["wrapper_pid"] == worker.pid
    worker.terminate()
    assert worker.wait(PATIENCE) == 0


# -- kill -9 ------------------------------------------------------------------------------------


def kill_both(cli, gate):
    """Kill the worker, then its job; in the other order the worker would record the end."""
    pid = gate.pid()
    kill(worker_of(cli, "x"))
    kill(pid)


RESUMERS = {
    "add": lambda cli: cli.add("-n", "x", "true"),
    "run": lambda cli: cli.run("-w", "-n", "x", "true"),
    "reap": lambda cli: cli.run("reap"),
}


@pytest.mark.parametrize("resumer", RESUMERS)
def test_a_worker_killed_with_its_job_is_made_up_for(cli, tmp_path, gate, resumer):
    path = tmp_path / "witness"
    lost = cli.add("-n", "x", *gate.command)
    rest = cli.add("-n", "x", *witness(path, "rest"))
    kill_both(cli, gate)
    assert [run["state"] for run in cli.json("ps")] == ["zombie"]
    RESUMERS[resumer](cli)
    ended(cli, rest)
    job = ended(cli, lost, status=125)
    assert (job["state"], job["tries"]) == ("lost", 1)
    assert re.match(r"run \d+ is lost: died without recording an exit status", job["detail"])
    assert words(path) == ["rest"]
    assert cli.json("ps") == []


@pytest.mark.parametrize("resumer", RESUMERS)
def test_a_lost_job_that_has_retries_is_tried_again(cli, gate, resumer):
    number = cli.add("-n", "x", "--retries", "1", "--retry-delay", "0.05", *gate.command)
    kill_both(cli, gate)
    Path(f"{gate.command[-1]}.pid").unlink()
    RESUMERS[resumer](cli)
    gate.pid()
    gate.open()
    job = ended(cli, number)
    assert (job["state"], job["tries"]) == ("succeeded", 2)
    tries = [run["state"] for run in cli.history("x") if run["job_id"] == number]
    assert tries == ["succeeded", "lost"]


def test_a_lost_job_is_tried_again_also_if_what_is_added_next_is_delayed(cli, gate):
    number = cli.add("-n", "x", "--retries", "1", "--retry-delay", "0", *gate.command)
    kill_both(cli, gate)
    Path(f"{gate.command[-1]}.pid").unlink()
    cli.add("-n", "x", "--delay", "1h", "true")
    gate.pid()
    gate.open()
    assert ended(cli, number)["tries"] == 2


@pytest.mark.parametrize("output", ["quiet", "chatty"])
def test_a_job_whose_worker_was_killed_still_keeps_others_out(cli, tmp_path, gate, output):
    path = tmp_path / "witness"
    quiet = 'exec >/dev/null 2>&1; exec "$@"' if output == "quiet" else 'exec "$@"'
    number = cli.add("-n", "x", "sh", "-c", quiet, "sh", *gate.command)
    pid = gate.pid()
    if output == "chatty":
        eventually(lambda: list(cli.dir.glob("logs/*/0*")), "the keeping of its output")
    kill(worker_of(cli, "x"))
    assert is_alive(pid)
    assert cli.run("-n", "x", "true").returncode == 75
    rest = cli.add("-n", "x", *witness(path, "rest"))
    pid_of_next = worker_of(cli, "x")
    eventually(lambda: blocked_on(cli.lock_path("x")), "the next worker's wait")
    assert words(path) == []
    assert [run["state"] for run in cli.json("ps")] == ["orphan"]
    gate.open()
    ended(cli, rest)
    assert cli.job(number)["state"] == "lost"
    assert cli.last("x")["wrapper_pid"] == pid_of_next
    if output == "chatty":
        assert "at the gate" in cli.run("logs", str(number)).stdout


def test_reap_sees_to_what_is_tried_again_when_an_orphan_has_ended(cli, gate):
    """Nothing else is queued, so without reap there would be no worker when the orphan ends."""
    number = cli.add("-n", "x", "--retries", "1", "--retry-delay", "0", *gate.command)
    gate.pid()
    kill(worker_of(cli, "x"))
    assert cli.run("reap").stdout.splitlines()[-1] == "x: started a worker"
    gate.open()
    eventually(lambda: cli.job(number)["tries"] == 2, "the second try")
    gate.open()
    assert ended(cli, number)["state"] == "succeeded"


def test_a_pause_shows_in_ps_too(cli):
    cli.run("pause", "x")
    cli.add("-n", "x", "true")
    assert "paused #1" in cli.run("ps").stdout
    document = json.loads(cli.run("ps", "--json").stdout)
    assert [job["state"] for job in document["jobs"]] == ["paused"]


def test_a_worker_killed_in_its_sleep_is_made_up_for(cli, gate):
    late = cli.add("-n", "x", "--delay", "1h", *gate.command)
    kill(asleep_in(cli, "x"))
    assert cli.run("reap", "--dry-run").stdout == "x: would start a worker\n"
    assert cli.workers() == []
    assert cli.run("reap").stdout == "x: started a worker\n"
    kill(asleep_in(cli, "x"))
    cli.sql("UPDATE jobs SET not_before_ns = 1")
    assert cli.run("reap").stdout == "x: started a worker\n"
    gate.pid()
    assert cli.run("reap").stdout == "", "it does already"
    gate.open()
    job = ended(cli, late)
    assert (job["state"], job["tries"]) == ("succeeded", 1)


def test_a_worker_killed_in_line_is_made_up_for(cli):
    with cli.hold("-n", "x") as holding:
        number = cli.add("-n", "x", "true")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the worker's wait")
        kill(worker_of(cli, "x"))
        holding.release()  # at its end a direct run looks for jobs
    assert ended(cli, number)["tries"] == 1


def test_an_adder_killed_between_its_commit_and_its_wake_up_is_made_up_for(cli):
    """The FIFO cannot be used at that moment; accepted jobs stay accepted."""
    cli.add("-n", "x", "--delay", "1h", "true")
    kill(worker_of(cli, "x"))
    fifo = cli.dir / "workers" / "x"
    fifo.unlink()
    fifo.mkdir()
    result = cli.run("add", "-n", "x", "true")
    assert (result.returncode, result.stderr.count("\n")) == (125, 1)
    assert "workers/x" in result.stderr
    assert [job["state"] for job in cli.queue()] == ["queued", "delayed"]
    fifo.rmdir()
    number = cli.queue()[0]["id"]
    assert cli.run("-n", "x", "true").returncode == 0
    assert ended(cli, number)["tries"] == 1


def test_waiting_for_a_lost_job_ends(cli, gate):
    number = cli.add("-n", "x", *gate.command)
    waiter = cli.start("wait", str(number), stderr=subprocess.PIPE)
    pid = gate.pid()
    eventually(lambda: cli.json("ps")[0]["pid"], "the record of the command")
    kill(worker_of(cli, "x"), pid)
    assert waiter.wait(PATIENCE) == 125
    assert b"lost" in waiter.stderr.read()
