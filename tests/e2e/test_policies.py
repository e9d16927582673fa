"""Policies: coalesce, min-interval, max-starts, jitter, and runs inside runs."""

import re
import subprocess

import pytest
from conftest import BINARY, PATIENCE, blocked_on, eventually


def test_coalesce_waits_unless_another_run_waits(cli, tmp_path):
    witness = tmp_path / "witness"
    with cli.hold("-n", "x") as holding:
        first = cli.start("--coalesce", "-n", "x", "sh", "-c", f"echo first >> {witness}")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        for _ in range(3):
            result = cli.run("--coalesce", "-n", "x", "sh", "-c", f"echo more >> {witness}")
            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
            assert cli.last("x")["state"] == "skipped"
        holding.release()
        assert first.wait(PATIENCE) == 0
    assert witness.read_text() == "first\n"
    assert cli.run("--coalesce", "-n", "x", "echo", "free").stdout == "free\n"
    assert cli.json("ps") == []


def test_min_interval_refuses_what_comes_too_soon(cli):
    assert cli.run("-n", "x", "--min-interval", "1h", "true").returncode == 0
    result = cli.run("-n", "x", "--min-interval", "1h", "true")
    assert result.returncode == 75
    assert re.fullmatch(
        r"singlerun: x was started too recently: 1h between starts,"
        r" the next at (\d+-\d\d-\d\d )?\d\d:\d\d(:\d\d)? \(in (59m.*|1h)\)\n",
        result.stderr,
    )
    assert cli.last("x")["state"] == "refused"
    assert cli.run("-n", "x", "--min-interval", "1h", "--skip", "true").stderr == ""
    assert cli.run("-n", "other", "--min-interval", "1h", "true").returncode == 0
    assert cli.run("-n", "x", "--min-interval", "0.001", "true").returncode == 0


def test_interval_counts_from_the_start_and_refusals_do_not_count(cli):
    cli.run("-n", "x", "true")
    for _ in range(2):
        assert cli.run("-n", "x", "--min-interval", "1h", "true").returncode == 75
    cli.sql("UPDATE runs SET started_ns = started_ns - 3600e9 WHERE started_ns")  # an hour ago
    assert cli.run("-n", "x", "--min-interval", "1h", "true").returncode == 0


def test_max_starts_in_a_period(cli):
    statuses = [cli.run("-n", "x", "--max-starts", "3/1h", "true").returncode for _ in range(5)]
    assert statuses == [0, 0, 0, 75, 75]
    refused = cli.run("-n", "x", "--max-starts", "3/1h", "true").stderr
    assert "x was started too recently: 3 starts in 1h, the next at " in refused
    assert cli.last("x")["detail"] == "too soon: 3 starts in 1h"
    assert cli.run("-n", "x", "--max-starts", "4/1h", "true").returncode == 0


def test_all_limits_count_for_all_names(cli):
    def status(*options):
        return cli.run(*options, "true").returncode

    assert status("-n", "x") == status("-n", "x") == 0
    cli.sql("UPDATE runs SET started_ns = started_ns - 7200e9 WHERE id = 1")  # two hours ago
    assert status("-n", "x", "--max-starts", "3/9h", "--min-interval", "1h") == 75, "the latest"
    assert status("-n", "x", "--min-interval", "1h", "--max-starts", "1/0.001") == 75, "the longer"
    for names in (("-n", "x", "-n", "y"), ("-n", "y", "-n", "x")):
        assert status(*names, "--min-interval", "1h") == 75, "any of them"
    assert status("-n", "x", "--max-starts", "2/1h") == 0, "the first is out of the period"


@pytest.mark.parametrize("rate", ["3", "3/", "/1h", "0/1h", "3/0", "x/1h", "3/1x"])
def test_bad_rates_say_how_to_write_them(cli, rate):
    result = cli.run("-n", "x", "--max-starts", rate, "true")
    assert result.returncode == 125
    assert "3/1h" in result.stderr


def test_jitter_is_the_same_for_one_name_and_less_than_asked():
    from singlerun.options import split
    from singlerun.runner import jitter_of
    from singlerun.spec import RunSpec

    def jitter(name, text="100"):
        words = split(["-n", name, "--jitter", text, "true"])
        return jitter_of(RunSpec(words.command, words.values))

    waits = [jitter(str(number)) for number in range(200)]
    assert waits == [jitter(str(number)) for number in range(200)]
    assert all(0 <= wait < 100 for wait in waits)
    assert len({round(wait / 10) for wait in waits}) == 11, "they are spread"


def test_jitter_waits_before_the_lock_is_taken(cli):
    with cli.hold("-n", "x") as holding:
        late = cli.start("-n", "x", "--jitter", "0.001", "true")
        assert late.wait(PATIENCE) == 75
        assert holding.release() == 0
    waiting = cli.start("-n", "x", "--jitter", "100d", "true")
    assert cli.run("-n", "x", "true").returncode == 0
    waiting.terminate()
    assert waiting.wait(PATIENCE) in {143, -15}


@pytest.mark.parametrize("between", [[], ["-n", "y"]])
def test_a_run_inside_itself_is_refused_at_once_though_it_would_wait(cli, between):
    inner = f"{BINARY} -w -n x echo inner"
    if between:
        inner = f"{BINARY} {' '.join(between)} sh -c '{inner}'"
    result = cli.run("-n", "x", "sh", "-c", inner)
    assert (result.returncode, result.stdout) == (75, "")
    assert result.stderr.count("\n") == 1
    assert "part of" in result.stderr
    assert cli.run("-n", "x", "sh", "-c", f"{BINARY} -w -n z echo inner").stdout == "inner\n"


def test_a_run_inside_one_that_holds_one_of_its_names_is_refused_at_once(cli):
    inner = f"{BINARY} -w -n y -n z echo inner"
    result = cli.run("-n", "x", "-n", "y", "sh", "-c", inner)
    assert (result.returncode, result.stdout) == (75, "")
    assert "part of" in result.stderr


def test_a_run_inside_another_waits_for_what_that_one_does_not_hold(cli, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for outer, wanted, held in [
        (["-n", "x"], ["-n", "z"], cli.lock_path("z")),
        (["--lock-file", str(a)], ["--lock-file", str(b)], b),
        (["--lock-file", str(a), "-n", "x"], ["-n", "x"], cli.lock_path("x")),
    ]:
        with cli.hold(*wanted) as holding:
            inner = f"{BINARY} -w {' '.join(wanted)} echo inner"
            waiter = cli.start(*outer, "sh", "-c", inner, stdout=subprocess.PIPE)
            eventually(lambda held=held: blocked_on(held), "the waiting")
            holding.release()
            assert waiter.communicate(timeout=PATIENCE)[0] == b"inner\n"


def test_a_mark_of_another_record_does_not_keep_from_waiting(cli):
    """The ids begin anew in a record that was deleted; the token tells the runs apart."""
    with cli.hold("-n", "x") as holding:
        (run,) = cli.json("ps")
        marked = cli.env | {"SINGLERUN_RUN_ID": str(run["id"]), "SINGLERUN_TOKEN": "7"}
        waiter = cli.start("-w", "-n", "x", "true", env=marked)
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        holding.release()
        assert waiter.wait(PATIENCE) == 0


def test_a_stale_mark_does_not_keep_from_waiting(cli):
    mark = cli.run("-n", "x", "sh", "-c", "echo $SINGLERUN_RUN_ID $SINGLERUN_TOKEN").stdout.split()
    marked = cli.env | {"SINGLERUN_RUN_ID": mark[0], "SINGLERUN_TOKEN": mark[1]}
    with cli.hold("-n", "x") as holding:
        waiter = cli.start("-w", "-n", "x", "true", env=marked)
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        holding.release()
        assert waiter.wait(PATIENCE) == 0
