"""What ps tells: reasons, expectations, paused names, and where a zombie was last seen."""

import json
import time

from conftest import blocked_on, eventually
from queues import ended, kill


def rows(cli, *arguments):
    """Return the rows of ps, each by its columns."""
    header, *lines = cli.run("ps", *arguments).stdout.splitlines()
    columns = header.split("\t")
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]


def document(cli):
    return json.loads(cli.run("ps", "--json").stdout)


def test_paused_names_are_shown_although_nothing_of_them_runs(cli):
    cli.run("pause", "one", "--for", "2h")
    cli.run("pause", "two words")
    one, two = rows(cli)
    assert (one["NAME"], one["STATE"], one["ID"]) == ("one", "paused", "-")
    assert one["REASON"].startswith(f"by {one['USER']} until ")
    assert one["REASON"].endswith(("(in 2h)", "(in 1h 59m)"))
    assert two["REASON"] == f"by {two['USER']}; singlerun resume 'two words'"
    first, second = document(cli)["paused"]
    assert (first["name"], first["user"]) == ("one", one["USER"])
    assert first["since"] < first["until"]
    assert second["until"] is None
    assert [row["NAME"] for row in rows(cli, "two words")] == ["two words"]
    cli.run("pause", "one", "--for", "0.001")
    cli.run("resume", "two words")
    assert eventually(lambda: not rows(cli), "the end of the pause")


def test_a_run_tells_how_long_it_usually_takes(cli):
    cli.run("-n", "x", "sleep", "0.1")
    with cli.hold("-n", "x"):
        (row,) = rows(cli)
        assert " of ~0.1s" in row["TIME"]
        (run,) = document(cli)["runs"]
        assert 0.1 <= run["usual_s"] < 60
        assert run["overlong"] is False
        cli.sql("UPDATE runs SET started_ns = started_ns - 7200000000000 WHERE ended_ns IS NULL")
        (row,) = rows(cli)
        assert row["TIME"].startswith("2h")
        assert row["REASON"] == f"overlong; singlerun stop {row['ID']}"
        assert document(cli)["runs"][0]["overlong"] is True


def test_a_waiter_tells_what_it_waits_for_and_when_it_starts(cli):
    cli.run("-n", "x", "true")
    cli.sql("UPDATE runs SET elapsed_ns = 7200000000000")
    with cli.hold("-n", "x") as holding:
        waiting = cli.start("-w", "-n", "x", "true")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiter")
        row = next(row for row in rows(cli) if row["STATE"] == "waiting #1")
        assert row["REASON"] == f"held by PID {holding.pid}; starts in ~2h"
        holder, waiter = document(cli)["runs"]
        assert waiter["held_by"] == holder["id"]
        assert waiter["expected_start_at"] == holder["expected_end_at"]
    assert waiting.wait() == 0


def test_slots_that_are_taken_and_shared_locks(cli):
    with cli.hold("-j", "3", "-n", "x"), cli.hold("-j", "3", "-n", "x"), cli.hold("-s", "-n", "y"):
        assert [row["REASON"] for row in rows(cli)] == ["2 of 3 slots", "2 of 3 slots", "shared"]
        assert [run["slots_taken"] for run in document(cli)["runs"]] == [2, 2, None]


def test_a_retry_tells_when_it_comes(cli):
    trying = cli.start("-n", "x", "--retries", "3", "--retry-delay", "1h", "false")
    (row,) = eventually(
        lambda: [row for row in rows(cli) if row["STATE"] == "waiting"], "the next try"
    )
    assert row["REASON"] in {"next try in 1h", "next try in 59m 59s"}
    (run,) = document(cli)["runs"]
    assert run["next_try_at"] > run["asked_at"]
    trying.terminate()
    trying.wait()
    assert rows(cli) == []


def test_a_job_shows_its_number_label_and_try(cli, gate):
    cli.run("pause", "x")
    number = cli.add("-n", "x", "--label", "monday", "--retries", "2", *gate.command)
    after = cli.add("-n", "x", "--after", str(number), "true")
    later = cli.add("-n", "x", "--delay", "1h", "true")
    cli.run("resume", "x")
    gate.pid()
    first, *others = rows(cli)
    assert (first["STATE"], first["JOB"], first["REASON"]) == ("running", str(number), "monday")
    assert first["ID"] != first["JOB"]
    told = {int(row["ID"]): row["REASON"] for row in others}
    assert told[after] == f"after job {number}"
    assert told[later] in {"in 1h", "in 59m 59s"}
    assert document(cli)["runs"][0]["label"] == "monday"
    gate.open()
    ended(cli, number)


def test_jobs_that_are_not_shown_are_counted(cli):
    cli.run("pause", "x")
    cli.add("-n", "x", "--stdin", input="true\n" * 25)
    shown = cli.run("ps")
    assert shown.stdout.count("\n") == 22
    assert shown.stderr == "singlerun: 5 more jobs are pending; to see them: singlerun queue\n"
    assert document(cli)["truncated"] is True


def test_the_time_of_a_zombie_ends_where_it_was_last_seen(cli):
    holding = cli.start("-n", "x", "sh", "-c", "echo; exec sleep 1000", stdout=-1)
    holding.stdout.readline()
    pid = eventually(lambda: cli.json("ps")[0]["pid"], "the record of the command")
    cli.run("-n", "x", "true")
    kill(holding.pid, pid)
    ((refused_ns,),) = cli.sql("SELECT max(ended_ns) FROM runs WHERE state = 'refused'")
    cli.sql("UPDATE runs SET started_ns = started_ns - 7200000000000 WHERE ended_ns IS NULL")
    (row,) = rows(cli)
    assert row["STATE"] == "zombie"
    assert row["REASON"].startswith("last seen ")
    assert row["REASON"].endswith("; singlerun reap")
    before = cli.json("ps")[0]["elapsed_s"]
    ((started_ns,),) = cli.sql("SELECT started_ns FROM runs WHERE ended_ns IS NULL")
    assert before == (refused_ns - started_ns) / 1e9
    assert time.time_ns() > refused_ns
    assert cli.json("ps")[0]["elapsed_s"] == before, "it does not go on"


def test_an_orphan_names_what_stops_it(cli):
    with cli.hold("-n", "x") as holding:
        kill(holding.wrapper.pid)
        (row,) = rows(cli)
        assert (row["STATE"], row["PID"]) == ("orphan", str(holding.pid))
        assert row["REASON"] == f"its singlerun died; singlerun stop {row['ID']}"
        assert cli.run(*row["REASON"].partition("; singlerun ")[2].split()).returncode == 0
        assert rows(cli) == []
