"""Lock files: for file systems whose kernel lock can't be trusted, and for other programs."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BINARY, PATIENCE, eventually, is_alive, need
from filelock import StrictSoftFileLock, Timeout

CYCLES = 12

# Only one at a time can make the directory; who finds it made notes that two were in.
WITNESS = 'mkdir "$1" || echo overlap >> "$1.log"; echo >> "$1.runs"; rmdir "$1"'

CLOSE = 'for fd in /proc/self/fd/*; do fd=${fd##*/}; [ $fd -le 2 ] || eval "exec $fd>&-"; done'

DIES = """
import os, sys
from filelock import StrictSoftFileLock
lock = StrictSoftFileLock(sys.argv[1])
lock.acquire()
os._exit(0)
"""


def claims(path):
    """List the claims on a lock file, and the notes beside them."""
    found = Path(f"{path}.filelock")
    return sorted(file.name for file in found.rglob("*") if file.is_file())


def soft(cli, name="x"):
    return cli.dir / "locks" / f"{name}.soft"


def kill(*pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def remote(cli, remote_disk):
    """The binary, with its state on a file system that isn't to be trusted."""
    cli.dir = remote_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    return cli


# -- which lock ------------------------------------------------------------------------------


def test_auto_takes_the_kernel_lock_on_a_local_file_system(cli):
    assert cli.run("-n", "x", "true").returncode == 0
    assert cli.lock_path("x").exists()
    assert not soft(cli).exists()


def test_auto_takes_a_lock_file_on_fuse(remote):
    with remote.hold("-n", "x"):
        assert [name.partition("-")[0] for name in claims(soft(remote))] == [
            "held", "intent", "note",
        ]  # fmt: skip
        assert not remote.lock_path("x").exists()
    assert claims(soft(remote)) == []


def test_the_kernel_lock_on_fuse_comes_on_top(remote):
    with remote.hold("-n", "x", "--lock-type", "flock"):
        assert len(claims(soft(remote))) == 3
        assert remote.lock_path("x").exists()
        assert remote.run("-n", "x", "true").returncode == 75


@pytest.mark.parametrize("first", ["auto", "flock", "lockfile"])
@pytest.mark.parametrize("second", ["auto", "flock", "lockfile"])
@pytest.mark.parametrize("place", ["cli", "remote"])
def test_all_types_of_lock_on_a_name_exclude_each_other(request, place, first, second):
    cli = request.getfixturevalue(place)
    with cli.hold("-n", "x", "--lock-type", first) as holding:
        result = cli.run("-n", "x", "--lock-type", second, "true")
        assert result.returncode == 75
        assert f"PID {holding.pid}" in result.stderr
    assert cli.run("-n", "x", "--lock-type", second, "true").returncode == 0


def test_the_types_exclude_each_other_without_a_record_too(cli, remote_disk):
    for directory in (cli.dir, remote_disk / "state"):
        (directory / "singlerun.db").mkdir(parents=True)
        directory.chmod(0o700)
        for first, second in [("flock", "lockfile"), ("lockfile", "flock")]:
            arguments = ["--dir", str(directory), "-n", "x", "--lock-type"]
            command = ["sh", "-c", "echo; cat"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            holder = cli.start(*arguments, first, *command, stderr=subprocess.DEVNULL, **pipes)
            holder.stdout.readline()
            assert cli.run(*arguments, second, "true").returncode == 75
            holder.stdin.close()
            assert holder.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--shared", "--lock-type", "lockfile"], "neither a shared mode"),
        (["--slots", "2", "--lock-type", "lockfile"], "nor slots"),
        (["--exec", "--lock-type", "lockfile"], "--exec leaves no process"),
        (["--lock-type", "nfs"], "write auto, flock or lockfile"),
    ],
)
def test_what_a_lock_file_cannot_do_is_refused(cli, options, what):
    result = cli.run("-n", "x", *options, "true")
    assert result.returncode == 125
    assert what in result.stderr


def test_what_a_lock_file_cannot_do_is_refused_where_auto_takes_one(remote):
    for option, what in [("--shared", "kernel locks on fuse"), ("--exec", "leaves no process")]:
        result = remote.run("-n", "x", option, "true")
        assert result.returncode == 125
        assert what in result.stderr
    assert claims(soft(remote)) == []


# -- at most one -----------------------------------------------------------------------------


@pytest.mark.stress
@pytest.mark.parametrize("place", ["cli", "remote"])
def test_eight_processes_never_overlap(request, place, tmp_path):
    cli = request.getfixturevalue(place)
    witness = tmp_path / "witness"
    types = ["lockfile", "lockfile", "auto", "flock"] * 2
    loop = f'for i in $(seq {CYCLES}); do "$@" || exit 1; done'
    ours = [str(BINARY), "-q", "-n", "x", "--wait", "--lock-type"]
    command = ["sh", "-c", WITNESS, "sh", str(witness)]
    loops = [
        subprocess.Popen(["sh", "-c", loop, "sh", *ours, lock_type, *command], env=cli.env)
        for lock_type in types
    ]
    assert [loop.wait(300) for loop in loops] == [0] * len(types)
    assert not Path(f"{witness}.log").exists()
    assert len(Path(f"{witness}.runs").read_text()) == len(types) * CYCLES
    assert claims(soft(cli)) == []


def test_what_ends_before_the_command_starts_leaves_no_claim(remote):
    assert remote.run("-n", "x", "/no/such/command").returncode == 127
    assert claims(soft(remote)) == []
    (remote.dir / "singlerun.db").unlink()
    (remote.dir / "singlerun.db").mkdir()
    assert remote.run("-n", "x", "--require-record", "true").returncode == 125
    assert claims(soft(remote)) == []
    assert remote.run("-n", "x", "--jitter", "0", "true").returncode == 0


def test_retries_keep_the_claim(remote):
    script = 'ls "$0.filelock/claims"; exit 1'
    result = remote.run(
        "-n", "x", "--retries", "2", "--retry-delay", "0", "sh", "-c", script, soft(remote)
    )
    assert result.returncode == 1
    words = result.stdout.split()
    assert len(words) == 6
    assert len(set(words)) == 2
    assert claims(soft(remote)) == []


# -- other programs --------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["local", "remote"])
def test_a_lock_file_excludes_filelock_and_is_excluded_by_it(request, cli, tmp_path, place):
    directory = tmp_path if place == "local" else request.getfixturevalue("remote_disk")
    path = directory / "file"
    options = ["--lock-file", str(path), "--lock-type", "lockfile"]
    other = StrictSoftFileLock(path)
    with other:
        result = cli.run(*options, "true")
        assert result.returncode == 75
        assert f"PID {os.getpid()}" in result.stderr
        assert cli.run("is-running", "--lock-file", str(path)).returncode == 0
    assert cli.run("is-running", "--lock-file", str(path)).returncode == 1
    with cli.hold(*options) as holding:
        with pytest.raises(Timeout):
            other.acquire(blocking=False)
        assert f"PID {holding.pid}" in cli.run("is-running", "--lock-file", str(path)).stdout
    with other:
        pass


def test_a_local_lock_file_excludes_flock_too(cli, tmp_path):
    path = tmp_path / "file"
    with cli.hold("--lock-file", str(path), "--lock-type", "lockfile"):
        assert subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 1
    holder = subprocess.Popen(["flock", path, "cat"], stdin=subprocess.PIPE)
    eventually(lambda: str(path.stat().st_ino) in Path("/proc/locks").read_text(), "its lock")
    assert cli.run("--lock-file", path, "--lock-type", "lockfile", "true").returncode == 75
    assert claims(path) == []
    holder.stdin.close()
    holder.wait()


@pytest.mark.parametrize("content", ["", "what somebody wrote\n"])
def test_a_file_that_is_no_lock_file_is_left_alone(cli, tmp_path, content):
    path = tmp_path / "file"
    path.write_text(content)
    result = cli.run("--lock-file", path, "--lock-type", "lockfile", "true")
    assert result.returncode == 125
    assert "cannot lock" in result.stderr
    assert path.read_text() == content
    assert cli.run("--lock-file", path, "true").returncode == 0


def test_without_hard_links_there_is_a_clear_error(cli):
    need("strace")
    traced = ["strace", "-f", "-o", "/dev/null", "-e", "inject=linkat:error=EOPNOTSUPP", BINARY]
    command = ["-n", "x", "--lock-type", "lockfile", "true"]
    result = subprocess.run(
        [*traced, *command], env=cli.env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 125
    assert "makes no hard links" in result.stderr
    assert "--lock-type flock" in result.stderr


def test_without_hard_links_the_kernel_lock_can_be_insisted_on(remote):
    need("strace")
    traced = ["strace", "-f", "-o", "/dev/null", "-e", "inject=linkat:error=EPERM", BINARY]
    command = ["-n", "x", "--lock-type", "flock", "true"]
    subprocess.run([*traced, *command], env=remote.env, check=True)


def test_a_kernel_lock_that_wants_its_file_open_to_write_gets_it(cli, tmp_path):
    """As NFS does with an exclusive lock."""
    need("strace")
    path, trace = tmp_path / "file", tmp_path / "trace"
    path.touch()
    traced = ["strace", "-o", trace, "-P", path, "-e", "trace=openat,flock"]
    traced += ["-e", "inject=flock:error=EBADF:when=1", BINARY]
    subprocess.run([*traced, "--lock-file", path, "true"], env=cli.env, check=True)
    opened = re.findall(r"openat\(.*(O_RDONLY|O_RDWR)", trace.read_text())
    assert opened[:2] == ["O_RDONLY", "O_RDWR"]


# -- the dead --------------------------------------------------------------------------------


def test_both_killed_and_the_next_run_heals(remote):
    with remote.hold("-n", "x") as holding:
        kill(holding.wrapper.pid, holding.pid)
        eventually(lambda: not is_alive(holding.pid), "its death")
        holding.wrapper.wait()
        assert len(claims(soft(remote))) == 3
        assert remote.run("is-running", "x").returncode == 1
        result = remote.run("-n", "x", "true")
        assert (result.returncode, result.stderr) == (0, "")
        assert claims(soft(remote)) == []


@pytest.mark.parametrize(
    "script",
    [
        "echo $$; exec cat",
        "echo $$; exec bash -c '" + CLOSE + "; exec cat'",
        "echo $$; exec env -i cat",
    ],
    ids=["plain", "closed descriptors", "clean environment"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["cli", "remote"])
@pytest.mark.parametrize("record", [True, False], ids=["record", "no record"])
def test_the_wrapper_killed_and_its_command_still_holds(request, place, script, record):
    cli = request.getfixturevalue(place)
    options = ["-n", "x", "--lock-type", "lockfile"]
    if not record:
        (cli.dir / "singlerun.db").mkdir(parents=True)
        cli.dir.chmod(0o700)
        cli.command_is_recorded = lambda _: " 0 0" not in note(cli)
    with cli.hold(*options, script=script, stderr=subprocess.DEVNULL) as holding:
        eventually(lambda: Path(f"/proc/{holding.pid}/comm").read_text() == "cat\n", "exec")
        kill(holding.wrapper.pid)
        holding.wrapper.wait()
        result = cli.run(*options, "true")
        assert result.returncode == 75
        assert f"PID {holding.pid} (" in result.stderr
        result = cli.run(*options, "--wait-for", "0.3", "true")
        assert result.returncode == 75
        assert cli.run("is-running", "x").returncode == 0
        kill(holding.pid)
        eventually(lambda: not is_alive(holding.pid), "its death")
        assert cli.run(*options, "true").returncode == 0
    assert claims(soft(cli)) == []


def note(cli):
    return next(Path(f"{soft(cli)}.filelock").glob("note-*")).read_text()


def test_a_child_of_the_command_holds_too(remote):
    script = "sh -c 'echo $$; exec cat'; exit"
    with remote.hold("-n", "x", script=script) as holding:
        parent = int(Path(f"/proc/{holding.pid}/stat").read_text().split()[3])
        kill(holding.wrapper.pid, parent)
        holding.wrapper.wait()
        eventually(lambda: not is_alive(parent), "its death")
        assert remote.run("-n", "x", "true").returncode == 75


def test_reap_removes_the_claims_of_the_dead(remote):
    with remote.hold("-n", "x") as holding:
        kill(holding.wrapper.pid, holding.pid)
        holding.wrapper.wait()
        eventually(lambda: not is_alive(holding.pid), "its death")
        assert "would" in remote.run("reap", "--dry-run").stdout
        assert len(claims(soft(remote))) == 3
        result = remote.run("reap")
        assert result.returncode == 0
        assert "closed as lost" in result.stdout
        assert claims(soft(remote)) == []


# -- waiting ---------------------------------------------------------------------------------


def left(cli):
    lines = [path for path in (cli.dir / "lines").rglob("*") if path.is_file()]
    return claims(soft(cli)), lines


@pytest.mark.parametrize("place", ["cli", "remote"])
def test_a_wait_that_ends_leaves_nothing(request, place):
    cli = request.getfixturevalue(place)
    options = ["-n", "x", "--lock-type", "lockfile"]
    with cli.hold(*options):
        before = left(cli)
        for limit in ["0", "0.01", "0.2", "0.4"]:
            assert cli.run(*options, "--wait-for", limit, "true").returncode == 75
            assert left(cli) == before
        waiter = cli.start(*options, "--wait", "true")
        eventually(lambda: any(run["state"] == "waiting" for run in cli.json("ps")), "the wait")
        waiter.terminate()
        assert waiter.wait(PATIENCE) == 128 + signal.SIGTERM
        assert left(cli) == before
        waiter = cli.start(*options, "--wait", "true")
        eventually(lambda: any(run["state"] == "waiting" for run in cli.json("ps")), "the wait")
        waiter.kill()
        waiter.wait()
    # Where the state directory isn't local there is no line, whose tickets are kernel locks too.
    assert (cli.dir / "lines").exists() == (place == "cli")
    assert cli.run(*options, "true").returncode == 0
    assert left(cli)[0] == []


def test_waits_that_end_when_the_lock_is_freed_leave_nothing(remote):
    """Many deadlines around the moment at which the lock can be taken."""
    for step in range(12):
        holder = remote.start("-n", "x", "sleep", "0.2")
        eventually(lambda: claims(soft(remote)), "the claim")
        limit = f"{0.15 + step * 0.01:.2f}"
        assert remote.run("-q", "-n", "x", "--wait-for", limit, "true").returncode in {0, 75}
        assert holder.wait(PATIENCE) == 0
        assert claims(soft(remote)) == []


@pytest.mark.parametrize("place", ["cli", "remote"])
def test_a_waiter_gets_it_when_the_holder_ends_or_is_killed(request, place):
    cli = request.getfixturevalue(place)
    options = ["-n", "x", "--lock-type", "lockfile"]
    for killed in (False, True):
        with cli.hold(*options) as holding:
            waiter = cli.start(*options, "--wait", "true")
            eventually(lambda: any(run["state"] == "waiting" for run in cli.json("ps")), "the wait")
            if killed:
                kill(holding.wrapper.pid, holding.pid)
            else:
                holding.release()
            assert waiter.wait(PATIENCE) == 0


def test_waiters_of_one_host_come_in_turn_where_the_state_directory_is_local(cli, remote_disk):
    path, order = remote_disk / "file", remote_disk / "order"
    options = ["--lock-file", str(path), "--wait"]
    waiters = []
    with cli.hold("--lock-file", str(path)):
        for number in range(5):
            waiters.append(cli.start(*options, "sh", "-c", f"echo {number} >> {order}"))
            eventually(
                lambda count=number + 1: sum(
                    path.is_file() for path in (cli.dir / "lines").rglob("*")
                ) == count,
                "its ticket",
            )  # fmt: skip
    assert [waiter.wait(PATIENCE) for waiter in waiters] == [0] * 5
    assert order.read_text().split() == list("01234")


# -- other hosts -----------------------------------------------------------------------------


def on_another_host(cli, *arguments):
    need("unshare", "hostname")
    script = 'hostname another && exec "$@"'
    command = ["unshare", "--uts", "sh", "-c", script, "sh", str(BINARY), *arguments]
    process = subprocess.Popen(
        [*command, "sh", "-c", "echo $$; exec cat"],
        env=cli.env | {"SINGLERUN_DIR": str(cli.dir) + "-another"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    cli.started.append(process)
    return process, int(process.stdout.readline())


def test_a_claim_of_another_host_is_broken_by_a_person_alone(cli, remote_disk):
    path = remote_disk / "file"
    options = ["--lock-file", str(path)]
    wrapper, command = on_another_host(cli, *options)
    kill(wrapper.pid, command)
    wrapper.wait()
    eventually(lambda: not is_alive(command), "its death")

    result = cli.run(*options, "true")
    assert result.returncode == 75
    assert f"PID {wrapper.pid} on another, which cannot be checked from here" in result.stderr
    assert cli.run(*options, "--wait-for", "0.2", "true").returncode == 75
    result = cli.run("is-running", *options)
    assert result.returncode == 0
    assert "on another" in result.stdout
    result = cli.run("reap", *options)
    assert result.returncode == 0
    assert len(claims(path)) == 3
    [seen] = json.loads(cli.run("reap", *options, "--json").stdout)["claims"]
    assert (seen["state"], seen["pid"], seen["host"]) == ("unknown", wrapper.pid, "another")

    named = re.search(r"singlerun (reap --break-lock .*)\)", result.stdout).group(1)
    words = shlex.split(named)
    assert cli.run(*words, "--dry-run").returncode == 0
    assert len(claims(path)) == 3
    result = cli.run(*words)
    assert (result.returncode, result.stderr) == (0, "")
    assert claims(path) == []
    assert cli.run(*options, "true").returncode == 0
    result = cli.run(*words)
    assert result.returncode == 125
    assert "there is no such claim" in result.stderr


def test_the_claim_of_a_living_owner_is_not_broken(cli):
    options = ["-n", "x", "--lock-type", "lockfile"]
    with cli.hold(*options) as holding:
        token = re.search("held-v1-([0-9a-f]*)", " ".join(claims(soft(cli)))).group(1)
        result = cli.run("reap", "--break-lock", token[:12])
        assert result.returncode == 125
        assert "which is alive" in result.stderr
        kill(holding.wrapper.pid)
        holding.wrapper.wait()
        result = cli.run("reap", "--break-lock", token[:12])
        assert result.returncode == 125
        assert f"PID {holding.pid} (cat)" in result.stderr
        assert len(claims(soft(cli))) == 3
    assert cli.run("reap", "--break-lock", "xyz").returncode == 2


def test_the_claim_of_another_pid_namespace_is_not_judged(cli, tmp_path):
    need("unshare")
    path = tmp_path / "file"
    inner = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", DIES, path]
    subprocess.run(inner, check=True)
    result = cli.run("--lock-file", path, "--lock-type", "lockfile", "true")
    assert result.returncode == 75
    assert "in a container" in result.stderr
    assert len(claims(path)) == 2


def test_a_dead_claim_of_another_program_is_healed(cli, tmp_path):
    path = tmp_path / "file"
    subprocess.run([sys.executable, "-c", DIES, path], check=True)
    assert len(claims(path)) == 2
    assert cli.run("--lock-file", path, "--lock-type", "lockfile", "true").returncode == 0
    assert claims(path) == []


def test_a_deleted_claim_does_not_let_a_second_run_start(remote):
    with remote.hold("-n", "x"):
        for file in Path(f"{soft(remote)}.filelock", "claims").iterdir():
            file.unlink()
        soft(remote).unlink()
        assert remote.run("-n", "x", "true").returncode == 75
    assert remote.run("-n", "x", "true").returncode == 0


def test_a_note_has_the_marks_of_the_command_also_without_a_record(cli):
    """They find what is left of it once its wrapper is killed: there is nothing else."""
    (cli.dir / "singlerun.db").mkdir(parents=True)
    for directory in (cli.dir, cli.dir / "singlerun.db"):
        directory.chmod(0o700)
    wrapper = cli.start(
        "-n", "x", "--lock-type", "lockfile", "sh", "-c", "echo $SINGLERUN_TOKEN; exec cat",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    token = wrapper.stdout.readline().strip()
    (note,) = (cli.dir / "locks" / "x.soft.filelock").glob("note-*")
    eventually(lambda: note.read_text().split()[4] != "0", "the note of the process")
    assert note.read_text().split()[3] == token
    wrapper.communicate("")
    assert wrapper.returncode == 0
