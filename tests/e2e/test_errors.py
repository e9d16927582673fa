"""Errors: one sentence, the documented exit status, and the command runs if it can."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys

import pytest
from conftest import demand_or_skip, fill, need

from singlerun.store import migrations

ROOT = os.geteuid() == 0


def one_line(result, status, *words):
    """Check an error: nothing on standard output, one sentence, the right exit status."""
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("singlerun: ")
    for word in words:
        assert word in result.stderr
    return result.stderr


def warned(result, *words):
    """Check that the command ran, and that one line tells what is wrong with the record."""
    assert result.returncode == 0, result.stderr
    assert result.stdout == "ran\n"
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--bogus", "true"], ["--bogus"]),
        (["--wait-for", "3x", "true"], ["3x", "1h30m"]),
        (["--wait-for", "-3", "true"], ["-3"]),
        (["--wait-for=nan", "true"], ["nan"]),
        (["-E", "256", "true"], ["256"]),
        (["-E", "-1", "true"], ["-1"]),
        (["-n", "", "true"], ["name", "empty"]),
        (["-n", "x"], ["no command"]),
        (["-n"], ["-n"]),
        (["--skip=yes", "true"], ["--skip"]),
        (["--dir=", "true"], ["empty"]),
        (["run", "--bogus", "true"], ["--bogus"]),
        (["run"], ["no command"]),
        (["--lock-file", "f", "-n", "a", "-n", "b", "true"], ["--lock-file"]),
        (["-n", "x", "ps"], ["ps", "--"]),
        (["store"], ["store", "--"]),
    ],
)
def test_wrong_use_of_the_prefix_form_is_125(cli, arguments, words):
    one_line(cli.run(*arguments), 125, *words)
    assert not cli.dir.exists() or cli.history() == []


@pytest.mark.parametrize(
    "arguments", [["ps", "--bogus"], ["history", "--limit", "0"], ["is-running"], ["reap", "-x"]]
)
def test_wrong_use_of_another_subcommand_is_2(cli, arguments):
    one_line(cli.run(*arguments), 2, "--help")


def with_a_script_in(directory):
    (directory / "here").write_text("")
    return directory


def test_unknown_command_is_127_and_recorded(cli, tmp_path):
    one_line(cli.run("no-such-program"), 127, "no-such-program", "not found", "PATH")
    one_line(cli.run("echo hi | cat"), 127, "sh -c")
    one_line(cli.run("here", cwd=with_a_script_in(tmp_path)), 127, "./here")
    run = cli.history()[-1]
    assert (run["state"], run["exit_code"]) == ("failed", 127)
    assert "not found" in run["detail"]
    one_line(cli.run("./no/such"), 127)
    one_line(cli.run("\udcff"), 127, "not found")
    assert cli.last()["state"] == "failed"
    one_line(cli.run(""), 127)


def test_what_cannot_be_executed_is_126_and_recorded(cli, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("hello")
    one_line(cli.run(str(plain)), 126, "permission denied", "chmod +x")
    for directory in (str(tmp_path), ".", ".."):
        one_line(cli.run(directory), 126, "directory")
    lost = tmp_path / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    lost.chmod(0o755)
    one_line(cli.run(str(lost)), 126, "interpreter")
    assert {run["exit_code"] for run in cli.history()} == {126}


def test_too_long_arguments_are_126(cli):
    # One argument may have 128 KiB; the wrapper's own fits, its command's environment does not.
    env = cli.env | {f"V{i}": "x" * 120_000 for i in range(16)}
    result = cli.run("sh", "-c", "ulimit -s 8192; exec " + str(cli.binary) + " true", env=env)
    assert result.returncode in {0, 126}


def test_a_file_in_place_of_the_state_directory(cli):
    cli.dir.write_text("")
    one_line(cli.run("true"), 125, str(cli.dir), "not a directory")
    one_line(cli.run("ps"), 125, str(cli.dir), "not a directory")


def test_unwritable_parent_of_the_state_directory(cli):
    env = cli.env | {"SINGLERUN_DIR": "/proc/no/such"}
    one_line(cli.run("true", env=env), 125, "/proc/no", "SINGLERUN_DIR")


def test_state_directory_that_others_may_write_to(cli):
    cli.dir.mkdir()
    cli.dir.chmod(0o777)
    one_line(cli.run("true"), 125, "others may write", "chmod go-w")


def test_state_directory_below_a_world_writable_one(cli, tmp_path):
    tmp_path.joinpath("open").mkdir()
    tmp_path.joinpath("open").chmod(0o777)
    env = cli.env | {"SINGLERUN_DIR": str(tmp_path / "open" / "state")}
    one_line(cli.run("true", env=env), 125, "any user may write", "chmod +t")


def test_state_directory_of_another_user(cli):
    if not ROOT:
        demand_or_skip("only root can give a directory away")
    cli.dir.mkdir()
    os.chown(cli.dir, 12345, 12345)
    one_line(cli.run("true"), 125, "user 12345", "SINGLERUN_DIR")


def as_another_user(directory, *arguments, env):
    """Run a copy of the package as a user without an entry in the password database.

    Not the installed script: its interpreter may be out of that user's reach.
    """
    if not ROOT:
        demand_or_skip("only root can become another user")
    need("setpriv")
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        demand_or_skip("no interpreter that another user may execute")
    import singlerun

    code = directory / "code"
    shutil.copytree(os.path.dirname(singlerun.__file__), code / "singlerun")
    subprocess.run(["chmod", "-R", "a+rX", code], check=True)
    for above in (directory, *directory.parents):
        if str(above).startswith("/tmp/"):
            above.chmod(0o755)
    who = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    return subprocess.run(
        [*who, python, "-m", "singlerun", *arguments],
        env=env | {"PYTHONPATH": str(code)}, capture_output=True, text=True, check=False, cwd=code,
    )  # fmt: skip


def test_user_after_root_is_told_the_owner(cli, tmp_path):
    cli.run("-n", "x", "true")
    result = as_another_user(tmp_path, "-n", "x", "true", env=cli.env)
    one_line(result, 125, "SINGLERUN_DIR")
    assert "permission denied" in result.stderr or "belongs to user 0" in result.stderr


def test_user_without_a_home_is_told_what_to_do(tmp_path):
    result = as_another_user(tmp_path, "true", env={"PATH": "/usr/bin:/bin"})
    one_line(result, 125, "12345", "password database", "SINGLERUN_DIR")


@pytest.mark.parametrize("planted", ["symlink", "dangling", "fifo", "directory", "hardlink"])
@pytest.mark.parametrize("name", ["locks/x.lock", "locks"])
def test_what_is_planted_for_a_lock_is_refused(cli, tmp_path, planted, name):
    cli.run("-n", "y", "true")
    victim = plant(cli.dir / name, planted, tmp_path)
    if planted == "directory" and name == "locks":
        return  # it is one
    one_line(cli.run("-n", "x", "true"), 125, str(cli.dir / name))
    assert victim.read_text() == "victim"


@pytest.mark.parametrize("planted", ["symlink", "dangling", "fifo", "directory", "hardlink"])
@pytest.mark.parametrize("name", ["singlerun.db", "singlerun.db.lock"])
def test_what_is_planted_for_the_record_is_not_used(cli, tmp_path, planted, name):
    cli.run("-n", "y", "true")
    victim = plant(cli.dir / name, planted, tmp_path)
    warned(cli.run("-n", "x", "echo", "ran"), name, "without a record")
    assert victim.read_text() == "victim"
    one_line(cli.run("--require-record", "-n", "x", "echo", "ran"), 125, name)
    one_line(cli.run("history"), 125, name)


def plant(path, what, directory):
    victim = directory / "victim"
    victim.write_text("victim")
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if what == "symlink":
        path.symlink_to(victim)
    elif what == "dangling":
        path.symlink_to(directory / "nowhere")
    elif what == "fifo":
        os.mkfifo(path, 0o600)
    elif what == "hardlink":
        path.hardlink_to(victim)
    else:
        path.mkdir()
    return victim


def test_state_directory_that_is_a_symbolic_link(cli, tmp_path):
    tmp_path.joinpath("real").mkdir(mode=0o700)
    cli.dir.symlink_to(tmp_path / "real")
    one_line(cli.run("true"), 125, "symbolic link", str(tmp_path / "real"))
    assert list(tmp_path.joinpath("real").iterdir()) == []


def changing(offset, value):
    """Return what changes one byte of a file."""

    def change(path):
        data = bytearray(path.read_bytes())
        data[offset] = value
        path.write_bytes(data)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a database" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:100] + bytes(4000)),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        changing(18, 49),
        changing(47, 255),
        changing(60, 255),
        changing(60, 1),
        changing(63, 0),
        changing(63, 1),
    ],
    ids=[
        "garbage", "zeroed", "truncated", "read-only by its header", "a later format",
        "negative version", "huge version", "no version", "former version",
    ],
)  # fmt: skip
def test_broken_database_is_set_aside_and_the_command_runs(cli, damage):
    cli.run("-n", "before", "true")
    with sqlite3.connect(cli.dir / "singlerun.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    for suffix in ("-wal", "-shm"):
        (cli.dir / f"singlerun.db{suffix}").unlink(missing_ok=True)
    damage(cli.dir / "singlerun.db")
    before = (cli.dir / "singlerun.db").read_bytes()
    warned(cli.run("-n", "x", "echo", "ran"), "set aside", "a new one begun")
    aside = [path for path in cli.dir.glob("singlerun.db.broken-*") if path.suffix[1:].isdigit()]
    assert [path.read_bytes() for path in aside] == [before], "nothing of it is lost"
    assert cli.last()["name"] == "x"
    silent = cli.run("-n", "x", "echo", "ran")
    assert (silent.returncode, silent.stderr) == (0, "")


def test_foreign_database_is_set_aside(cli):
    cli.run("-n", "before", "true")
    for path in cli.dir.glob("singlerun.db*"):
        path.unlink()
    with sqlite3.connect(cli.dir / "singlerun.db") as database:
        database.execute("CREATE TABLE runs (theirs)")
        database.execute("INSERT INTO runs VALUES ('precious')")
    database.close()
    warned(cli.run("-n", "x", "echo", "ran"), "another program", "set aside")
    (aside,) = (path for path in cli.dir.glob("*.broken-*") if path.suffix[1:].isdigit())
    with sqlite3.connect(aside) as database:
        assert database.execute("SELECT theirs FROM runs").fetchone() == ("precious",)
    database.close()
    assert cli.last()["name"] == "x"


def test_database_of_a_newer_version_is_left_alone(cli):
    cli.run("-n", "before", "true")
    with sqlite3.connect(cli.dir / "singlerun.db") as database:
        database.execute("CREATE TABLE news (of_theirs)")
        database.execute("PRAGMA user_version = 999")
    database.close()
    warned(cli.run("-n", "x", "echo", "ran"), "newer singlerun", "upgrade")
    one_line(cli.run("ps"), 125, "newer singlerun")
    assert not list(cli.dir.glob("*.broken-*"))


@pytest.mark.parametrize("version", [migrations.LATEST + 1, 255])
def test_a_damaged_number_of_the_version_is_mended(cli, version):
    cli.run("-n", "before", "true")
    with sqlite3.connect(cli.dir / "singlerun.db") as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    assert cli.run("-n", "x", "true").stderr == ""
    assert [run["name"] for run in cli.history()] == ["x", "before"]
    assert not list(cli.dir.glob("*.broken-*"))


def test_database_deleted_while_the_command_runs(cli):
    with cli.hold("-n", "x") as holding:
        for path in cli.dir.glob("singlerun.db*"):
            path.unlink()
        assert cli.run("-n", "x", "true").returncode == 75, "the lock is the truth"
        assert holding.release() == 0
    assert {run["state"] for run in cli.history("x")} == {"refused", "succeeded"}


def test_database_broken_while_the_command_runs(cli):
    with cli.hold("-n", "x") as holding:
        (cli.dir / "singlerun.db").write_bytes(b"garbage" * 1000)
        (cli.dir / "singlerun.db-wal").write_bytes(b"garbage" * 1000)
        assert cli.run("-n", "x", "true").returncode == 75
        assert holding.release() == 0


@pytest.mark.stress
def test_database_that_another_process_keeps_locked(cli):
    cli.run("-n", "x", "true")
    database = sqlite3.connect(cli.dir / "singlerun.db", isolation_level=None)
    try:
        database.execute("BEGIN EXCLUSIVE")
        warned(cli.run("-n", "x", "echo", "ran"), "locked", "fuser")
        look = cli.run("is-running", "x")
        assert (look.returncode, look.stdout) == (1, ""), "the lock is asked, not the record"
        assert "locked" in look.stderr
    finally:
        database.close()


@pytest.mark.parametrize("begun", [False, True])
def test_full_disk_is_a_warning_and_the_command_runs_under_its_lock(cli, small_disk, begun):
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    if begun:
        cli.run("-n", "x", "true")
    fill(small_disk)
    script = f"{cli.binary} -q -n x true; echo inner $?"
    result = cli.run("-n", "x", "sh", "-c", script)
    assert result.stdout == "inner 75\n", "it was locked"
    assert result.returncode == 0
    assert 1 <= result.stderr.count("\n") <= 2, "one line each"
    assert "without a record" in result.stderr
    assert "Traceback" not in result.stderr
    one_line(cli.run("--require-record", "-n", "x", "true"), 125, "singlerun.db")
    (small_disk / "filler").unlink()
    silent = cli.run("-n", "x", "true")
    assert (silent.returncode, silent.stderr) == (0, "")
    assert cli.last("x")["state"] == "succeeded"


def test_full_disk_at_the_end_of_the_command(cli, small_disk):
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    filler = f"cat /dev/zero > {small_disk}/filler 2>/dev/null; exit 3"
    result = cli.run("-n", "x", "sh", "-c", filler)
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    (small_disk / "filler").unlink()
    assert cli.run("-n", "x", "true").returncode == 0
    assert cli.json("ps") == []


def test_lock_file_in_a_directory_that_is_missing(cli, tmp_path):
    path = str(tmp_path / "no" / "such")
    one_line(cli.run("--lock-file", path, "true"), 125, path, "no such file")


def test_lock_file_works_without_a_state_directory(cli, tmp_path):
    cli.dir.write_text("")
    warned(cli.run("--lock-file", str(tmp_path / "f"), "echo", "ran"), "without a record")


def test_fifo_as_lock_file_is_refused(cli, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    one_line(cli.run("--lock-file", str(tmp_path / "fifo"), "true"), 125, "neither")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "/absolute", ".", "..", "-n", "--", "a b", "a\nb", "\x1b[31mred",
        "[bold]markup[/bold]", "%2F", "ä€😀", "\u202egnp.exe", "x" * 4096, b"\xff\xfe", "A", "a",
    ],
)  # fmt: skip
def test_hostile_names_lock_and_show(cli, name):
    result = cli.run("-n", name, "sh", "-c", f'{cli.binary} -n "$SINGLERUN_NAME" true; echo $?')
    assert (result.returncode, result.stdout) == (0, "75\n")
    assert result.stderr.count("\n") == 1
    assert result.stderr.rstrip("\n").isprintable()
    assert "\u202e" not in result.stderr
    inside = [path.name for path in (cli.dir / "locks").iterdir()]
    assert len(inside) == 1, "one name, one file, in its place"
    assert {path.name.partition("-")[0] for path in cli.dir.iterdir()} <= {
        "locks", "pruned", "singlerun.db", "singlerun.db.lock"
    }  # fmt: skip
    shown = cli.run("history", "--", name)
    assert shown.returncode == 0
    assert all(cell.isprintable() for cell in re.split("[\t\n]", shown.stdout))
    name = os.fsdecode(name)
    assert {run["name"] for run in cli.history(name)} == {name}


def test_hostile_arguments_are_passed_and_recorded(cli):
    words = [b"\xff\x00"[:1], "\x1b]0;title\x07", "[red]x[/red]", "", "a'b", "\u2066x", "ä" * 9999]
    code = "import os, sys; print([os.fsencode(a) for a in sys.argv[1:]])"
    result = cli.run(sys.executable, "-c", code, *words)
    assert eval(result.stdout) == [os.fsencode(word) for word in words]
    (run,) = cli.history()
    assert [os.fsencode(word) for word in run["command"][3:]] == [os.fsencode(w) for w in words]
    shown = cli.run("history").stdout
    assert all(cell.isprintable() for cell in re.split("[\t\n]", shown))


def test_a_locale_that_knows_no_unicode(cli):
    env = cli.env | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    result = cli.run("-n", "ä€", "sh", "-c", f"{cli.binary} -n ä€ true", env=env)
    assert result.returncode == 75
    shown = cli.run("history", env=env)
    assert shown.returncode == 0, shown.stderr
    assert "Traceback" not in shown.stderr


def test_json_is_alone_on_standard_output(cli):
    cli.run("-n", "x", "true")
    for path in cli.dir.glob("singlerun.db-*"):
        path.unlink()
    (cli.dir / "singlerun.db").write_bytes(b"garbage" * 1000)
    result = cli.run("ps", "--json")
    assert result.returncode == 0
    assert "set aside" in result.stderr
    assert result.stdout.startswith("{")


def test_closed_pipe_is_no_traceback(cli):
    cli.run("true")
    script = f"{cli.binary} history --json | true; {cli.binary} ps -a >&-; echo end"
    result = subprocess.run(["sh", "-c", script], env=cli.env, capture_output=True, check=False)
    assert result.stdout == b"end\n"
    assert b"Traceback" not in result.stderr


def test_full_output_is_one_sentence(cli):
    cli.run("true")
    with open("/dev/full", "w") as full:
        result = cli.run("ps", "-a", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert result.returncode == 125
    assert result.stderr == "singlerun: cannot write the output: no space left on device\n"


def test_deleted_working_directory(cli, tmp_path):
    script = f"mkdir gone; cd gone; rmdir ../gone; {cli.binary} -n x echo ran; {cli.binary} ./x"
    result = subprocess.run(
        ["sh", "-c", script], env=cli.env, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.stdout == "ran\n"
    assert result.returncode == 127
    assert "Traceback" not in result.stderr
