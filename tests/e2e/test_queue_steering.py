"""Steering a queue and looking at it."""

import json
import os
import re
import subprocess

import pytest
from conftest import PATIENCE, eventually
from queues import asleep_in, ended

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
    header = [
        "ID",
        "NAME",
        "STATE",
        "LABEL",
        "TRIES",
        "STARTS",
        "TIME",
        "EXIT",
        "REASON",
        "COMMAND",
    ]
    assert cli.run("queue").stdout == "\t".join(header) + "\n"
    numbers = [
        cli.add("-n", "x", *arguments)
        for arguments in (
            gate.command, ["--label", "second", "echo", "a b"], ["--delay", "2h", "true"],
        )
    ]  # fmt: skip
    gate.pid()
    rows = [line.split("\t") for line in cli.run("queue", "x").stdout.splitlines()[1:]]
    assert [int(row[0]) for row in rows] == numbers
    assert [row[2:5] for row in rows] == [
        ["running", "-", "1"], ["queued #1", "second", "0"], ["delayed", "-", "0"],
    ]  # fmt: skip
    assert rows[0][5].endswith(" ago")
    assert rows[0][6] != "-"
    assert rows[1][5:] == ["-", "-", "-", "-", "echo 'a b'"]
    assert rows[2][5] in {"in 2h", "in 1h 59m"}
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


def test_queue_shows_how_jobs_ended_and_filters(cli):
    number = cli.add("-n", "x", "sh", "-c", "exit 3")
    ended(cli, number, status=3)
    done = cli.add("-n", "x", "--label", "import a", "true")
    ended(cli, done)
    cli.run("pause", "x")
    paused = cli.add("-n", "x", "--label", "import b", "true")
    other = cli.add("-n", "y", "--delay", "1h", "true")
    rows = {
        line.split("\t")[0]: line.split("\t") for line in cli.run("queue", "-a").stdout.splitlines()
    }
    assert (rows[str(number)][2], rows[str(number)][7:9]) == ("failed", ["3", "exit status 3"])
    assert rows[str(done)][7] == "0"
    assert rows[str(done)][6].endswith("s")
    assert rows[str(paused)][8] == "its name is paused; singlerun resume x"

    def ids(*arguments):
        return [job["id"] for job in cli.queue(*arguments)]

    assert ids("--state", "failed") == [number]
    assert ids("--state", "failed,succeeded") == ids("--state", "failed", "--state", "succeeded")
    assert ids("--state", "paused") == [paused]
    assert ids("--state", "queued") == []
    assert ids("--state", "delayed") == [other]
    assert ids("--label", "import*") == [paused]
    assert ids("--all", "--label", "import*") == [paused, done]
    assert ids("x", "--all", "--limit", "2") == [paused, done]
    unknown = cli.run("queue", "--state", "x")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)


def test_queue_tells_of_what_it_does_not_show(cli):
    cli.run("pause", "x")
    cli.add("-n", "x", "--stdin", input="true\n" * 3)
    shown = cli.run("queue", "--limit", "2")
    assert shown.stdout.count("\n") == 3
    assert shown.stderr == "singlerun: only the first 2 jobs are shown; for more: --limit 20\n"
    document = json.loads(cli.run("queue", "--limit", "2", "--json").stdout)
    assert document["truncated"] is True
    assert document["totals"]["queued"] == 3
    assert [(pause["name"], pause["until"]) for pause in document["paused"]] == [("x", None)]
    assert json.loads(cli.run("queue", "--limit", "3", "--json").stdout)["truncated"] is False


def test_logs_follow_a_job_to_its_end(cli, gate):
    cli.run("pause", "x")
    number = cli.add("-n", "x", *gate.command)
    follower = cli.start("logs", "-f", str(number), stdout=subprocess.PIPE)
    cli.run("resume", "x")
    assert follower.stdout.readline() == b"at the gate\n"
    assert follower.poll() is None
    gate.open()
    assert follower.wait(PATIENCE) == 0
