"""kill -9 of the wrapper, the command, or both, at random moments."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, Stopped, eventually, fill, is_alive

KILLS, STARTS = 300, 50
ABREAST = 4

# The witness: each command notes its start and its end, and at its start every other command that
# has started, has not ended, and is still alive.
WITNESS = r"""
echo "S $$ $SINGLERUN_RUN_ID" >> "$1"
for other in $(awk '$1 == "S" { open[$2] = 1 } $1 == "E" { delete open[$2] }
                    END { for (pid in open) print pid }' "$1"); do
    state=$(awk '$1 == "State:" { print $2 }' /proc/$other/status 2>/dev/null)
    case $other/$state in $$/* | */ | */Z | */X) ;; *) echo "OVERLAP $$ $other" >> "$1" ;; esac
done
sleep 0.03
echo "E $$ $SINGLERUN_RUN_ID" >> "$1"
"""


def children(pid):
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.mark.stress
def test_three_hundred_kills_never_let_two_run(cli, tmp_path):
    """Most of them come at any moment, some while the command runs, however slow the machine is."""
    witness = tmp_path / "witness"
    witness.touch()
    seed = random.randrange(10**9)
    chance = random.Random(seed)
    print(f"seed {seed}")
    due, kills = {}, 0  # due: when each is killed; None: as soon as its command has started
    while kills < KILLS or len(re.findall("^S", witness.read_text(), re.MULTILINE)) < STARTS:
        while len(due) < ABREAST:
            policy = chance.choice([[], ["--wait"], ["--wait-for", "0.5"]])
            command = ["sh", "-c", WITNESS, "sh", str(witness)]
            process = cli.start("-q", "-n", "x", *policy, *command, stderr=subprocess.PIPE)
            moment = time.monotonic() + chance.uniform(0, 0.12)
            due[process] = chance.choice([moment, moment, moment, None])
        for process, when in list(due.items()):
            if process.poll() is None:
                if when is None and children(process.pid):
                    due[process] = time.monotonic() + chance.uniform(0, 0.05)
                if when is None or time.monotonic() < when:
                    continue
                victims = {"wrapper": [process.pid], "command": children(process.pid)}
                victims["both"] = [*victims["wrapper"], *victims["command"]]
                kill(victims[chance.choice(list(victims))])
                kills += 1
            del due[process]
        time.sleep(0.002)
    for process in cli.started:  # those that were left alive end by themselves
        errors = process.communicate(timeout=PATIENCE)[1]
        assert errors == b"", "nothing is said of a crash of others"
    eventually(lambda: cli.run("-n", "x", "true").returncode == 0, "the lock's release")

    lines = [line.split() for line in witness.read_text().splitlines()]
    assert not [line for line in lines if line[0] == "OVERLAP"], f"seed {seed}"
    started = [int(line[2]) for line in lines if line[0] == "S"]
    assert len(started) == len(set(started)), "one row a start"
    with sqlite3.connect(cli.dir / "singlerun.db") as database:
        states = dict(database.execute("SELECT id, state FROM runs"))
        assert set(started) <= set(states)
        assert cli.run("reap").returncode == 0
        still = database.execute("SELECT id FROM runs WHERE ended_ns IS NULL").fetchall()
        assert still == []
        ended = {int(line[2]) for line in lines if line[0] == "E"}
        succeeded = {
            row[0] for row in database.execute("SELECT id FROM runs WHERE state = 'succeeded'")
        }
        assert succeeded <= ended | {max(states)}, "nothing is said to have succeeded that did not"
    database.close()


def test_killed_wrapper_frees_nothing_while_the_command_lives(cli):
    with cli.hold("-n", "x") as holding:
        holding.wrapper.kill()
        holding.wrapper.wait()
        (run,) = cli.json("ps")
        assert (run["state"], run["pid"]) == ("orphan", holding.pid)
        refused = cli.run("-n", "x", "true")
        assert refused.returncode == 75
        assert "orphan" in refused.stderr
        assert str(holding.pid) in refused.stderr
        assert cli.run("is-running", "x").returncode == 0
        holding.wrapper.stdin.close()
        eventually(lambda: not is_alive(holding.pid), "the end of the command")
    (run,) = cli.json("ps")
    assert run["state"] == "zombie"
    assert cli.run("is-running", "x").returncode == 1
    assert cli.run("-n", "x", "true").returncode == 0, "the next run needs no reaper"
    states = [run["state"] for run in cli.history("x")]
    assert states == ["succeeded", "refused", "lost"]
    assert cli.json("ps") == []


CLOSES_ALL = 'for fd in 10 11 12 13 14 15; do eval "exec $fd>&-" 2>/dev/null; done; '


def close_descriptors(script):
    # dash and bash can only close two-digit descriptors through eval in bash.
    return ["bash", "-c", CLOSES_ALL + script]


def hold_without_descriptor(cli, name):
    """Start a command that closes what it inherited, as sudo does."""
    command = close_descriptors("echo $$; exec cat")
    wrapper = cli.start("-n", name, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(wrapper.stdout.readline())
    eventually(lambda: cli.command_is_recorded(wrapper.pid), "the record of the command")
    command_line = Path(f"/proc/{pid}/cmdline")
    eventually(lambda: command_line.read_bytes() == b"cat\0", "the exec of cat")
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [link for link in links if link.endswith(".lock")]
    return wrapper, pid


def test_an_orphan_that_closed_the_lock_still_blocks(cli):
    wrapper, pid = hold_without_descriptor(cli, "x")
    wrapper.kill()
    wrapper.wait()
    assert [run["state"] for run in cli.json("ps")] == ["orphan"]
    assert cli.run("is-running", "x").returncode == 0
    refused = cli.run("-n", "x", "true")
    assert refused.returncode == 75
    assert f"PID {pid} " in refused.stderr
    waiter = cli.start("-n", "x", "-w", "true")
    eventually(lambda: [run for run in cli.json("ps") if run["state"] == "waiting"], "the waiting")
    assert waiter.poll() is None
    wrapper.stdin.close()
    assert waiter.wait(PATIENCE) == 0
    assert not is_alive(pid)


def test_a_survivor_of_the_command_still_blocks(cli):
    """The command is dead; its child lives, has closed everything and left the process group."""
    inner = "exec setsid bash -c '" + CLOSES_ALL + "echo $$; exec cat'"
    script = f"exec 9<&0; {{ {inner}; }} <&9 & wait"
    wrapper = cli.start(
        "-n", "x", "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pid = int(wrapper.stdout.readline())
    eventually(lambda: cli.command_is_recorded(wrapper.pid), "the record of the command")
    command = cli.json("ps")[0]["pid"]
    kill([wrapper.pid, command])
    wrapper.wait()
    eventually(lambda: not is_alive(command), "the end of the command")
    assert is_alive(pid)
    assert cli.json("ps")[0]["state"] == "orphan"
    assert cli.run("-n", "x", "true").returncode == 75
    assert "orphan" in cli.run("reap").stdout
    assert cli.run("reap", "--kill-orphans").returncode == 0
    assert not is_alive(pid)
    assert cli.json("ps") == []
    assert cli.last("x")["state"] == "refused"


def test_deleted_lock_file_still_refuses(cli):
    with cli.hold("-n", "x") as holding:
        cli.lock_path("x").unlink()
        for _ in range(2):
            refused = cli.run("-n", "x", "true")
            assert refused.returncode == 75
            assert str(holding.pid) in refused.stderr or str(holding.wrapper.pid) in refused.stderr
        assert cli.run("is-running", "x").returncode == 0
        waiter = cli.start("-n", "x", "-w", "true")
        eventually(lambda: [r for r in cli.json("ps") if r["state"] == "waiting"], "the waiting")
        assert waiter.poll() is None
        holding.release()
        assert waiter.wait(PATIENCE) == 0


def test_deleted_state_directory_still_refuses(cli):
    with cli.hold("-n", "x") as holding:
        subprocess.run(["rm", "-rf", cli.dir], check=True)
        refused = cli.run("-n", "x", "true")
        assert refused.returncode == 75
        assert str(holding.wrapper.pid) in refused.stderr or str(holding.pid) in refused.stderr
        assert cli.run("-n", "y", "true").returncode == 0
        assert cli.run("-n", "x", "true").returncode == 75, "and again, though it made the files"
        assert holding.release() == 0
    assert cli.run("-n", "x", "true").returncode == 0
    assert {run["name"] for run in cli.history()} >= {"x", "y"}


def test_lock_file_replaced_by_another_inode_still_refuses(cli):
    with cli.hold("-n", "x"):
        path = cli.lock_path("x")
        path.rename(path.with_suffix(".old"))
        path.touch(0o600)
        assert cli.run("-n", "x", "true").returncode == 75


@pytest.mark.stress
def test_hundreds_of_runs_with_deletions_never_show_two(cli, tmp_path):
    """Eight loops at once, while the lock file is deleted again and again."""
    witness = tmp_path / "witness"
    script = (
        f'for i in $(seq 25); do {cli.binary} -q -n x sh -c "'
        f"mkdir {tmp_path}/busy || echo overlap >> {witness}; rmdir {tmp_path}/busy; "
        f'echo ran >> {witness}"; done'
    )
    loops = [
        subprocess.Popen(["sh", "-c", script], env=cli.env, stderr=subprocess.PIPE)
        for _ in range(8)
    ]

    def ran():
        return witness.stat().st_size if witness.exists() else 0

    def are_over():
        return all(loop.poll() is not None for loop in loops)

    while not are_over():
        # A run whose lock file is deleted while it starts gives up: some must be left alone.
        before = ran()
        for _ in range(20):
            cli.lock_path("x").unlink(missing_ok=True)
            time.sleep(0.003)
        eventually(lambda before=before: ran() > before or are_over(), "a run")
    for loop in loops:
        assert loop.communicate()[1] == b""
    assert "overlap" not in witness.read_text()
    assert "ran" in witness.read_text()
    assert cli.run("-n", "x", "true").returncode == 0


def test_killed_waiter_is_passed_over_and_reaped(cli):
    with cli.hold("-n", "x") as holding:
        waiters = [cli.start("-n", "x", "-w", "true") for _ in range(3)]
        eventually(
            lambda: sum(run["state"] == "waiting" for run in cli.json("ps")) == 3, "the waiting"
        )
        kill([waiters[1].pid])
        waiters[1].wait()
        states = {run["wrapper_pid"]: run["state"] for run in cli.json("ps")}
        assert states[waiters[1].pid] == "zombie"
        assert "zombie that waited" in cli.run("reap").stdout
        holding.release()
        assert waiters[0].wait(PATIENCE) == waiters[2].wait(PATIENCE) == 0
    run = next(run for run in cli.history("x") if run["wrapper_pid"] == waiters[1].pid)
    assert run["state"] == "stopped"
    assert cli.json("ps") == []


@pytest.mark.stress
def test_reap_never_disturbs_a_run(cli):
    """Reapers and probes take locks for moments; no run is refused because of one."""
    cli.run("-n", "x", "true")
    script = (
        f"while :; do {cli.binary} reap; {cli.binary} is-running x; {cli.binary} is-running x; done"
    )
    probes = [
        subprocess.Popen(
            ["sh", "-c", script], env=cli.env, stdout=subprocess.DEVNULL, start_new_session=True
        )
        for _ in range(2)
    ]
    try:
        for _ in range(60):
            result = cli.run("-n", "x", "true")
            assert (result.returncode, result.stderr) == (0, "")
    finally:
        for probe in probes:
            os.killpg(probe.pid, signal.SIGKILL)
            probe.wait()


def test_reap_closes_a_zombie_once(cli):
    with cli.hold("-n", "x") as holding:
        kill([holding.wrapper.pid, holding.pid])
        holding.wrapper.wait()
        eventually(lambda: not is_alive(holding.pid), "the end of the command")
    dry = cli.run("reap", "--dry-run")
    assert "would close" in dry.stdout
    assert cli.json("ps")[0]["state"] == "zombie"
    assert cli.run("reap").stdout == "1 x: a zombie, closed as lost\n"
    run = cli.last("x")
    assert run["state"] == "lost"
    again = cli.run("reap")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert cli.last("x") == run


def test_reap_of_a_name_leaves_others_alone(cli):
    for name in ("x", "y"):
        with cli.hold("-n", name) as holding:
            kill([holding.wrapper.pid, holding.pid])
            holding.wrapper.wait()
            eventually(lambda pid=holding.pid: not is_alive(pid), "the end of the command")
    assert cli.run("reap", "y").returncode == 0
    assert [run["name"] for run in cli.json("ps")] == ["x"]


def test_orphan_is_ended_only_when_asked(cli):
    with cli.hold("-n", "x") as holding:
        holding.wrapper.kill()
        holding.wrapper.wait()
        assert "is alive" in cli.run("reap").stdout
        assert is_alive(holding.pid)
        assert "would kill" in cli.run("reap", "--kill-orphans", "--dry-run").stdout
        assert is_alive(holding.pid)
        said = cli.run("reap", "--kill-orphans").stdout
        assert said == f"1 x: an orphan, killed PID {holding.pid}, closed as lost\n"
        assert not is_alive(holding.pid)
    assert cli.run("-n", "x", "true").returncode == 0


def test_state_directory_reached_through_a_link_and_deleted(cli, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    cli.dir = tmp_path / "link" / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    with cli.hold("-n", "x"):
        subprocess.run(["rm", "-rf", tmp_path / "real" / "state"], check=True)
        assert cli.run("-n", "x", "true").returncode == 75


def test_an_orphan_is_not_forgotten_because_the_disk_is_full(cli, small_disk):
    """Closing the dead waiter's record fails; that must not hide the living command."""
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    wrapper, pid = hold_without_descriptor(cli, "x")
    waiter = cli.start("-w", "-n", "x", "true")
    eventually(lambda: [r for r in cli.json("ps") if r["state"] == "waiting"], "the waiting")
    kill([waiter.pid, wrapper.pid])
    wrapper.wait()
    fill(small_disk)
    assert cli.run("-n", "x", "echo", "second").returncode == 75
    kill([pid])


@pytest.mark.stress
def test_reap_looks_again_at_each_run(cli):
    """Ending one orphan takes time; meanwhile a run ends well, and leaves a daemon on purpose."""
    stubborn = "trap '' TERM; echo $$; exec cat"
    orphan = cli.start(
        "-n", "o", "sh", "-c", stubborn, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    orphan.stdout.readline()
    eventually(lambda: cli.command_is_recorded(orphan.pid), "the record of the command")
    leaver = "setsid sleep 60 >/dev/null 2>&1 <&- & echo $!; exec cat"
    other = cli.start("-n", "n", "sh", "-c", leaver, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    daemon = int(other.stdout.readline())
    eventually(lambda: cli.command_is_recorded(other.pid), "the record of the command")
    kill([orphan.pid])
    orphan.wait()
    reap = cli.start("reap", "--kill-orphans", stdout=subprocess.PIPE)
    eventually(lambda: len(children(reap.pid)) == 0 and reap.poll() is None, "the reaping")
    other.stdin.close()
    assert other.wait(PATIENCE) == 0
    assert reap.wait(PATIENCE) == 0
    assert is_alive(daemon), "it is no orphan: its run ended well"
    kill([daemon])
    assert cli.last("n")["state"] == "succeeded"


@pytest.mark.stress
def test_reap_ends_what_is_started_anew_while_it_ends_the_rest(cli):
    script = "trap : TERM; echo $$; while :; do sleep 777; done"
    wrapper = cli.start("-n", "x", "bash", "-c", script, stdout=subprocess.PIPE)
    pid = int(wrapper.stdout.readline())
    eventually(lambda: cli.command_is_recorded(wrapper.pid), "the record of the command")
    wrapper.kill()
    wrapper.wait()
    result = cli.run("reap", "--kill-orphans")
    assert "closed as lost" in result.stdout
    assert not is_alive(pid)
    assert cli.json("ps") == []
    assert cli.run("-n", "x", "true").returncode == 0


def test_one_file_is_one_lock_whichever_link_leads_to_it(cli, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    command = close_descriptors("echo $$; exec cat")
    wrapper = cli.start(
        "--lock-file", str(tmp_path / "file"), *command, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    wrapper.stdout.readline()
    eventually(lambda: cli.command_is_recorded(wrapper.pid), "the record of the command")
    wrapper.kill()
    wrapper.wait()
    assert cli.run("--lock-file", str(tmp_path / "link"), "true").returncode == 75


def test_a_waiter_that_timed_out_does_not_take_the_lock_afterwards(cli):
    """It hangs while it reports the timeout, because nothing reads its standard error."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    with cli.hold("-n", "x") as holding:
        late = cli.start("--wait-for", "0.2", "-n", "x", "true", stderr=writing)
        eventually(lambda: cli.last("x")["wrapper_pid"] == late.pid, "the refusal")
        eventually(lambda: cli.last("x")["state"] == "refused", "the refusal")
        holding.release()
        assert late.poll() is None
        assert cli.run("-n", "x", "true").returncode == 0
    os.close(reading)
    os.close(writing)
    late.wait(PATIENCE)


@pytest.mark.stress
def test_a_run_refused_two_names_never_blocks_a_run_of_one(cli):
    with cli.hold("-n", "b"):
        script = f"while :; do {cli.binary} -q -n a -n b true; done"
        loops = [
            subprocess.Popen(["sh", "-c", script], env=cli.env, start_new_session=True)
            for _ in range(2)
        ]
        try:
            for _ in range(60):
                assert cli.run("-n", "a", "true").returncode == 0
        finally:
            for loop in loops:
                os.killpg(loop.pid, signal.SIGKILL)
                loop.wait()


def test_a_read_only_file_system_does_not_keep_a_job_from_its_lock(cli, small_disk):
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    cli.run("-n", "x", "true")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    inner = f"{cli.binary} -q -n x true; echo inner $?"
    result = cli.run("-n", "x", "sh", "-c", inner)
    assert (result.returncode, result.stdout) == (0, "inner 75\n")
    assert "without a record" in result.stderr


def test_lock_file_deleted_between_the_lock_and_the_record_of_the_start(cli):
    """A run is late: it has its lock, has seen no open run, and has not recorded its start yet.

    Meanwhile its lock file is replaced, and another run locks the new one.
    """
    cli.run("-n", "x", "true")
    # The third flock(2) ends its look at the record; the first was the lock itself.
    late = Stopped(cli, "flock", 3, "-q", "-n", "x", "cat", stdin=subprocess.PIPE)
    cli.lock_path("x").unlink()
    cli.lock_path("x").touch(0o600)
    with cli.hold("-n", "x"):
        late.go_on()
        assert late.tracer.wait(PATIENCE) == 75
        assert [run["state"] for run in cli.json("ps")] == ["running"]
