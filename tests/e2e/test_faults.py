"""Single system calls and imports that fail: what tests/sweeps has found, one each."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import BINARY, PATIENCE, eventually, need

WITHOUT = "import sys; sys.modules[{0!r}] = None; from singlerun.cli import main; main()"
EXIT_7 = ["sh", "-c", "exit 7"]


def without(cli, module, *arguments):
    """Run the command line where a module cannot be imported."""
    command = [sys.executable, "-c", WITHOUT.format(module), *arguments]
    return subprocess.run(command, env=cli.env, capture_output=True, text=True, check=False)


def injected(cli, call, what, *arguments, paths=(), program=(BINARY,)):
    """Run with failing system calls, all or those on paths; return the result and the trace."""
    need("strace")
    trace = cli.dir.parent / "trace"
    options = ["-e", f"trace={call}", "-e", f"inject={call}:{what}"]
    command = [
        "strace",
        "-qq",
        "-o",
        trace,
        *options,
        *(word for path in paths for word in ("-P", path)),
    ]
    result = subprocess.run(
        [*command, *program, *arguments],
        env=cli.env, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return result, trace.read_text()


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


# -- before and after the command ------------------------------------------------------------------


def test_the_status_of_a_command_needs_no_module(cli):
    """wait4(2) of Python imports one when it has reaped the command already."""
    result = without(cli, "resource", "-n", "x", *EXIT_7)
    assert (result.returncode, result.stderr) == (7, "")
    assert cli.last("x")["exit_code"] == 7


def test_a_lock_file_that_cannot_be_closed_costs_no_status(cli):
    cli.run("-n", "x", "true")
    path = cli.lock_path("x")
    result, trace = injected(cli, "close", "error=EIO:when=2", "-n", "x", *EXIT_7, paths=[path])
    assert "INJECTED" in trace  # the first moves it to a higher descriptor
    assert (result.returncode, result.stderr) == (7, "")


@pytest.mark.parametrize("module", ["singlerun.runner", "singlerun.store.sqlite", "click"])
def test_a_module_that_cannot_be_loaded_is_one_sentence(cli, module):
    words = ["ps"] if module == "click" else ["-n", "x", "true"]
    result = without(cli, module, *words)
    assert result.returncode == 125
    assert re.fullmatch("singlerun: cannot load a part of .*\n", result.stderr)


def test_a_process_that_cannot_be_made_is_a_failure_of_ours(cli):
    forks = "clone,clone3,fork,vfork"
    program = [sys.executable, "-m", "singlerun"]  # the script forks by itself
    first = "error=EAGAIN:when=1"
    result, trace = injected(cli, forks, first, "-n", "x", "true", program=program)
    assert "INJECTED" in trace
    assert result.returncode == 125
    assert "true: cannot start: resource temporarily unavailable; see ulimit -u" in result.stderr
    assert cli.last("x")["state"] == "failed"


# -- the run-log -----------------------------------------------------------------------------------


def test_a_read_that_fails_once_does_not_set_the_run_log_aside(cli):
    """SQLite calls that damage."""
    cli.run("-n", "x", "true")
    before = cli.dir.parent / "before"
    shutil.copytree(cli.dir, before)
    files = [cli.dir / "singlerun.db", cli.dir / "singlerun.db-wal"]
    for number in range(1, 1000, 3):
        result, trace = injected(
            cli, "pread64", f"error=EIO:when={number}", "-n", "x", *EXIT_7, paths=files
        )
        assert result.returncode == 7
        assert "set aside" not in result.stderr
        if "INJECTED" not in trace:
            break
        shutil.rmtree(cli.dir)
        shutil.copytree(before, cli.dir)
    assert number > 20, "pages were read"
    assert cli.last("x")["exit_code"] == 7


# -- what is left of the dead ----------------------------------------------------------------------


def test_reap_deletes_the_tickets_of_the_dead(cli):
    cli.run("-n", "x", "true")
    line = cli.dir / "lines" / "x"
    line.mkdir(parents=True)
    (line / f"{1:019}-{dead_pid()}").touch()
    with cli.hold("-n", "x") as holding:
        waiter = cli.start("-n", "x", "-w", "true")
        eventually(lambda: len(list(line.iterdir())) == 1, "the waiter, and the end of the dead")
        ticket = f"{2:019}-{dead_pid()}"
        (line / ticket).touch()
        assert cli.run("reap", "--dry-run").returncode == 0
        assert (line / ticket).exists()
        assert cli.run("reap").returncode == 0
        assert [path.name.partition("-")[2] for path in line.iterdir()] == [str(waiter.pid)]
        holding.release()
        assert waiter.wait(PATIENCE) == 0


def test_reap_deletes_what_a_dead_writer_of_output_left(cli):
    cli.run("-n", "x", "--log", "echo", "kept")
    logs = cli.dir / "logs"
    for pid in (dead_pid(), os.getpid()):
        (logs / f".7-{pid}").mkdir(0o700)
        (logs / f".7-{pid}" / f"{0:018}").touch()
    assert cli.run("reap").returncode == 0
    assert {path.name for path in logs.iterdir()} == {"1", f".7-{os.getpid()}"}
    assert cli.run("logs", "x").stdout == "kept\n"


def test_reap_deletes_notes_without_a_claim(cli):
    lockfile = ["-n", "x", "--lock-type", "lockfile"]
    cli.run(*lockfile, "true")
    notes = cli.dir / "locks" / "x.soft.filelock"
    with cli.hold(*lockfile):
        (own,) = notes.glob("note-*")
        (notes / f"note-{'0' * 32}").touch()
        assert cli.run("reap").returncode == 0
        assert list(notes.glob("note-*")) == [own]


def test_a_lock_file_that_can_neither_be_taken_nor_cleaned_up_is_one_sentence(cli):
    lockfile = ["-n", "x", "--lock-type", "lockfile"]
    cli.run(*lockfile, "true")
    path, failed = cli.dir / "locks" / "x.soft.filelock", 0
    for number in range(1, 100):
        lasting = f"error=EMFILE:when={number}+"
        result, trace = injected(cli, "openat", lasting, *lockfile, "true", paths=[path])
        if "INJECTED" not in trace:
            break
        if result.returncode:
            failed += 1
            assert result.returncode == 125
            assert result.stderr.startswith("singlerun: cannot lock ")
    assert failed > 2


# -- the worker ------------------------------------------------------------------------------------


def test_a_job_whose_lock_cannot_be_looked_at_stays_queued(cli):
    cli.run("-n", "x", "true")
    cli.run("pause", "x")
    number = cli.add("-n", "x", *EXIT_7)
    eventually(lambda: not cli.workers("x"), "the end of the worker")
    cli.sql("DELETE FROM pauses")
    states = set()
    for nth in range(1, 30):
        result, trace = injected(
            cli, "newfstatat,fstat", f"error=ENOMEM:when={nth}", "worker", "-n", "x",
            paths=[cli.lock_path("x")],
        )  # fmt: skip
        if "INJECTED" not in trace:
            break
        job = cli.job(number)
        states.add(job["state"])
        assert job["state"] in {"queued", "failed"}, result.stderr
        if job["state"] == "failed":
            assert job["exit_code"] == 7
            break
    assert "queued" in states
