"""Each check of doctor meets a real instance of its trouble, and doctor changes nothing."""

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, Stopped, demand_or_skip, eventually, fill, need

from singlerun import paths
from singlerun.checkup import (
    cron_lines,
    crontabs,
    database,
    directory,
    domains,
    examination,
    installation,
    queues,
    task,
)
from singlerun.checkup.case import Case
from singlerun.checkup.checks import CHECKS
from singlerun.finding import NOTE, PROBLEM, Answer
from singlerun.process import procfs

WEEK_NS = 7 * 86_400 * 10**9


@pytest.fixture
def case(cli):
    return Case(os.fsencode(cli.dir))


def answer_of(check, case):
    """Return the answer of a check, which is made in a process of its own."""
    (answer,) = examination.examine({check: CHECKS[check]}, case, PATIENCE)
    assert all(finding.remedy for finding in answer.findings)
    return answer


@pytest.fixture
def root():
    if os.geteuid() != 0:
        demand_or_skip("only root can give files away, and be the owner of crontabs")


def found(check, case):
    """Return what a check finds: level, the end of the place, and the sentence."""
    answer = answer_of(check, case)
    return [(each.level, os.path.basename(each.where), each.what) for each in answer.findings]


def only(check, case):
    (finding,) = found(check, case)
    return finding


def commands(check, case):
    return [finding.command for finding in answer_of(check, case).findings]


def snapshot(directory):
    """Return all that can be seen of a directory, but for the times of access.

    And but for that of the latest change of owner: for root, SQLite gives its log and index to the
    owner of the database, who has them already.
    """

    def seen(path):
        entry = path.lstat()
        content = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None
        return [*entry[:7], entry.st_mtime_ns, content]

    return {path: seen(path) for path in sorted([directory, *directory.rglob("*")])}


# -- the whole ------------------------------------------------------------------------------------


def test_nothing_is_made_where_nothing_is(cli):
    result = cli.run("doctor", "--json")
    assert result.stderr == ""
    assert not cli.dir.exists()
    document = json.loads(result.stdout)
    assert document["schema"] == 1
    assert [check["name"] for check in document["checks"]] == list(CHECKS)


def test_nothing_is_changed(cli):
    cli.run("-n", "x", "--log", "echo", "out")
    cli.run("pause", "y")
    cli.add("-n", "y", "true")
    eventually(lambda: not cli.workers(), "the end of the worker, which finds the pause")
    before = snapshot(cli.dir)
    configuration = cli.dir.parent / "config.toml"
    configuration.write_text("[defaults]\nwait = true\n")
    cli.run("doctor", env=cli.env | {"SINGLERUN_CONFIG": str(configuration)})
    assert snapshot(cli.dir) == before
    (cli.dir / "singlerun.db").write_bytes(b"damaged" * 1000)
    before = snapshot(cli.dir)
    assert cli.run("doctor").returncode == 1
    assert snapshot(cli.dir) == before


@pytest.mark.parametrize("state", ["file", "link", "foreign", "empty", "unreadable"])
@pytest.mark.usefixtures("root")
def test_a_broken_state_directory_is_a_finding(cli, state):
    if state == "file":
        cli.dir.write_text("")
    elif state == "link":
        cli.dir.symlink_to("/etc")
    else:
        cli.dir.mkdir(mode=0o000 if state == "unreadable" else 0o700)
        if state == "foreign":
            os.chown(cli.dir, 65534, 65534)
    result = cli.run("doctor", "--json")
    assert result.stderr == ""
    findings = [
        finding for finding in json.loads(result.stdout)["findings"]
        if finding["check"] == "directory" and finding["level"] == PROBLEM
    ]  # fmt: skip
    assert bool(findings) == (state not in {"empty", "unreadable"})


def test_exit_status_and_quiet(cli, monkeypatch):
    """Problems of this machine are there or not; one of ours is made, and mended again."""
    cli.run("pause", "x")
    assert cli.run("doctor", "-q").stdout.count("It has been paused") == 0
    cli.sql(f"UPDATE pauses SET since_ns = since_ns - {2 * WEEK_NS}")
    result = cli.run("doctor", "-q")
    assert result.returncode == 1
    assert "paused for 14d" in result.stdout
    assert "Notes" not in result.stdout
    assert cli.run("doctor", "--bad").returncode == 2


def test_a_file_system_that_hangs_is_a_finding(cli, remote_disk):
    state = remote_disk / "state"
    assert cli.run("--dir", str(state), "true").returncode == 0
    (daemon,) = [
        pid for pid in procfs.pids() if procfs.command_line(pid)[-1:] == [os.fsencode(remote_disk)]
    ]
    names = ("directory", "database", "limits")
    os.kill(daemon, signal.SIGSTOP)
    try:
        checks = {name: CHECKS[name] for name in names}
        answers = examination.examine(checks, Case(os.fsencode(state)), 1.0)
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert [answer.is_done for answer in answers] == [False, False, True]
    assert [finding.level for answer in answers for finding in answer.findings] == [PROBLEM]
    assert "directory, database were not checked" in answers[0].findings[0].what


def test_a_check_keeps_no_reader_of_the_output_waiting(case):
    """One that hangs may not even be killed; then it must have nothing of ours open."""

    def links(_):
        paths = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return Answer(" ".join(os.readlink(path) for path in paths if os.path.lexists(path)))

    reading, writing = os.pipe()
    (answer,) = examination.examine({"links": links}, case)
    os.close(reading)
    os.close(writing)
    assert {link.partition(":")[0] for link in answer.summary.split()} == {"/dev/null", "pipe"}
    assert answer.summary.count("pipe") == 1


def test_a_check_that_fails_hides_no_other(case):
    def fail(_):
        raise RuntimeError("oh\x1b no")

    def end(_):
        os.kill(os.getpid(), signal.SIGKILL)

    checks = {"fails": fail, "ends": end, "works": lambda _: Answer("well")}
    answers = examination.examine(checks, case)
    assert [(answer.check, answer.is_done) for answer in answers] == [
        ("fails", False), ("ends", False), ("works", True),
    ]  # fmt: skip
    assert "oh\x1b no" in answers[0].findings[0].what


# -- the state directory --------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_directory(cli, case):
    assert found("directory", case) == []
    cli.run("-n", "x", "true")
    assert found("directory", case) == []
    lock, log = cli.lock_path("x"), cli.dir / "workers.log"
    log.write_text("")
    os.chown(lock, 65534, 65534)
    log.chmod(0o666)
    assert sorted(found("directory", case)) == [
        (PROBLEM, "workers.log", "it may be written to by others"),
        (PROBLEM, "x.lock", "it belongs to another user"),
    ]
    assert f"chown -R root {cli.dir}" in commands("directory", case)
    os.chown(lock, 0, 0)
    log.unlink()
    (cli.dir / "locks" / "planted.lock").symlink_to("/etc/passwd")
    os.link(lock, cli.dir / "locks" / "second.lock")
    (cli.dir / "drainers.log").write_text("")
    (cli.dir / "notes\x1b.txt").write_text("")
    levels = {place: level for level, place, _ in found("directory", case)}
    assert levels.pop("x.lock", levels.pop("second.lock", None)) == PROBLEM
    assert levels == {"planted.lock": PROBLEM, "drainers.log": NOTE, "notes\x1b.txt": NOTE}


def test_what_paths_tells_of_is_ours():
    """A new file in the state directory is told of in two places."""
    told = re.findall(r"^    (\S+)", paths.__doc__, re.MULTILINE)
    names = {os.fsencode(name.partition("/")[0]) for name in told}
    assert {name for name in names if not name.startswith(b"singlerun.db")} <= {*directory.OURS}


def test_directory_that_others_may_read_or_write(cli, case):
    cli.run("true")
    cli.dir.chmod(0o755)
    (cli.dir / "singlerun.db").chmod(0o644)
    level, _, what = only("directory", case)
    assert (level, "it is so with 1 more" in what or "1 more" in what) == (NOTE, True)
    cli.dir.chmod(0o777)
    assert (PROBLEM, "state", "others may write to it") in found("directory", case)
    cli.dir.chmod(0o700)
    (cli.dir / "singlerun.db").chmod(0o600)
    assert found("directory", case) == []


def test_directory_that_another_user_can_exchange(cli, case):
    cli.run("true")
    cli.dir.parent.chmod(0o777)
    level, _, what = only("directory", case)
    assert (level, "put another in its place" in what) == (PROBLEM, True)


def test_file_systems(cli, small_disk, remote_disk):
    small, remote = (Case(os.fsencode(disk / "state")) for disk in (small_disk, remote_disk))
    fill(small_disk)
    whats = [what for _, _, what in found("file-system", small)]
    assert ["it is on tmpfs" in what for what in whats] == [True, False]
    assert "only 0 kB are free" in whats[1]
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert any("read-only" in what for _, _, what in found("file-system", small))
    subprocess.run(["mount", "-o", "remount,rw,nr_inodes=20", small_disk], check=True)
    assert any("files can still be made" in what for _, _, what in found("file-system", small))
    level, _, what = found("file-system", remote)[0]
    assert (level, "kernel locks are not trusted on fuse" in what) == (PROBLEM, True)


# -- the record ------------------------------------------------------------------------------------


def test_database_that_is_damaged(cli, case):
    cli.run("true")
    cli.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert found("database", case) == []
    path = cli.dir / "singlerun.db"
    content = bytearray(path.read_bytes())
    page = cli.sql("SELECT rootpage FROM sqlite_master WHERE name = 'runs'")[0][0]
    begin = (page - 1) * 4096
    content[begin : begin + 64] = b"\xff" * 64
    for file in cli.dir.glob("singlerun.db*"):
        file.unlink()
    path.write_bytes(content)
    path.chmod(0o600)
    level, place, what = only("database", case)
    assert (level, place) == (PROBLEM, "singlerun.db")
    assert what.startswith("it is damaged: ")
    for check in ("runs", "queues", "pauses", "clock"):  # they say so only once
        assert found(check, case) == []

    # A run sets it aside, and that stays known.
    cli.run("-n", "x", "true")
    level, place, what = only("database", case)
    assert (level, place.startswith("singlerun.db.broken-")) == (NOTE, True)
    assert "was set aside" in what


@pytest.mark.parametrize(
    "version, application, level, what",
    [
        (99, 0x73676C72, PROBLEM, "a newer version of singlerun wrote it"),
        (3, 0x73676C72, NOTE, "it has schema 3 of"),
        (0, 7, PROBLEM, "it is a database of another program"),
    ],
)
def test_database_of_another_version_or_program(cli, case, version, application, level, what):
    cli.dir.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(cli.dir / "singlerun.db")) as log:
        log.execute(f"PRAGMA user_version = {version}")
        log.execute(f"PRAGMA application_id = {application}")
        log.execute("CREATE TABLE runs (id)")
        log.commit()
    assert only("database", case)[0] == level
    assert only("database", case)[2].startswith(what)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "empty"])
def test_database_that_is_none(cli, case, kind):
    cli.dir.mkdir(mode=0o700)
    path = cli.dir / "singlerun.db"
    {"fifo": os.mkfifo, "directory": os.mkdir}.get(kind, lambda _: None)(path)
    if kind == "link":
        path.symlink_to("/etc/passwd")
    if kind == "empty":
        path.write_bytes(b"")
        assert found("database", case)
        return
    assert only("database", case)[:2] == (PROBLEM, "singlerun.db")


def test_database_that_is_kept_busy(cli, case):
    cli.run("true")
    with contextlib.closing(sqlite3.connect(cli.dir / "singlerun.db")) as log:
        log.execute("PRAGMA locking_mode = EXCLUSIVE")
        log.execute("UPDATE runs SET shared = 0")
        log.commit()
        level, _, what = only("database", case)
        assert (level, "kept all others out of it" in what) == (PROBLEM, True)

    stopped = Stopped(cli, "flock", 4, "-n", "x", "true")
    try:
        if not procfs.holding(os.fsencode(cli.dir / "singlerun.db.lock")):
            demand_or_skip("it was not stopped with the guard held")
        (finding,) = found("database", case)
        assert "is stopped: nothing is recorded" in finding[2]
        assert commands("database", case) == [f"kill -CONT {stopped.pid}"]
    finally:
        stopped.go_on()


def test_database_without_its_index(cli, case):
    cli.run("true")
    (cli.dir / "singlerun.db-shm").unlink()
    assert "its index (-shm) is missing" in only("database", case)[2]
    cli.run("ps")
    assert found("database", case) == []


def test_database_beside_writers(cli, case):
    """Reading it gives writers no reason to wait, and they give none to call it damaged."""
    cli.run("-n", "x", "true")
    writers = [
        cli.start("-n", f"x{number}", "--restart", "always", "--retry-delay", "0", "true")
        for number in range(2)
    ]
    for _ in range(15):
        assert found("database", case) == []
    assert all(writer.poll() is None for writer in writers)


@pytest.mark.parametrize(
    "version, has_bug",
    [("3.6.23", False), ("3.7.0", True), ("3.40.1", True), ("3.44.5", True), ("3.44.6", False),
     ("3.45.0", True), ("3.50.6", True), ("3.50.7", False), ("3.51.2", True), ("3.51.3", False),
     ("3.52.0", False), ("3.53.1", False), ("4.0.0", False)],
)  # fmt: skip
def test_versions_of_sqlite_with_the_reset_bug(version, has_bug):
    assert database.has_reset_bug(tuple(map(int, version.split(".")))) is has_bug


def test_two_lock_domains(cli, case, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    other = home / ".local/state/singlerun"
    cli.run("-n", "a", "true")
    cli.run("--dir", str(other), "-n", "b", "true")

    def of_other():
        return [
            each
            for each in answer_of("domains", case).findings
            if each.where.startswith(str(other))
        ]

    assert of_other() == []
    cli.run("--dir", str(other), "-n", "a", "true")
    assert [(each.level, each.what.partition(";")[0]) for each in of_other()] == [
        (NOTE, "also run there: a")
    ]
    with cli.hold("-n", "a"):
        assert cli.run("--dir", str(other), "-n", "a", "true").returncode == 0
    (finding,) = of_other()
    assert (finding.level, "the name a ran twice at once" in finding.what) == (PROBLEM, True)


@pytest.fixture
def stranger():
    """A throw-away user with a home, and a state directory in it."""
    if os.geteuid() != 0:
        demand_or_skip("only root can make a user")
    need("useradd", "userdel")
    name = f"singlerun-{secrets.token_hex(4)}"
    home = Path(tempfile.mkdtemp(prefix="singlerun-doctor-"))
    home.chmod(0o755)
    make = ["useradd", "--no-create-home", "--home-dir", home, "--user-group", name]
    subprocess.run(make, check=True, capture_output=True)
    yield pwd.getpwnam(name)
    subprocess.run(["userdel", "--force", name], check=True, capture_output=True)
    shutil.rmtree(home)


def test_root_reads_the_records_of_users_and_is_not_led_by_them(cli, case, stranger, tmp_path):
    cli.run("-n", "a", "true")
    home = Path(stranger.pw_dir)
    state = home / ".local/state/singlerun"
    assert cli.run("--dir", str(state), "-n", "a", "true").returncode == 0
    for path in (home, *home.rglob("*")):
        os.chown(path, stranger.pw_uid, stranger.pw_gid)

    def of_stranger():
        findings = answer_of("domains", case).findings
        return [each.what for each in findings if each.where.endswith(f" of {stranger.pw_name}")]

    assert of_stranger() == ["also run there: a; a name excludes only runs in its own directory"]
    victim = home / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    for suffix in ("-wal", "-shm"):
        (state / f"singlerun.db{suffix}").unlink()
        os.link(victim, state / f"singlerun.db{suffix}")
    assert of_stranger() == []
    assert victim.stat().st_uid == 0


def test_orphans_and_zombies(cli, case):
    with cli.hold("-n", "x") as held:
        assert found("runs", case) == []
        held.wrapper.kill()
        held.wrapper.wait(PATIENCE)
        level, place, what = only("runs", case)
        assert (level, place) == (PROBLEM, "run 1")
        assert f"PID {held.pid} still holds x" in what
        assert commands("runs", case) == ["singlerun reap --kill-orphans x"]
    eventually(lambda: found("runs", case)[0][0] == NOTE, "the end of the orphan")
    cli.run(*commands("runs", case)[0].split()[1:])
    assert found("runs", case) == []


def test_a_queue_without_a_worker(cli, case, gate):
    cli.add("-n", "q", *gate.command)
    cli.add("-n", "q", "true")
    gate.pid()
    assert found("queues", case) == []
    cli.kill_detached()
    assert only("queues", case) == (
        PROBLEM,
        "q",
        "the queue q has work and no worker: nothing of it starts",
    )
    assert commands("queues", case) == ["singlerun reap q"]
    cli.run("pause", "q")


def test_many_queues_without_a_worker(cli, case, monkeypatch):
    monkeypatch.setattr(queues, "MOST_QUEUES", 1)
    for name in ("a", "b", "c"):
        cli.run("pause", name)
        cli.add("-n", name, "true")
    eventually(lambda: not cli.workers(), "the end of the workers, which find the pauses")
    assert found("queues", case) == []
    cli.sql("DELETE FROM pauses")
    whats = [what for _, _, what in found("queues", case)]
    assert len(whats) == 2
    assert whats[1] == "2 queues more with work and no worker"


def test_what_killed_processes_left(cli, case):
    with cli.hold("-n", "x"):
        waiter = cli.start("-w", "-n", "x", "true")
        line = cli.dir / "lines" / "x"
        eventually(lambda: line.exists() and os.listdir(line), "the ticket")
        assert found("leftovers", case) == []
        waiter.kill()
        waiter.wait(PATIENCE)
        (cli.dir / "logs").mkdir(mode=0o700)
        (cli.dir / "logs" / ".7-4194305").mkdir(mode=0o700)
        assert found("leftovers", case) == [
            (NOTE, "lines", "1 ticket left by processes that were killed"),
            (NOTE, "logs", "1 log left by processes that were killed"),
        ]
        cli.run(*commands("leftovers", case)[0].split()[1:])
        assert found("leftovers", case) == []


def test_complaints_of_workers(cli, case):
    cli.run("true")
    log = cli.dir / "workers.log"
    log.write_bytes(b"singlerun: old\n" * 2000 + b"singlerun: cannot use \x1b\xff\n" * 2 + b"\n")
    whats = [what for _, _, what in found("queues", case)]
    assert [what.rpartition(": ")[2] for what in whats] == ["cannot use \\x1b\\xff", "old"]
    assert {level for level, _, _ in found("queues", case)} == {PROBLEM}
    os.utime(log, (time.time() - 2 * 86_400,) * 2)
    assert {level for level, _, _ in found("queues", case)} == {NOTE}
    os.utime(log, (time.time() - 30 * 86_400,) * 2)
    assert found("queues", case) == []


def test_pauses_that_were_forgotten(cli, case):
    cli.run("pause", "x")
    cli.run("pause", "y", "--for", "10d")
    cli.sql(f"UPDATE pauses SET since_ns = since_ns - {WEEK_NS - 10**12}")
    assert found("pauses", case) == []
    cli.sql(f"UPDATE pauses SET since_ns = since_ns - {10**13}")
    level, place, what = only("pauses", case)
    assert (level, place) == (PROBLEM, "x")
    assert what.startswith("it has been paused for 7d")
    cli.run(*commands("pauses", case)[0].split()[1:])
    assert found("pauses", case) == []


def test_a_clock_that_was_set_back(cli, case):
    cli.run("true")
    assert found("clock", case) == []
    cli.sql(f"UPDATE runs SET asked_ns = asked_ns + {WEEK_NS}, started_ns = started_ns + {WEEK_NS}")
    level, _, what = only("clock", case)
    assert (level, what.startswith("run 1 is of ")) == (PROBLEM, True)


# -- this process and this installation ------------------------------------------------------------


@pytest.mark.parametrize(
    "limit, where", [("-n 40", "ulimit -n"), ("-f 1000", "ulimit -f"), ("-t 1000", "ulimit -t")]
)
def test_limits(cli, limit, where):
    result = cli.run("doctor", "--json")
    assert not [each for each in json.loads(result.stdout)["findings"] if each["where"] == where]
    script = f"ulimit {limit}; exec {cli.binary} doctor --json"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, env=cli.env
    )
    assert done.stderr == ""
    assert [each for each in json.loads(done.stdout)["findings"] if each["where"] == where]


def test_another_copy_comes_first_in_path(cli, case, tmp_path, monkeypatch):
    own = os.path.dirname(cli.binary)
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    assert not [each for each in found("installation", case) if "singlerun is" in each[2]]
    other = tmp_path / "bin" / "singlerun"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    (finding,) = [each for each in found("installation", case) if "singlerun is" in each[2]]
    assert finding[0] == PROBLEM
    assert str(other) in finding[2]
    other.unlink()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert [each[0] for each in found("installation", case) if each[1] == "PATH"] == [NOTE]


def test_the_manual_that_man_finds(cli, case, monkeypatch):
    need("man")
    monkeypatch.setenv("MANPATH", os.path.join(sys.prefix, "share", "man"))
    assert not [each for each in found("installation", case) if each[1] == "man"]
    monkeypatch.setenv("MANPATH", "/nowhere")
    assert [each[0] for each in found("installation", case) if each[1] == "man"] == [NOTE]


def test_the_completion_that_the_shell_finds(case, tmp_path, monkeypatch):
    shell = os.path.basename(pwd.getpwuid(os.geteuid()).pw_shell)
    if shell not in {"bash", "fish", "zsh"}:
        demand_or_skip(f"no completion is for {shell}")
    monkeypatch.setenv("XDG_DATA_HOME", os.path.join(sys.prefix, "share"))
    assert not [each for each in found("installation", case) if each[1] == shell]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    levels = [each[0] for each in found("installation", case) if each[1] == shell]
    assert levels in ([NOTE], [])  # the start-up file of this machine may have it


def test_bytecode_of_the_sources(tmp_path):
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    assert not installation._is_compiled(str(source))
    subprocess.run([sys.executable, "-m", "py_compile", source], check=True)
    assert installation._is_compiled(str(source))
    source.write_text("x = 12\n")
    assert not installation._is_compiled(str(source))


@pytest.mark.parametrize(
    "version, bounds, fits",
    [("4.1.2", ">=4,<4.3", True), ("4.3", ">=4,<4.3", False), ("3.9", ">=4", False),
     ("8.2", ">=8.2", True), ("8.2.0rc1", ">=8.2", True),
     ("13.10", ">=13.9", True), ("1", "", True)],
)  # fmt: skip
def test_versions_within_bounds(version, bounds, fits):
    assert installation.satisfies(version, bounds) is fits


def test_configuration(case, tmp_path, monkeypatch):
    assert found("configuration", case) == []
    file = tmp_path / "config.toml"
    monkeypatch.setenv("SINGLERUN_CONFIG", str(file))
    file.write_text("[defaults]\nwait = true\n")
    assert found("configuration", case) == []
    file.write_text("[defaults]\nwiat = true\n")
    level, place, what = only("configuration", case)
    assert (level, place) == (PROBLEM, "config.toml:2")
    assert "wiat" in what


# -- crontabs --------------------------------------------------------------------------------------


@pytest.fixture
def crontab():
    """Return a function that installs the crontab of a throw-away user and returns its file."""
    if os.geteuid() != 0:
        demand_or_skip("only root can make a user")
    need("crontab", "useradd", "userdel")
    name = f"singlerun-{secrets.token_hex(4)}"
    make = ["useradd", "--no-create-home", "--home-dir", "/nonexistent", "--user-group", name]
    subprocess.run(make, check=True, capture_output=True)

    def install(*lines):
        text = "".join(f"{line}\n" for line in lines)
        subprocess.run(["crontab", "-u", name, "-"], input=text, text=True, check=True)
        return name

    yield install
    subprocess.run(["crontab", "-u", name, "-r"], check=False, capture_output=True)
    subprocess.run(["userdel", "--force", name], check=True, capture_output=True)


NEVER = "0 0 29 2 *"


def findings_of(name, case, check="crontabs"):
    """Return the findings about a user's crontab by the number of the line."""
    found = {}
    for each in answer_of(check, case).findings:
        file, _, number = each.where.partition(":")
        if file == f"crontab of {name}":
            found.setdefault(int(number), []).append(each)
    return found


def test_crontab_of_a_user(cli, case, crontab, tmp_path):
    cli.run("sleep", "0.01")
    cli.run("-n", "named", "sleep", "0.02")
    cli.sql("UPDATE runs SET elapsed_ns = 90000000000 WHERE id = 1")
    path = os.path.dirname(cli.binary)
    name = crontab(
        f"SINGLERUN_DIR={cli.dir}",  # 1
        "* * * * * sleep 0.01",
        "@daily sleep 0.02",
        f"* * * * * {cli.binary} --skip sleep 0.01",
        f"* * * * * {cli.binary} --wait sleep 0.01",
        f"{NEVER} flock -n /tmp/lock sh -c 'date +\\%F'",
        f"{NEVER} echo $(date +%F)",
        f"{NEVER} cat%one%two",
        f"{NEVER} singlerun -n a true",
        f"{NEVER} {cli.binary} -n a no-such-program",
        f"{NEVER} {cli.binary} --slots none true",
        f"PATH={path}:/usr/bin:/bin",  # 12
        f"{NEVER} singlerun -n b true",
        f"{NEVER} singlerun -n b false",
        f"{NEVER} singlerun -n c --wait true",
        f"{NEVER} singlerun -n c --wait sleep 1",
        f"{NEVER} singlerun -n d sleep 1",
        f"{NEVER} singlerun -n e true",  # 18
        f"1 {NEVER[2:]} singlerun -n e sleep 1",
    )
    found = findings_of(name, case)
    assert {number: [each.level for each in all_] for number, all_ in found.items()} == {
        2: [PROBLEM], 3: [NOTE], 4: [NOTE], 5: [PROBLEM], 6: [NOTE], 7: [PROBLEM], 8: [NOTE],
        9: [PROBLEM], 10: [PROBLEM, PROBLEM], 11: [PROBLEM], 14: [PROBLEM], 16: [NOTE], 19: [NOTE],
    }  # fmt: skip
    says = {number: " ".join(each.what for each in all_) for number, all_ in found.items()}
    types = {number: all_[0].command for number, all_ in found.items()}
    copy = cron_lines.this_copy()
    assert "every 1m" in says[2]
    assert "usually takes 1m 30s: without a lock, two of it run at once" in says[2]
    assert types[2] == f"{copy} --skip sleep 0.01"
    assert types[3] == f"{copy} --skip -n named sleep 0.02"
    assert "refused or skipped" in says[4]
    assert "more and more" in says[5]
    assert types[6] == f"{copy} --lock-file /tmp/lock --skip sh -c 'date +\\%F'"
    assert types[7] == "echo $(date +\\%F)"
    assert "PATH is /usr/bin:/bin" in says[9]
    assert "no-such-program" in says[10]
    assert "bad number of slots 'none'" in says[11]
    assert "start at the same minute" in says[14]
    assert "they never run at once" in says[16]
    assert found[2][0].remedy.startswith(f"edit it (crontab -u {name} -e)")

    # What is written there mends it.
    crontab(f"SINGLERUN_DIR={cli.dir}", f"@daily {types[3]}", f"{NEVER} {types[6]}")
    assert findings_of(name, case) == {}


@pytest.mark.usefixtures("root")
def test_crontab_that_uses_another_directory(cli, case, tmp_path, monkeypatch):
    """Lines of this user, whose shell has other settings."""
    monkeypatch.setattr(crontabs, "DROP_INS", str(tmp_path))
    me = pwd.getpwuid(os.geteuid()).pw_name
    lines = [
        f"{NEVER} {me} {cli.binary} -n a true",
        f"SINGLERUN_DIR={cli.dir}",
        f"{NEVER} {me} {cli.binary} -n a true",
        f"SINGLERUN_DIR={tmp_path}/other",
        f"{NEVER} {me} {cli.binary} -n a true",
        f"{NEVER} {me} {cli.binary} -n b true",
        f"{NEVER} nobody {cli.binary} -n a true",
    ]
    (tmp_path / "lines").write_text("".join(f"{line}\n" for line in lines))
    cli.run("-n", "a", "true")
    findings = [
        each for each in answer_of("domains", case).findings if each.where.startswith(str(tmp_path))
    ]
    assert [(each.where.rpartition(":")[2], each.level) for each in findings] == [
        ("1", PROBLEM), ("5", PROBLEM), ("6", NOTE),
    ]  # fmt: skip
    assert f"keeps its record in {tmp_path}/other" in findings[1].what
    assert findings[0].command == f"SINGLERUN_DIR={cli.dir}"


def test_crontab_with_sudo(monkeypatch):
    source = crontabs.Source("crontab", "nobody", "crontab -e")
    source.text = f"{NEVER} singlerun -n a true\n" * 2 + f"{NEVER} sudo singlerun -n a true\n"
    source.text += f"{NEVER} sudo singlerun -n b true\n"
    source.parse()
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    answer = Answer("")
    domains._check_sudo({}, task.of_source(source), answer)
    assert [(each.level, each.where) for each in answer.findings] == [(PROBLEM, "crontab:3")]


@pytest.mark.parametrize(
    "text, mode, what",
    [
        ("0 0 29 2 * root true\n61 * * * * root true\n", 0o644, "bad minute '61'"),
        ("0 0 29 2 * root true", 0o644, "the last line does not end in a newline"),
        ("0 0 29 2 * no-such-user true\n", 0o644, "there is no user no-such-user"),
        ("0 0 29 2 * root true\n", 0o666, "others may write to it"),
    ],
)
@pytest.mark.usefixtures("root")
def test_crontab_of_the_system(case, tmp_path, monkeypatch, text, mode, what):
    monkeypatch.setattr(crontabs, "DROP_INS", str(tmp_path))
    file = tmp_path / "backup"
    file.write_text(text)
    file.chmod(mode)
    (tmp_path / "backup.dpkg-old").write_text("nonsense\n")
    (tmp_path / ".placeholder").write_text("nonsense\n")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    says = [
        each.what for each in answer_of("crontabs", case).findings if str(tmp_path) in each.where
    ]
    assert len(says) == 1
    assert what in says[0]


def test_crontabs_of_real_file_systems_are_read(case):
    """What this machine has is no test of ours; it must only be readable."""
    assert "crontab" in answer_of("crontabs", case).summary


def test_the_guard_is_free_while_doctor_looks(cli, case):
    cli.run("true")
    with open(cli.dir / "singlerun.db.lock", "r+b") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for check in CHECKS:
            found(check, case)  # none of them waits for it
