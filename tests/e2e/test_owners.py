"""The holder of a name is judged by proof alone: not by age, by a PID, or from out of sight."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BINARY, PATIENCE, demand_or_skip, eventually, is_alive, need

CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture
def container():
    """Return the words that run a command in a PID namespace of its own."""
    need("unshare")
    tried = subprocess.run([*CONTAINER, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        demand_or_skip(f"no PID namespace can be made: {tried.stderr}")
    return CONTAINER


def change(cli, what):
    cli.sql(f"UPDATE runs SET {what}")


def kill_all(holding):
    for pid in (holding.wrapper.pid, holding.pid):
        os.kill(pid, 9)
    holding.wrapper.wait(PATIENCE)
    eventually(lambda: not is_alive(holding.pid), "the end of the command")


def assert_left_alone(cli, *more):
    """Check that the name stays held, and that its run is not taken for a stale one."""
    assert cli.run("-n", "x", *more, "true").returncode == 75
    assert cli.run("is-running", "x").returncode == 0
    reaped = cli.run("reap", "--kill-orphans")
    assert (reaped.returncode, reaped.stdout, reaped.stderr) == (0, "", "")
    assert [run["state"] for run in cli.json("ps")] == ["running"]


@pytest.mark.parametrize(
    "otherwise",
    ["wrapper_started = wrapper_started - 1, command_started = command_started - 1",
     "boot_id = '00000000-0000-4000-8000-000000000000'"],
    ids=["started", "boot"],
)  # fmt: skip
def test_a_pid_that_another_process_has_now_is_a_zombie(cli, otherwise):
    """The PID is alive, but belongs to a process that started at another time, or boot."""
    with cli.hold("-n", "x") as holding:
        kill_all(holding)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        fields = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()
        for who in ("wrapper", "command"):
            change(cli, f"{who}_pid = {stranger.pid}, {who}_started = {fields[19]}")
        before = cli.json("ps")[0]["state"]
        change(cli, otherwise)
        after = cli.json("ps")[0]["state"]
        reaped = cli.run("reap", "--kill-orphans").stdout
        status = cli.run("-n", "x", "--replace", "true").returncode
        untouched = stranger.poll() is None
        stranger.kill()
    assert (before, after) == ("running", "zombie")
    assert reaped == "1 x: a zombie, closed as lost\n"
    assert (status, untouched) == (0, True)


def test_a_holder_in_a_container_is_not_judged_by_its_pid(cli, container):
    """Its PIDs are about 1 and 2; out here those are other processes, or none."""
    with subprocess.Popen(
        [*container, BINARY, "-n", "x", "sh", "-c", "echo $$; exec cat"],
        env=cli.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as outer:  # fmt: skip
        outer.stdout.readline()
        (run,) = eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the record")
        assert run["wrapper_pid"] < 10
        assert_left_alone(cli)
        change(cli, "wrapper_pid = 4194303, command_pid = 4194303")  # out here there is no such PID
        assert_left_alone(cli)
        outer.kill()  # and with it everything in the container
        outer.wait(PATIENCE)
        assert cli.run("-w", "-n", "x", "true").returncode == 0, "its lock ended with it"
    assert cli.history("x")[-1]["state"] == "lost"
    assert cli.json("ps") == []


def test_a_holder_in_a_container_whose_lock_file_was_deleted_still_holds(cli, container):
    with subprocess.Popen(
        [*container, BINARY, "-n", "x", "sh", "-c", "echo $$; exec cat"],
        env=cli.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as outer:  # fmt: skip
        outer.stdout.readline()
        cli.lock_path("x").unlink()
        assert cli.run("-n", "x", "true").returncode == 75
        outer.communicate(timeout=PATIENCE)
    assert cli.run("-n", "x", "true").returncode == 0


def test_from_inside_a_container_those_outside_are_not_judged(cli, container):
    def inside(*arguments):
        return subprocess.run(
            [*container, BINARY, *arguments],
            env=cli.env, capture_output=True, text=True, check=False,
        )  # fmt: skip

    with cli.hold("-n", "x") as holding:
        refused = inside("-n", "x", "true")
        assert refused.returncode == 75
        assert inside("reap", "--kill-orphans").stdout == ""
        assert '"state": "running"' in inside("ps", "--json").stdout
        assert inside("stop", "x").returncode != 0
        assert holding.wrapper.poll() is None
        assert is_alive(holding.pid)
        waiter = subprocess.Popen([*container, BINARY, "-w", "-n", "x", "true"], env=cli.env)
        eventually(lambda: [r for r in cli.json("ps") if r["state"] == "waiting"], "the waiting")
        assert cli.run("reap").stdout == "", "nor is the waiter inside"
        assert holding.release() == 0
        assert waiter.wait(PATIENCE) == 0
    states = [run["state"] for run in cli.history("x")]
    assert states == ["succeeded", "refused", "succeeded"]


def test_a_holder_on_another_host_is_not_judged_by_its_pid(cli):
    """The directory may be shared; the recorded PID means nothing here."""
    with cli.hold("-n", "x"):
        change(cli, "host = 'elsewhere', boot_id = 'other', wrapper_pid = 4194303, command_pid = 1")
        assert_left_alone(cli)
        cli.lock_path("x").unlink()
        assert cli.run("-n", "x", "true").returncode == 75
        assert cli.run("-w", "-n", "x", "true").returncode == 75, "its end can't be awaited"


@pytest.mark.parametrize("options", [[], ["--lock-type", "lockfile"]], ids=["flock", "lockfile"])
def test_age_is_no_proof(cli, options):
    """A run that began in 1970, with files untouched since."""
    with cli.hold("-n", "x", *options) as holding:
        waiter = cli.start("-w", "-n", "x", *options, "true")
        eventually(lambda: [r for r in cli.json("ps") if r["state"] == "waiting"], "the waiting")
        change(cli, "started_ns = 1")
        for path in cli.dir.rglob("*"):
            os.utime(path, (1, 1), follow_symlinks=False)
        assert cli.run("-n", "x", *options, "true").returncode == 75
        assert cli.run("reap", "--kill-orphans").stdout == ""
        assert [run["state"] for run in cli.json("ps")] == ["running", "waiting"]
        holding.wrapper.kill()
        holding.wrapper.wait()
        assert "is alive" in cli.run("reap").stdout, "an orphan is old at once, and counts as well"
        assert waiter.poll() is None
        holding.wrapper.stdin.close()
        assert waiter.wait(PATIENCE) == 0


def test_a_process_that_may_not_be_signalled_is_alive(tmp_path):
    """For a user to whom /proc hides the processes of others, kill(2) fails with EPERM."""
    need("setpriv", "unshare")
    python = shutil.which("python3", path="/usr/bin")
    if python is None or os.geteuid() != 0:
        demand_or_skip("only root can become another user, and needs an interpreter for it")
    import singlerun

    code = tmp_path / "code"
    shutil.copytree(os.path.dirname(singlerun.__file__), code / "singlerun")
    subprocess.run(["chmod", "-R", "a+rX", code], check=True)
    for above in (tmp_path, *tmp_path.parents):
        if str(above).startswith("/tmp/"):
            above.chmod(0o755)
    judge = (
        "import os, sys; from singlerun.process.identity import Owner, here, life\n"
        "for pid in map(int, sys.argv[1:]):\n"
        "    hidden = not os.path.exists(f'/proc/{pid}')\n"
        "    print(hidden, life(Owner(here(), pid, 5)))"
    )
    script = (
        "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=12345 --regid=12345"
        ' --clear-groups "$@"'
    )
    with subprocess.Popen(["sleep", "60"]) as other:
        shown = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", python, "-c", judge,
             str(other.pid), "4194303"],
            env={"PYTHONPATH": str(code), "PATH": os.environ["PATH"]}, cwd="/",
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        other.kill()
    assert shown.stdout.splitlines() == ["True alive", "True dead"], sys.version


@pytest.mark.parametrize("slots", ["1", "3"])
def test_the_holder_of_a_slot_on_another_host_is_left_alone(cli, slots):
    """Its lock is shared, so that a reaper gets it too proves nothing."""
    with cli.hold("-n", "x", "-j", slots) as holding:
        place = "host = 'elsewhere', boot_id = 'other', wrapper_pid = 4194303, command_pid = 1"
        change(cli, place)
        for arguments in (["--dry-run"], ["--kill-orphans"]):
            reaped = cli.run("reap", *arguments)
            assert (reaped.returncode, reaped.stdout, reaped.stderr) == (0, "", "")
        assert [run["state"] for run in cli.json("ps")] == ["running"]
        assert holding.wrapper.poll() is None


def test_the_parent_may_be_pid_1(cli, container):
    """As in a container whose entry point starts it from a shell, or replaces itself by it."""
    script = "$1 -n x -t 60 sh -c 'exit 3'; echo $?; exec $1 -n x sh -c 'exit 4'"
    done = subprocess.run(
        [*container, "sh", "-c", script, "sh", str(cli.binary)], env=cli.env,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (4, "3\n", "")
