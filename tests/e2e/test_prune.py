"""What prune forgets, and what it leaves alone, by real processes and real files."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from conftest import PATIENCE, Gate, eventually, fill, need

OLD = (1, 1)


def pruned(cli, *options, **more):
    """Prune; return how many of each kind were forgotten."""
    result = cli.run("prune", "--json", *options, **more)
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document["schema"] == 1
    return {each["kind"]: each["count"] for each in document["pruned"] if each["count"]}


def size(cli):
    return sum(path.stat().st_size for path in cli.dir.rglob("*") if path.is_file())


def an_idle_line(cli):
    line = cli.dir / "lines" / "idle"
    line.mkdir(parents=True, exist_ok=True)
    os.utime(line, OLD)
    return line


# -- the command ---------------------------------------------------------------------------------


def test_nothing_is_there(cli):
    result = cli.run("prune")
    assert (result.returncode, result.stderr) == (0, "")
    assert not cli.dir.exists()


def test_nothing_is_old(cli):
    cli.run("-n", "x", "--log", "echo", "hi")
    before = cli.history()
    assert pruned(cli) == {}
    assert cli.history() == before
    assert cli.run("logs", "x").stdout == "hi\n"


def test_keep_so_many_runs_of_each_name(cli):
    for name in ("a", "a", "a", "b"):
        cli.run("-n", name, "true")
    assert pruned(cli, "--keep", "2") == {"runs": 1}
    assert [run["name"] for run in cli.history()] == ["b", "a", "a"]


def test_what_is_older(cli):
    for _ in range(3):
        cli.run("-n", "a", "--log", "echo", "hi")
    assert pruned(cli, "--older-than", "1h") == {}
    dry = pruned(cli, "--older-than", "0", "--dry-run")
    assert len(cli.history()) == 3
    assert pruned(cli, "--older-than", "0") == dry == {"runs": 2, "output": 2, "locks": 1}
    assert os.listdir(cli.dir / "logs") == [str(cli.last()["id"])]
    assert not cli.lock_path("a").exists()
    assert cli.run("-n", "a", "true").returncode == 0
    assert cli.lock_path("a").exists()


def test_tables_and_quiet(cli):
    for _ in range(3):
        cli.run("-n", "a", "true")
    told = cli.run("prune", "--keep", "1", "--dry-run").stdout
    assert "runs\t2\t" in told
    assert told.endswith("to forget this: singlerun prune\n")
    assert cli.run("prune", "--keep", "1", "-q").stdout == ""
    assert len(cli.history()) == 1


def test_jobs_and_their_queue(cli):
    ids = [cli.add("-n", "q", "true") for _ in range(3)]
    for number in ids:
        assert cli.run("wait", str(number)).returncode == 0
    eventually(lambda: not cli.workers(), "the end of the worker")
    found = pruned(cli, "--older-than", "0", "--keep", "0")
    assert found["jobs"] == 3
    assert found["fifos"] == 1
    assert cli.queue("--all") == []
    assert not os.listdir(cli.dir / "workers")
    again = cli.add("-n", "q", "true")
    assert cli.run("wait", str(again)).returncode == 0


def test_what_is_pending_stays(cli, gate):
    first = cli.add("-n", "q", *gate.command)
    second = cli.add("-n", "q", "--after", str(first), "true")
    gate.pid()
    for _ in range(2):
        assert "jobs" not in pruned(cli, "--older-than", "0", "--keep", "0")
    gate.open()
    assert cli.run("wait", str(second)).returncode == 0


def test_a_running_command_keeps_its_run_lock_and_output(cli):
    with cli.hold("-n", "x", "--log") as held:
        assert "locks" not in pruned(cli, "--older-than", "0", "--keep", "0")
        assert cli.run("-n", "x", "true").returncode == 75
        assert cli.run("logs", "x").stdout == f"{held.pid}\n"
    assert cli.last()["state"] in {"succeeded", "refused"}


def test_an_orphan_that_has_closed_its_descriptor_keeps_its_name(cli):
    from conftest import CLOSING

    with cli.hold("-n", "x", script=CLOSING) as held:
        held.wrapper.kill()
        held.wrapper.wait()
        assert "locks" not in pruned(cli, "--older-than", "0", "--keep", "0")
        assert cli.run("-n", "x", "true").returncode == 75
        os.kill(held.pid, signal.SIGKILL)


def test_the_file_of_a_user_is_never_touched(cli, tmp_path):
    path = tmp_path / "mine"
    path.touch()
    cli.run("--lock-file", path, "-n", "x", "true")
    cli.run("--lock-file", path, "-n", "x", "-j", "2", "true")
    os.utime(path, OLD)
    pruned(cli, "--older-than", "0", "--keep", "0")
    assert path.exists()


def test_the_oldest_output_goes_where_there_is_too_much(cli, monkeypatch):
    from singlerun.paths import StateDir
    from singlerun.pruning.prune import Pruner
    from singlerun.pruning.rules import Rules
    from singlerun.store.sqlite_pruning import SqlitePruning

    for _ in range(4):
        cli.run("-n", "x", "--log", "sh", "-c", "head -c 8000 /dev/urandom | base64")
    eventually(lambda: len(list(cli.dir.glob("logs/*/*.z"))) == 4, "the compression")
    with cli.hold("-n", "y", "--log"):
        state = StateDir(os.fsencode(cli.dir))
        store = SqlitePruning(state)
        found = Pruner(state, store, Rules(bytes=20_000)).prune()
        assert found.counts["output"] == 2
        found = Pruner(state, store, Rules(bytes=0)).prune()
        assert found.counts["output"] == 2, "that of y is being written"
        assert len(os.listdir(cli.dir / "logs")) == 1
        store.close()
    assert len(cli.history()) == 5


def test_output_without_a_run_goes_but_not_that_of_a_record_that_was_lost(cli):
    cli.run("-n", "x", "--log", "echo", "hi")
    cli.run("-n", "x", "true")
    (cli.dir / "logs" / "2").mkdir()
    (cli.dir / "logs" / "99").mkdir()
    cli.sql("DELETE FROM runs WHERE id = 1")
    cli.sql("DELETE FROM run_names WHERE run_id = 1")
    assert pruned(cli) == {"output": 1}
    assert sorted(os.listdir(cli.dir / "logs")) == ["2", "99"]


def test_two_at_once(cli):
    from singlerun.paths import StateDir
    from singlerun.pruning import background

    cli.run("true")
    with background.alone(StateDir(os.fsencode(cli.dir))) as is_alone:
        assert is_alone
        result = cli.run("prune")
    assert result.returncode == 75
    assert "another singlerun is pruning this state directory; try again later" in result.stderr
    assert cli.run("prune").returncode == 0


# -- by itself -----------------------------------------------------------------------------------


def test_a_run_that_has_ended_prunes_once_an_hour(cli):
    cli.run("true")
    line = an_idle_line(cli)
    stamp = cli.dir / "pruned"
    assert cli.run("true").returncode == 0
    os.utime(stamp, OLD)
    result = cli.run("true")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    eventually(lambda: not line.exists(), "the prune")
    assert time.time() - stamp.stat().st_mtime < PATIENCE
    an_idle_line(cli)
    assert cli.run("true").returncode == 0
    assert line.exists()


def test_the_clock_was_set_back(cli):
    cli.run("true")
    line = an_idle_line(cli)
    os.utime(cli.dir / "pruned", (2**33, 2**33))
    assert cli.run("true").returncode == 0
    eventually(lambda: not line.exists(), "the prune")


def test_a_worker_prunes_too(cli):
    cli.run("true")
    line = an_idle_line(cli)
    os.utime(cli.dir / "pruned", OLD)
    cli.add("-n", "q", "true")
    eventually(lambda: not line.exists(), "the prune")


def test_the_prune_starts_when_the_lock_is_free(cli):
    """And after the hooks, whatever they say."""
    cli.run("true")
    os.utime(cli.dir / "pruned", OLD)
    with cli.hold("-n", "x"):
        pass
    os.utime(cli.dir / "pruned", OLD)
    seen = cli.run(
        "-n", "x", "--on-finish",
        'stat -c %Y "$SINGLERUN_DIR"/pruned; singlerun is-running "$SINGLERUN_NAME"; echo $?',
        "true", env=cli.env | {"PATH": f"{cli.binary.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert seen.stdout.split()[0] == "1"
    assert seen.stdout.split()[-1] == "1"


def test_a_full_disk_is_silent_and_the_next_one_tries_again(cli, small_disk):
    cli.env["SINGLERUN_DIR"] = str(small_disk / "state")
    cli.dir = small_disk / "state"
    cli.run("true")
    line = an_idle_line(cli)
    for _ in range(2):
        os.utime(cli.dir / "pruned", OLD)
        fill(small_disk)
        result = cli.run("-q", "true")
        assert result.returncode == 0
        assert "prun" not in result.stderr
    (small_disk / "filler").unlink()
    an_idle_line(cli)
    os.utime(cli.dir / "pruned", OLD)
    assert cli.run("true").returncode == 0
    eventually(lambda: not line.exists(), "the prune")


# -- beside everything else ----------------------------------------------------------------------

WITNESS = 'mkdir "$0" || echo twice >> "$0.twice"; rmdir "$0"'


def rounds(cli, witness, options, count):
    """Start a loop of runs that see whether another one is inside."""
    script = f'for i in $(seq {count}); do "$@" sh -c "$0" {witness} || exit; done'
    words = ["sh", "-c", script, WITNESS, str(cli.binary), "-w", *options]
    process = subprocess.Popen(words, env=cli.env, stderr=subprocess.PIPE, text=True)
    cli.started.append(process)
    return process


def test_output_that_never_came_is_forgotten_with_its_run(cli):
    for _ in range(2):
        cli.run("-n", "x", "--log", "true")
    assert sorted(os.listdir(cli.dir / "logs")) == ["1", "2"]
    pruned(cli, "--older-than", "0", "--keep", "0")
    assert os.listdir(cli.dir / "logs") == ["2"]


def test_kill_prune_at_any_moment_beside_runs(cli, tmp_path):
    """No two runs of a name at once; nothing is broken, and all of it can be pruned at last."""
    witness, queued = tmp_path / "inside", tmp_path / "queued"
    ids = [cli.add("-n", "q", "sh", "-c", WITNESS, str(queued)) for _ in range(10)]
    loops = [
        rounds(cli, witness, ["-n", "x"], 12),
        rounds(cli, witness, ["-n", "x", "--log"], 12),
        rounds(cli, witness, ["-n", "x", "-n", "y"], 12),
    ]
    chance = random.Random(1)
    kills = 0
    while any(loop.poll() is None for loop in loops):
        prune = cli.start("prune", "--older-than", "0", "--keep", "0", "-q")
        try:
            prune.wait(chance.uniform(0.1, 1.0))
        except subprocess.TimeoutExpired:
            prune.kill()
            prune.wait()
            kills += 1
    for loop in loops:
        assert (loop.wait(), loop.stderr.read()) == (0, "")
    assert not (tmp_path / "inside.twice").exists()
    for number in ids:
        cli.run("wait", str(number))
    eventually(lambda: not cli.workers(), "the end of the worker")
    assert not (tmp_path / "queued.twice").exists()
    assert cli.run("reap").returncode == 0
    pruned(cli, "--older-than", "0", "--keep", "0")
    assert cli.sql("PRAGMA integrity_check") == [("ok",)]
    assert cli.sql("SELECT count(*) FROM runs WHERE ended_ns IS NULL") == [(0,)]
    assert not list(cli.dir.glob("singlerun.db.broken*"))
    kept = {run["id"] for run in cli.history()}
    assert {int(name) for name in os.listdir(cli.dir / "logs")} <= kept
    assert cli.sql("SELECT sum(runs) FROM tallies")[0][0] >= 36


@pytest.mark.stress
def test_a_state_directory_stays_small(cli):
    """100,000 runs of 1,000 names, a few hundred bytes each; the manual has the figure."""
    from singlerun import lock
    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir
    from singlerun.process.identity import this_process
    from singlerun.store.run import Ending, Run
    from singlerun.store.sqlite import SqliteStore

    state = StateDir(os.fsencode(cli.dir))
    store = SqliteStore(state)
    for number in range(100_000):
        name = b"name-%d" % (number % 1000)
        if number < 1000:
            locks = lock.of_names((name,), state, shared=False)
            locks.try_take()
            locks.free()
        run = Run(
            names=(name,), argv=(b"rsync", b"-a", b"/home/user/", b"/backup/user/"), uid=0,
            wrapper=this_process(), asked_ns=time.time_ns(), cwd=b"/home/user",
        )  # fmt: skip
        store.start_run(run, None)
        store.finish_run(run, Ending(Outcome(0, elapsed_ns=10**9)))
    store.close()
    assert size(cli) < 40e6
    pruned(cli, "--keep", "10", timeout=10 * PATIENCE)
    assert size(cli) < 5e6
    assert len(cli.history()) == 10_000


_ = (Gate, closing, need, sqlite3)
