"""Holders that the lock, the record or both have lost: only their marks tell of them."""

import os
import shutil
import signal
import subprocess

import pytest
from conftest import CLOSING, demand_or_skip, eventually, fill, is_alive


@pytest.fixture
def holding(cli):
    with cli.hold("-n", "x") as held:
        yield held


def test_a_moved_state_directory_lets_no_second_one_start(cli, holding, tmp_path):
    cli.dir.rename(tmp_path / "moved")
    refused = cli.run("-n", "x", "true")
    assert refused.returncode == 75
    assert f"held by PID {holding.pid} " in refused.stderr
    assert cli.run("-n", "y", "true").returncode == 0, "another name is not held"
    assert cli.run("-n", "x", "true").returncode == 75, "nor is it forgotten"
    holding.release()
    assert cli.run("-n", "x", "true").returncode == 0


def test_a_waiter_outlives_the_holder_of_a_moved_directory(cli, holding, tmp_path):
    cli.dir.rename(tmp_path / "moved")
    waiter = cli.start("-n", "x", "--wait", "true")
    eventually(lambda: cli.run("ps").stdout.count("waiting"), "the wait")
    assert waiter.poll() is None
    holding.release()
    assert waiter.wait() == 0


def test_the_same_name_in_another_directory_is_another(cli, holding, tmp_path):
    result = cli.run("--dir", str(tmp_path / "other"), "-n", "x", "true")
    assert result.returncode == 0, result.stderr


def test_a_directory_spelled_otherwise_is_the_same(cli, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    env = cli.env | {"SINGLERUN_DIR": str(tmp_path / "link" / "state")}
    with cli.hold("-n", "x", env=env):
        cli.dir.rename(tmp_path / "moved")
        assert cli.run("-n", "x", "true").returncode == 75


def test_a_holder_that_could_not_be_recorded_is_found_by_its_marks(cli, small_disk):
    """Its descriptors are closed and its wrapper is killed, so neither lock nor record has it."""
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    cli.run("-n", "x", "true")
    fill(small_disk)
    wrapper = cli.start(
        "-n", "x", "sh", "-c", CLOSING, *["x" * 100_000] * 8,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    pid = int(wrapper.stdout.readline())
    assert b"without a record" in wrapper.stderr.readline()
    wrapper.kill()
    wrapper.wait()
    os.unlink(small_disk / "filler")
    for _ in range(2):
        refused = cli.run("-n", "x", "true")
        assert refused.returncode == 75
        assert f"held by PID {pid} " in refused.stderr
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid), "its end")
    assert cli.run("-n", "x", "true").returncode == 0
    assert os.stat(cli.lock_path("x")).st_mode & 0o777 == 0o600


def test_a_daemon_of_a_recorded_run_does_not_hold_a_recreated_lock(cli):
    """It was left behind on purpose, and the record knows that its run has ended."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as pacer:
        script = f"tail -f /dev/null --pid={pacer.pid} >/dev/null 2>&1 & echo $!"
        daemon = int(cli.run("-n", "x", "sh", "-c", script).stdout)
        assert is_alive(daemon)
        cli.lock_path("x").unlink()
        assert cli.run("-n", "x", "true").returncode == 0
        shutil.rmtree(cli.dir)
        assert cli.run("-n", "x", "true").returncode == 75, "without a record it is not known"
        pacer.stdin.close()


def test_a_daemon_of_a_run_that_could_not_be_recorded_does_not_hold_the_name(cli):
    (cli.dir / "singlerun.db").mkdir(parents=True)
    for directory in (cli.dir, cli.dir / "singlerun.db"):
        directory.chmod(0o700)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as pacer:
        script = f"tail -f /dev/null --pid={pacer.pid} >/dev/null 2>&1 & echo $!"
        for _ in range(2):
            result = cli.run("-n", "x", "sh", "-c", script)
            assert result.returncode == 0, result.stderr
            assert "without a record" in result.stderr
            assert is_alive(int(result.stdout))
        pacer.stdin.close()


def test_slots_count_without_a_record(cli):
    (cli.dir / "singlerun.db").mkdir(parents=True)
    for directory in (cli.dir, cli.dir / "singlerun.db"):
        directory.chmod(0o700)
    script = 'singlerun -q -n x --slots 2 sh -c "singlerun -q -n x --slots 2 true; echo \\$?"'
    command = ["-q", "-n", "x", "--slots", "2", "sh", "-c"]
    path = f"{os.path.dirname(cli.binary)}:{cli.env['PATH']}"
    result = cli.run(*command, script, env=cli.env | {"PATH": path})
    assert result.stdout.split() == ["75"], result.stderr


@pytest.mark.parametrize("how", ["owner", "mode"])
def test_an_older_directory_in_its_place_lets_no_second_one_start(cli, tmp_path, how):
    """Another user may put it there, and has a lock file that nothing holds."""
    if how == "owner" and os.geteuid() != 0:
        demand_or_skip("only root can give a directory away")
    cli.run("-n", "x", "true")
    cli.dir.rename(tmp_path / "older")
    cli.run("-n", "x", "true")
    if how == "owner":
        os.chown(tmp_path, 12345, -1)
    else:
        tmp_path.chmod(0o777)
    with cli.hold("-n", "x") as held:
        cli.dir.rename(tmp_path / "moved")
        (tmp_path / "older").rename(cli.dir)
        refused = cli.run("-n", "x", "true")
        assert refused.returncode == 75
        assert f"held by PID {held.pid} " in refused.stderr
    assert cli.run("-n", "x", "true").returncode == 0


def test_a_planted_link_is_not_followed(cli, tmp_path):
    if os.geteuid() != 0:
        demand_or_skip("only root can give a link away")
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    link = tmp_path / "sticky" / "lock"
    link.symlink_to(tmp_path / "target")
    os.lchown(link, 12345, -1)
    for form in (["--lock-file", str(link), "true"], ["is-running", "--lock-file", str(link)]):
        result = cli.run(*form)
        assert result.returncode == 125
        assert "it is a symbolic link of user 12345" in result.stderr
    assert not (tmp_path / "target").exists()
