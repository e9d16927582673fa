"""What users see: ps, history, is-running, as tables and as JSON."""

import json
import re
import subprocess

import pytest
from conftest import need

from singlerun.options import SUBCOMMANDS

KEYS = [
    "id", "name", "names", "state", "command", "pid", "wrapper_pid", "user", "host", "cwd",
    "lock_file", "shared", "slots", "token", "asked_at", "started_at", "ended_at", "elapsed_s",
    "exit_code", "signal", "user_cpu_s", "system_cpu_s", "max_rss_kb", "parent_id", "conflict_id",
    "job_id", "detail", "reason", "waited_s", "place",
]  # fmt: skip
EXPECTED_KEYS = [
    "label", "usual_s", "overlong", "slots_taken", "held_by", "expected_start_at",
    "expected_end_at", "next_try_at", "last_seen_at",
]  # fmt: skip
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def test_nothing_makes_nothing(cli):
    for arguments in (["ps"], ["history"], ["queue"], ["reap"], ["is-running", "x"]):
        result = cli.run(*arguments)
        assert result.returncode == (1 if arguments[0] == "is-running" else 0)
        assert result.stderr == ""
    assert not cli.dir.exists(), "looking makes no state directory"


def test_plain_table_in_a_pipe(cli):
    with cli.hold("-n", "x") as holding:
        header, row = cli.run("ps").stdout.splitlines()
        assert header.split() == [
            "ID", "NAME", "STATE", "JOB", "PID", "USER", "TIME", "REASON", "COMMAND",
        ]  # fmt: skip
        cells = row.split()
        assert cells[:4] == ["1", "x", "running", "-"]
        assert cells[4] == str(holding.pid)
        assert row.endswith("sh -c 'echo $$; exec cat'")
        assert "\x1b" not in row
    assert cli.run("ps").stdout.split() == header.split()


def test_a_pipe_is_not_cut_to_any_width(cli):
    name = "n" * 300
    cli.run("-n", name, "true", "y" * 300)
    row = cli.run("history").stdout.splitlines()[1]
    assert name in row
    assert "y" * 300 in row


def test_json_has_its_keys_and_types(cli):
    with cli.hold("-n", "x", "-n", "y") as holding:
        document = json.loads(cli.run("ps", "--json").stdout)
        assert list(document) == ["schema", "runs", "jobs", "paused", "truncated"]
        (run,) = document["runs"]
        assert list(run) == KEYS + EXPECTED_KEYS
        assert run["pid"] == holding.pid
        assert run["wrapper_pid"] == holding.wrapper.pid
        assert run["names"] == ["x", "y"]
        assert run["command"] == ["sh", "-c", "echo $$; exec cat"]
        assert re.fullmatch(TIME, run["started_at"])
        assert run["ended_at"] is None
        assert run["elapsed_s"] >= 0
        assert document["jobs"] == []
    run = cli.last()
    assert re.fullmatch(TIME, run["ended_at"])
    assert (run["exit_code"], run["signal"]) == (0, None)


JOB_KEYS = [
    "id", "name", "state", "place", "is_stranded", "label", "command", "priority", "pid",
    "wrapper_pid", "user", "host", "cwd", "tries", "retries", "after_id", "run_id", "parent_id",
    "added_at", "starts_at", "started_at", "ended_at", "elapsed_s", "exit_code", "signal", "detail",
    "expected_start_at",
]  # fmt: skip


def test_json_of_jobs_has_its_keys_and_types(cli):
    cli.run("pause", "x")
    assert cli.run("add", "-n", "x", "--label", "y", "true").stdout == "1\n"
    for form in ("queue", "ps"):
        (job,) = json.loads(cli.run(form, "--json").stdout)["jobs"]
        assert list(job) == JOB_KEYS
        assert (job["id"], job["name"], job["label"], job["command"]) == (1, "x", "y", ["true"])
        assert (job["tries"], job["run_id"], job["started_at"]) == (0, None, None)
        assert re.fullmatch(TIME, job["added_at"])
    cli.run("resume", "x")
    assert cli.run("wait", "1").returncode == 0
    document = json.loads(cli.run("queue", "--all", "--json").stdout)
    assert list(document) == ["schema", "jobs", "totals", "paused", "truncated"]
    assert document["totals"]["succeeded"] == 1
    (job,) = document["jobs"]
    assert (job["state"], job["tries"], job["exit_code"]) == ("succeeded", 1, 0)
    assert re.fullmatch(TIME, job["ended_at"])
    assert job["elapsed_s"] >= 0
    run = cli.last()
    assert (run["id"], run["job_id"]) == (job["run_id"], 1)


def test_all_shows_the_latest_that_ended_too(cli):
    for i in range(25):
        cli.run("-n", f"n{i}", "true")
    with cli.hold("-n", "x"):
        assert len(cli.json("ps")) == 1
        assert [run["name"] for run in cli.json("ps", "--all")] == [
            *(f"n{i}" for i in range(5, 25)), "x",
        ]  # fmt: skip


def test_ps_of_names(cli):
    with cli.hold("-n", "x", "-n", "y"), cli.hold("-n", "z"):
        assert len(cli.json("ps", "y")) == 1
        assert len(cli.json("ps", "y", "z")) == 2
        assert cli.json("ps", "none") == []


def test_tree_indents_nested_runs(cli):
    script = f"{cli.binary} -n inner {cli.binary} ps --tree; true"
    lines = cli.run("-n", "outer", "sh", "-c", script).stdout.splitlines()
    assert re.match(r"\d+\touter\trunning", lines[1])
    assert re.match(r"\d+\t└─ inner\trunning", lines[2])


def test_history_shows_how_each_ended(cli):
    cli.run("-n", "a", "true")
    cli.run("-n", "b", "sh", "-c", "exit 3")
    cli.run("-n", "c", "sh", "-c", "kill -9 $$")
    cli.run("-n", "d", "no-such-program")
    with cli.hold("-n", "e"):
        cli.run("-n", "e", "true")
        cli.run("--skip", "-n", "e", "true")
    rows = [line.split() for line in cli.run("history").stdout.splitlines()[1:]]
    found = {(row[1], row[2]) for row in rows}
    assert found == {
        ("a", "succeeded"), ("b", "failed"), ("c", "failed"), ("d", "failed"),
        ("e", "succeeded"), ("e", "refused"), ("e", "skipped"),
    }  # fmt: skip
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=int, reverse=True)
    assert len(cli.run("history", "e", "--limit", "2").stdout.splitlines()) == 3


def test_refusals_name_the_run_that_held(cli):
    with cli.hold("-n", "x"):
        cli.run("-n", "x", "true")
    refused, holder = cli.history("x")
    assert refused["conflict_id"] == holder["id"]
    assert f"PID {holder['pid']} " in refused["detail"]


def test_is_running_asks_the_lock_and_not_the_record(cli):
    need("flock")
    cli.run("-n", "x", "true")
    assert cli.run("is-running", "x").returncode == 1
    with subprocess.Popen(
        ["flock", cli.lock_path("x"), "sh", "-c", "echo held; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        other.stdout.readline()
        result = cli.run("is-running", "x")
        assert result.returncode == 0
        assert "x is held by PID" in result.stdout
        assert cli.run("is-running", "x", "--quiet").stdout == ""
        assert json.loads(cli.run("is-running", "x", "--json").stdout)["held"] is True
        other.stdin.close()


def test_is_running_works_with_a_broken_record(cli):
    with cli.hold("-n", "x"):
        (cli.dir / "singlerun.db").write_bytes(b"garbage" * 999)
        (cli.dir / "singlerun.db-wal").unlink(missing_ok=True)
        (cli.dir / "singlerun.db-shm").unlink(missing_ok=True)
        assert cli.run("is-running", "x").returncode == 0


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_subcommand_has_help_with_an_example(cli, command):
    result = cli.run(command, "--help")
    assert result.returncode == 0
    assert "Example" in result.stdout
    assert f"singlerun {command}" in result.stdout


def test_directory_may_be_named_before_and_after_the_subcommand(cli, tmp_path):
    env = {key: value for key, value in cli.env.items() if key != "SINGLERUN_DIR"}
    where = str(tmp_path / "other")
    cli.run("--dir", where, "-n", "x", "true", env=env)
    for arguments in (["--dir", where, "history"], ["history", "--dir", where]):
        assert "\tx\t" in cli.run(*arguments, env=env).stdout


def test_version(cli):
    from singlerun import __version__

    assert cli.run("--version").stdout == f"singlerun {__version__}\n"


def test_is_running_names_all_holders_of_a_shared_lock(cli):
    with cli.hold("-s", "-n", "x") as one, cli.hold("-s", "-n", "x") as other:
        document = json.loads(cli.run("is-running", "x", "--json").stdout)
        assert document["pids"] == [one.pid, other.pid]
        assert len(document["runs"]) == 2
        assert cli.run("is-running", "x").stdout.count("\n") == 2


def test_is_running_of_a_lock_file(cli, tmp_path):
    path = str(tmp_path / "chosen")
    assert cli.run("is-running", "--lock-file", path).returncode == 1
    with cli.hold("--lock-file", path) as holding:
        result = cli.run("is-running", "--lock-file", path)
        assert result.returncode == 0
        assert f"PID {holding.pid} " in result.stdout
    assert cli.run("is-running", "--lock-file", path).returncode == 1
    with subprocess.Popen(
        ["flock", path, "sh", "-c", "echo held; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        other.stdout.readline()
        assert cli.run("is-running", "--lock-file", path).returncode == 0
        other.stdin.close()
    assert cli.run("is-running").returncode == 2
    assert cli.run("is-running", "x", "--lock-file", path).returncode == 2
