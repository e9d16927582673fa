"""Queues: jobs are accepted, worked off one by one, and survive their workers."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pexpect
import pytest
from conftest import (
    BINARY,
    PATIENCE,
    Gate,
    blocked_on,
    eventually,
    fill,
    is_alive,
    is_idle,
    need,
)


def ended(cli, number, status=0):
    """Wait for the end of a job, as users do; return the job."""
    result = cli.run("wait", "-t", str(PATIENCE / 2), str(number))
    log = (cli.dir / "workers.log").read_text()
    assert result.returncode == status, (result.stderr, log, cli.queue(), cli.workers())
    return cli.job(number)


def worker_of(cli, name):
    (pid,) = eventually(lambda: cli.workers(name), "the worker")
    return pid


def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        eventually(lambda pid=pid: not is_alive(pid), "the end of a process")


def sleeps_until_woken(pid):
    """Return whether a worker sleeps until it is woken."""
    calls = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/wchan")]
    return any("poll" in call for call in calls)


def asleep_in(cli, name):
    """Wait until the worker of a name has nothing to do; return its PID."""
    pid = worker_of(cli, name)
    eventually(lambda: sleeps_until_woken(pid), "the worker's sleep")
    return pid


def working(cli, *options):
    """Start a worker that stays; return it once it waits for jobs."""
    worker = cli.start("worker", "-n", "x", "--stay", *options)
    eventually(lambda: sleeps_until_woken(worker.pid), "the worker's sleep")
    return worker


def witness(path, word):
    return ["sh", "-c", f"echo {word} >> {path}"]


def words(path):
    return path.read_text().split() if path.exists() else []


# -- what a job is ------------------------------------------------------------------------------


def test_a_job_is_run_and_its_output_kept(cli):
    number = cli.add("-n", "x", "sh", "-c", "echo out; echo err >&2; exit 3")
    job = ended(cli, number, status=3)
    assert (job["state"], job["exit_code"], job["tries"]) == ("failed", 3, 1)
    logs = cli.run("logs", str(number))
    assert (logs.returncode, sorted((logs.stdout + logs.stderr).split())) == (0, ["err", "out"])
    (run,) = cli.history("x")
    assert (run["job_id"], run["id"], run["state"]) == (number, job["run_id"], "failed")
    assert run["command"] == job["command"]
    assert cli.queue() == []


def test_the_prefix_form_may_queue_too(cli, tmp_path):
    result = cli.run("-n", "x", "--queue", *witness(tmp_path / "witness", "ran"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    (job,) = cli.queue("--all")
    ended(cli, job["id"])
    assert words(tmp_path / "witness") == ["ran"]


def test_without_a_name_it_comes_from_the_command(cli):
    number = cli.add("true")
    ended(cli, number)
    assert cli.job(number)["name"].startswith("true-")


TELL = (
    "import json, os, sys; json.dump([os.getcwd(), oct(os.umask(0)), dict(os.environ),"
    " os.readlink('/proc/self/fd/0'), sorted(map(int, os.listdir('/proc/self/fd')))],"
    " open(sys.argv[1], 'w'))"
)


def told(cli, tmp_path, *options, **more):
    """Run a job that reports its surroundings; return the report."""
    path = tmp_path / "told"
    ended(cli, cli.add("-n", "x", *options, sys.executable, "-c", TELL, str(path), **more))
    return json.loads(path.read_text())


def test_a_job_keeps_where_and_how_it_is_to_run(cli, tmp_path):
    here = tmp_path / "some where"
    here.mkdir()
    env = cli.env | {"SECRET": "1", "KEPT": "2", "LC_TIME": "C", "SINGLERUN_RUN_ID": "77"}
    options = ["--env", "KEPT", "--env", "GIVEN=a=b\nc"]
    cwd, umask, found, stdin, _ = told(cli, tmp_path, *options, cwd=here, env=env, umask=0o27)
    assert (cwd, umask, stdin) == (str(here), "0o27", "/dev/null")
    assert "SECRET" not in found
    assert (found["KEPT"], found["GIVEN"], found["LC_TIME"]) == ("2", "a=b\nc", "C")
    assert found["PATH"] == env["PATH"]
    (run,) = cli.history("x")
    (job,) = cli.queue("--all")
    assert found["SINGLERUN_NAME"] == "x"
    assert found["SINGLERUN_RUN_ID"] == str(run["id"])
    assert found["SINGLERUN_TOKEN"] == str(run["token"])
    assert found["SINGLERUN_JOB_ID"] == str(job["id"])
    assert cli.run("add", "-n", "x", "--env", "NO_SUCH", "true").returncode == 125


def test_a_job_may_keep_the_whole_environment(cli, tmp_path):
    env = cli.env | {"SECRET": "1", "SINGLERUN_RUN_ID": "77", "SINGLERUN_OTHER": "8"}
    found = told(cli, tmp_path, "--all-env", env=env)[2]
    assert found["SECRET"] == "1"
    assert "SINGLERUN_OTHER" not in found


def test_a_job_has_no_descriptor_of_ours_but_the_lock(cli, tmp_path):
    command = ["sh", "-c", "ls -l /proc/$$/fd | sed -n 's/.* -> //p'"]
    number = cli.add("-n", "x", *command, pass_fds=[os.open(tmp_path, os.O_RDONLY)])
    ended(cli, number)
    links = cli.run("logs", str(number)).stdout.split()
    ours = [link for link in links if str(tmp_path) in link]
    assert ours == [str(cli.lock_path("x"))]


HOSTILE = [b"a b", b"", b"\xff\xfe", b"new\nline", b"'\"$(touch pwned)`", b"\x1b[31m", b"--", b"-n"]


def test_arguments_and_names_arrive_byte_for_byte(cli, tmp_path):
    path = tmp_path / "arguments"
    script = b'for word; do printf "%s\\0" "$word"; done > ' + os.fsencode(path)
    name = os.fsdecode(b"\xff ../x\n\x1b[31m")
    number = cli.add("-n", name, "--label", name, "--", "sh", "-c", script, "sh", *HOSTILE)
    ended(cli, number)
    assert path.read_bytes() == b"".join(word + b"\0" for word in HOSTILE)
    shown = cli.run("queue", "--all")
    assert "\x1b" not in shown.stdout
    assert [job["name"] for job in cli.queue("--all", "--", name)] == [name]
    assert cli.job(number)["command"][3:] == ["sh", *map(os.fsdecode, HOSTILE)]


@pytest.mark.parametrize("how", ["missing", "hostile"])
def test_a_directory_that_is_gone_fails_the_job_alone(cli, tmp_path, how):
    gone = os.path.join(os.fsencode(tmp_path), b"gone" if how == "missing" else b"\xff\x1b[31m")
    os.mkdir(gone)
    cli.run("pause", "x")
    lost, next_one = (cli.add("-n", "x", "true", cwd=where) for where in (gone, tmp_path))
    os.rmdir(gone)
    cli.run("resume", "x")
    ended(cli, next_one)
    job = ended(cli, lost, status=126)
    assert (job["state"], job["exit_code"]) == ("failed", 126)
    assert "no such file or directory" in job["detail"]


@pytest.mark.parametrize(("status", "name"), [(126, "program"), (127, "program"), (127, "\udcff")])
def test_a_command_that_cannot_be_started_fails_the_job_alone(cli, tmp_path, status, name):
    program = tmp_path / name
    if status == 126:
        program.write_text("no program")
    cli.run("pause", "x")
    numbers = [cli.add("-n", "x", *command) for command in ([str(program)], ["true"])]
    cli.run("resume", "x")
    ended(cli, numbers[1])
    job = ended(cli, numbers[0], status=status)
    assert (job["state"], job["exit_code"]) == ("failed", status)
    assert str(tmp_path) in job["detail"]


def test_a_command_is_searched_in_the_path_of_its_adder(cli, tmp_path):
    (tmp_path / "mine").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "mine").chmod(0o755)
    env = cli.env | {"PATH": f"{tmp_path}:{cli.env['PATH']}"}
    number = cli.add("-n", "x", "mine", env=env)
    ended(cli, number)
    assert cli.run("logs", str(number)).stdout == "found\n"


def test_timeout_ends_a_job_and_not_the_keeping_of_its_output(cli):
    """The grace period is longer than the test: the job alone gets it, and needs none."""
    for seconds in ("0.5", "5", "50"):  # a busy machine may take longer to print
        options = ["-t", seconds, "-k", "1000"]
        number = cli.add("-n", "x", *options, "sh", "-c", "echo said; exec sleep 600")
        job = ended(cli, number, status=124)
        assert (job["state"], job["detail"]) == ("failed", "timed out")
        if said := cli.run("logs", str(number)).stdout:
            break
    assert said == "said\n"


# -- adding many --------------------------------------------------------------------------------


def test_lines_are_shell_commands_and_accepted_together(cli, tmp_path):
    lines = "".join(f"echo {word} >> witness\n\n" for word in "abc")
    numbers = cli.add("-n", "x", "--stdin", input=lines, cwd=tmp_path)
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    ended(cli, numbers[-1])
    assert words(tmp_path / "witness") == ["a", "b", "c"]


def test_commands_may_end_with_nul(cli, tmp_path):
    numbers = cli.add(
        "-n", "x", "--stdin", "-0", input="echo 'a\nb' >> witness\0echo c >> witness", cwd=tmp_path
    )
    assert len(numbers) == 2
    ended(cli, numbers[-1])
    assert words(tmp_path / "witness") == ["a", "b", "c"]


def test_lines_may_be_json(cli, tmp_path):
    path = tmp_path / "witness"
    cli.run("pause", "x")
    lines = [
        json.dumps(f"echo shell >> {path}"),
        json.dumps(["sh", "-c", f"echo list >> {path}"]),
        json.dumps({"command": witness(path, "first"), "priority": 5, "label": "L", "retries": 2}),
        json.dumps({"command": "true", "delay": "1h", "retry_delay": "5s"}),
    ]
    numbers = cli.add("-n", "x", "--stdin", "--json", input="\n".join(lines))
    first = cli.job(numbers[2])
    assert (first["label"], first["priority"], first["retries"]) == ("L", 5, 2)
    assert cli.job(numbers[3])["starts_at"] is not None
    cli.run("resume", "x")
    ended(cli, numbers[1])
    assert words(path) == ["first", "shell", "list"]


BAD_LINES = [
    "{", "1", "[]", "{}", '{"command": []}', '{"command": ["a", 1]}', '{"command": "a\\u0000"}',
    '{"command": "true", "priority": 1e9}', '{"command": "true", "color": "red"}',
    '{"command": "true", "label": 5}', '{"command": "true", "delay": "soon"}',
    '{"command": "true", "after": 12345}', '"\\ud800"', "\udcff",
    '{"command": "true", "label": "\\ud800"}', "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:30].encode("unicode_escape"))
def test_one_bad_line_and_none_is_accepted(cli, line):
    text = os.fsencode('"true"\n' + line + "\n")
    result = cli.run("add", "-n", "x", "--stdin", "--json", input=text, text=False)
    message = result.stderr.decode()
    assert (result.returncode, result.stdout, message.count("\n")) == (125, b"", 1), message
    assert message.startswith("singlerun: ")
    assert "internal error" not in message
    assert cli.queue("--all") == []


def test_nothing_comes_of_nothing(cli):
    assert cli.add("-n", "x", "--stdin", input="\n  \n") == []
    for arguments in (["-n", "x"], ["--stdin"], ["-n", "x", "--stdin", "true"], ["-0", "true"]):
        result = cli.run("add", *arguments)
        assert result.returncode == 2, arguments
        assert result.stdout == ""
    closed = subprocess.run(
        ["sh", "-c", f"exec {BINARY} add -n x --stdin <&-"],
        env=cli.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert closed.returncode == 2
    assert "internal error" not in closed.stderr
    assert cli.queue("--all") == []


@pytest.mark.parametrize("count", [9_999, 10_001])
def test_progress_is_shown_on_a_terminal_from_ten_thousand_on(cli, count):
    cli.run("pause", "x")
    script = f"yes true | head -{count} | {BINARY} add -q -n x --stdin"
    terminal = pexpect.spawn("sh", ["-c", script], env=cli.env, timeout=PATIENCE)
    shown = terminal.read()
    terminal.close()
    assert terminal.exitstatus == 0
    assert (b"reading jobs" in shown) == (count > 10_000)
    assert cli.sql("SELECT count(*) FROM jobs") == [(count,)]


def test_a_full_disk_in_the_middle_accepts_none_and_says_so(cli, small_disk):
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    cli.run("pause", "x")
    before = cli.add("-n", "x", "true")
    lines = "".join(f"echo {number:0500d}\n" for number in range(4000))
    result = cli.run("add", "-n", "x", "--stdin", input=lines)
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr.count("\n") == 1
    assert re.search("disk.* full|full.* disk|no space", result.stderr), result.stderr
    assert [job["id"] for job in cli.queue()] == [before]
    assert cli.run("resume", "x").returncode == 0
    ended(cli, before)


def test_a_full_disk_refuses_a_single_job_too(cli, small_disk):
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    cli.run("-n", "y", "true")
    fill(small_disk)
    numbers = []
    for _ in range(200):  # some room may be left in the database itself
        result = cli.run("add", "-n", "x", "--delay", "1h", "true")
        if result.returncode:
            break
        numbers.append(int(result.stdout))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (125, "", 1)
    (small_disk / "filler").unlink()
    assert [job["id"] for job in cli.queue("x")] == numbers, "those that were accepted"


def test_without_a_database_adding_fails_loudly(cli):
    (cli.dir / "singlerun.db").mkdir(parents=True)
    cli.dir.chmod(0o700)
    for arguments in (["add", "-n", "x", "true"], ["-n", "x", "--queue", "true"]):
        result = cli.run(*arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (125, "", 1)
        assert result.stderr.startswith(
            f"singlerun: cannot use the run-log {cli.dir}/singlerun.db: "
        )
    assert cli.workers() == []


def test_a_database_that_is_none_accepts_nothing_without_a_word(cli, tmp_path):
    cli.run("-n", "x", "true")
    for path in cli.dir.glob("singlerun.db*"):
        path.unlink()
    (cli.dir / "singlerun.db").write_bytes(b"no database" * 1000)
    (cli.dir / "singlerun.db").chmod(0o600)
    result = cli.run("add", "-n", "x", *witness(tmp_path / "witness", "ran"))
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    if result.returncode == 0:
        ended(cli, int(result.stdout))
        assert words(tmp_path / "witness") == ["ran"]
    else:
        assert (result.returncode, result.stdout) == (125, "")


# -- order --------------------------------------------------------------------------------------


def test_the_order_is_by_priority_then_by_id_and_can_be_changed(cli, tmp_path):
    path = tmp_path / "witness"
    assert cli.run("pause", "x").returncode == 0
    numbers = {}
    for word, priority in (("a", 0), ("b", 0), ("low", -1), ("high", 7), ("c", 0)):
        numbers[word] = cli.add("-n", "x", "--priority", str(priority), *witness(path, word))
    listed = [(job["id"], job["place"], job["state"]) for job in cli.queue("x")]
    order = ["high", "a", "b", "c", "low"]
    assert listed == [(numbers[word], i, "paused") for i, word in enumerate(order, 1)]
    for word in ("low", "c"):
        moved = cli.run("move", str(numbers[word]), "--first")
        assert (moved.returncode, moved.stdout, moved.stderr) == (0, "", "")
    assert [job["id"] for job in cli.queue("x")][:3] == [
        numbers[word] for word in ("c", "low", "high")
    ]
    assert cli.run("resume", "x").returncode == 0
    ended(cli, numbers["b"])
    assert words(path) == ["c", "low", "high", "a", "b"]


def test_a_delayed_job_starts_later_and_others_do_not_wait_for_it(cli):
    late = cli.add("-n", "x", "--delay", "1h", "true")
    job = cli.job(late)
    assert (job["state"], job["place"]) == ("delayed", None)
    asleep_in(cli, "x")
    ended(cli, cli.add("-n", "x", "true"))
    soon = cli.add("-n", "x", "--delay", "0.5", "true")
    job = ended(cli, soon)
    assert job["started_at"] >= job["added_at"]
    ((waited,),) = cli.sql(f"SELECT started_ns - added_ns FROM jobs WHERE id = {soon}")
    assert waited >= 0.4 * 10**9, "since it was asked for, a moment before it was accepted"
    assert [one["id"] for one in cli.queue()] == [late]


def test_a_job_that_becomes_due_earlier_wakes_the_worker(cli):
    late = cli.add("-n", "x", "--delay", "1h", "true")
    pid = asleep_in(cli, "x")
    early = cli.add("-n", "x", "--delay", "0.2", "true")
    ended(cli, early)
    assert cli.history("x")[0]["wrapper_pid"] == pid == worker_of(cli, "x")
    assert [one["id"] for one in cli.queue()] == [late]


def test_a_job_follows_another_across_names(cli, tmp_path, gate):
    path = tmp_path / "witness"
    first = cli.add("-n", "a", *gate.command)
    second = cli.add("-n", "b", "--after", str(first), *witness(path, "second"))
    third = cli.add("-n", "c", "--after", str(second), *witness(path, "third"))
    gate.pid()
    job = cli.job(second)
    assert (job["state"], job["after_id"]) == ("delayed", first)
    assert f"after {first}" in cli.run("queue", "b").stdout
    gate.open()
    ended(cli, third)
    assert words(path) == ["second", "third"]
    late = cli.add("-n", "d", "--after", str(first), *witness(path, "late"))
    ended(cli, late)


def test_what_follows_a_failure_is_cancelled_but_not_before_the_last_try(cli, gate):
    cli.run("pause", "a")
    script = f"{Gate.SCRIPT.replace('exec', '')}; exit 1"
    options = ["--retries", "1", "--retry-delay", "0.05"]
    first = cli.add("-n", "a", *options, "sh", "-c", script, *gate.command[3:])
    second = cli.add("-n", "b", "--after", str(first), "true")
    third = cli.add("-n", "c", "--after", str(second), "true")
    cli.run("resume", "a")
    gate.pid()
    Path(f"{gate.command[-1]}.pid").unlink()
    gate.open()
    gate.pid()
    assert [cli.job(number)["state"] for number in (second, third)] == ["delayed", "delayed"]
    gate.open()
    assert ended(cli, first, status=1)["tries"] == 2
    for number, cause in ((second, first), (third, second)):
        job = ended(cli, number, status=125)
        assert (job["state"], job["detail"]) == ("cancelled", f"job {cause} did not succeed")
    late = cli.add("-n", "d", "--after", str(first), "true")
    assert cli.job(late)["state"] == "cancelled"
    assert cli.run("add", "-n", "d", "--after", "999999", "true").returncode == 125


def test_followers_become_ready_even_if_their_worker_cannot_be_started(cli, tmp_path, gate):
    """By then the next job of the queue has been claimed, so it must run."""
    first = cli.add("-n", "a", *gate.command)
    follower = cli.add("-n", "b", "--after", str(first), *witness(tmp_path / "witness", "b"))
    second = cli.add("-n", "a", *witness(tmp_path / "witness", "a"))
    gate.pid()
    fifo = cli.dir / "workers" / "b"
    eventually(lambda: cli.workers("b") == [], "the end of b's worker")
    fifo.unlink()
    fifo.mkdir()
    gate.open()
    assert ended(cli, second)["state"] == "succeeded"
    assert "workers/b" in (cli.dir / "workers.log").read_text()
    fifo.rmdir()
    assert cli.run("reap").stdout == "b: started a worker\n"
    ended(cli, follower)


def test_unique_the_newest_wins_and_the_record_tells(cli, tmp_path, gate):
    path = tmp_path / "witness"
    runs = cli.add("-n", "x", *gate.command)
    gate.pid()
    old, delayed = (
        cli.add("-n", "x", *options, *witness(path, "old"))
        for options in ([], ["--delay", "1h", "--label", "two"])
    )
    new = cli.add("-n", "x", "--unique", *witness(path, "new"))
    for number in (old, delayed):
        job = cli.job(number)
        assert (job["state"], job["detail"]) == ("cancelled", f"replaced by job {new}")
    assert cli.job(runs)["state"] == "running"
    gate.open()
    ended(cli, new)
    assert words(path) == ["new"]


def test_unique_cannot_follow_what_it_replaces(cli):
    first = cli.add("-n", "x", "--delay", "1h", "true")
    result = cli.run("add", "-n", "x", "--unique", "--after", str(first), "true")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (125, "", 1)
    assert [job["id"] for job in cli.queue()] == [first]


def test_a_bounded_queue_refuses_what_is_too_much(cli, gate):
    cli.add("-n", "x", *gate.command)
    gate.pid()
    for _ in range(2):
        cli.add("-n", "x", "--limit", "2", "true")
    for arguments in (["true"], ["--stdin"]):
        result = cli.run("add", "-n", "x", "--limit", "2", *arguments, input="true\n")
        assert (result.returncode, result.stdout) == (75, "")
        assert (
            result.stderr
            == "singlerun: queue x is full: 2 jobs are pending; to see them: singlerun queue x\n"
        )
    assert len(cli.queue()) == 3
    cli.add("-n", "x", "--limit", "2", "--unique", "true")


def test_retries_wait_twice_as_long_each_time(cli, tmp_path):
    path = tmp_path / "witness"
    script = f"echo try >> {path}; [ $(wc -l < {path}) = 4 ]"
    options = ["--retries", "5", "--retry-delay", "0.1"]
    job = ended(cli, cli.add("-n", "x", *options, "sh", "-c", script))
    assert (job["state"], job["tries"], len(words(path))) == ("succeeded", 4, 4)
    times = cli.sql("SELECT started_ns, ended_ns FROM runs ORDER BY id")
    for i, least in enumerate((0.1, 0.2, 0.4)):
        assert times[i + 1][0] - times[i][1] >= least * 1e9
    job = ended(cli, cli.add("-n", "x", "--retries", "1", "--retry-delay", "0", "false"), status=1)
    assert (job["state"], job["tries"]) == ("failed", 2)


def test_two_names_are_worked_off_side_by_side(cli, tmp_path):
    gates = [Gate(tmp_path / name) for name in "ab"]
    numbers = [cli.add("-n", name, *gate.command) for name, gate in zip("ab", gates, strict=True)]
    assert len({gate.pid() for gate in gates}) == 2
    assert [job["state"] for job in cli.queue()] == ["running", "running"]
    for number, gate in zip(numbers, gates, strict=True):
        gate.open()
        ended(cli, number)


# -- the lock -----------------------------------------------------------------------------------


def test_direct_runs_and_jobs_share_one_lock(cli, gate):
    with cli.hold("-n", "x") as holding:
        number = cli.add("-n", "x", *gate.command)
        eventually(lambda: blocked_on(cli.lock_path("x")), "the worker's wait")
        assert cli.job(number)["state"] == "queued"
        assert not gate.has_been_reached()
        holding.release()
    pid = gate.pid()
    refused = cli.run("-n", "x", "true")
    assert refused.returncode == 75
    assert f"PID {pid} " in refused.stderr
    assert cli.run("is-running", "x").returncode == 0
    gate.open()
    ended(cli, number)


def test_direct_runs_and_jobs_take_turns(cli, tmp_path):
    path = tmp_path / "witness"
    gates = [Gate(tmp_path / f"gate-{i}") for i in range(2)]
    for gate in gates:
        cli.add("-n", "x", *gate.command)
    last = cli.add("-n", "x", *witness(path, "job"))
    gates[0].pid()
    direct = []

    def stands_in_line(word):
        command = witness(path, word)
        waiter = cli.start("-w", "-n", "x", *command)
        direct.append(waiter)
        eventually(
            lambda: [
                run
                for run in cli.json("ps")
                if run["wrapper_pid"] == waiter.pid and run["place"] == len(direct)
            ],
            "its place in line",
        )

    stands_in_line("first")
    gates[0].open()
    assert direct[0].wait(PATIENCE) == 0, "though two jobs are pending"
    gates[1].pid()
    assert words(path) == ["first"]
    direct.clear()
    stands_in_line("second")
    stands_in_line("third")
    gates[1].open()
    ended(cli, last)
    assert [process.wait(PATIENCE) for process in direct] == [0, 0]
    assert words(path) == ["first", "second", "third", "job"]


def test_a_job_is_replaced_and_the_queue_goes_on(cli, tmp_path, gate):
    path = tmp_path / "witness"
    first = cli.add("-n", "x", *gate.command)
    second = cli.add("-n", "x", *witness(path, "job"))
    pid, worker = gate.pid(), worker_of(cli, "x")
    result = cli.run("-n", "x", "--replace", *witness(path, "direct"))
    assert (result.returncode, result.stderr) == (0, "")
    assert not is_alive(pid)
    ended(cli, second)
    job = ended(cli, first, status=143)
    assert (job["state"], job["signal"]) == ("failed", 15)
    assert job["detail"].startswith("replaced by run ")
    assert words(path) == ["direct", "job"]
    assert {run["wrapper_pid"] for run in cli.history("x") if run["job_id"]} == {worker}


@pytest.mark.parametrize("target", ["name", "job", "run"])
def test_a_job_is_stopped_and_not_tried_again(cli, gate, target):
    number = cli.add("-n", "x", "--retries", "3", *gate.command)
    following = cli.add("-n", "x", "true")
    pid = gate.pid()
    eventually(lambda: cli.json("ps")[0]["pid"], "the record of the command")
    targets = {"name": "x", "job": str(number), "run": str(cli.job(number)["run_id"])}
    stopped = cli.run("stop", targets[target])
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert not is_alive(pid)
    job = ended(cli, number, status=143)
    assert (job["state"], job["tries"]) == ("failed", 1)
    assert job["detail"].startswith("stopped with singlerun stop, user ")
    assert cli.history("x")[-1]["state"] == "stopped"
    ended(cli, following)
    assert cli.run("stop", str(number)).returncode == 1


def test_a_job_may_use_singlerun_itself(cli, tmp_path):
    path = tmp_path / "out"
    script = f"""
        {BINARY} -n inner echo inside
        {BINARY} -n x -w true; echo refused $?
        {BINARY} add -q -n x sh -c 'echo added >> {path}'
    """
    number = cli.add("-n", "x", "sh", "-c", script)
    job = ended(cli, number)
    (added,) = [one for one in cli.queue("--all") if one["id"] != number]
    ended(cli, added["id"])
    logs = cli.run("logs", str(number))
    first, second, third = logs.stdout.splitlines()
    assert (first, third) == ("inside", "refused 75")
    assert second.startswith("singlerun: x is held by the run that this one is a part of, PID ")
    assert words(path) == ["added"]
    assert cli.last("inner")["parent_id"] == job["run_id"]
    assert cli.job(added["id"])["parent_id"] == job["run_id"]


# -- what is left behind ------------------------------------------------------------------------


def test_a_daemon_left_behind_blocks_nothing(cli, tmp_path):
    cli.run("pause", "x")
    chatty = cli.add("-n", "x", "sh", "-c", "sleep 60 & echo $!")
    quiet = cli.add("-n", "x", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    last = cli.add("-n", "x", "true")
    cli.run("resume", "x")
    ended(cli, last)
    daemons = [int(cli.run("logs", str(number)).stdout) for number in (chatty, quiet)]
    assert all(map(is_alive, daemons))
    assert cli.run("-n", "x", "true").returncode == 0
    kill(*daemons)


def test_a_daemon_of_a_former_job_holds_nothing_when_the_worker_is_killed(cli, gate):
    """One lock serves many jobs, and every process that they leave behind has inherited it."""
    cli.run("pause", "x")
    leaver = cli.add("-n", "x", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    cli.add("-n", "x", *gate.command)
    cli.run("resume", "x")
    pid = gate.pid()
    daemon = int(cli.run("logs", str(leaver)).stdout)
    kill(worker_of(cli, "x"), pid)
    assert is_alive(daemon)
    assert cli.run("-n", "x", "true").returncode == 0
    kill(daemon)


# -- the worker --------------------------------------------------------------------------------


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


def test_a_worker_killed_in_its_sleep_is_made_up_for(cli):
    late = cli.add("-n", "x", "--delay", "1h", "true")
    kill(asleep_in(cli, "x"))
    assert cli.run("reap", "--dry-run").stdout == "x: would start a worker\n"
    assert cli.workers() == []
    assert cli.run("reap").stdout == "x: started a worker\n"
    kill(asleep_in(cli, "x"))
    cli.sql("UPDATE jobs SET not_before_ns = 1")
    assert cli.run("reap").stdout == "x: started a worker\n"
    assert cli.run("reap").stdout == "", "it does already"
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


# -- steering -----------------------------------------------------------------------------------


def test_cancel(cli, gate):
    runs = cli.add("-n", "x", *gate.command)
    gate.pid()
    pending = cli.add("-n", "x", "true")
    follower = cli.add("-n", "y", "--after", str(pending), "true")
    done = cli.run("cancel", str(pending))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    job = cli.job(pending)
    assert (job["state"], job["tries"]) == ("cancelled", 0)
    assert job["detail"].startswith("cancelled, user ")
    assert cli.job(follower)["detail"] == f"job {pending} did not succeed"
    again = cli.run("cancel", str(pending))
    message = f"singlerun: cannot cancel job {pending} of x: its state is cancelled\n"
    assert (again.returncode, again.stderr) == (1, message)
    running = cli.run("cancel", str(runs))
    assert running.returncode == 1
    assert running.stderr.endswith(f"to stop it: singlerun stop {runs}\n")
    unknown = cli.run("cancel", "99999")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert cli.run("cancel", "none").returncode == 2
    gate.open()
    ended(cli, runs)
    assert cli.run("wait", str(pending)).returncode == 125


def test_retry(cli, tmp_path):
    flag = tmp_path / "flag"
    number = cli.add("-n", "x", "test", "-e", str(flag))
    ended(cli, number, status=1)
    flag.touch()
    done = cli.run("retry", str(number))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    job = ended(cli, number)
    assert (job["state"], job["exit_code"]) == ("succeeded", 0)
    assert [run["job_id"] for run in cli.history("x")] == [number, number]
    again = cli.run("retry", str(number))
    message = f"singlerun: cannot retry job {number} of x: its state is succeeded\n"
    assert (again.returncode, again.stderr) == (1, message)
    cancelled = cli.add("-n", "x", "--delay", "1h", "true")
    assert cli.run("retry", str(cancelled)).returncode == 1
    assert cli.run("cancel", str(cancelled)).returncode == 0
    assert cli.run("retry", str(cancelled)).returncode == 0
    ended(cli, cancelled)


def test_move_tells_what_does_not_wait(cli):
    number = cli.add("-n", "x", "true")
    ended(cli, number)
    moved = cli.run("move", str(number), "--first")
    message = f"singlerun: cannot move job {number} of x: its state is succeeded\n"
    assert (moved.returncode, moved.stderr) == (1, message)
    assert cli.run("move", str(number)).returncode == 2


@pytest.mark.parametrize("verb", ["cancel", "retry", "resume", "stop", "wait", "logs", "move"])
def test_where_nothing_has_been_queued_yet(cli, verb):
    more = ["--first"] if verb == "move" else []
    result = cli.run(verb, "7", *more)
    assert result.returncode == (125 if verb == "wait" else 1)
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert cli.queue() == []
    assert not cli.dir.exists(), "looking creates nothing"


def test_a_paused_name_starts_nothing_until_it_is_resumed(cli, gate):
    number = cli.add("-n", "x", *gate.command)
    gate.pid()
    paused = cli.run("pause", "x")
    assert (paused.returncode, paused.stdout, paused.stderr) == (0, "", "")
    pending = cli.add("-n", "x", "true")
    gate.open()
    assert ended(cli, number)["state"] == "succeeded", "what runs goes on"
    eventually(lambda: not cli.workers(), "the worker's end")
    assert cli.job(pending)["state"] == "paused" or cli.queue()[0]["state"] == "paused"
    for options, status in ([], 75), (["-w"], 75), (["--skip"], 0), (["-E", "9"], 9):
        refused = cli.run(*options, "-n", "x", "echo", "ran")
        assert (refused.returncode, refused.stdout) == (status, "")
        assert ("x is paused" in refused.stderr) == (options != ["--skip"])
    assert cli.last("x")["state"] == "refused"
    assert cli.run("-n", "y", "true").returncode == 0
    assert cli.run("resume", "x").returncode == 0
    ended(cli, pending)
    assert cli.run("-n", "x", "true").returncode == 0
    again = cli.run("resume", "x")
    assert (again.returncode, again.stderr) == (1, "singlerun: x is not paused\n")


def test_a_pause_ends_by_itself_and_says_when(cli):
    cli.run("pause", "x", "--for", "2h")
    refused = cli.run("-n", "x", "true")
    assert refused.returncode == 75
    assert re.search(r"^singlerun: x is paused.* until .*\d\d:\d\d", refused.stderr)
    number = cli.add("-n", "x", "true")
    (job,) = cli.queue("x")
    assert (job["id"], job["state"]) == (number, "paused")
    assert job["starts_at"] > job["added_at"]
    asleep_in(cli, "x")
    assert cli.run("pause", "x", "--for", "0.7").returncode == 0, "which wakes it"
    ended(cli, number)
    ((late,),) = cli.sql("SELECT started_ns - until_ns FROM jobs JOIN pauses USING (name)")
    assert late >= 0
    assert cli.run("-n", "x", "true").returncode == 0


# -- looking ------------------------------------------------------------------------------------


def test_queue_shows_what_there_is(cli, gate):
    assert cli.run("queue").stdout == "ID  NAME  STATE  LABEL  TRIES  STARTS  COMMAND\n"
    numbers = [
        cli.add("-n", "x", *arguments)
        for arguments in (
            gate.command, ["--label", "second", "echo", "a b"], ["--delay", "2h", "true"],
        )
    ]  # fmt: skip
    gate.pid()
    lines = cli.run("queue", "x").stdout.splitlines()
    assert [int(line.split()[0]) for line in lines[1:]] == numbers
    assert re.search(r" running +- +1 +\S+ ago +sh -c", lines[1])
    assert re.search(r" queued #1 +second +0 +- +echo 'a b'$", lines[2])
    assert re.search(r" delayed +- +0 +in (2h|1h 59m) +true$", lines[3])
    first, second, third = cli.queue()
    assert (first["state"], first["place"], first["tries"]) == ("running", None, 1)
    assert (second["state"], second["place"], second["label"]) == ("queued", 1, "second")
    assert (third["state"], third["place"]) == ("delayed", None)
    assert third["starts_at"] > third["added_at"]
    assert first["cwd"] == os.getcwd()
    assert cli.queue("y") == []
    shown = cli.run("ps").stdout
    assert "queued #1" in shown
    assert "delayed" in shown


def test_queue_watches_until_ctrl_c(cli):
    cli.add("-n", "x", "--delay", "1h", "true")
    terminal = pexpect.spawn(str(BINARY), ["queue", "--watch"], env=cli.env, timeout=PATIENCE)
    terminal.expect("delayed")
    cli.run("cancel", str(cli.queue()[0]["id"]))
    cli.add("-n", "y", "--delay", "1h", "--label", "newcomer", "true")
    terminal.expect("newcomer")
    terminal.sendintr()
    shown = terminal.read()
    terminal.close()
    assert b"Traceback" not in shown


def test_logs_follow_a_job_to_its_end(cli, gate):
    cli.run("pause", "x")
    number = cli.add("-n", "x", *gate.command)
    follower = cli.start("logs", "-f", str(number), stdout=subprocess.PIPE)
    cli.run("resume", "x")
    assert follower.stdout.readline() == b"at the gate\n"
    assert follower.poll() is None
    gate.open()
    assert follower.wait(PATIENCE) == 0


# -- the worker ---------------------------------------------------------------------------------


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
