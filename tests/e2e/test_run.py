"""The prefix form: one command, one lock, one record."""

import fcntl
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import BINARY, PATIENCE, blocked_on, eventually, is_alive, is_idle, need, signals_in

READY = "echo $$; exec cat"


def test_prefix_runs_the_command_and_says_nothing(cli):
    result = cli.run("echo", "hello", "--help")
    assert (result.returncode, result.stdout, result.stderr) == (0, "hello --help\n", "")


@pytest.mark.parametrize("status", [0, 1, 2, 74, 75, 124, 125, 126, 127, 128, 137, 200, 254, 255])
def test_exit_status_is_the_commands_own(cli, status):
    assert cli.run("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.stress
def test_every_exit_status_is_exact(cli):
    script = f'for i in $(seq 0 255); do {BINARY} -n x sh -c "exit $i"; echo $?; done'
    result = subprocess.run(
        ["sh", "-c", script], env=cli.env, capture_output=True, text=True, check=True
    )
    assert [int(line) for line in result.stdout.split()] == list(range(256))


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 13, 15])
def test_a_command_that_a_signal_ended_gives_128_and_its_number(cli, number):
    assert cli.run("sh", "-c", f"kill -{number} $$").returncode == 128 + number
    run = cli.last()
    assert (run["state"], run["signal"], run["exit_code"]) == ("failed", number, None)


def test_standard_streams_pass_through_byte_for_byte(cli):
    data = bytes(range(256)) * 4096
    result = cli.run("sh", "-c", "tee /dev/stderr", input=data, text=False)
    assert result.stdout == data
    assert result.stderr == data


def test_environment_directory_and_umask_are_as_without_us(cli, tmp_path):
    script = "env -0 | sort -z; pwd; umask; ulimit -a"
    # The C locale, as under cron, is where Python sets LC_CTYPE for itself.
    env = {"PATH": os.environ["PATH"], "ODD": "a\nb=c"}
    env |= {"SINGLERUN_CONFIG": "", "SINGLERUN_DIR": str(cli.dir)}
    where = {"cwd": tmp_path, "umask": 0o027, "env": env}
    bare = subprocess.run(
        ["sh", "-c", script], capture_output=True, check=True, cwd=tmp_path, umask=0o027, env=env
    )
    ours = cli.run("sh", "-c", script, text=False, **where)
    added = {b"SINGLERUN_NAME", b"SINGLERUN_RUN_ID", b"SINGLERUN_TOKEN", b"SINGLERUN_LOCKS"}
    entries = [e for e in ours.stdout.split(b"\0") if e.partition(b"=")[0] not in added]
    assert entries == bare.stdout.split(b"\0")
    assert len(ours.stdout.split(b"\0")) == len(entries) + len(added)


def test_ctype_that_was_given_is_handed_on(cli):
    env = cli.env | {"LC_CTYPE": "C"}
    assert cli.run("printenv", "LC_CTYPE", env=env).stdout == "C\n"


def test_signal_dispositions_and_mask_are_as_without_us(cli):
    grep = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]
    bare = subprocess.run(grep, capture_output=True, text=True, check=True)
    assert signals_in(cli.run(*grep).stdout) == signals_in(bare.stdout)
    ours = subprocess.run(
        ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh", str(BINARY), *grep],
        env=cli.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    ignored = signals_in(ours.stdout)["SigIgn:"] - signals_in(bare.stdout)["SigIgn:"]
    assert ignored == 0b11, "SIGHUP and SIGINT stay ignored"


def test_inherited_descriptors_stay_and_ours_start_at_ten(cli, tmp_path):
    script = "ls -l /proc/self/fd | grep -v /proc/ | sed -n 's/.* \\([0-9]*\\) -> .*/\\1/p'"
    handle = os.open(tmp_path / "given", os.O_CREAT | os.O_RDWR)
    result = cli.run("-n", "x", "sh", "-c", script, pass_fds=(handle,))
    numbers = {int(line) for line in result.stdout.split()}
    os.close(handle)
    assert {0, 1, 2, handle} <= numbers
    ours = numbers - {0, 1, 2, handle}
    assert len(ours) == 1, "the lock, and nothing else"
    assert min(ours) >= 10


@pytest.mark.parametrize("form", ["", "--exec"])
def test_closed_standard_streams_stay_closed(cli, form):
    closed = "test ! -e /proc/self/fd/2 && test ! -e /proc/self/fd/0"
    script = f'{BINARY} {form} -n x sh -c "{closed}" 0<&- 2>&-'
    assert subprocess.run(["sh", "-c", script], env=cli.env, check=False).returncode == 0


def test_names_are_told_to_the_command(cli):
    script = 'echo "$SINGLERUN_NAME $SINGLERUN_RUN_ID $SINGLERUN_TOKEN"'
    first = cli.run("-n", "x", "sh", "-c", script).stdout.split()
    second = cli.run("-n", "x", "sh", "-c", script).stdout.split()
    assert first[0] == "x"
    assert int(second[1]) > int(first[1])
    assert int(second[2]) > int(first[2])


def test_token_grows_also_when_the_record_was_deleted(cli):
    tokens = []
    for _ in range(3):
        tokens.append(int(cli.run("-n", "x", "printenv", "SINGLERUN_TOKEN").stdout))
        for path in cli.dir.glob("singlerun.db*"):
            path.unlink()
    assert tokens == sorted(set(tokens))


def test_same_name_is_refused_and_the_holder_named(cli):
    with cli.hold("-n", "x") as holding:
        result = cli.run("-n", "x", "true")
        assert result.returncode == 75
        assert result.stdout == ""
        line = result.stderr
        assert line.count("\n") == 1
        assert line.startswith("singlerun: x is held by PID ")
        assert str(holding.pid) in line
        assert "since" in line
        assert "user" in line
    assert cli.run("-n", "x", "true").returncode == 0, "the run after a refusal starts normally"


def test_usual_duration_is_told(cli):
    cli.run("-n", "x", "sleep", "0.1")
    with cli.hold("-n", "x"):
        assert "usually takes 0." in cli.run("-n", "x", "true").stderr


def test_skip_is_silent_and_successful(cli):
    with cli.hold("-n", "x"):
        result = cli.run("-n", "x", "--skip", "echo", "no")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert cli.last("x")["state"] == "skipped"


def test_conflict_exit_code_and_quiet(cli):
    with cli.hold("-n", "x"):
        result = cli.run("-E", "3", "-q", "-n", "x", "true")
        assert (result.returncode, result.stderr) == (3, "")


def test_derived_names_tell_arguments_apart(cli):
    first, second = cli.run("echo", "a b"), cli.run("echo", "a", "b")
    assert first.returncode == second.returncode == 0
    names = {run["name"] for run in cli.history()}
    assert len(names) == 2
    assert all(re.fullmatch(r"echo-[0-9a-f]{12}", name) for name in names)


def test_derived_name_is_the_same_by_path_and_by_search(cli):
    echo = subprocess.run(
        ["sh", "-c", "command -v cat"], capture_output=True, text=True, check=True
    ).stdout.strip()
    cli.run("cat")
    cli.run(echo)
    assert len({run["name"] for run in cli.history()}) == 1


def test_wait_starts_after_the_holder_has_ended(cli):
    with cli.hold("-n", "x") as holding:
        waiter = cli.start("-n", "x", "-w", "echo", "now", stdout=subprocess.PIPE)
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        (row,) = [run for run in cli.json("ps") if run["state"] == "waiting"]
        assert row["wrapper_pid"] == waiter.pid
        holding.release()
        assert waiter.communicate(timeout=PATIENCE)[0] == b"now\n"
    first, second = cli.history("x")[::-1]
    assert second["started_at"] >= first["ended_at"]
    assert second["state"] == "succeeded"
    assert second["id"] == row["id"]


def test_waiting_takes_no_processor_time(cli):
    with cli.hold("-n", "x"):
        waiter = cli.start("-n", "x", "-w", "true")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        eventually(lambda: is_idle(waiter.pid), "an idle wait")
        assert waiter.poll() is None


def test_wait_for_gives_up_in_time(cli):
    with cli.hold("-n", "x"):
        result = cli.run("-n", "x", "--wait-for", "0.2", "true")
        assert result.returncode == 75
        assert "still held after" in result.stderr
        assert cli.last("x")["state"] == "refused"
    assert cli.run("-n", "x", "--wait-for", "20", "true").returncode == 0


def test_wait_for_with_skip_gives_up_silently(cli):
    with cli.hold("-n", "x"):
        result = cli.run("-n", "x", "--wait-for", "0.1", "--skip", "true")
        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("number", [1, 2, 3, 15])
def test_a_waiter_can_be_interrupted(cli, number):
    with cli.hold("-n", "x"):
        waiter = cli.start("-n", "x", "-w", "true")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        waiter.send_signal(number)
        assert waiter.wait(PATIENCE) == 128 + number
        assert cli.last("x")["state"] == "stopped"
        assert not [run for run in cli.json("ps") if run["state"] == "waiting"]


def test_shared_locks_admit_each_other_but_no_exclusive_one(cli):
    with cli.hold("-s", "-n", "x"), cli.hold("-s", "-n", "x"):
        assert cli.run("-n", "x", "true").returncode == 75
        assert cli.run("-s", "-n", "x", "true").returncode == 0
    with cli.hold("-n", "x"):
        assert cli.run("-s", "-n", "x", "true").returncode == 75


def test_several_names_are_held_all_or_none(cli):
    with cli.hold("-n", "b"):
        assert cli.run("-n", "a", "-n", "b", "true").returncode == 75
        assert cli.run("-n", "a", "true").returncode == 0, "a was let go"
    with cli.hold("-n", "b", "-n", "a"):
        for name in "ab":
            refused = cli.run("-n", name, "true")
            assert refused.returncode == 75
            assert f"singlerun: {name} is held" in refused.stderr
            assert cli.run("is-running", name).returncode == 0


def test_several_names_in_opposite_orders_do_not_deadlock(cli):
    orders = [("a", "b"), ("b", "a")] * 10
    waiters = [cli.start("-w", "-n", one, "-n", two, "sleep", "0.01") for one, two in orders]
    assert [waiter.wait(PATIENCE) for waiter in waiters] == [0] * len(waiters)


@pytest.mark.stress
def test_fifty_at_once_start_one(cli, tmp_path):
    """All wait for the end of one pipe, so that they are let loose at the same instant."""
    gate, opener = os.pipe()
    witness = tmp_path / "witness"
    done = tmp_path / "done"
    os.mkfifo(done)
    script = f"echo $$ >> {witness}; exec cat {done}"
    starters = [
        subprocess.Popen(
            ["sh", "-c", 'read x; exec "$@"', "sh", BINARY, "-n", "x", "sh", "-c", script],
            env=cli.env, stdin=gate, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(50)
    ]  # fmt: skip
    os.close(gate)
    os.close(opener)
    eventually(
        lambda: sum(process.poll() is not None for process in starters) == 49, "the refusal of 49"
    )
    with open(done, "w"):
        pass
    statuses = sorted(process.wait(PATIENCE) for process in starters)
    assert statuses == [0] + [75] * 49
    assert len(witness.read_text().split()) == 1
    for process in starters:
        errors = process.communicate()[1]
        lines = errors.splitlines()
        if process.returncode == 75:
            assert len(lines) == 1
            assert lines[0].startswith("singlerun: x is held by PID ")
        else:
            assert errors == ""
    states = [run["state"] for run in cli.history("x")]
    assert sorted(states) == ["refused"] * 49 + ["succeeded"]


def test_end_is_recorded_before_the_lock_is_free(cli):
    """The next holder finds no open run; the kernel says when that is, not a clock."""
    need("flock", "sqlite3")
    for _ in range(20):
        waiter = subprocess.Popen(
            ["flock", cli.lock_path("x"), "sqlite3", cli.dir / "singlerun.db",
             "SELECT count(*) FROM runs WHERE ended_ns IS NULL"],
            stdout=subprocess.PIPE,
        ) if cli.lock_path("x").exists() else None  # fmt: skip
        cli.run("-w", "-n", "x", "true")
        if waiter:
            assert waiter.communicate(timeout=PATIENCE)[0] == b"0\n"


def test_start_is_recorded_before_the_command_starts(cli):
    need("sqlite3")
    query = "SELECT state, id FROM runs WHERE ended_ns IS NULL"
    result = cli.run(
        "sh", "-c", f"sqlite3 {cli.dir}/singlerun.db '{query}'; echo $SINGLERUN_RUN_ID"
    )
    state, run_id = result.stdout.split()
    assert state == f"running|{run_id}"


def test_background_child_does_not_keep_the_lock(cli):
    script = "sleep 60 >/dev/null 2>&1 & echo $!"
    sleeper = int(cli.run("-n", "x", "sh", "-c", script).stdout)
    try:
        assert is_alive(sleeper)
        assert cli.run("-n", "x", "true").returncode == 0
        assert cli.last("x")["state"] == "succeeded"
    finally:
        os.kill(sleeper, 9)


def test_linger_holds_until_the_background_child_is_gone(cli):
    script = "sleep 60 >/dev/null 2>&1 & echo $!"
    wrapper = cli.start("-n", "x", "--linger", "sh", "-c", script, stdout=subprocess.PIPE)
    sleeper = int(wrapper.stdout.readline())
    eventually(lambda: not is_alive_child_of(wrapper.pid), "the end of the command")
    refused = cli.run("-n", "x", "true")
    assert refused.returncode == 75
    assert f"PID {sleeper} (sleep 60)" in refused.stderr
    assert wrapper.poll() is None
    os.kill(sleeper, 9)
    assert wrapper.wait(PATIENCE) == 0
    assert cli.run("-n", "x", "true").returncode == 0


def is_alive_child_of(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [child for child in text.split() if is_alive(int(child))]


def test_a_lingering_wrapper_ends_the_rest_when_asked(cli):
    script = "sleep 60 >/dev/null 2>&1 & echo $!"
    wrapper = cli.start("-n", "x", "--linger", "sh", "-c", script, stdout=subprocess.PIPE)
    sleeper = int(wrapper.stdout.readline())
    eventually(lambda: not is_alive_child_of(wrapper.pid), "the end of the command")
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 0
    assert not is_alive(sleeper)


def test_lock_file_excludes_flock_and_is_excluded_by_it(cli, tmp_path):
    path = tmp_path / "chosen"
    with cli.hold("--lock-file", str(path)):
        assert subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 1
    assert subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 0
    with open(path) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = cli.run("--lock-file", str(path), "true")
        assert result.returncode == 75
        assert f"PID {os.getpid()} " in result.stderr
    assert path.read_bytes() == b""


def test_lock_file_excludes_filelock_and_is_excluded_by_it(cli, tmp_path):
    import filelock

    path = tmp_path / "chosen"
    lock = filelock.FileLock(path, blocking=False)
    with cli.hold("--lock-file", str(path)), pytest.raises(filelock.Timeout):
        lock.acquire()
    with lock:
        assert cli.run("--lock-file", str(path), "true").returncode == 75
    assert cli.run("--lock-file", str(path), "true").returncode == 0


def test_lock_file_may_be_a_directory_or_the_program_itself(cli, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 4\n")
    program.chmod(0o555)
    assert cli.run("--lock-file", str(program), str(program)).returncode == 4
    assert program.read_text() == "#!/bin/sh\nexit 4\n"
    assert cli.run("--lock-file", str(tmp_path), "true").returncode == 0


def test_run_with_a_lock_file_can_be_given_a_name(cli, tmp_path):
    with cli.hold("-n", "label", "--lock-file", str(tmp_path / "chosen")):
        assert cli.run("is-running", "label").returncode == 0
        assert cli.run("-n", "label", "true").returncode == 0, "the name itself is not locked"
    assert cli.run("is-running", "label").returncode == 1


def test_dashes_and_run_make_a_command_of_a_subcommand(cli):
    need("ps")
    for words in (["--"], ["run"], ["run", "--"], ["-n", "x", "--"]):
        result = cli.run(*words, "ps", "-o", "comm=")
        assert "ps" in result.stdout.split(), words
        assert "ID" not in result.stdout


def test_script_without_an_interpreter_line_is_given_to_sh(cli, tmp_path):
    script = tmp_path / "script"
    script.write_text('echo "$1"\n')
    script.chmod(0o755)
    assert cli.run(str(script), "hello").stdout == "hello\n"


def test_state_files_are_private_whatever_the_umask(cli):
    for umask in (0, 0o077, 0o777):
        assert cli.run("-n", f"u{umask}", "true", umask=umask).returncode == 0
    for path in [cli.dir, *cli.dir.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_nothing_is_left_in_the_working_directory(cli, tmp_path):
    where = tmp_path / "empty"
    where.mkdir(0o500)
    assert cli.run("true", cwd=where).returncode == 0
    assert list(where.iterdir()) == []


def test_verbose_says_what_happens_on_standard_error(cli):
    result = cli.run("-v", "-n", "x", "echo", "out")
    assert result.stdout == "out\n"
    assert re.search(r"x: started PID \d+, run 1", result.stderr)
    assert "exit status 0" in result.stderr


def test_nested_runs_record_their_parent(cli):
    inner = f"{BINARY} -n inner sh -c '{BINARY} -n innermost true'"
    assert cli.run("-n", "outer", "sh", "-c", inner).returncode == 0
    runs = {run["name"]: run for run in cli.history()}
    assert runs["outer"]["parent_id"] is None
    assert runs["inner"]["parent_id"] == runs["outer"]["id"]
    assert runs["innermost"]["parent_id"] == runs["inner"]["id"]


def test_nested_run_of_the_same_name_is_refused(cli):
    result = cli.run("-n", "x", "sh", "-c", f"{BINARY} -n x echo inner")
    assert (result.returncode, result.stdout) == (75, "")


def test_a_marker_from_outside_opens_nothing(cli):
    with cli.hold("-n", "x") as holding:
        marks = {"SINGLERUN_NAME": "x", "SINGLERUN_RUN_ID": "1", "SINGLERUN_TOKEN": "1"}
        assert cli.run("-n", "x", "true", env=cli.env | marks).returncode == 75
        holding.release()
    cli.run("-n", "y", "true", env=cli.env | marks)
    assert cli.last("y")["parent_id"] is None, "not the token of that run"


def test_usage_is_recorded(cli):
    script = "x = bytearray(80_000_000); s = sum(range(3_000_000))"
    begun = time.monotonic()
    assert cli.run("-n", "x", sys.executable, "-c", script).returncode == 0
    whole = time.monotonic() - begun
    run = cli.last("x")
    assert 80_000 < run["max_rss_kb"] < 160_000
    assert run["user_cpu_s"] > 0.01
    assert 0 < run["elapsed_s"] < whole


def test_memory_is_that_of_the_command_and_not_ours(cli):
    """A child of posix_spawn(3) counts what its parent had: 12 MB for true."""
    big = (
        f"x = bytearray(99_000_000); import os; os.execv({str(BINARY)!r}, {['singlerun', 'true']})"
    )
    assert cli.run("-n", "x", "true").returncode == 0
    assert cli.last("x")["max_rss_kb"] is None
    subprocess.run([sys.executable, "-c", big], env=cli.env, check=True)
    assert cli.last()["max_rss_kb"] is None, "not that of the program before us, either"
    cli.add("-n", "q", "true")
    job = cli.add("-n", "q", sys.executable, "-c", "x = bytearray(80_000_000)")
    assert cli.run("wait", str(job)).returncode == 0
    large, small = cli.history("q")
    assert (small["max_rss_kb"], large["max_rss_kb"] > 80_000) == (None, True)


def test_bare_singlerun_shows_help_on_standard_error(cli):
    result = cli.run()
    assert (result.returncode, result.stdout) == (125, "")
    assert "Usage: singlerun" in result.stderr


def test_sigchld_ignored_by_the_parent_loses_no_status(cli):
    script = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        f"os.execv({str(BINARY)!r}, ['singlerun', '-n', 'x', 'sh', '-c', 'exit 9'])"
    )
    result = subprocess.run([sys.executable, "-c", script], env=cli.env, check=False)
    assert result.returncode == 9
