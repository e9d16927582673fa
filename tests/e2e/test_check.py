"""``singlerun check``: a plugin for monitoring systems, and what is wrong with names."""

import fcntl
import json
import os
import re
import subprocess
import sys

import pytest
from conftest import blocked_on, eventually

HOUR = 3600 * 10**9
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
FIGURE = re.compile(
    r"'(?P<label>(?:[^'=|]|'')+)'=(?P<value>-?[\d.]+)(?P<unit>s?);(?P<warn>[\d.]*);"
    r"(?P<critical>[\d.]*);(?P<least>[\d.]*)(?: |$)"
)
"""Performance data as the guidelines of the Monitoring Plugins have it."""


class Plugin:
    """What a monitoring system makes of the output of a plugin.

    Attributes:
        text: the first line, without its status.
        figures: by label, the value and the thresholds for a warning and for critical.
        findings: pairs of a line and the command that it gives.
    """

    def __init__(self, result):
        assert result.stderr == ""
        first, *details = result.stdout.splitlines()
        said, _, figures = first.partition("|")
        found = re.fullmatch(r"SINGLERUN (\w+) - (.+?) ?", said)
        assert found, first
        assert found[1] == WORDS[result.returncode]
        self.status, self.text = found[1], found[2]
        self.figures = {}
        figures = figures.strip()
        while figures:
            figure = FIGURE.match(figures)
            assert figure, figures
            assert figure["label"] not in self.figures
            self.figures[figure["label"]] = tuple(
                float(figure[each]) if figure[each] else None
                for each in ("value", "warn", "critical")
            )
            figures = figures[figure.end() :]
        assert not any("|" in line for line in details)
        pairs = zip(details[::2], details[1::2], strict=False)
        self.findings = [(line, command.partition(": ")[2]) for line, command in pairs]

    @property
    def kinds(self):
        return [line.split()[0] for line, _ in self.findings]


def check(cli, *arguments):
    return Plugin(cli.run("check", *arguments))


def kinds(cli, *arguments):
    """Return what is wrong with a name, as JSON has it, by kind."""
    result = cli.run("check", "--json", *arguments)
    document = json.loads(result.stdout)
    assert document["exit_status"] == result.returncode
    assert document["status"].upper() == WORDS[result.returncode]
    (name,) = document["names"]
    return {each["kind"]: each["status"] for each in name["findings"]}


def type_it(cli, command):
    """Type the command that a finding gives; return its result."""
    program, *words = command.split()
    assert program == "singlerun"
    return cli.run(*words)


def age(cli, hours):
    """Make all runs so much older."""
    for column in ("asked_ns", "started_ns", "ended_ns"):
        cli.sql(f"UPDATE runs SET {column} = {column} - {hours} * {HOUR}")


# -- what is found ------------------------------------------------------------------------------


def test_all_is_well(cli):
    cli.run("-n", "x", "true")
    found = check(cli, "x")
    assert found.status == "OK"
    assert re.fullmatch(r"x: last success \S+ ago, took \S+", found.text)
    assert found.figures["x running"] == (0, None, None)
    assert found.figures["x age"][0] >= 0
    cli.run("-n", "y", "true")
    assert check(cli).text == "2 names"
    assert check(cli).figures["names"][0] == 2


@pytest.mark.parametrize("spelling", ["--expect", "-c", "--critical"])
def test_a_success_that_is_too_old(cli, spelling):
    cli.run("-n", "x", "true")
    age(cli, 30)
    found = check(cli, "x", spelling, "26h", "-w", "25h")
    assert found.status == "CRITICAL"
    assert found.text == "x: its last success was 1d 6h ago, and a success is expected every 1d 2h"
    value, *limits = found.figures["x age"]
    assert value == pytest.approx(30 * 3600, abs=300)
    assert limits == [25 * 3600, 26 * 3600]
    ((_, command),) = found.findings
    assert type_it(cli, command).stdout.startswith("x is free")
    assert kinds(cli, "x", spelling, "31h", "--warning", "29h") == {"late": "warning"}
    assert kinds(cli, "x", spelling, "31h") == {}
    cli.run("-n", "x", "true")
    assert kinds(cli, "x", spelling, "26h") == {}


def test_a_name_that_never_succeeded_although_that_is_expected(cli):
    assert kinds(cli, "x", "--expect", "26h") == {"overdue": "critical"}
    found = check(cli, "x", "--expect", "26h")
    assert found.text == "x: it has not succeeded yet, and a success is expected every 1d 2h"
    assert not cli.dir.exists(), "a check makes nothing"


def test_a_success_that_was_forgotten_still_counts(cli):
    cli.run("-n", "x", "true")
    assert check(cli, "x", "--expect", "1h").status == "OK"
    cli.sql("DELETE FROM runs")
    cli.sql("DELETE FROM run_names")
    assert check(cli, "x", "--expect", "1h").status == "OK"


def test_a_run_that_failed(cli):
    cli.run("-n", "x", "true")
    cli.run("-n", "x", "sh", "-c", "exit 3")
    found = check(cli, "x")
    assert found.status == "CRITICAL"
    assert re.fullmatch(r"x: its last run failed with exit status 3, \S+ ago", found.text)
    ((_, command),) = found.findings
    assert "exit status 3" in type_it(cli, command).stdout
    assert kinds(cli, "x", "--expect", "1h") == {"failed": "warning"}, "a success is recent enough"
    cli.run("-n", "x", "sh", "-c", "kill -9 $$")
    assert "its last run was killed by SIGKILL" in check(cli, "x").text
    cli.run("-n", "x", "-t", "0.01", "-k", "0", "sleep", "60")
    assert "its last run timed out" in check(cli, "x").text
    cli.run("-n", "x", "true")
    assert check(cli, "x").status == "OK"


def test_a_run_that_takes_too_long(cli):
    cli.run("-n", "x", "sh", "-c", "echo $$; exec cat")
    cli.sql(f"UPDATE runs SET elapsed_ns = {HOUR}")
    with cli.hold("-n", "x"):
        assert check(cli, "x").text.startswith("x: run 2 is running, last success ")
        cli.sql(f"UPDATE runs SET started_ns = started_ns - 4 * {HOUR} WHERE ended_ns IS NULL")
        found = check(cli, "x")
        assert found.status == "WARNING"
        assert re.fullmatch(
            r"x: run 2 has been running for 4h( \d+m)?, and usually takes 1h", found.text
        )
        assert kinds(cli, "x", "--overlong", "5") == {}
        assert kinds(cli, "x", "--overlong", "2.5") == {"overlong": "warning"}
        ((_, command),) = found.findings
        assert type_it(cli, command).returncode == 0
    eventually(lambda: "overlong" not in kinds(cli, "x"), "the end of the run")


def test_runs_that_are_refused_again_and_again(cli):
    with cli.hold("-n", "x"):
        for policy in ([], ["--skip"], []):
            cli.run("-n", "x", *policy, "true")
        assert kinds(cli, "x") == {}
        assert kinds(cli, "x", "--max-refused", "3") == {}
        assert kinds(cli, "x", "--max-refused", "2") == {"refused": "warning"}
        found = check(cli, "x", "--max-refused", "2")
        assert found.text == "x: 3 runs in a row were refused"
        assert found.figures["x refused"] == (3, 2, None)
    assert kinds(cli, "x", "--max-refused", "2") == {"refused": "warning"}, "until one starts"
    cli.run("-n", "x", "true")
    assert kinds(cli, "x", "--max-refused", "2") == {}


def test_a_paused_name_and_a_long_queue(cli):
    cli.run("pause", "x")
    for _ in range(3):
        cli.add("-n", "x", "true")
    cli.add("-n", "x", "--delay", "1h", "true")
    assert kinds(cli, "x", "--max-queued", "3") == {"paused": "warning"}
    found = check(cli, "x", "--max-queued", "2")
    assert found.kinds == ["WARNING", "WARNING"]
    assert found.figures["x queued"] == (3, 2, None)
    assert "x: 3 jobs are ready in its queue, and at most 2 should be" in found.text
    for _, command in found.findings:
        assert type_it(cli, command).returncode == 0
    eventually(lambda: kinds(cli, "x") == {}, "the end of the jobs")


def test_a_queue_without_a_worker(cli, gate):
    cli.add("-n", "x", *gate.command)
    cli.add("-n", "x", "true")
    pid = gate.pid()
    assert kinds(cli, "x") == {}, "its worker is busy"
    (worker,) = cli.workers("x")
    os.kill(worker, 9)
    os.kill(pid, 9)
    eventually(lambda: "zombie" in kinds(cli, "x"), "the end of both")
    found = check(cli, "x")
    assert found.status == "CRITICAL"
    line, command = found.findings[0]
    assert line == "CRITICAL x: 1 job is ready in its queue, which has no worker"
    assert type_it(cli, command).returncode == 0
    eventually(lambda: set(kinds(cli, "x")) <= {"failed"}, "the end of the job")


def test_an_orphan_and_a_zombie(cli):
    holding = cli.hold("-n", "x")
    holding.wrapper.kill()
    holding.wrapper.wait()
    found = check(cli, "x")
    ((line, command),) = found.findings
    assert line.startswith("WARNING x: run 1 is an orphan: singlerun was killed, and PID ")
    assert kinds(cli, "x") == {"orphan": "warning"}
    assert type_it(cli, "singlerun reap --dry-run").returncode == 0
    os.kill(holding.pid, 9)
    eventually(lambda: kinds(cli, "x") == {"zombie": "warning"}, "the end of the command")
    ((_, command),) = check(cli, "x").findings
    assert type_it(cli, command).returncode == 0
    assert kinds(cli, "x") == {"failed": "critical"}
    assert "its last run died without recording an exit status" in check(cli, "x").text


def test_the_worst_comes_first_and_decides(cli):
    cli.run("-n", "fails", "false")
    cli.run("pause", "paused")
    cli.run("-n", "well", "true")
    found = check(cli)
    assert found.status == "CRITICAL"
    assert found.kinds == ["CRITICAL", "WARNING"]
    assert found.text.startswith("fails: ") and "; paused: " in found.text
    assert [found.figures[each][0] for each in ("names", "warning", "critical", "unknown")] == [
        3, 1, 1, 0,
    ]  # fmt: skip
    assert check(cli, "well", "paused").status == "WARNING"
    assert check(cli, "paused", "unknown").status == "WARNING", "what is known to be wrong"
    assert check(cli, "well", "unknown").status == "UNKNOWN"


# -- what is checked, and how it is printed ------------------------------------------------------


def test_names_that_were_not_used_lately_are_checked_only_by_name(cli):
    cli.run("-n", "old", "false")
    age(cli, 8 * 24)
    cli.run("-n", "new", "true")
    assert check(cli).text.startswith("new: ")
    assert check(cli, "old").status == "CRITICAL"


def test_nothing_to_check_is_unknown(cli):
    assert check(cli).status == "UNKNOWN"
    found = check(cli, "x")
    assert found.text == "x: nothing has run, waited or been queued under it"
    cli.run("pause", "y")
    cli.run("resume", "y")
    assert check(cli).status == "UNKNOWN"


@pytest.mark.parametrize(
    "arguments",
    [["--bogus"], ["--expect", "x"], ["--overlong", "0"], ["--max-queued", "-1"]],
)
def test_a_usage_error_is_unknown(cli, arguments):
    found = check(cli, *arguments)
    assert found.status == "UNKNOWN"
    assert found.text.endswith("; see: singlerun check --help")


def test_a_record_that_cannot_be_read_is_unknown(cli):
    cli.run("-n", "x", "true")
    (cli.dir / "singlerun.db").unlink()
    (cli.dir / "singlerun.db").mkdir()
    found = check(cli, "x")
    assert found.status == "UNKNOWN"
    assert "it is not a regular file; remove it" in found.text
    cli.env["SINGLERUN_DIR"] = sys.executable
    assert check(cli, "x").status == "UNKNOWN"


def test_a_record_that_was_set_aside_is_a_warning(cli):
    cli.run("-n", "x", "true")
    for path in cli.dir.glob("singlerun.db*"):
        path.write_bytes(b"damaged" * 999)
    result = cli.run("check", "x")
    assert result.stdout.startswith("SINGLERUN WARNING - ")
    assert "a new one begun" in result.stdout


def test_names_with_characters_that_mean_something(cli):
    for name in ("a|b", "a=b", "it's", "two words", "line\nfeed", "-dash", "\x1b[31m"):
        cli.run(f"--name={name}", "false")
    found = check(cli)
    shown = {label.rpartition(" ")[0] for label in found.figures} - {""}
    assert shown == {
        "a\\x7cb", "a\\x3db", "it''s", "two words", "line\\nfeed", "-dash", "\\x1b[31m",
    }  # fmt: skip
    assert len(found.findings) == 7
    ((_, command),) = check(cli, "--", "-dash").findings
    assert command == "singlerun history -- -dash"


def test_many_names_are_few_lines(cli):
    cli.run("-n", "x", "true")
    names = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 601)"
    columns = "names, argv, shared, uid, host, boot_id, pid_ns, wrapper_pid, asked_ns, started_ns"
    cli.sql(
        f"INSERT INTO runs (id, state, ended_ns, exit_code, {columns}) {names}"
        " SELECT i, 'failed', ended_ns, 1, CAST('name-' || i AS BLOB), argv, shared, uid, host,"
        " boot_id, pid_ns, wrapper_pid, asked_ns, started_ns FROM n, runs WHERE runs.id = 1"
    )
    result = cli.run("check")
    lines = result.stdout.splitlines()
    assert result.returncode == 2
    assert len(lines) == 1 + 2 * 100 + 2
    assert lines[-2] == "and 399 more"
    assert lines[-1] == "101 more names were not checked; to check one: singlerun check NAME"
    assert len(lines[0]) < 4000
    assert "; and 496 more | " in lines[0]


def test_quiet(cli):
    cli.run("-n", "x", "true")
    result = cli.run("check", "-q", "x")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert check(cli, "-q", "x", "--expect", "0").status == "CRITICAL"


def test_a_name_that_is_derived_from_a_command(cli):
    cli.run("true", "--nightly")
    found = check(cli, "--expect", "1h", "--", "true", "--nightly")
    assert found.status == "OK"
    assert found.text.startswith("true-")


def test_json(cli):
    cli.run("-n", "x", "false")
    document = json.loads(cli.run("check", "--json", "x", "--expect", "1h").stdout)
    assert document.keys() == {"schema", "status", "exit_status", "names", "problems", "left_out"}
    (name,) = document["names"]
    assert (name["name"], name["latest_state"], name["expect_s"]) == ("x", "failed", 3600)
    commands = {each["kind"]: each["command"] for each in name["findings"]}
    assert commands == {
        "overdue": ["singlerun", "why", "x"],
        "failed": ["singlerun", "history", "x"],
    }


# -- what is expected, in the configuration -------------------------------------------------------


@pytest.fixture
def configure(cli, tmp_path):
    """Return a function that writes the configuration."""
    file = tmp_path / "config.toml"
    cli.env["SINGLERUN_CONFIG"] = str(file)
    return file.write_text


def test_what_is_expected_of_each_name(cli, configure):
    configure("""
        [jobs.backup]
        expect = "26h"
        [jobs."sync-*"]
        max-refused = 0
        [jobs.import]
        max-queued = 1
        overlong = 1.5
    """)
    cli.run("-n", "backup", "true")
    age(cli, 30)
    cli.run("-n", "sync-a", "true")
    cli.run("-n", "sync-b", "true")
    with cli.hold("-n", "sync-a"):
        cli.run("-n", "sync-a", "true")
        cli.run("pause", "import")
        cli.add("-n", "import", "true")
        cli.add("-n", "import", "true")
        document = json.loads(cli.run("check", "--json").stdout)
    found = {
        name["name"]: {finding["kind"] for finding in name["findings"]}
        for name in document["names"]
    }
    assert found == {
        "backup": {"overdue"}, "sync-a": {"refused"}, "sync-b": set(),
        "import": {"queue", "paused"},
    }  # fmt: skip
    (limits,) = [name for name in document["names"] if name["name"] == "import"]
    assert (limits["overlong"], limits["max_queued"], limits["expect_s"]) == (1.5, 1, None)
    assert kinds(cli, "backup", "--expect", "31h") == {}, "the command line takes precedence"


def test_a_configured_name_is_checked_though_it_never_ran(cli, configure):
    configure("""[jobs.backup]\nexpect = "26h"\n""")
    found = check(cli)
    assert found.status == "CRITICAL"
    assert found.text.startswith("backup: it has not succeeded yet, ")
    configure("""[jobs."back*"]\nexpect = "26h"\n""")
    assert check(cli).status == "UNKNOWN", "a glob is no name"


def test_a_mistake_in_the_configuration_is_a_warning(cli, configure):
    configure("""[jobs.backup]\nexpcet = "26h"\n""")
    cli.run("-n", "x", "true")
    result = cli.run("check", "x")
    assert result.returncode == 1
    first, *details = result.stdout.splitlines()
    assert first.startswith("SINGLERUN WARNING - ")
    assert "config.toml:2" in first or "config.toml, line 2" in first, first
    (line,) = details
    assert line.startswith("WARNING ")


# -- told once ----------------------------------------------------------------------------------


def test_each_change_is_printed_once(cli):
    def changes(*arguments):
        result = cli.run("check", "--notify", "x", "--expect", "1h", *arguments)
        assert result.stderr == ""
        return result.returncode, Plugin(result).text if result.stdout else None

    assert changes()[0] == 2, "it makes the record that it needs to remember this"
    assert changes() == (2, None)
    cli.run("-n", "x", "true")
    status, text = changes()
    assert status == 0 and text.startswith("x: last success ")
    assert changes() == (0, None)
    cli.run("pause", "x")
    assert "paused by" in changes()[1]
    assert changes() == (1, None)
    cli.run("resume", "x")
    assert changes()[0] == 0
    assert changes() == (0, None)
    cli.run("-n", "well", "true")
    result = cli.run("check", "--notify", "well")
    assert (result.returncode, result.stdout) == (0, ""), "that a new name is well is no change"


def test_a_check_waits_for_what_another_tells(cli):
    cli.run("-n", "x", "false")
    assert cli.run("check", "--notify", "x").stdout
    cli.run("-n", "x", "true")
    lock = cli.dir / "check.lock"
    with open(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check = cli.start("check", "--notify", "x", stdout=subprocess.PIPE)
        eventually(lambda: blocked_on(lock), "the check")
        cli.sql("UPDATE standings SET told = NULL")  # as the other check does at its end
    assert check.communicate() == (b"", None)
