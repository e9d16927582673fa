"""``--lock-fd``: a descriptor of the caller, locked as flock(1) does it."""

import os
import subprocess

import pytest
from conftest import PATIENCE, blocked_on, eventually, need


class Script:
    """A shell that does what it is told, and answers with a line."""

    def __init__(self, cli, file):
        self._process = cli.started_shell = subprocess.Popen(
            ["bash"], env=cli.env | {"S": str(cli.binary), "FILE": str(file)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self._process.pid

    def begin(self, commands):
        self._process.stdin.write(commands + "\n")
        self._process.stdin.flush()

    def do(self, commands):
        self.begin(commands + "; echo $?")
        return int(self._process.stdout.readline())

    def end(self):
        return self._process.communicate(timeout=PATIENCE)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


@pytest.fixture
def script(cli, file):
    started = Script(cli, file)
    yield started
    started.end()


def rows(cli):
    return [(run["state"], run["pid"], run["wrapper_pid"]) for run in cli.json("ps")]


def test_the_caller_keeps_the_lock(cli, script, file):
    assert script.do('exec 9>"$FILE"; $S --lock-fd 9') == 0
    assert rows(cli) == [("running", script.pid, script.pid)]
    refused = cli.run("--lock-file", str(file), "true")
    assert refused.returncode == 75
    assert f"{file} is held by PID {script.pid} (bash)" in refused.stderr
    need("flock")
    assert subprocess.run(["flock", "-n", file, "true"], check=False).returncode == 1
    assert cli.run("is-running", "--lock-file", str(file)).returncode == 0
    assert script.do("exec 9>&-") == 0
    assert rows(cli) == []
    assert cli.run("--lock-file", str(file), "true").returncode == 0
    assert [run["state"] for run in cli.history()] == ["succeeded", "refused", "succeeded"]


def test_it_is_refused_and_waits_in_line(cli, script, file):
    with cli.hold("--lock-file", str(file)) as held:
        assert script.do('exec 9>"$FILE"; $S --lock-fd 9') == 75
        assert script.do("$S --lock-fd 9 --wait-for 0.2") == 75
        assert script.do("$S --lock-fd 9 --skip -E 9") == 9
        script.begin("$S --lock-fd 9 --wait; echo $?")
        eventually(lambda: [row[0] for row in rows(cli)] == ["running", "waiting"], "the wait")
        held.release()
    assert int(script._process.stdout.readline()) == 0
    assert rows(cli) == [("running", script.pid, script.pid)]
    waiter = cli.start("--lock-file", str(file), "--wait", "true")
    eventually(lambda: len(rows(cli)) == 2, "another waiter")
    assert waiter.poll() is None
    script.do("exec 9>&-")
    assert waiter.wait(PATIENCE) == 0


def test_what_did_not_get_the_lock_in_time_leaves_it_free(cli, script, file):
    """Also if the holder lets go in the very moment of the timeout."""
    with cli.hold("--lock-file", str(file)):
        assert script.do('exec 9>"$FILE"; $S --lock-fd 9 --wait-for 0.1') == 75
    assert cli.run("--lock-file", str(file), "true").returncode == 0
    assert script.do("$S --lock-fd 9") == 0


def test_readers_share(cli, script, file):
    assert script.do('exec 8<>"$FILE" 9<>"$FILE"; $S -s --lock-fd 8 && $S -s --lock-fd 9') == 0
    assert cli.run("--lock-file", str(file), "-s", "true").returncode == 0
    assert cli.run("--lock-file", str(file), "true").returncode == 75


def test_what_inherited_it_holds_it_when_the_script_has_ended(cli, script, file):
    pid = script.do('exec 9>"$FILE"; $S --lock-fd 9; sleep 60 >&- 2>&- & echo $!; true')
    script.end()
    assert rows(cli)[0][0] == "running"
    refused = cli.run("--lock-file", str(file), "true")
    assert (refused.returncode, f"held by PID {pid} (sleep 60)" in refused.stderr) == (75, True)
    assert "orphan" not in refused.stderr
    os.kill(pid, 9)
    eventually(lambda: rows(cli) == [], "the end")


def test_a_killed_caller_frees_it_and_reap_closes_the_record(cli, script, file):
    assert script.do('exec 9>"$FILE"; $S --lock-fd 9') == 0
    os.kill(script.pid, 9)
    script.end()
    assert rows(cli) == []
    assert "its caller closed the descriptor, closed as succeeded" in cli.run("reap").stdout
    assert cli.history()[0]["ended_at"] is not None
    assert cli.run("reap").stdout == ""


def test_reap_leaves_a_holder_alone(cli, script, file):
    assert script.do('exec 9>"$FILE"; $S --lock-fd 9') == 0
    assert cli.run("reap").stdout == ""
    assert rows(cli) == [("running", script.pid, script.pid)]


def test_stop_ends_the_caller(cli, script):
    assert script.do('exec 9>"$FILE"; $S -n part --lock-fd 9') == 0
    waiter = cli.start("wait", "part")
    assert cli.run("stop", "part").returncode == 0
    assert script._process.wait(PATIENCE) == -15
    assert waiter.wait(PATIENCE) in {0, 143}
    assert rows(cli) == []


def test_a_second_lock_that_is_refused_takes_nothing_from_the_first(cli, script, file):
    assert script.do('exec 9>"$FILE"; $S -n part --lock-fd 9 && $S -n part --lock-fd 9') == 0
    cli.run("pause", "part")
    assert script.do("$S -n part --lock-fd 9") == 75
    assert cli.run("--lock-file", str(file), "true").returncode == 75


def test_the_deadline_is_kept_while_the_file_is_waited_for(cli, script, file):
    need("flock")
    with subprocess.Popen(["flock", file, "cat"], stdin=subprocess.PIPE) as stranger:
        eventually(lambda: file.exists() and os.path.exists(file), "the stranger's file")
        eventually(
            lambda: subprocess.run(["flock", "-n", file, "true"], check=False).returncode, "lock"
        )
        script.begin('exec 9>"$FILE"; $S --lock-fd 9 --wait; echo $?')
        eventually(lambda: [row[0] for row in rows(cli)] == ["waiting"], "the wait")
        eventually(lambda: blocked_on(file), "the sleep in the kernel")
        stranger.stdin.close()
    assert int(script._process.stdout.readline()) == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["--lock-fd", "9", "true"], "takes no command"),
        (["--lock-fd", "9"], "descriptor 9 is not open; open it in the shell first: exec 9>FILE"),
        (["--lock-fd", "x"], "write the number of an open file"),
        (["--lock-fd", "0", "--lock-file", "f"], "cannot be combined"),
        (["--lock-fd", "0", "-t", "3"], "cannot be combined"),
        (["--lock-fd", "0", "--queue"], "cannot be combined"),
    ],
)
def test_wrong_use_is_explained(cli, words, message):
    if words[1:3] == ["9", "true"]:
        words = ["--lock-fd", "0", "true"]
    result = cli.run(*words)
    assert (result.returncode, message in result.stderr) == (125, True), result.stderr


def test_a_script_may_run_itself_under_its_lock(cli, tmp_path):
    """The two lines that the manual shows for a whole script."""
    env = cli.env | {"PATH": f"{cli.binary.parent}:{os.environ['PATH']}"}
    for number, first in enumerate(
        ['#!/bin/sh\n[ "$SINGLERUN_NAME" = report ] || exec singlerun -n report "$0" "$@"',
         "#!/usr/bin/env -S singlerun -n report bash"]
    ):  # fmt: skip
        script = tmp_path / f"script{number}"
        script.write_text(f'{first}\necho "$SINGLERUN_NAME $1"\n')
        script.chmod(0o755)
        done = subprocess.run([script, "a b"], env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "report a b\n"
        with cli.hold("-n", "report"):
            refused = subprocess.run([script], env=env, capture_output=True, check=False)
            assert refused.returncode == 75
