"""What lines of crontabs start, and which lock guards it."""

import os
import shlex
import subprocess

import pytest
from conftest import need

from singlerun.checkup import crontabs, flock, task


def tasks(*lines, owner="root"):
    source = crontabs.Source("crontab", owner, "crontab -e")
    source.text = "".join(f"{line}\n" for line in lines)
    source.parse()
    assert source.found.flaws == []
    return task.of_source(source)


def only(command, *settings):
    (found,) = tasks(*settings, f"*/5 * * * * {command}")
    return found


@pytest.mark.parametrize(
    "command, argv",
    [
        ("/opt/job 'a b'", ["/opt/job", "a b"]),
        ("A=1 nice -n 5 ionice -c3 /opt/job", ["/opt/job"]),
        ("env -u X B=2 timeout -k 5 10m /opt/job x", ["/opt/job", "x"]),
        ("/usr/bin/chronic /opt/job >/dev/null 2>&1", ["/opt/job"]),
        ("bash -c '/opt/job; '", ["/opt/job"]),
        ("/opt/job $(hostname)", None),
    ],
)
def test_what_nothing_guards(command, argv):
    found = only(command)
    assert (found.kind, found.argv) == (task.PLAIN, argv)


def test_singlerun_is_read_with_its_own_parser():
    found = only("cd /srv && A=1 /usr/bin/singlerun -qn a --wait-for=5 -- ./job 'b c'")
    assert found.kind == task.SINGLERUN
    assert found.argv == ["./job", "b c"]
    assert found.names() == (b"a",)
    assert found.identity() == ("./job", "b c")
    assert found.waits()


def test_the_name_is_derived_as_singlerun_does(cli):
    cli.run("sleep", "0")
    found = only("singlerun sleep 0", f"PATH={os.environ['PATH']}")
    assert [os.fsdecode(name) for name in found.names()] == [cli.last()["name"]]


@pytest.mark.parametrize("line", ["singlerun ps", "singlerun reap -q", 'singlerun -n "$X" true'])
def test_names_that_are_not_known(line):
    found = only(line)
    assert (found.kind, found.names()) == (task.SINGLERUN, ())


@pytest.mark.parametrize(
    "line, user, directory",
    [
        ("singlerun true", "root", "/var/lib/singlerun"),
        ("SINGLERUN_DIR=/d singlerun true", "root", "/d"),
        ("singlerun --dir /d/../e true", "root", "/e"),
        ("sudo -u nobody singlerun true", "nobody", "/nonexistent/.local/state/singlerun"),
        ("SINGLERUN_DIR=/d sudo singlerun true", "root", "/var/lib/singlerun"),
    ],
)
def test_state_directory_of_a_line(line, user, directory):
    found = only(line)
    assert (found.user, os.fsdecode(found.state_path())) == (user, directory)


def test_two_commands_of_a_line():
    kinds = [found.kind for found in tasks("* * * * * run-one a; flock /l b && singlerun c | d")]
    assert kinds == [task.OTHER, task.FLOCK, task.SINGLERUN, task.PLAIN]


def test_lines_that_start_nothing():
    assert tasks("* * * * * a 'b") == []
    assert tasks("* * * * * a", owner="there-is-no-such-user") == []


# -- flock -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("flock /l a b", "singlerun --lock-file /l --wait a b"),
        ("flock -n /l a", "singlerun --lock-file /l --skip a"),
        ("flock -xn /l a", "singlerun --lock-file /l --skip a"),
        ("flock -nE7 /l a", "singlerun --lock-file /l --quiet -E 7 a"),
        ("flock --nb --conflict-exit-code 7 /l a", "singlerun --lock-file /l --quiet -E 7 a"),
        ("flock -w 10 /l a", "singlerun --lock-file /l --wait-for 10 a"),
        ("flock -s --timeout=5 /l a", "singlerun --lock-file /l --shared --wait-for 5 a"),
        ("flock -F /l a", "singlerun --lock-file /l --exec --wait a"),
        ("flock -o /l -c 'a | b'", "singlerun --lock-file /l --wait sh -c 'a | b'"),
        ("flock -n 9", "singlerun --lock-fd 9 --skip"),
        ("flock -u 9", None),
        ("flock", None),
        ("flock /l", None),
    ],
)
def test_flock_written_with_singlerun(theirs, ours):
    assert flock.as_singlerun(shlex.split(theirs)) == ours


@pytest.mark.parametrize("options", ["-n", "-n -E 9", "-w 0.1", "-xnE3"])
def test_what_is_written_for_flock_locks_the_same_file_in_the_same_way(cli, tmp_path, options):
    need("flock")
    lock = tmp_path / "lock"
    theirs = ["flock", *options.split(), str(lock), "echo", "ran"]
    ours = shlex.split(flock.as_singlerun(theirs, str(cli.binary)))
    assert cli.run(*ours[1:]).stdout == "ran\n"
    with cli.hold("--lock-file", str(lock)):
        kept = [
            subprocess.run(each, capture_output=True, text=True, check=False, env=cli.env)
            for each in (theirs, ours)
        ]
        assert [each.stdout for each in kept] == ["", ""]
        if "E" in options:
            assert kept[0].returncode == kept[1].returncode
