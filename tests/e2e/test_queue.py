"""Queues: jobs run in order, one by one, under the lock that direct runs take."""

from pathlib import Path

import pytest
from conftest import BINARY, PATIENCE, Gate, blocked_on, eventually, is_alive
from queues import asleep_in, ended, kill, witness, words, worker_of

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


def test_a_second_after_is_refused(cli):
    first = str(cli.add("-n", "a", "true"))
    result = cli.run("add", "-n", "b", "--after", first, "--after", first, "true")
    assert result.returncode == 2
    assert "--after takes only one ID" in result.stderr


def test_queued_jobs_have_their_place_among_all(cli, gate):
    first = cli.add("-n", "x", *gate.command)
    gate.pid()
    second, third = cli.add("-n", "x", "true"), cli.add("-n", "x", "--priority", "1", "true")
    places = {job["id"]: job["place"] for job in cli.queue("--all", "x")}
    assert places == {first: None, second: 2, third: 1}
    assert [job["place"] for job in cli.queue("--all", "--limit", "1", "x")] == [1]
    gate.open()
