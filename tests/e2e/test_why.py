"""``singlerun why``: whatever keeps a name from starting is said first, with what mends it."""

import json
import os
import re
import signal
from itertools import pairwise

import pexpect
import pytest
from conftest import BINARY, PATIENCE, eventually
from queues import ended


def why(cli, *arguments):
    """Return the answer, the reasons as pairs of text and command, and all lines."""
    result = cli.run("why", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    pairs = [
        (above.strip(), line.partition(": ")[2])
        for above, line in pairwise(lines)
        if line.startswith("      ")
    ]
    return lines[0], pairs, lines


def mend(cli, command):
    """Type the command that a screen gives; return its result."""
    words = command.split()
    assert words[0] == "singlerun"
    return cli.run(*words[1:])


def test_a_name_that_is_free(cli):
    cli.run("-n", "x", "true")
    answer, reasons, lines = why(cli, "x")
    assert answer == "x is free: nothing keeps it from starting."
    assert reasons == []
    assert re.fullmatch(r"  1  succeeded  \S+  \S+s ago  \S+s", lines[3])
    assert re.fullmatch(r"Last success: run 1, \S+ \(\S+s ago\), took \S+s\.", lines[5])


def test_a_name_that_is_held(cli):
    cli.run("-n", "x", "sh", "-c", "exit 3")
    with cli.hold("-n", "x") as holding:
        cli.run("-n", "x", "true")
        cli.run("-n", "x", "--skip", "true")
        answer, reasons, lines = why(cli, "x")
        assert answer.startswith(f"x is held by PID {holding.pid} (cat), user ")
        assert " since " in answer
        ((text, command),) = [each for each in reasons if "stop" in each[1]]
        assert text.startswith("run 2 holds it, for ")
        states = [line.split()[1] for line in lines if re.match(r"  \d+  ", line)]
        assert states == ["skipped", "refused", "running", "failed"]
        assert "It has not succeeded yet." in lines
        assert any(line.startswith("Refused 2 times in 7 days, ") for line in lines)
        (counted,) = [line for line in lines if line.startswith("  2 x ")]
        assert counted.startswith(f"  2 x held by PID {holding.pid} ")
        assert mend(cli, command).returncode == 0
        eventually(lambda: "is free" in why(cli, "x")[0], "the end of the holder")


def test_how_long_it_usually_takes(cli):
    cli.run("-n", "x", "sh", "-c", "echo $$; exec cat")
    cli.sql("UPDATE runs SET elapsed_ns = 300 * 1000000000")
    with cli.hold("-n", "x"):
        answer, ((text, _),), _ = why(cli, "x")
        assert answer.endswith(", usually takes 5m.")
        assert re.fullmatch(
            r"run 2 holds it, for \S+s of about 5m: free in about 4m( \d+s)?|.* 5m", text
        )
        cli.sql("UPDATE runs SET started_ns = started_ns - 900000000000 WHERE id = 2")
        _, ((text, _),), _ = why(cli, "x")
        assert re.fullmatch(r"run 2 holds it, for 15m( \d+s)?, 10m( \d+s)? longer than .* 5m", text)


def test_a_paused_name(cli):
    cli.run("pause", "x")
    cli.run("-n", "x", "true")
    answer, reasons, _ = why(cli, "x")
    assert re.fullmatch(r"x is paused by user \S+: nothing starts under it\.", answer)
    ((text, command),) = [each for each in reasons if each[0].startswith("paused by")]
    assert re.fullmatch(r"paused by user \S+, since \S+, until it is resumed", text)
    assert mend(cli, command).returncode == 0
    assert why(cli, "x")[0] == "x is free: nothing keeps it from starting."


def test_a_pause_that_ends_by_itself(cli):
    cli.run("pause", "x", "--for", "2h")
    _, ((text, _),), _ = why(cli, "x")
    assert re.fullmatch(r"paused by user \S+, since \S+, until \d\d:\d\d:\d\d", text)


def test_an_orphan(cli):
    holding = cli.hold("-n", "x")
    os.kill(holding.wrapper.pid, signal.SIGKILL)
    holding.wrapper.wait()
    answer, ((text, command),), _ = why(cli, "x")
    assert answer.startswith(f"x is held by an orphan, PID {holding.pid} ")
    assert "singlerun was killed" in text and str(holding.pid) in text
    assert mend(cli, command).returncode == 0
    eventually(lambda: "is free" in why(cli, "x")[0], "the end of the orphan")


def test_a_zombie_keeps_nothing_from_starting(cli):
    holding = cli.hold("-n", "x")
    os.kill(holding.wrapper.pid, signal.SIGKILL)
    os.kill(holding.pid, signal.SIGKILL)
    holding.wrapper.wait()
    eventually(lambda: "is free" in why(cli, "x")[0], "the end of the command")
    _, ((text, command),), lines = why(cli, "x")
    assert text.endswith("died without recording an exit status")
    assert any("  zombie  " in line for line in lines)
    assert mend(cli, command).returncode == 0
    assert why(cli, "x")[1] == []


def test_the_line(cli):
    with cli.hold("-n", "x"):
        waiters = [cli.start("-w", "-n", "x", "true")]
        eventually(lambda: "in line: #1 " in cli.run("why", "x").stdout, "the first waiter")
        waiters.append(cli.start("-w", "-n", "x", "true"))
        eventually(lambda: "#2 " in cli.run("why", "x").stdout, "the second waiter")
        _, reasons, _ = why(cli, "x")
        ((text, command),) = [each for each in reasons if each[0].startswith("in line")]
        pids = [str(waiter.pid) for waiter in waiters]
        assert re.findall(r"PID (\d+)", text) == pids
        assert mend(cli, command).returncode == 0
        waiters[0].wait(PATIENCE)
        eventually(lambda: f"#1 run 3 (PID {pids[1]}" in cli.run("why", "x").stdout, "its turn")
    waiters[1].wait(PATIENCE)


def test_slots(cli):
    cli.run("-n", "x", "-j", "2", "true")
    with cli.hold("-n", "x", "-j", "2"):
        assert why(cli, "x")[0] == "x has 1 of 2 slots taken: another run can start."
        with cli.hold("-n", "x", "-j", "2"):
            assert re.match(
                r"x has all of its 2 slots taken, by PID .* and 1 more\.", why(cli, "x")[0]
            )


def test_a_holder_that_is_no_run_of_ours(cli, tmp_path):
    cli.run("-n", "x", "true")
    with cli.start("--lock-file", cli.lock_path("x"), "sh", "-c", "echo; read _", stdin=-1,
                   stdout=-1) as other:  # fmt: skip
        other.stdout.readline()
        answer, _, _ = why(cli, "x")
        assert answer.startswith("x is held by PID ")
        other.stdin.close()


def test_between_two_tries(cli):
    cli.start("-n", "x", "--retries", "3", "--retry-delay", "1h", "false")
    text = eventually(
        lambda: next((t for t, _ in why(cli, "x")[1] if "between two tries" in t), None), "a retry"
    )
    assert text == "run 2 holds it between two tries: the last one failed"
    (command,) = [command for text, command in why(cli, "x")[1] if "tries" in text]
    assert mend(cli, command).returncode == 0


def test_jobs_that_are_delayed_or_follow_another(cli):
    first = cli.add("-n", "x", "--delay", "1h", "true")
    answer, reasons, _ = why(cli, "x")
    assert answer == "x is free, but its queue waits."
    assert re.fullmatch(
        rf"its queue has 1 delayed; job {first} starts in (1h|5\dm( \d+s)?)", reasons[0][0]
    )
    second = cli.add("-n", "y", "--after", str(first), "true")
    _, reasons, _ = why(cli, "y")
    assert f"job {second} waits for job {first} to succeed" in reasons[0][0]
    assert reasons[-1] == (
        f"job {second} waits for job {first}, which is delayed", "singlerun why x"
    )  # fmt: skip


def test_a_job_that_failed_and_is_tried_again(cli):
    job = cli.add("-n", "x", "--retries", "1", "--retry-delay", "1h", "sh", "-c", "exit 3")
    text = eventually(
        lambda: next((t for t, _ in why(cli, "x")[1] if "tried again" in t), None), "its failure"
    )
    assert f"job {job} failed with exit status 3, and is tried again in " in text


def test_a_queue_without_a_worker_says_why(cli, gate):
    cli.add("-n", "x", *gate.command)
    gate.pid()
    job = cli.add("-n", "x", "true")
    os.kill(eventually(lambda: cli.workers("x"), "the worker")[0], signal.SIGKILL)
    eventually(lambda: not cli.workers("x"), "its end")
    with (cli.dir / "workers.log").open("a") as log:
        log.write("singlerun: cannot start a worker for queue x: no memory; run one: ...\n")
    _, reasons, _ = why(cli, "x")
    (pair,) = [each for each in reasons if "no worker" in each[0]]
    assert "whose last message was: cannot start a worker for queue x: no memory" in pair[0]
    for screen in ("ps", "queue"):
        (line,) = [line for line in cli.run(screen).stdout.splitlines() if "queued" in line]
        assert "\tno worker; singlerun reap\t" in line
    (queued,) = [each for each in cli.queue() if each["state"] == "queued"]
    assert queued["is_stranded"]
    gate.open()
    eventually(lambda: "is held" not in why(cli, "x")[0], "the end of the job's command")
    assert why(cli, "x")[0] == "x is free, but its queue stands still: it has no worker."
    assert mend(cli, pair[1]).returncode == 0
    eventually(lambda: ended(cli, job), "the job")


def test_a_limit(cli):
    for _ in range(2):
        cli.run("-n", "x", "--min-interval", "1h", "true")
    answer, ((text, command), *_), _ = why(cli, "x")
    assert answer == "x is free, but its latest run came too soon."
    assert re.match(r"run 2 was refused \S+s ago: too soon", text)
    assert command == "singlerun history x"


def test_an_unknown_name_suggests_those_that_it_may_be_meant_for(cli):
    assert why(cli, "x")[0].startswith("x is free, and unknown: ")
    assert not cli.dir.exists()
    cli.run("-n", "backup", "true")
    answer, reasons, lines = why(cli, "backpu")
    assert answer == "backpu is free, and unknown: nothing has run, waited or been queued under it."
    assert lines[1] == "  similar names: backup"
    assert reasons[0][1] == "singlerun history"


@pytest.mark.parametrize("name", ["a b", "--x", "it's", "倉庫", "x\x1b[31m", "n" * 120])
def test_any_name_can_be_mended_as_it_is_printed(cli, name):
    cli.run("pause", "--", name)
    result = cli.run("why", "--", name)
    assert result.returncode == 0 and "\x1b" not in result.stdout
    if name.isprintable():
        line = next(line for line in result.stdout.splitlines() if "singlerun resume" in line)
        script = line.partition(": ")[2].replace("singlerun", str(BINARY), 1)
        assert cli.run("-n", "shell", "sh", "-c", script).returncode == 0
        assert "is paused" not in cli.run("why", "--", name).stdout


def test_json_has_its_keys(cli):
    cli.run("-n", "x", "true")
    with cli.hold("-n", "x") as holding:
        cli.run("-n", "x", "true")
        document = json.loads(cli.run("why", "x", "--json").stdout)
    assert list(document) == [
        "schema", "name", "answer", "held", "pids", "reasons", "holders", "waiting", "jobs",
        "queued", "delayed", "runs", "latest_success", "refusals",
    ]  # fmt: skip
    assert (document["held"], document["pids"]) == (True, [holding.pid])
    (reason,) = document["reasons"]
    assert (reason["kind"], reason["command"]) == ("held", ["singlerun", "stop", "2"])
    assert document["latest_success"]["id"] == 1
    assert [run["id"] for run in document["runs"]] == [3, 2, 1]
    assert document["refusals"][0]["count"] == 1


def test_exit_statuses(cli):
    assert cli.run("why").returncode == 2
    assert cli.run("why", "x", "--nothing").returncode == 2
    assert cli.run("why", "x", env=cli.env | {"SINGLERUN_DIR": __file__}).returncode == 125


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_latest_runs_fit_a_terminal(cli, columns):
    env = cli.env | {"TERM": "xterm", "LC_ALL": "C.UTF-8", "COLUMNS": ""}
    with cli.hold("-n", "x"):
        cli.run("-n", "x", "true", "y" * 300)
        terminal = pexpect.spawn(
            str(BINARY), ["why", "x"], env=env,
            timeout=PATIENCE, dimensions=(40, columns), encoding="utf-8",
        )  # fmt: skip
        terminal.expect(pexpect.EOF)
    text = terminal.before
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    rows = [line for line in plain.splitlines() if re.match(r"  \d+  ", line)]
    assert [row.split()[1] for row in rows] == ["refused", "running"]
    assert max(map(len, rows)) <= columns
    assert "\x1b[33mrefused" in text and "\x1b[32mrunning" in text
    terminal.close()
