"""``singlerun history`` answers what was refused, what failed, and why, without --json."""

import json
import os
import re

import pexpect
import pytest
from conftest import PATIENCE, eventually

CUT = "older runs are not shown; to see more: --limit"


def table(cli, *arguments):
    """Return the rows of the history, each by its columns."""
    result = cli.run("history", *arguments)
    assert result.returncode == 0, result.stderr
    header, *rows = [line.split("\t") for line in result.stdout.splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def age(cli, name, days):
    """Make the runs of a name as old as that."""
    older = days * 86400 * 10**9
    cli.sql(
        f"UPDATE runs SET asked_ns = asked_ns - {older}, started_ns = started_ns - {older},"
        f" ended_ns = ended_ns - {older} WHERE names = CAST('{name}' AS BLOB)"
    )


def test_why_was_it_skipped(cli):
    with cli.hold("-n", "backup") as holding:
        for _ in range(3):
            assert cli.run("-n", "backup", "--skip", "true").returncode == 0
    skipped, holder = table(cli, "backup")
    assert skipped["STATE"] == "skipped 3x"
    assert skipped["REASON"].startswith(f"held by PID {holding.pid} (")
    assert re.search(r", first at \d\d:\d\d:\d\d$", skipped["REASON"])
    assert (holder["STATE"], holder["REASON"]) == ("succeeded", "-")


def test_what_failed_since_yesterday(cli):
    cli.run("-n", "old", "false")
    age(cli, "old", 3)
    cli.run("-n", "fine", "true")
    cli.run("-n", "status", "sh", "-c", "exit 3")
    cli.run("-n", "killed", "sh", "-c", "kill -9 $$")
    cli.run("-n", "slow", "-t", "0.1", "sleep", "60")
    cli.run("-n", "missing", "no-such-program")
    found = {row["NAME"]: row["REASON"] for row in table(cli, "--failed", "--since", "yesterday")}
    assert found.pop("slow").startswith("timed out after 0.")
    assert found.pop("missing").startswith("no-such-program: ")
    assert found == {"status": "exit status 3", "killed": "killed by SIGKILL"}
    assert {row["NAME"] for row in table(cli, "--failed")} >= {"old", "status"}
    assert [row["NAME"] for row in table(cli, "--until", "1d")] == ["old"]


def test_each_reason_that_is_no_failure(cli):
    cli.run("pause", "paused")
    cli.run("-n", "paused", "true")
    for _ in range(2):
        cli.run("-n", "limited", "--min-interval", "1h", "true")
    with cli.hold("-n", "stopped"):
        cli.run("stop", "stopped")
    user = re.escape(os.environ.get("USER") or "root")
    patterns = {
        "paused": rf"paused by {user}",
        "limited": r"too soon: 1h between starts",
        "stopped": rf"stopped with singlerun stop, user {user}",
    }
    found = {row["NAME"]: row["REASON"] for row in table(cli) if row["REASON"] != "-"}
    assert set(found) == set(patterns)
    for name, pattern in patterns.items():
        assert re.fullmatch(pattern, found[name]), found[name]


def test_how_long_it_waited(cli):
    with cli.hold("-n", "x") as holding:
        waiting = cli.start("-n", "x", "-w", "true")
        eventually(lambda: cli.sql("SELECT 1 FROM runs WHERE state = 'waiting'"), "the waiter")
        assert next(row["TIME"] for row in table(cli) if row["STATE"] == "waiting") == "-"
        holding.release()
        assert waiting.wait(PATIENCE) == 0
    cli.sql("UPDATE runs SET asked_ns = started_ns - 90000000000 WHERE id = 2")
    cli.sql("UPDATE runs SET asked_ns = started_ns - 90000000 WHERE id = 1")
    assert [row["WAITED"] for row in table(cli)] == ["1m 30s", "-"]


def test_names_and_states_choose(cli):
    for name in ("db-load", "db-dump", "web"):
        cli.run("-n", name, "true")
        cli.run("-n", name, "false")
    names = lambda *arguments: [row["NAME"] for row in table(cli, *arguments)]  # noqa: E731
    assert names("--name", "db-*", "--failed") == ["db-dump", "db-load"]
    assert names("--name", "web", "--name", "*load") == ["web"] * 2 + ["db-load"] * 2
    assert names("web", "--state", "succeeded") == ["web"]
    assert (
        len(names("--state", "succeeded,failed"))
        == len(names("--state=failed", "--state=succeeded"))
        == 6
    )
    assert names("--refused") == []
    bad = cli.run("history", "--state", "faild")
    assert bad.returncode == 2
    assert "there is no state 'faild'; there are: waiting, running, succeeded" in bad.stderr
    assert cli.run("history", "--since", "1h", "--until", "2h").returncode == 2
    assert "bad time 'soon'" in cli.run("history", "--since", "soon").stderr


def test_what_is_cut_says_so_and_never_in_the_data(cli):
    for _ in range(4):
        cli.run("-n", "x", "true")
    for arguments in (["--limit", "3"], ["--limit", "3", "--format", "id"]):
        result = cli.run("history", *arguments)
        assert result.stderr == f"singlerun: {CUT} 30\n"
        assert CUT not in result.stdout
    for limit, truncated in ((3, True), (4, False)):
        result = cli.run("history", "--json", "--limit", str(limit))
        document = json.loads(result.stdout)
        assert (document["truncated"], len(document["runs"])) == (truncated, limit)
        assert result.stderr == ""
        lines = [json.loads(line) for line in cli.run(
            "history", "--json-lines", "--limit", str(limit)
        ).stdout.splitlines()]  # fmt: skip
        assert lines == document["runs"] + [{"truncated": True}] * truncated
    assert cli.run("history", "--limit", "4").stderr == ""


def test_json_lines_are_complete_without_a_limit(cli):
    for _ in range(25):
        cli.run("-n", "x", "true")
    with cli.hold("-n", "x"):
        for _ in range(2):
            cli.run("-n", "x", "true")
        lines = cli.run("history", "--json-lines").stdout.splitlines()
    runs = [json.loads(line) for line in lines]
    assert [run["id"] for run in runs] == sorted((run["id"] for run in runs), reverse=True)
    assert len(runs) == 28, "data is not folded"
    assert {run["reason"] for run in runs[:2]} == {
        run["reason"] for run in runs[:2] if run["reason"]
    }


@pytest.mark.parametrize("option", ["--json", "--format=id"])
def test_json_lines_exclude_other_forms(cli, option):
    result = cli.run("history", "--json-lines", option)
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot be combined" in result.stderr


def test_an_empty_history_says_what_to_type_next(cli):
    def shown(*arguments):
        child = pexpect.spawn(
            str(cli.binary), ["history", *arguments], env=cli.env | {"TERM": "xterm"}
        )
        child.expect(pexpect.EOF)
        child.close()
        return child.before.decode().strip()

    assert shown() == "No runs are recorded yet; the first one could be: singlerun echo hello"
    cli.run("-n", "x", "true")
    assert shown("y") == "No runs of y are recorded; to see all: singlerun history"
    assert shown("--failed") == "No such runs are recorded; to see all: singlerun history"
