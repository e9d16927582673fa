"""``logs``: what is kept, parts of it, and times; compressed once nothing writes to it any more."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE, Stopped, eventually, need

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"


def logs(cli, *arguments, status=0):
    result = cli.run("logs", *arguments)
    assert result.returncode == status, result.stderr
    return result.stdout


def listed(cli, *arguments):
    return json.loads(logs(cli, "--list", "--json", *arguments))["runs"]


def files(cli, run_id):
    return sorted(path.name for path in (cli.dir / "logs" / str(run_id)).iterdir())


def compressed(cli, run_id=1):
    """Wait until the output of a run is compressed; return the path of its first segment."""
    eventually(
        lambda: not [name for name in files(cli, run_id) if name.strip(".").isdigit()],
        "the compression",
    )
    return cli.dir / "logs" / str(run_id) / ("0" * 18 + ".z")


# -- compressed ---------------------------------------------------------------------------------


def test_it_is_compressed_when_its_run_has_ended(cli):
    output = cli.run("-n", "x", "--log", "sh", "-c", "seq 1 300000; exit 3").stdout
    compressed(cli)
    (run,) = listed(cli)
    assert run["compressed"] is True
    assert run["bytes"] < 0.5 * len(output)
    assert logs(cli, "x") == output


def test_a_short_one_stays_as_it_is_and_leaves_no_process(cli):
    cli.run("-n", "x", "--log", "seq", "1", "100")
    assert files(cli, 1) == ["0" * 18, "ended"]


def test_output_of_a_job_is_compressed(cli):
    number = cli.add("-n", "x", "seq", "1", "20000")
    assert cli.run("wait", str(number)).returncode == 0
    compressed(cli, cli.job(number)["run_id"])
    assert logs(cli, str(number)) == "".join(f"{at}\n" for at in range(1, 20001))


def test_nothing_waits_for_the_compression(cli):
    """The relay is stopped before it compresses: the run ends, and the next one is not kept."""
    need("strace")
    relay = Stopped(
        cli, "setpriority", 1, "-n", "x", "--log", "sh", "-c", "seq 1 9000; exit 3",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert cli.run("wait", "1").returncode == 3
    text = relay.tracer.stdout.read().decode()
    assert text == "".join(f"{at}\n" for at in range(1, 9001)), "its reader has seen the end"
    assert cli.run("-n", "x", "true").returncode == 0
    assert logs(cli, "1") == logs(cli, "1", "-f") == text
    assert listed(cli)[0]["compressed"] is False
    os.kill(relay.pid, signal.SIGKILL)
    relay.tracer.wait(PATIENCE)
    assert logs(cli, "1") == text


@pytest.mark.parametrize("call", ["fsync", "renameat", "unlinkat"])
def test_killed_while_it_is_compressed_it_can_be_read(cli, call):
    need("strace")
    relay = Stopped(
        cli, call, 1, "-n", "x", "--log", "seq", "1", "9000", stdout=subprocess.PIPE
    )  # fmt: skip
    assert cli.run("wait", "1").returncode == 0
    text = relay.tracer.stdout.read().decode()
    assert logs(cli, "1") == text
    os.kill(relay.pid, signal.SIGKILL)
    relay.tracer.wait(PATIENCE)
    assert logs(cli, "1") == text
    assert logs(cli, "1", "--tail", "1") == "9000\n"


def test_a_damaged_one_is_told_and_what_can_be_read_is_printed(cli):
    text = cli.run("-n", "x", "--log", "seq", "1", "600000", text=False).stdout
    file = compressed(cli)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    result = cli.run("logs", "x", text=False)
    assert result.returncode == 125
    assert text.startswith(result.stdout[:200_000])
    assert text.endswith(result.stdout[-1_000_000:]), "the other segments are there"
    *_, last = result.stderr.decode().splitlines()
    assert last == (
        f"singlerun: the kept output in {file} is damaged; what could be read of it was printed"
    )
    assert cli.run("logs", "x", "--tail", "2").stdout == "599999\n600000\n"


# -- parts, and times ---------------------------------------------------------------------------


def test_tail_and_since_and_timestamps(cli, tmp_path):
    os.mkfifo(tmp_path / "gate")
    wrapper = cli.start(
        "-n", "x", "--log", "sh", "-c", "seq 1 5; cat gate; echo later; printf end", cwd=tmp_path,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(5):
        wrapper.stdout.readline()
    stamps = eventually(
        lambda: len(lines := logs(cli, "-t", "x").splitlines()) == 5 and lines, "the output"
    )
    (tmp_path / "gate").write_text("go\n")
    wrapper.wait(PATIENCE)
    assert logs(cli, "x", "--tail", "3") == "go\nlater\nend"
    lines = logs(cli, "x", "--timestamps").splitlines()
    assert lines[:5] == stamps
    assert all(re.match(STAMP, line) for line in lines)
    assert [line.split()[1] for line in lines[5:]] == ["go", "later", "end"]
    times = [line.split()[0] for line in lines]
    assert times == sorted(times)
    assert times[0] < times[5], "after the gate had been opened"
    assert logs(cli, "x", "--since", times[5]) == "go\nlater\nend"
    assert logs(cli, "x", "--since", times[0], "--tail", "1", "-t") == f"{times[-1]} end"
    assert logs(cli, "x", "--since", "0") == ""
    assert logs(cli, "x", "--since", "1h").count("\n") == 7


def test_follow_from_the_last_line_on(cli):
    wrapper = cli.start("-n", "x", "--log", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for number in range(3):
        wrapper.stdin.write(b"%d\n" % number)
        wrapper.stdin.flush()
        wrapper.stdout.readline()
    eventually(lambda: logs(cli, "x") == "0\n1\n2\n", "the output")
    following = cli.start("logs", "-f", "-t", "--tail", "1", "x", stdout=subprocess.PIPE)
    assert following.stdout.readline().split()[1] == b"2"
    wrapper.stdin.write(b"more\n")
    wrapper.stdin.close()
    assert re.fullmatch(rf"{STAMP} more\n", following.stdout.read().decode())
    assert following.wait(PATIENCE) == 0


def test_output_that_was_kept_without_times_is_shown_all(cli):
    """As earlier versions kept it: its segments begin with no time."""
    cli.run("-n", "x", "--log", "sh", "-c", "echo out; echo err >&2")
    file = cli.dir / "logs" / "1" / ("0" * 18)
    file.write_bytes(b"\1\0\0\0\4out\n" + b"\2\0\0\0\4err\n")
    assert logs(cli, "x") == "out\n"
    notice = "singlerun: the output of run 1 was kept without times\n"
    for option, shown in (["--since", "0"], "out\n"), (["-t"], "- out\n"):
        result = cli.run("logs", "x", *option)
        assert (result.returncode, result.stdout) == (0, shown)
        assert result.stderr.startswith(notice)
    assert logs(cli, "x", "--tail", "1") == ""


# -- of all failed runs -------------------------------------------------------------------------


def test_output_of_all_failed_runs(cli):
    for number, status in enumerate([0, 3, 0, 4, 5]):
        cli.run("-n", "x", "--log", "sh", "-c", f"echo line; echo try {number}; exit {status}")
    cli.run("-n", "y", "--log", "sh", "-c", "echo other; exit 1")
    cli.run("-n", "x", "sh", "-c", "echo not kept; exit 6")
    text = logs(cli, "x", "--all-failed", "--tail", "1")
    headings = re.findall(
        r"^==> run (\d) of x, .*: failed, exit status (\d) <==$", text, re.MULTILINE
    )
    assert headings == [("2", "3"), ("4", "4"), ("5", "5")]
    assert re.findall(r"^try .$", text, re.MULTILINE) == ["try 1", "try 3", "try 4"]
    assert logs(cli, "nosuch", "--all-failed", status=1) == ""


def test_a_damaged_one_does_not_hide_the_other_failed_runs(cli):
    for _ in range(2):
        cli.run("-n", "x", "--log", "sh", "-c", "seq 1 9000; exit 1")
    file = compressed(cli)
    file.write_bytes(file.read_bytes()[:100])
    compressed(cli, 2)
    result = cli.run("logs", "x", "--all-failed", "--tail", "1")
    assert result.returncode == 125
    assert result.stdout.endswith("run 2 of x" + result.stdout.partition("run 2 of x")[2])
    assert result.stdout.endswith("<==\n9000\n")
    assert "is damaged" in result.stderr


# -- the list -----------------------------------------------------------------------------------


def test_list_tells_what_is_kept(cli):
    assert logs(cli, "--list") == logs(cli, "--list", "x")
    cli.run("-n", "x", "--log", "echo", "out")
    cli.run("-n", "y", "--log", "sh", "-c", "echo out; exit 3")
    cli.run("-n", "x", "true")
    with cli.hold("-n", "z", "--log"):
        runs = listed(cli)
        assert [(run["id"], run["name"], run["state"]) for run in runs] == [
            (4, "z", "running"), (2, "y", "failed"), (1, "x", "succeeded"),
        ]  # fmt: skip
        size = sum(path.stat().st_size for path in (cli.dir / "logs" / "2").iterdir())
        assert (runs[1]["bytes"], runs[1]["compressed"]) == (size, False)
        assert runs[1]["written_at"] >= runs[1]["started_at"]
        assert [run["id"] for run in listed(cli, "x")] == [1]
        assert [run["id"] for run in listed(cli, "2")] == [2]
    assert [run["id"] for run in listed(cli, "--since", "1h")] == [4, 2, 1]
    assert listed(cli, "--since", "0") == []
    header, *rows = (line.split("\t") for line in logs(cli, "--list").splitlines())
    assert header[:3] == ["ID", "NAME", "STATE"]
    assert [row[:3] for row in rows][1:] == [["2", "y", "failed"], ["1", "x", "succeeded"]]


def test_list_says_that_it_is_cut(cli):
    for _ in range(3):
        cli.run("-n", "x", "--log", "true")
    result = cli.run("logs", "--list", "--limit", "2")
    assert result.stderr == "singlerun: older output is not shown; to see more: --limit 20\n"
    document = json.loads(logs(cli, "--list", "--limit", "2", "--json"))
    assert ([run["id"] for run in document["runs"]], document["truncated"]) == ([3, 2], True)
    assert json.loads(logs(cli, "--list", "--limit", "3", "--json"))["truncated"] is False


def test_list_without_a_record(cli):
    cli.run("-n", "x", "--log", "echo", "out")
    for path in Path(cli.dir).glob("singlerun.db*"):
        path.unlink()
    (run,) = listed(cli)
    assert (run["id"], run["name"], run["bytes"] > 0) == (1, None, True)
    assert logs(cli, "--list").splitlines()[1].startswith("1\t-\t-\t-\t")


@pytest.mark.parametrize(
    "arguments, wrong",
    [
        ([], "name a run"), (["--list", "-f"], "--list and --follow"),
        (["--list", "--tail", "1"], "--list and --tail"), (["x", "--json"], "--json needs --list"),
        (["x", "--limit", "1"], "--limit needs --list"),
        (["x", "--all-failed", "-f"], "--all-failed and --follow"),
        (["--list", "--all-failed"], "--list and --all-failed"),
        (["x", "--tail", "-1"], "--tail"), (["x", "--since", "noon"], "bad time"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_combined(cli, arguments, wrong):
    result = cli.run("logs", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert wrong in result.stderr
