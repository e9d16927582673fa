"""The line that refuses: how many hold the lock, what to do about it, and which limit it was."""

import re

import pytest
from conftest import PATIENCE


def usual(cli, name, seconds):
    """Let a name usually take that long."""
    cli.run("-n", name, "true")
    cli.sql(f"UPDATE runs SET elapsed_ns = {round(seconds * 1e9)} WHERE ended_ns NOT NULL")


def begun(cli, seconds):
    """Make the open runs that old."""
    cli.sql(
        f"UPDATE runs SET started_ns = started_ns - {round(seconds * 1e9)} WHERE ended_ns ISNULL"
    )


@pytest.mark.parametrize("how", [["-j", "3"], ["-s"]])
def test_several_holders_are_counted(cli, how):
    with cli.hold("-n", "x", *how) as oldest, cli.hold("-n", "x", *how), cli.hold("-n", "x", *how):
        refused = cli.run("-n", "x", *(how if "-j" in how else []), "true").stderr
        assert f"is held by 3 runs, the oldest PID {oldest.pid} (" in refused
        reason = cli.last("x")["reason"]
        assert re.fullmatch(rf"held by 3 runs, the oldest PID {oldest.pid} \(.*\)", reason)


def test_one_holder_is_not_counted(cli):
    with cli.hold("-n", "x") as holding:
        assert f"x is held by PID {holding.pid} (" in cli.run("-n", "x", "true").stderr


@pytest.mark.parametrize(
    ("name", "shown"), [("x", "x"), ("two words", "'two words'"), ("7", "2"), ("\n", "2")]
)
def test_a_holder_far_over_its_usual_time_names_stop(cli, name, shown):
    usual(cli, name, 1)
    with cli.hold("-n", name) as holding:
        refused = cli.run("-n", name, "true").stderr
        assert "singlerun stop" not in refused, "it has only just begun"
        begun(cli, 60)
        refused = cli.run("-n", name, "true").stderr
        stop = f"singlerun stop {shown}"
        assert refused.endswith(f"; far over its usual time, to stop it: {stop}; to wait: --wait\n")
        waited = cli.run("-n", name, "--wait-for", "0.01", "true").stderr
        assert waited.endswith(f"; far over its usual time, to stop it: {stop}\n")
        assert cli.run("stop", "2" if shown == "2" else name).returncode == 0
        assert holding.wrapper.wait(PATIENCE) != 0


def test_of_several_holders_the_oldest_is_to_be_stopped(cli):
    usual(cli, "x", 1)
    with cli.hold("-n", "x", "-s") as holding:
        begun(cli, 60)
        assert "to stop it: singlerun stop 2;" in cli.run("-n", "x", "true").stderr
        holding.release()


def test_a_pause_is_recorded_with_its_user_alone(cli):
    cli.run("pause", "x")
    cli.run("-n", "x", "true")
    assert re.fullmatch(r"paused by \S+", cli.last("x")["detail"])
    cli.run("pause", "x", "--for", "2h")
    cli.run("-n", "x", "true")
    run = cli.last("x")
    assert re.fullmatch(r"paused by \S+ until \d{4}-\d\d-\d\d \d\d:\d\d", run["detail"])
    assert run["detail"].startswith(run["reason"] + " until ")
