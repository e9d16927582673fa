"""Adding to a queue: what a job keeps, and that all jobs of one call are accepted or none."""

import json
import os
import re
import subprocess
import sys

import pexpect
import pytest
from conftest import BINARY, PATIENCE, fill
from queues import ended, witness, words

# -- what a job is ------------------------------------------------------------------------------


def test_a_job_is_run_and_its_output_kept(cli):
    number = cli.add("-n", "x", "sh", "-c", "echo out; echo err >&2; exit 3")
    job = ended(cli, number, status=3)
    assert (job["state"], job["exit_code"], job["tries"]) == ("failed", 3, 1)
    logs = cli.run("logs", str(number))
    assert (logs.returncode, sorted((logs.stdout + logs.stderr).split())) == (0, ["err", "out"])
    (run,) = cli.history("x")
    assert (run["job_id"], run["id"], run["state"]) == (number, job["run_id"], "failed")
    assert run["command"] == job["command"]
    assert cli.queue() == []


def test_the_prefix_form_may_queue_too(cli, tmp_path):
    result = cli.run("-n", "x", "--queue", *witness(tmp_path / "witness", "ran"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    (job,) = cli.queue("--all")
    ended(cli, job["id"])
    assert words(tmp_path / "witness") == ["ran"]


def test_without_a_name_it_comes_from_the_command(cli):
    number = cli.add("true")
    ended(cli, number)
    assert cli.job(number)["name"].startswith("true-")


TELL = (
    "import json, os, sys; json.dump([os.getcwd(), oct(os.umask(0)), dict(os.environ),"
    " os.readlink('/proc/self/fd/0'), sorted(map(int, os.listdir('/proc/self/fd')))],"
    " open(sys.argv[1], 'w'))"
)


def told(cli, tmp_path, *options, **more):
    """Run a job that reports its surroundings; return the report."""
    path = tmp_path / "told"
    ended(cli, cli.add("-n", "x", *options, sys.executable, "-c", TELL, str(path), **more))
    return json.loads(path.read_text())


def test_a_job_keeps_where_and_how_it_is_to_run(cli, tmp_path):
    here = tmp_path / "some where"
    here.mkdir()
    env = cli.env | {"SECRET": "1", "KEPT": "2", "LC_TIME": "C", "SINGLERUN_RUN_ID": "77"}
    options = ["--env", "KEPT", "--env", "GIVEN=a=b\nc"]
    cwd, umask, found, stdin, _ = told(cli, tmp_path, *options, cwd=here, env=env, umask=0o27)
    assert (cwd, umask, stdin) == (str(here), "0o27", "/dev/null")
    assert "SECRET" not in found
    assert (found["KEPT"], found["GIVEN"], found["LC_TIME"]) == ("2", "a=b\nc", "C")
    assert found["PATH"] == env["PATH"]
    (run,) = cli.history("x")
    (job,) = cli.queue("--all")
    assert found["SINGLERUN_NAME"] == "x"
    assert found["SINGLERUN_RUN_ID"] == str(run["id"])
    assert found["SINGLERUN_TOKEN"] == str(run["token"])
    assert found["SINGLERUN_JOB_ID"] == str(job["id"])
    assert cli.run("add", "-n", "x", "--env", "NO_SUCH", "true").returncode == 125


def test_a_job_may_keep_the_whole_environment(cli, tmp_path):
    env = cli.env | {"SECRET": "1", "SINGLERUN_RUN_ID": "77", "SINGLERUN_OTHER": "8"}
    found = told(cli, tmp_path, "--all-env", env=env)[2]
    assert found["SECRET"] == "1"
    assert "SINGLERUN_OTHER" not in found


def test_a_job_has_no_descriptor_of_ours_but_the_lock(cli, tmp_path):
    command = ["sh", "-c", "ls -l /proc/$$/fd | sed -n 's/.* -> //p'"]
    number = cli.add("-n", "x", *command, pass_fds=[os.open(tmp_path, os.O_RDONLY)])
    ended(cli, number)
    links = cli.run("logs", str(number)).stdout.split()
    ours = [link for link in links if str(tmp_path) in link]
    assert ours == [str(cli.lock_path("x"))]


HOSTILE = [b"a b", b"", b"\xff\xfe", b"new\nline", b"'\"$(touch pwned)`", b"\x1b[31m", b"--", b"-n"]


def test_arguments_and_names_arrive_byte_for_byte(cli, tmp_path):
    path = tmp_path / "arguments"
    script = b'for word; do printf "%s\\0" "$word"; done > ' + os.fsencode(path)
    name = os.fsdecode(b"\xff ../x\n\x1b[31m")
    number = cli.add("-n", name, "--label", name, "--", "sh", "-c", script, "sh", *HOSTILE)
    ended(cli, number)
    assert path.read_bytes() == b"".join(word + b"\0" for word in HOSTILE)
    shown = cli.run("queue", "--all")
    assert "\x1b" not in shown.stdout
    assert [job["name"] for job in cli.queue("--all", name)] == [name]
    assert cli.job(number)["command"][3:] == ["sh", *map(os.fsdecode, HOSTILE)]


@pytest.mark.parametrize("how", ["missing", "hostile"])
def test_a_directory_that_is_gone_fails_the_job_alone(cli, tmp_path, how):
    gone = os.path.join(os.fsencode(tmp_path), b"gone" if how == "missing" else b"\xff\x1b[31m")
    os.mkdir(gone)
    cli.run("pause", "x")
    lost, next_one = (cli.add("-n", "x", "true", cwd=where) for where in (gone, tmp_path))
    os.rmdir(gone)
    cli.run("resume", "x")
    ended(cli, next_one)
    job = ended(cli, lost, status=126)
    assert (job["state"], job["exit_code"]) == ("failed", 126)
    assert "no such file or directory" in job["detail"]


@pytest.mark.parametrize(("status", "name"), [(126, "program"), (127, "program"), (127, "\udcff")])
def test_a_command_that_cannot_be_started_fails_the_job_alone(cli, tmp_path, status, name):
    program = tmp_path / name
    if status == 126:
        program.write_text("no program")
    cli.run("pause", "x")
    numbers = [cli.add("-n", "x", *command) for command in ([str(program)], ["true"])]
    cli.run("resume", "x")
    ended(cli, numbers[1])
    job = ended(cli, numbers[0], status=status)
    assert (job["state"], job["exit_code"]) == ("failed", status)
    assert str(tmp_path) in job["detail"]


def test_a_command_is_searched_in_the_path_of_its_adder(cli, tmp_path):
    (tmp_path / "mine").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "mine").chmod(0o755)
    env = cli.env | {"PATH": f"{tmp_path}:{cli.env['PATH']}"}
    number = cli.add("-n", "x", "mine", env=env)
    ended(cli, number)
    assert cli.run("logs", str(number)).stdout == "found\n"


def test_timeout_ends_a_job_and_not_the_keeping_of_its_output(cli):
    """The grace period is longer than the test: the job alone gets it, and needs none."""
    for seconds in ("0.5", "5", "50"):  # a busy machine may take longer to print
        options = ["-t", seconds, "-k", "1000"]
        number = cli.add("-n", "x", *options, "sh", "-c", "echo said; exec sleep 600")
        job = ended(cli, number, status=124)
        assert (job["state"], job["detail"]) == ("failed", "timed out")
        if said := cli.run("logs", str(number)).stdout:
            break
    assert said == "said\n"


# -- adding many --------------------------------------------------------------------------------


def test_lines_are_shell_commands_and_accepted_together(cli, tmp_path):
    lines = "".join(f"echo {word} >> witness\n\n" for word in "abc")
    numbers = cli.add("-n", "x", "--stdin", input=lines, cwd=tmp_path)
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    ended(cli, numbers[-1])
    assert words(tmp_path / "witness") == ["a", "b", "c"]


def test_commands_may_end_with_nul(cli, tmp_path):
    numbers = cli.add(
        "-n", "x", "--stdin", "-0", input="echo 'a\nb' >> witness\0echo c >> witness", cwd=tmp_path
    )
    assert len(numbers) == 2
    ended(cli, numbers[-1])
    assert words(tmp_path / "witness") == ["a", "b", "c"]


def test_lines_may_be_json(cli, tmp_path):
    path = tmp_path / "witness"
    cli.run("pause", "x")
    lines = [
        json.dumps(f"echo shell >> {path}"),
        json.dumps(["sh", "-c", f"echo list >> {path}"]),
        json.dumps({"command": witness(path, "first"), "priority": 5, "label": "L", "retries": 2}),
        json.dumps({"command": "true", "delay": "1h", "retry_delay": "5s"}),
    ]
    numbers = cli.add("-n", "x", "--stdin", "--json", input="\n".join(lines))
    first = cli.job(numbers[2])
    assert (first["label"], first["priority"], first["retries"]) == ("L", 5, 2)
    assert cli.job(numbers[3])["starts_at"] is not None
    cli.run("resume", "x")
    ended(cli, numbers[1])
    assert words(path) == ["first", "shell", "list"]


BAD_LINES = [
    "{", "1", "[]", "{}", '{"command": []}', '{"command": ["a", 1]}', '{"command": "a\\u0000"}',
    '{"command": "true", "priority": 1e9}', '{"command": "true", "color": "red"}',
    '{"command": "true", "label": 5}', '{"command": "true", "delay": "soon"}',
    '{"command": "true", "after": 12345}', '"\\ud800"', "\udcff",
    '{"command": "true", "label": "\\ud800"}', "[" * 100_000, '{"command": {"a": 1}}',
    '{"command": {}}', '{"command": null}',
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:30].encode("unicode_escape"))
def test_one_bad_line_and_none_is_accepted(cli, line):
    text = os.fsencode('"true"\n' + line + "\n")
    result = cli.run("add", "-n", "x", "--stdin", "--json", input=text, text=False)
    message = result.stderr.decode()
    assert (result.returncode, result.stdout, message.count("\n")) == (125, b"", 1), message
    assert message.startswith("singlerun: ")
    assert "internal error" not in message
    assert cli.queue("--all") == []


def test_nothing_comes_of_nothing(cli):
    assert cli.add("-n", "x", "--stdin", input="\n  \n") == []
    for arguments in (["-n", "x"], ["--stdin"], ["-n", "x", "--stdin", "true"], ["-0", "true"]):
        result = cli.run("add", *arguments)
        assert result.returncode == 2, arguments
        assert result.stdout == ""
    closed = subprocess.run(
        ["sh", "-c", f"exec {BINARY} add -n x --stdin <&-"],
        env=cli.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert closed.returncode == 2
    assert "internal error" not in closed.stderr
    assert cli.queue("--all") == []


@pytest.mark.parametrize("count", [9_999, 10_001])
def test_progress_is_shown_on_a_terminal_from_ten_thousand_on(cli, count):
    cli.run("pause", "x")
    script = f"yes true | head -{count} | {BINARY} add -q -n x --stdin"
    terminal = pexpect.spawn("sh", ["-c", script], env=cli.env, timeout=PATIENCE)
    shown = terminal.read()
    terminal.close()
    assert terminal.exitstatus == 0
    assert (b"reading jobs" in shown) == (count > 10_000)
    assert cli.sql("SELECT count(*) FROM jobs") == [(count,)]


def test_a_full_disk_in_the_middle_accepts_none_and_says_so(cli, small_disk):
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    cli.run("pause", "x")
    before = cli.add("-n", "x", "true")
    lines = "".join(f"echo {number:0500d}\n" for number in range(4000))
    result = cli.run("add", "-n", "x", "--stdin", input=lines)
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr.count("\n") == 1
    assert re.search("disk.* full|full.* disk|no space", result.stderr), result.stderr
    assert [job["id"] for job in cli.queue()] == [before]
    assert cli.run("resume", "x").returncode == 0
    ended(cli, before)


def test_a_full_disk_refuses_a_single_job_too(cli, small_disk):
    cli.dir = small_disk / "state"
    cli.env["SINGLERUN_DIR"] = str(cli.dir)
    cli.run("-n", "y", "true")
    fill(small_disk)
    numbers = []
    for _ in range(200):  # some room may be left in the database itself
        result = cli.run("add", "-n", "x", "--delay", "1h", "true")
        if result.returncode:
            break
        numbers.append(int(result.stdout))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (125, "", 1)
    (small_disk / "filler").unlink()
    assert [job["id"] for job in cli.queue("x")] == numbers, "those that were accepted"


def test_without_a_database_adding_fails_loudly(cli):
    (cli.dir / "singlerun.db").mkdir(parents=True)
    cli.dir.chmod(0o700)
    for arguments in (["add", "-n", "x", "true"], ["-n", "x", "--queue", "true"]):
        result = cli.run(*arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (125, "", 1)
        assert result.stderr.startswith(
            f"singlerun: cannot use the run-log {cli.dir}/singlerun.db: "
        )
    assert cli.workers() == []


def test_a_database_that_is_none_accepts_nothing_without_a_word(cli, tmp_path):
    cli.run("-n", "x", "true")
    for path in cli.dir.glob("singlerun.db*"):
        path.unlink()
    (cli.dir / "singlerun.db").write_bytes(b"no database" * 1000)
    (cli.dir / "singlerun.db").chmod(0o600)
    result = cli.run("add", "-n", "x", *witness(tmp_path / "witness", "ran"))
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    if result.returncode == 0:
        ended(cli, int(result.stdout))
        assert words(tmp_path / "witness") == ["ran"]
    else:
        assert (result.returncode, result.stdout) == (125, "")
