"""The manual pages and the README state facts that the code, or a run of it, confirms."""

import fcntl
import json
import re
import signal
from pathlib import Path

import pytest
from conftest import BINARY, eventually
from documents import PREFIX, README, WHEN, about, default_of, flags_in, items, section, source

import singlerun
from singlerun import duration, errors, options, paths, spec, timings
from singlerun.commands import add, history, ps
from singlerun.config import schema, trust
from singlerun.outcome import Outcome
from singlerun.ownership import judge
from singlerun.process import signals
from singlerun.queue import add as queue_add
from singlerun.queue import wakeup
from singlerun.store import queue, run, sqlite


def exit_statuses():
    """Return those that are singlerun's own."""
    plain = {option.dest: option.default for option in options.RUN_OPTIONS}
    kinds = [errors.SinglerunError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {
        spec.RunSpec(["x"], plain).conflict_status,
        Outcome(0, timed_out=True).exit_status,
        *(kind.exit_status for kind in kinds),
    }


def test_manual_lists_the_exit_statuses():
    assert exit_statuses() >= {75, 124, 125, 126, 127}
    listed = items(PREFIX, "EXIT STATUS")
    assert set(listed) == {"128+n", *map(str, exit_statuses())}
    assert len(set(listed)) == len(listed)
    listed.remove("128+n")
    own = f"{', '.join(listed[:-1])} or {listed[-1]}"
    assert f"The command itself may also exit with {own}." in section(PREFIX, "EXIT STATUS")
    named = re.findall(r"\d{2,}", "\n".join(section("run", "EXIT STATUS")))
    assert set(named) == {"128", *map(str, exit_statuses())}


def test_manual_lists_the_exit_statuses_of_is_running(cli):
    seen = {
        cli.run(*arguments, env=cli.env | more).returncode
        for arguments, more in [
            (["-n", "x", BINARY, "is-running", "x"], {}),
            (["is-running", "x"], {}),
            (["is-running", "--nothing"], {}),
            (["is-running", "x"], {"SINGLERUN_DIR": __file__}),
        ]
    }
    assert set(items("is-running", "EXIT STATUS")) == {str(status) for status in seen}


def test_manual_lists_the_exit_statuses_of_stop(cli):
    cli.hold("-n", "x")
    seen = {
        cli.run("stop", *arguments, env=cli.env | more).returncode
        for arguments, more in [
            (["x"], {}),
            (["x"], {}),
            ([], {}),
            (["x"], {"SINGLERUN_DIR": __file__}),
        ]
    }
    assert seen == {0, 1, 2, 125}
    assert set(items("stop", "EXIT STATUS")) == {str(status) for status in seen}


def test_manual_lists_the_exit_statuses_of_wait(cli):
    with cli.hold("-n", "x"):
        too_early = cli.run("wait", "x", "-t", "0").returncode
    seen = {too_early, cli.run("wait").returncode, cli.run("wait", "nobody").returncode}
    assert set(items("wait", "EXIT STATUS")) == {str(status) for status in seen}


def test_manual_lists_the_exit_statuses_of_those_that_steer_a_queue(cli):
    assert cli.run("pause", "x").returncode == 0
    cli.run("add", "-n", "x", "true")
    seen = {
        form: {
            cli.run(form, *arguments, env=cli.env | more).returncode
            for arguments, more in [
                (good, {}),
                (bad, {}),
                (["--nothing"], {}),
                (good, {"SINGLERUN_DIR": __file__}),
            ]
        }
        for form, good, bad in [
            ("move", ["1", "--first"], ["99", "--first"]),
            ("cancel", ["1"], ["1"]),
            ("retry", ["1"], ["1"]),
            ("add", ["-n", "x", "true"], ["-n", "x", "--limit", "0", "true"]),
            ("resume", ["x"], ["x"]),
        ]
    }
    for form, statuses in seen.items():
        assert set(items(form, "EXIT STATUS")) == {str(status) for status in statuses}, form
    assert seen["add"] == {0, 2, 75, 125}
    assert all(statuses == {0, 1, 2, 125} for form, statuses in seen.items() if form != "add")


def test_manual_lists_the_exit_statuses_of_worker(cli):
    with cli.start("worker", "-n", "x", "--stay") as staying:
        fifo = cli.dir / "workers" / "x"
        eventually(lambda: fifo.exists() and is_locked(fifo), "the worker")
        seen = {cli.run("worker", "-n", "x").returncode}
        staying.terminate()
    seen |= {staying.returncode, cli.run("worker").returncode}
    seen.add(cli.run("worker", "-n", "x", env=cli.env | {"SINGLERUN_DIR": __file__}).returncode)
    assert seen == {0, 2, 75, 125}
    assert set(items("worker", "EXIT STATUS")) == {str(status) for status in seen}


def is_locked(path):
    with path.open("rb+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def variables_of_hooks(cli):
    """Return the variables that hooks find, whatever the outcome."""
    tell = "env -0 >> told"
    quietly = {"cwd": cli.dir, "capture_output": True}
    with cli.hold("-n", "x"):
        cli.run("-n", "x", "--on-conflict", tell, "true", **quietly)
    cli.run("-n", "x", "--on-finish", tell, "true", **quietly)
    cli.run("-n", "x", "--on-failure", tell, "sh", "-c", "kill -9 $$", **quietly)
    cli.add("-n", "x", "--on-finish", tell, "true", cwd=cli.dir)
    file = cli.dir / "told"
    told = eventually(lambda: "_JOB_ID" in (text := file.read_text()) and text, "the job's hook")
    return set(re.findall(r"(?:^|\0)(SINGLERUN_\w+)=", told))


def test_documents_list_the_variables_of_hooks(cli):
    told = variables_of_hooks(cli)
    text = "\n".join(section(PREFIX, "HOOKS"))
    assert set(re.findall(r"^\.It Ev (SINGLERUN_\w+)", text, re.MULTILINE)) == told
    readme = README.read_text()
    assert set(re.findall(r"^\| `(SINGLERUN_\w+)`", readme, re.MULTILINE)) == told


def test_documents_name_the_time_of_hooks():
    text = " ".join(section(PREFIX, "HOOKS"))
    assert f"longer than {timings.HOOK_TIMEOUT:.0f} seconds" in text
    assert f"{timings.HOOK_GRACE:.0f} seconds later" in text
    assert f"{timings.HOOK_TIMEOUT:.0f} seconds at most" in README.read_text()


def test_manual_lists_the_variables():
    code = "".join(path.read_text() for path in Path(singlerun.__file__).parent.rglob("*.py"))
    text = "\n".join(section(PREFIX, "ENVIRONMENT"))
    assert set(re.findall(r"^\.It Ev (SINGLERUN_\w+)", text, re.MULTILINE)) == set(
        re.findall(r"SINGLERUN_[A-Z_]+", code)
    )


def test_manual_names_the_files(cli):
    named = [item.removeprefix("Pa ").replace(r"\(ti", "~") for item in items(PREFIX, "FILES")]
    assert named[:2] == [paths.SYSTEM_DIR.decode(), f"~/{paths.HOME_DIR.decode()}"]
    cli.run("-n", "x", "-w", "--log", "echo", "x")
    cli.run("add", "-n", "x", "true")
    assert cli.run("wait", "2").returncode == 0
    file, log = sqlite.FILE.decode(), wakeup.LOG.decode()
    assert {file, f"{file}.lock", "locks/", "lines/", "workers/", log} <= set(named)
    text = "\n".join(section(PREFIX, "FILES"))
    more = set(re.findall(r"^\.Pa (\S+)", text, re.MULTILINE))
    there = {path.name for path in cli.dir.iterdir()}
    assert {"locks", "workers", "logs", file, log} <= there
    assert there <= {name.removesuffix("ID/").removesuffix("/") for name in named} | more
    assert f"exceeds {wakeup.LOG_BYTES >> 20} MiB" in text
    assert f"{log}.old" in more


def test_manual_names_the_signals():
    text = "\n".join(section(PREFIX, "SIGNALS"))
    special = {*signals.ENDING, *signals.STOPPING, signal.SIGSTOP, signal.SIGCHLD}
    passed_on = {signal.Signals(number).name for number in special}
    named = set(re.findall(r"\bDv (SIG\w+)", text))
    assert named - {"SIGKILL"} == passed_on
    assert f"{timings.KILL_AFTER:.0f} seconds later" in text
    assert f"{timings.KILL_AFTER:.0f} seconds later" in "\n".join(section("reap", "OPTIONS"))
    assert f"The default is {timings.KILL_AFTER:.0f} seconds." in about("stop", "--kill-after")


@pytest.mark.parametrize("form", [PREFIX, "run"])
def test_manual_names_the_defaults_of_the_run_options(form):
    assert f"The default is {timings.KILL_AFTER:.0f} seconds." in about(form, "--kill-after")
    assert f"The default is {timings.RETRY_DELAY:.0f} second." in about(form, "--retry-delay")


def test_manual_names_the_longest_delay():
    assert duration.parse("1d") == timings.LONGEST_DELAY
    assert "never more than a day" in about(PREFIX, "--retry-delay").replace("\n", " ")


@pytest.mark.parametrize("form", [PREFIX, "run"])
def test_manual_lists_when_to_restart(form):
    assert set(re.findall(r"\.Cm (\S+)", about(form, "--restart"))) == WHEN


def test_manual_writes_values_as_they_are_read():
    *good, bad = re.findall(r"\.Ql (\S+)", about(PREFIX, "--wait-for"))
    assert len(good) > 3
    assert all(duration.parse(text) for text in good)
    with pytest.raises(errors.UsageError):
        duration.parse(bad)
    (rate,) = re.findall(r"\.Ql (\S+)", about(PREFIX, "--max-starts"))
    assert options.read_rate(rate)


def test_manual_names_the_default_limits():
    assert f"latest {ps.LATEST} runs" in "\n".join(section("ps", "OPTIONS"))
    assert f"first {ps.LATEST} jobs" in "\n".join(section("ps", "DESCRIPTION"))
    assert f"The default is {default_of('queue', 'limit')}." in about("queue", "--limit")
    assert f"The default is {history.LIMIT}." in about("history", "--limit")


def test_manual_names_the_defaults_of_a_job():
    assert f"The default is {timings.RETRY_DELAY:.0f} second." in about("add", "--retry-delay")
    assert f"The default is {timings.KILL_AFTER:.0f} seconds." in about("add", "--kill-after")
    assert "never more than a day" in about("add", "--retry-delay")
    assert duration.parse("1d") == timings.LONGEST_DELAY
    priority = about("add", "--priority").replace(r"\-", "-")
    assert f"from {-add.HIGHEST} to {add.HIGHEST}" in priority
    assert f"The default is {default_of('add', 'priority')}." in priority


def test_manual_lists_what_a_job_keeps():
    pattern = r'^\.\\" kept variables\n(.*?)^\.Ed'
    (listed,) = re.findall(pattern, source(PREFIX), re.DOTALL | re.MULTILINE)
    assert tuple(re.split(r",\s+", listed.strip())) == queue_add.KEPT


def test_manual_lists_what_goes_with_a_queue():
    text = about(PREFIX, "--queue")
    takes, excludes = text.split("It cannot be combined with")
    as_flags = {option.dest: set(option.flags) for option in options.RUN_OPTIONS}
    taken = flags_in(takes) - {"--queue", "--log"}
    wanted = {"retries", "retry_delay", *spec.OF_A_JOB}
    assert [len(taken & as_flags[dest]) for dest in wanted] == [1] * len(taken)
    excluded = flags_in(excludes) - {"--name"}
    assert [len(excluded & as_flags[dest]) for dest in options.NOT_IN_QUEUE] == [1] * len(excluded)


def test_manual_lists_the_states():
    listed = items("ps", "DESCRIPTION") + items("history", "DESCRIPTION")
    assert sorted(listed) == sorted([*run.STATES, judge.ORPHAN, judge.ZOMBIE])
    assert tuple(items("queue", "DESCRIPTION")) == queue.JOB_STATES


def test_manual_lists_the_keys_of_json(cli):
    cli.run("-n", "x", "true")
    listed = [key for item in items("ps", "JSON") for key in re.findall(r"[a-z_]+", item[3:])]
    assert sorted(listed) == sorted(cli.last())
    document = json.loads(cli.run("is-running", "x", "--json").stdout)
    more = re.findall(r"^\.Va (\w+)", "\n".join(section("is-running", "OPTIONS")), re.MULTILINE)
    assert {"schema", "runs", *more} == set(document)


def test_manual_lists_the_keys_of_jobs(cli):
    cli.run("pause", "x")
    cli.run("add", "-n", "x", "true")
    document = json.loads(cli.run("queue", "--json").stdout)
    assert set(document) == {"schema", "jobs", "totals", "paused", "truncated"}
    (shown,) = document["jobs"]
    listed = [key for item in items("queue", "JSON") for key in re.findall(r"[a-z_]+", item[3:])]
    assert sorted(listed) == sorted(shown)
    document = json.loads(cli.run("ps", "--json").stdout)
    assert set(document) == {"schema", "runs", "jobs", "paused", "truncated"}


def test_manual_lists_the_keys_of_what_is_expected(cli):
    with cli.hold("-n", "x"):
        (shown,) = cli.json("ps")
        (past,) = cli.history("x")
    listed = [
        key for item in items("ps", "EXPECTATIONS") for key in re.findall(r"[a-z_]+", item[3:])
    ]
    assert sorted(listed) == sorted(set(shown) - set(past))


def test_manual_lists_the_keys_by_which_jobs_are_added(cli):
    listed = [key for item in items("add", "JSON") for key in re.findall(r"[a-z_]+", item[3:])]
    cli.run("pause", "x")
    cli.run("add", "-n", "x", "true")
    values = {
        "command": ["true"], "priority": 3, "after": 1, "retries": 2, "delay": "5m",
        "retry_delay": 300, "label": "y",
    }  # fmt: skip
    assert set(listed) == set(values)
    result = cli.run("add", "-n", "x", "--stdin", "--json", input=json.dumps(values))
    assert (result.stdout, result.stderr) == ("2\n", "")
    (added,) = [
        one for one in json.loads(cli.run("queue", "--json").stdout)["jobs"] if one["label"]
    ]
    for key, value in {**values, "after_id": 1}.items():
        assert added.get(key, value) == value
    assert added["starts_at"] > added["added_at"]
    refused = cli.run("add", "-n", "x", "--stdin", "--json", input='{"command": "x", "no": 1}')
    assert refused.returncode == 125


def test_manual_lists_the_keys_that_are_refused_and_those_of_expectations():
    pattern = r'^\.\\" refused keys\n(.*?)^\.Ed'
    (listed,) = re.findall(pattern, source("config"), re.DOTALL | re.MULTILINE)
    refused = [key.name for key in schema.DEFAULTS.keys if key.refused is not None]
    assert re.split(r",\s+", listed.strip()) == refused
    named = [item.replace(r"\-", "-").split()[1] for item in items("config", "TABLES")]
    assert [f"{key.name}" for key in schema.WATCH_KEYS] == named[2:]
    assert f"no larger than {trust.LARGEST >> 20} MB" in "\n".join(section("config", "FILES"))
