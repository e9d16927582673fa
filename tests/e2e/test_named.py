"""A command after -- stands for the name that the prefix form derives from it."""

import json

import pexpect
import pytest
from conftest import BINARY, PATIENCE

PROGRAM = "#!/bin/sh\necho $$\nexec cat\n"


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "long.sh"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return path


def test_each_subcommand_takes_a_command(cli, program, tmp_path):
    command = ["./long.sh", "a b", "-q", "--", "--json"]
    with cli.hold("-n", "other"):
        assert cli.run("is-running", "--", *command, cwd=tmp_path).returncode == 1
        holding = cli.start(*command, stdin=-1, stdout=-1, cwd=tmp_path)
        pid = int(holding.stdout.readline())
        asked = cli.run("is-running", "--json", "--", *command, cwd=tmp_path)
        assert json.loads(asked.stdout)["pids"] == [pid]
        for form in ("ps", "history"):
            found = cli.run(form, "--json", "--", *command, cwd=tmp_path)
            (run,) = json.loads(found.stdout)["runs"]
            assert run["command"] == command
        both = json.loads(cli.run("ps", "--json", "other", "--", *command, cwd=tmp_path).stdout)
        assert {run["name"] for run in both["runs"]} == {"other", run["name"]}
        assert cli.run("is-running", "--", str(program), *command[1:]).returncode == 0
        assert cli.run("is-running", "--", str(program), "other", "arguments").returncode == 1
        assert cli.run("wait", "-t", "0.1", "--", *command, cwd=tmp_path).returncode == 124
        assert cli.run("logs", "--", *command, cwd=tmp_path).stderr.startswith(
            f"singlerun: no output of {run['name']} is kept"
        )
        assert cli.run("reap", "--", *command, cwd=tmp_path).returncode == 0
        stopped = cli.run("stop", "-k", "5", "--", *command, cwd=tmp_path)
        assert (stopped.returncode, stopped.stdout) == (0, f"{run['id']} {run['name']}: stopped\n")
        holding.wait()


def test_a_paused_command_is_refused(cli, program, tmp_path):
    assert cli.run("pause", "--", "./long.sh", cwd=tmp_path).returncode == 0
    assert cli.run(str(program)).returncode == 75
    assert cli.run("resume", "--", "./long.sh", cwd=tmp_path).returncode == 0
    assert cli.run(str(program)).returncode == 0


def test_an_option_keeps_its_value_and_the_rest_is_the_command(cli):
    cli.run("sleep", "0")
    for arguments in (["--limit", "1", "--"], ["--limit=1", "--"], ["--json", "--"], ["--"]):
        shown = cli.run("history", *arguments, "sleep", "0")
        assert shown.returncode == 0
        assert "sleep" in shown.stdout
    assert cli.run("wait", "-t1", "--", "sleep", "0").returncode == 0
    assert cli.run("wait", "-t", "--", "sleep", "0").returncode == 2, "-- is the value of -t"
    cli.run("pause", "x")
    number = cli.add("-n", "x", "--label", "--", "true")
    assert [job["id"] for job in cli.queue("--label", "--", "x")] == [number], "x is the name"


def test_a_name_with_a_leading_dash_follows_the_dashes(cli):
    with cli.hold("-n", "-x"):
        assert cli.run("is-running", "--", "-x").returncode == 0


def test_not_both_and_not_several(cli, tmp_path):
    for arguments, said in (
        (["x", "--", "true"], "give a NAME, or a command after --, not both"),
        (["./x.sh", "a b"], "to name a command: singlerun is-running -- ./x.sh 'a b'"),
    ):
        result = cli.run("is-running", *arguments)
        assert (result.returncode, result.stdout) == (2, "")
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
    assert "COMMAND" in cli.run("stop", "--help").stdout.splitlines()[0]


def test_what_can_only_be_a_command_is_told(cli, program, tmp_path):
    for form, status in (("is-running", 1), ("stop", 1), ("ps", 0), ("pause", 0)):
        result = cli.run(form, "./long.sh", cwd=tmp_path)
        assert result.returncode == status
        assert (
            "singlerun: no run is named ./long.sh; to name that command:"
            f" singlerun {form} -- ./long.sh\n"
        ) in result.stderr
    assert cli.run("is-running", "-q", "./long.sh", cwd=tmp_path).stderr == ""
    cli.run("resume", "./long.sh", cwd=tmp_path)
    cli.run("-n", "./long.sh", "true")
    assert cli.run("is-running", "./long.sh", cwd=tmp_path).stderr == "", "a run is named so"
    assert cli.run("is-running", "./missing.sh", cwd=tmp_path).stderr == "", "it is no program"


def test_which_name_a_command_has(cli, program, tmp_path):
    """Also before it has ever run, on a terminal."""
    cli.run("-n", "x", "true")
    command = [str(BINARY), "ps", "--", "./long.sh", "a b"]
    terminal = pexpect.spawn(
        command[0], command[1:], env=cli.env, cwd=tmp_path, timeout=PATIENCE, dimensions=(24, 200)
    )
    terminal.expect(r"paused under (long\.sh-[0-9a-f]{12})\.")
    name = terminal.match[1].decode()
    terminal.read()
    terminal.close()
    holding = cli.start("./long.sh", "a b", stdin=-1, stdout=-1, cwd=tmp_path)
    holding.stdout.readline()
    assert cli.run("is-running", name).returncode == 0
    holding.stdin.close()
    assert holding.wait(PATIENCE) == 0
