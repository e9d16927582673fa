"""The command's output: kept, held back, passed on, whatever dies on the way."""

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import PATIENCE, eventually, fill, is_alive

BOTH = "echo out; echo err >&2"
MARK = re.compile(r"^singlerun: (\d+) bytes of the output are left out here$", re.MULTILINE)


def relay_of(cli, wrapper, command=None):
    """Return the PID of a wrapper's relay."""
    if command is None:
        command = next(run["pid"] for run in cli.json("ps") if run["wrapper_pid"] == wrapper.pid)
    children = Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text().split()
    (relay,) = {int(pid) for pid in children} - {command}
    return relay


def relays_left(cli):
    """Return the PIDs of live processes that were started as this test's singlerun."""
    mark = f"SINGLERUN_DIR={cli.dir}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if any(word.endswith(b"/singlerun/__main__.py") for word in words):
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def logs(cli, *arguments):
    result = cli.run("logs", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


# -- kept ---------------------------------------------------------------------------------------


def test_log_keeps_a_copy_of_both_streams_and_passes_them_on(cli):
    result = cli.run("-n", "x", "--log", "sh", "-c", f"{BOTH}; exit 3")
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert logs(cli, "x") == ("out\n", "err\n")
    assert logs(cli, "1") == ("out\n", "err\n")


def test_without_it_nothing_is_kept(cli):
    cli.run("-n", "x", "echo", "out")
    assert not (cli.dir / "logs").exists()
    result = cli.run("logs", "x")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("what", ["x", "7"])
def test_logs_of_what_there_is_not(cli, what):
    for _ in range(2):
        result = cli.run("logs", what)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        cli.run("-n", "y", "--log", "echo", "out")


def test_logs_of_a_name_are_those_of_its_latest_run_that_has_any(cli):
    for word in ("first", "second"):
        cli.run("-n", "x", "--log", "echo", word)
    cli.run("-n", "x", "echo", "not kept")
    cli.run("-n", "y", "--log", "echo", "other")
    assert logs(cli, "x")[0] == "second\n"
    assert logs(cli, "1")[0] == "first\n"


def test_a_number_is_a_run_first(cli):
    cli.run("-n", "2", "--log", "echo", "run 1")
    assert logs(cli, "2")[0] == "run 1\n", "there is no run 2 yet"
    cli.run("-n", "x", "--log", "echo", "run 2")
    assert logs(cli, "2")[0] == "run 2\n"


def test_output_of_a_command_that_wrote_nothing_is_nothing(cli):
    cli.run("-n", "x", "--log", "true")
    assert logs(cli, "x") == ("", "")


def test_bytes_stay_as_they_are(cli, tmp_path):
    data = bytes(range(256)) * 300 + os.urandom(100_000) + b"\r\n\0no newline"
    file = tmp_path / "data"
    file.write_bytes(data)
    result = cli.run("-n", "x", "--log", "cat", file, text=False)
    assert result.stdout == data
    assert cli.run("logs", "x", text=False).stdout == data


@pytest.mark.parametrize("option", ["--log", "--only-failed"])
def test_order_between_streams_that_are_one_is_exact(cli, option):
    script = "for i in $(seq 500); do echo o$i; echo e$i >&2; done; exit 1"
    result = cli.run(
        "-n", "x", option, "sh", "-c", script, capture_output=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert result.stdout.split() == [f"{s}{i}" for i in range(1, 501) for s in "oe"]


def test_order_within_a_stream_is_exact(cli):
    script = "for i in $(seq 2000); do echo o$i; echo e$i >&2; done"
    result = cli.run("-n", "x", "--log", "sh", "-c", script)
    wanted = [[f"{s}{i}" for i in range(1, 2001)] for s in "oe"]
    assert [result.stdout.split(), result.stderr.split()] == wanted
    assert [text.split() for text in logs(cli, "x")] == wanted


def test_the_cut_is_marked(cli):
    size = 60_000_000
    result = cli.run("-n", "x", "--log", "sh", "-c", f"seq 1 100000000 | head -c {size}")
    assert len(result.stdout) == size
    stdout, stderr = logs(cli, "x")
    (missing,) = MARK.findall(stderr)
    assert len(stdout) + int(missing) == size
    lines = stdout.split("\n")
    assert lines[:100] == [str(number) for number in range(1, 101)]
    assert result.stdout.endswith(stdout[-8_000_000:])
    eventually(lambda: not relays_left(cli), "the end of the relay, which compresses it")
    used = sum(file.stat().st_size for file in (cli.dir / "logs" / "1").iterdir())
    assert used <= 10 * 1024 * 1024


def test_hundreds_of_megabytes_to_a_slow_reader(cli):
    """On both streams at once, of which one is read first to its end."""
    size = 300_000_000
    script = f"head -c {size} /dev/zero & head -c 1000000 /dev/zero >&2; wait"
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    errors = []
    thread = threading.Thread(target=lambda: errors.append(len(wrapper.stderr.read())))
    thread.start()
    # All of standard error arrives while standard output is not read, which is full.
    eventually(lambda: errors or _relay_has_written(cli, 1_000_000), "standard error")
    relay = relay_of(cli, wrapper)
    memory = Path(f"/proc/{relay}/status").read_text()
    assert int(re.search(r"VmRSS:\s+(\d+)", memory)[1]) < 100_000
    count = 0
    while data := os.read(wrapper.stdout.fileno(), 1 << 20):
        count += len(data)
    assert wrapper.wait(PATIENCE) == 0
    thread.join(PATIENCE)
    assert (count, errors) == (size, [1_000_000])
    stdout, stderr = logs(cli, "x")
    assert len(stdout) + len(MARK.sub("", stderr).strip("\n")) < 11_000_000


def _relay_has_written(cli, size):
    folder = cli.dir / "logs" / "1"
    return folder.exists() and sum(file.stat().st_size for file in folder.iterdir()) > size


@pytest.mark.parametrize("option", ["--log", "--only-failed"])
def test_a_reader_that_is_gone_ends_the_command_as_without_us(cli, option):
    if option == "--log":
        result = subprocess.run(
            ["sh", "-c", f"{cli.binary} -n x {option} yes | head -n 1; echo done"],
            env=cli.env, capture_output=True, timeout=PATIENCE, check=True,
        )  # fmt: skip
        assert result.stdout == b"y\ndone\n"
    else:
        reading, writing = os.pipe()
        wrapper = cli.start("-n", "x", option, "yes", stdout=writing)
        os.close(writing)
        os.close(reading)
        assert wrapper.wait(PATIENCE) == 128 + signal.SIGPIPE
    eventually(lambda: not cli.json("ps"), "the end")
    assert cli.last("x")["signal"] == signal.SIGPIPE


def test_a_reader_that_is_gone_is_noticed_before_anything_is_written(cli):
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", "trap '' PIPE; echo $$; read line; echo x || exit 9",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    command = int(wrapper.stdout.readline())
    relay = relay_of(cli, wrapper, command)
    wrapper.stdout.close()
    # The relay closes its end of the command's standard output.
    pipe = os.stat(f"/proc/{command}/fd/1").st_ino
    eventually(lambda: pipe not in _inodes(relay), "the end of the pipe")
    wrapper.stdin.write(b"\n")
    wrapper.stdin.close()
    assert wrapper.wait(PATIENCE) == 9


def _inodes(pid):
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(entry.stat().st_ino)
        except OSError:
            continue
    return found


def test_named_pipe_may_change_its_reader(cli, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDWR)
    writing = os.open(fifo, os.O_WRONLY)
    script = "echo first; read line; echo err >&2; read line; echo second"
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", script,
        stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert os.read(first, 6) == b"first\n"
    os.close(first)
    wrapper.stdin.write(b"\n")
    wrapper.stdin.flush()
    assert wrapper.stderr.readline() == b"err\n", "the relay has seen a pipe without a reader"
    with open(fifo, "rb") as reader:
        os.close(writing)
        wrapper.stdin.write(b"\n")
        wrapper.stdin.close()
        assert reader.read() == b"second\n"
    assert wrapper.wait(PATIENCE) == 0


@pytest.mark.parametrize("option", ["--log", "--only-failed"])
def test_standard_output_may_be_non_blocking(cli, option):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wrapper = cli.start(
        "-n", "x", option, "sh", "-c", "head -c 5000000 /dev/zero; exit 1", stdout=writing
    )
    os.close(writing)
    count = 0
    while data := os.read(reading, 1000):
        count += len(data)
    os.close(reading)
    assert count == 5_000_000
    assert wrapper.wait(PATIENCE) == 1


def test_standard_output_stays_blocking_for_others(cli):
    reading, writing = os.pipe()
    with cli.hold("-n", "x", "--log"):
        pass
    cli.run("-n", "x", "--log", "echo", "x", capture_output=False, stdout=writing)
    assert os.get_blocking(writing)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("option", ["--log", "--only-failed"])
def test_standard_output_may_be_a_socket(cli, option):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wrapper = cli.start(
            "-n", "x", option, "sh", "-c", "head -c 3000000 /dev/zero; exit 1", stdout=theirs
        )
        theirs.close()
        count = 0
        while data := ours.recv(1 << 16):
            count += len(data)
    assert count == 3_000_000
    assert wrapper.wait(PATIENCE) == 1


def test_standard_output_may_be_a_file_that_is_full(cli):
    with open("/dev/full", "w") as full:
        result = cli.run(
            "-n", "x", "--log", "sh", "-c", "trap '' PIPE; echo x; cat; echo y; exit 5",
            capture_output=False, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert result.returncode == 5
    assert "singlerun: the output cannot be passed on: no space left on device\n" in result.stderr


@pytest.mark.parametrize("closed", ["1", "2", "1 2"])
@pytest.mark.parametrize("option", ["--log", "--only-failed"])
def test_closed_streams_are_closed_in_the_command(cli, closed, option):
    numbers = closed.split()
    tests = " ".join(f"[ ! -e /proc/$$/fd/{number} ] || exit 9;" for number in numbers)
    script = f"{tests} [ {len(numbers)} = 2 ] || {BOTH}; exit 3"
    closing = " ".join(f"{number}>&-" for number in numbers)
    result = cli.run(
        "-n", "outer", "sh", "-c",
        f'"$@" {closing}', "sh", cli.binary, "-n", "x", option, "sh", "-c", script,
    )  # fmt: skip
    assert result.returncode == 3
    assert ("out" in result.stdout) == ("1" not in closed)


def test_a_descriptor_of_ours_does_not_reach_the_command(cli):
    bare = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, check=True).stdout
    plain = cli.run("-n", "x", "ls", "/proc/self/fd", text=False).stdout
    assert cli.run("-n", "x", "--log", "ls", "/proc/self/fd", text=False).stdout == plain
    assert len(plain.split()) == len(bare.split()) + 1, "the lock"


def test_the_relay_has_closed_all_else(cli):
    with cli.hold("-n", "x", "--log", "--linger") as holding:
        relay = relay_of(cli, holding.wrapper)
        eventually(lambda: not _paths(relay) & {str(cli.lock_path("x"))}, "the closing")
        held = {path for path in _paths(relay) if path.startswith("/")}
        assert {path for path in held if "/state/" in path} == {
            str(cli.dir / "logs" / "1"), str(cli.dir / "logs" / "1" / ("0" * 18)),
        }  # fmt: skip


def _paths(pid):
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_modes_and_places(cli):
    cli.run("-n", "x", "--log", "echo", "x")
    modes = {
        path.relative_to(cli.dir).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in [cli.dir / "logs", *(cli.dir / "logs").rglob("*")]
    }
    assert modes == {
        "logs": 0o700, "logs/1": 0o700, f"logs/1/{'0' * 18}": 0o600, "logs/1/ended": 0o600,
    }  # fmt: skip


@pytest.mark.parametrize("planted", ["logs", "logs/1"])
def test_planted_links_cost_the_copy_alone(cli, tmp_path, planted):
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (cli.dir / planted).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    (cli.dir / planted).symlink_to(victim)
    result = cli.run("-n", "x", "--log", "echo", "out")
    assert (result.returncode, result.stdout) == (0, "out\n")
    assert result.stderr.startswith("singlerun: the output is not kept: ")
    assert result.stderr.count("\n") == 1
    assert list(victim.iterdir()) == []
    result = cli.run("logs", "x")
    assert (result.returncode, result.stderr.count("\n")) == (125, 1)


def test_directory_in_the_way_is_named(cli):
    (cli.dir / "logs" / "1" / "stranger").mkdir(parents=True)
    for directory in (cli.dir, cli.dir / "logs", cli.dir / "logs" / "1"):
        directory.chmod(0o700)
    result = cli.run("-n", "x", "--log", "echo", "out")
    assert (result.returncode, result.stdout) == (0, "out\n")
    assert f"{cli.dir}/logs/1: is a directory; remove it" in result.stderr


def test_two_runs_at_once_keep_their_own(cli):
    script = "read go; for i in $(seq 3000); do echo $0 $i; done"
    wrappers = {
        name: cli.start(
            "-n", name, "--log", "sh", "-c", script, name, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for name in ("x", "y")
    }  # fmt: skip
    for wrapper in wrappers.values():
        wrapper.stdin.write(b"\n")
        wrapper.stdin.close()
    for name, wrapper in wrappers.items():
        assert wrapper.wait(PATIENCE) == 0
        assert logs(cli, name)[0].splitlines() == [f"{name} {i}" for i in range(1, 3001)]


# -- troubles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_full_disk_costs_the_copy_alone(cli, small_disk, when):
    cli.env["SINGLERUN_DIR"] = str(small_disk / "state")
    cli.run("-n", "x", "true")
    if when == "before":
        fill(small_disk)
    size = 5_000_000
    script = f"head -c {size} /dev/zero; echo err >&2; exit 3"
    result = cli.run("-n", "x", "--log", "sh", "-c", script)
    assert (result.returncode, len(result.stdout)) == (3, size)
    lines = [line for line in result.stderr.splitlines() if "output is not kept" in line]
    assert len(lines) == 1
    assert "err" in result.stderr.splitlines()


def test_full_disk_does_not_lose_what_was_held_back(cli, small_disk):
    cli.env["SINGLERUN_DIR"] = str(small_disk / "state")
    cli.run("-n", "x", "true")
    fill(small_disk)
    result = cli.run("-n", "x", "--log", "--only-failed", "sh", "-c", f"{BOTH}; exit 3")
    assert (result.returncode, result.stdout) == (3, "out\n")
    assert "err" in result.stderr.splitlines()


def test_too_many_open_files_cost_the_copy_alone(cli):
    """Whatever the limit: where the command can be started, it is, and its status is ours."""
    cli.run("-n", "x", "true")

    def run(limit, *options):
        return cli.run(
            *options, "-n", "x", "sh", "-c", "echo out; exit 5",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        )  # fmt: skip

    enough = next(limit for limit in range(8, 60) if run(limit).returncode == 5)
    for limit in range(enough, enough + 12):
        for option in ("--log", "--only-failed"):
            result = run(limit, option)
            assert (result.returncode, result.stdout) == (5, "out\n")
    assert "too many open files" in run(enough + 2, "--log").stderr
    assert cli.json("ps") == []
    assert {run["state"] for run in cli.history("x")} == {"succeeded", "failed"}


def test_without_a_record_output_is_passed_on(cli):
    (cli.dir / "singlerun.db").mkdir(parents=True)
    result = cli.run("-n", "x", "--log", "sh", "-c", f"{BOTH}; exit 3")
    assert (result.returncode, result.stdout) == (3, "out\n")
    assert [line.startswith("singlerun: ") for line in result.stderr.splitlines()] == [1, 1, 0]
    result = cli.run("-n", "x", "--only-failed", "sh", "-c", f"{BOTH}; exit 3")
    assert (result.returncode, result.stdout) == (3, "out\n")


def test_what_was_kept_can_be_read_without_the_record(cli):
    cli.run("-n", "x", "--log", "echo", "out")
    (cli.dir / "singlerun.db").unlink()
    (cli.dir / "singlerun.db").mkdir()
    result = cli.run("logs", "1")
    assert (result.returncode, result.stdout) == (0, "out\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--log", "--only-failed"])
def test_command_that_cannot_be_started(cli, option):
    result = cli.run("-n", "x", option, "no-such-program")
    assert (result.returncode, result.stderr.count("\n")) == (127, 1)
    eventually(lambda: not relays_left(cli), "the end of the relay")


def test_killed_wrapper_breaks_neither_the_command_nor_its_log(cli):
    script = "echo $$; read line; echo later; echo err >&2"
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    wrapper.stdout.readline()
    wrapper.kill()
    wrapper.wait()
    assert cli.run("-n", "x", "true").returncode == 75, "the command holds the lock"
    wrapper.stdin.write(b"\n")
    wrapper.stdin.close()
    assert wrapper.stdout.read() == b"later\n", "to its end"
    assert wrapper.stderr.read() == b"err\n"
    stdout, stderr = logs(cli, "1", "-f")
    assert (stdout.split()[1:], stderr) == (["later"], "err\n")
    assert cli.run("-n", "x", "true").returncode == 0, "and nothing else"
    assert not relays_left(cli)


def test_a_killed_relay_is_reported(cli):
    holding = cli.hold("-n", "x", "--log", stderr=subprocess.PIPE)
    with holding:
        os.kill(relay_of(cli, holding.wrapper), signal.SIGKILL)
        holding.release()
        assert b"the process that passed it on was killed\n" in holding.wrapper.stderr.read()


def test_what_was_left_behind_is_not_waited_for(cli):
    """The next run starts, and what comes later is still passed on."""
    script = "(read line <&3; echo later; echo more >&2) & echo $!; exit 0"
    reading, writing = os.pipe()
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", f"exec 3<&0; {script}", stdin=reading,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    assert wrapper.stdout.readline()
    assert wrapper.wait(PATIENCE) == 0
    assert cli.run("-n", "x", "true").returncode == 0
    assert logs(cli, "1", "-f")[0].count("\n") == 1, "the run has ended"
    os.write(writing, b"\n")
    os.close(writing)
    assert wrapper.stdout.read() == b"later\n"
    assert wrapper.stderr.read() == b"more\n"
    eventually(lambda: not relays_left(cli), "the end of the relay")
    assert logs(cli, "1")[0].splitlines()[1:] == ["later"]


CHATTER = "import os, sys\nwhile True: os.write(1, b'y' * 12345 + b'\\n')"


def test_chatter_of_what_was_left_behind_is_not_waited_for(cli):
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", '"$0" -c "$1" & echo $!; sleep 0.2', sys.executable,
        CHATTER, stdout=subprocess.PIPE,
    )  # fmt: skip
    pid = int(next(line for line in wrapper.stdout if line[:1] != b"y"))
    draining = threading.Thread(target=wrapper.stdout.read)
    draining.start()
    try:
        assert wrapper.wait(PATIENCE) == 0
        assert is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
    draining.join(PATIENCE)
    assert not draining.is_alive()


def test_left_behind_output_comes_also_after_a_slow_end(cli):
    """It writes to one stream while the output of the other has not arrived yet."""
    script = "exec 3<&0; cat <&3 2>&- & head -c 900000 /dev/zero >&2"
    reading, writing = os.pipe()
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", script, stdin=reading, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    eventually(
        lambda: any(run["pid"] and not is_alive(run["pid"]) for run in cli.json("ps")),
        "the end of the command",
    )
    os.write(writing, b"later\n")
    with pytest.raises(subprocess.TimeoutExpired):
        wrapper.wait(0.2)
    assert len(wrapper.stderr.read()) == 900_000
    assert wrapper.wait(PATIENCE) == 0
    assert wrapper.stdout.readline() == b"later\n"
    os.close(writing)
    assert wrapper.stdout.read() == b""


def test_no_process_is_left_to_be_waited_for(cli):
    """In a container there may be no init that reaps orphans."""
    script = (
        "import ctypes, os, subprocess, sys; assert not ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
        "assert subprocess.run(sys.argv[1:]).returncode == 0\n"
        "try: print(os.waitpid(-1, 0))\n"
        "except ChildProcessError: print('none')"
    )
    words = [sys.executable, "-c", script, cli.binary, "-n", "x", "--log", "echo", "out"]
    result = subprocess.run(words, env=cli.env, capture_output=True, text=True, check=True)
    assert result.stdout == "out\nnone\n"


def test_a_stream_that_is_closed_everywhere_has_an_end(cli):
    """What was left behind has only standard error; standard output is read to its end."""
    reading, writing = os.pipe()
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", "exec 3<&0; cat <&3 >/dev/null & echo out",
        stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    assert wrapper.stdout.read() == b"out\n"
    assert wrapper.wait(PATIENCE) == 0
    eventually(lambda: relays_left(cli), "a relay, as standard error is still open")
    os.close(writing)
    assert wrapper.stderr.read() == b""


def test_linger_waits_for_what_was_left_behind(cli):
    result = cli.run(
        "-n", "x", "--log", "--linger", "sh", "-c", "(sleep 0.3; echo later) & echo now"
    )
    assert result.stdout == "now\nlater\n"
    assert logs(cli, "x")[0] == "now\nlater\n"


def test_timeout_does_not_end_the_relay(cli):
    """With a timeout the orphans of a command are our children, to be killed; so is the relay."""
    script = "trap 'head -c 3000000 /dev/zero; echo bye; exit' TERM; while :; do sleep 0.02; done"
    result = cli.run("-n", "x", "--log", "-t", "0.5", "-k", "20", "sh", "-c", script)
    assert result.returncode == 124
    assert result.stdout.endswith("\0bye\n")
    assert logs(cli, "x")[0] == result.stdout


def test_timeout_kills_what_was_left_behind_and_its_output_is_there(cli):
    script = "(trap '' TERM; echo child; exec setsid sleep 60) & echo leader; wait"
    result = cli.run("-n", "x", "--log", "-t", "0.5", "-k", "0.3", "sh", "-c", script)
    assert result.returncode == 124
    assert sorted(result.stdout.split()) == ["child", "leader"]
    assert not relays_left(cli)


def test_a_reader_that_is_stuck_does_not_keep_a_job_that_timed_out(cli):
    wrapper = cli.start("-n", "x", "--log", "-t", "0.5", "-k", "0.5", "yes", stdout=subprocess.PIPE)
    assert wrapper.wait(PATIENCE) == 124
    assert cli.run("-n", "x", "true").returncode == 0
    assert wrapper.stdout.read().strip(b"y\n") == b"", "what it wrote still arrives"


def test_signals_end_the_waiting_for_a_reader_that_is_stuck(cli):
    wrapper = cli.start(
        "-n", "x", "--log", "head", "-c", "500000", "/dev/zero", stdout=subprocess.PIPE
    )
    eventually(
        lambda: any(run["pid"] and not is_alive(run["pid"]) for run in cli.json("ps")),
        "the end of the command",
    )
    assert wrapper.poll() is None
    wrapper.terminate()
    assert wrapper.wait(PATIENCE) == 0
    assert len(wrapper.stdout.read()) == 500_000


def test_a_run_does_not_end_before_all_has_arrived(cli):
    wrapper = cli.start(
        "-n", "x", "--log", "head", "-c", "900000", "/dev/zero", stdout=subprocess.PIPE
    )
    eventually(
        lambda: any(run["pid"] and not is_alive(run["pid"]) for run in cli.json("ps")),
        "the end of the command",
    )
    assert len(wrapper.stdout.read(400_000)) == 400_000
    with pytest.raises(subprocess.TimeoutExpired):
        wrapper.wait(0.5)
    assert len(wrapper.stdout.read()) == 500_000
    assert wrapper.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command_and_its_last_words_arrive(cli, number):
    script = "trap 'echo bye; exit 7' TERM INT HUP; echo $$; while :; do sleep 0.02; done"
    wrapper = cli.start("-n", "x", "--log", "sh", "-c", script, stdout=subprocess.PIPE)
    wrapper.stdout.readline()
    wrapper.send_signal(number)
    assert wrapper.stdout.read() == b"bye\n"
    assert wrapper.wait(PATIENCE) == 7
    assert cli.last("x")["state"] == "stopped"


def test_the_group_may_be_signalled_as_a_whole(cli):
    """As a terminal does; the command dies of it, and the relay has its last words to pass on."""
    script = "trap 'echo bye; exit 7' INT; echo $$; while :; do sleep 0.02; done"
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", script, stdout=subprocess.PIPE, process_group=0
    )
    wrapper.stdout.readline()
    os.killpg(wrapper.pid, signal.SIGINT)
    assert wrapper.stdout.read() == b"bye\n"
    assert wrapper.wait(PATIENCE) == 7


def test_retries_leave_no_process_behind(cli):
    script = "echo try; sleep 0.01; exit 1"
    with cli.hold("-n", "y"):
        wrapper = cli.start(
            "-n", "x", "--log", "--restart", "always", "--retry-delay", "0", "sh", "-c", script,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        for _ in range(20):
            wrapper.stdout.readline()
        children = Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text().split()
        assert len(children) <= 3
        wrapper.terminate()
        wrapper.stdout.read()
        wrapper.wait(PATIENCE)
    assert logs(cli, "3")[0] == "try\n", "each try is a run of its own"


# -- held back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--log"]])
def test_only_failed_says_nothing_of_success(cli, more):
    result = cli.run("-n", "x", "--only-failed", *more, "sh", "-c", BOTH)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    if more:
        assert logs(cli, "x") == ("out\n", "err\n")
    else:
        assert not (cli.dir / "logs").exists()


@pytest.mark.parametrize("end, status", [("exit 3", 3), ("kill -9 $$", 137), ("sleep 60", 124)])
@pytest.mark.parametrize("more", [[], ["--log"]])
def test_only_failed_tells_all_of_failure(cli, end, status, more):
    result = cli.run(
        "-q", "-n", "x", "--only-failed", "-t", "1", *more, "sh", "-c", f"{BOTH}; {end}"
    )
    assert (result.returncode, result.stdout, result.stderr) == (status, "out\n", "err\n")
    if more:
        assert logs(cli, "x") == ("out\n", "err\n")


def test_only_failed_holds_back_until_the_end(cli):
    script = "echo out; read line; exit 1"
    wrapper = cli.start(
        "-n", "x", "--only-failed", "--log", "sh", "-c", script, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    eventually(lambda: _relay_has_written(cli, 0), "the output")
    os.set_blocking(wrapper.stdout.fileno(), False)
    with pytest.raises(BlockingIOError):
        os.read(wrapper.stdout.fileno(), 1)
    os.set_blocking(wrapper.stdout.fileno(), True)
    wrapper.stdin.close()
    assert wrapper.stdout.read() == b"out\n"
    assert wrapper.wait(PATIENCE) == 1


def test_only_failed_of_each_try(cli, tmp_path):
    tries = tmp_path / "tries"
    script = f'echo >> {tries}; n=$(wc -l < {tries}); echo try $n; [ "$n" -ge 3 ]'
    result = cli.run(
        "-n", "x", "--only-failed", "--retries", "5", "--retry-delay", "0", "sh", "-c", script
    )
    assert (result.returncode, result.stdout) == (0, "try 1\ntry 2\n")


def test_only_failed_marks_the_cut(cli):
    size = 40_000_000
    script = f"seq 1 100000000 | head -c {size}; exit 1"
    result = cli.run("-n", "x", "--only-failed", "sh", "-c", script)
    (missing,) = MARK.findall(result.stderr)
    assert len(result.stdout) + int(missing) == size
    assert result.stdout.startswith("1\n2\n3\n")


def test_only_failed_prints_what_it_has_if_the_wrapper_is_killed(cli):
    script = "echo out; read line; echo later"
    wrapper = cli.start(
        "-n", "x", "--only-failed", "--log", "sh", "-c", script, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    eventually(lambda: _relay_has_written(cli, 0), "the output")
    wrapper.kill()
    assert wrapper.stdout.readline() == b"out\n"
    wrapper.stdin.close()
    assert wrapper.stdout.read() == b"later\n"


@pytest.mark.parametrize("status, wanted", [(0, ""), (1, "now\nlater\n")])
def test_only_failed_and_what_was_left_behind(cli, status, wanted):
    script = f"exec 3<&0; (read line <&3; echo later) & echo now; exit {status}"
    reading, writing = os.pipe()
    wrapper = cli.start(
        "-n", "x", "--only-failed", "sh", "-c", script, stdin=reading, stdout=subprocess.PIPE
    )
    os.close(reading)
    assert wrapper.wait(PATIENCE) == status
    os.write(writing, b"\n")
    os.close(writing)
    assert wrapper.stdout.read().decode() == wanted


# -- followed -----------------------------------------------------------------------------------


def test_follow_shows_output_while_it_comes_and_ends_with_the_run(cli):
    wrapper = cli.start("-n", "x", "--log", "cat", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    eventually((cli.dir / "logs" / "1").exists, "the log")
    following = cli.start("logs", "-f", "x", stdout=subprocess.PIPE)
    for number in range(3):
        wrapper.stdin.write(b"%d\n" % number)
        wrapper.stdin.flush()
        assert following.stdout.readline() == b"%d\n" % number
    wrapper.stdin.close()
    assert following.stdout.read() == b""
    assert following.wait(PATIENCE) == 0
    assert wrapper.wait(PATIENCE) == 0


def test_follow_ends_without_a_reader(cli):
    with cli.hold("-n", "x", "--log"):
        following = cli.start("logs", "-f", "x", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert following.stdout.readline()
        following.stdout.close()
        assert following.wait(PATIENCE) == 141
        assert following.stderr.read() == b""


def test_follow_can_be_interrupted(cli):
    with cli.hold("-n", "x", "--log"):
        following = cli.start("logs", "-f", "x", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE) == 130
        assert following.stderr.read().strip() == b""


def test_logs_into_a_closed_pipe(cli):
    cli.run("-n", "x", "--log", "seq", "1", "1000000")
    result = subprocess.run(
        ["bash", "-c", f"{cli.binary} logs x | head -n 1; echo ${{PIPESTATUS[0]}}"],
        env=cli.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (result.stdout, result.stderr) == ("1\n141\n", "")


def test_follow_of_a_torn_log(cli):
    cli.run("-n", "x", "--log", "printf", "12345")
    file = cli.dir / "logs" / "1" / ("0" * 18)
    os.truncate(file, file.stat().st_size - 2)
    assert logs(cli, "x", "-f") == ("123", "")


# -- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--log", "--only-failed"])
def test_exec_leaves_no_process_that_could(cli, option):
    result = cli.run("--exec", option, "true")
    assert result.returncode == 125
    assert f"{option} asks for" in result.stderr


def test_environment_and_signals_of_the_command_are_as_without_it(cli):
    script = (
        "import os, json, signal; mask = sorted(signal.pthread_sigmask(0, []));"
        "print(json.dumps([dict(os.environ), mask, os.getpgid(0) == os.getpid()]))"
    )
    plain = json.loads(cli.run("-n", "x", sys.executable, "-c", script).stdout)
    logged = json.loads(cli.run("-n", "x", "--log", sys.executable, "-c", script).stdout)
    for document in (plain, logged):
        for key in ("SINGLERUN_RUN_ID", "SINGLERUN_TOKEN"):
            document[0].pop(key)
    assert plain == logged
