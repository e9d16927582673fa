"""``singlerun metrics``: what Prometheus reads of real runs and queues."""

import os
import stat
import subprocess

import pytest
from conftest import Stopped, eventually, fill
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus


def metrics(cli, *arguments, **more):
    """Return the values of all samples, by metric and labels, as Prometheus's parser reads them."""
    result = cli.run("metrics", *arguments, text=False, **more)
    assert (result.returncode, result.stderr) == (0, b"")
    return samples(result.stdout, openmetrics if "--openmetrics" in arguments else prometheus)


def samples(text, parse=prometheus):
    found = {}
    for family in parse(text.decode()):
        assert family.type != "unknown"
        assert family.documentation
        for sample in family.samples:
            key = sample.name.removeprefix("singlerun_"), *sorted(sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


def test_without_a_record(cli):
    for format_ in ([], ["--openmetrics"]):
        found = metrics(cli, *format_)
        assert found["names",] == found["names_left_out",] == found["record_size_bytes",] == 0
    assert not cli.dir.exists()


@pytest.mark.parametrize("arguments", [[], ["--openmetrics"]])
def test_of_runs_that_have_ended(cli, arguments):
    cli.run("-n", "x", "true")
    cli.run("-n", "x", "sh", "-c", "exit 3")
    cli.run("-n", "x", "-t", "0.01", "-k", "0", "sleep", "60")
    cli.run("-n", "killed", "sh", "-c", "kill -9 $$")
    found = metrics(cli, *arguments)
    runs = {run["id"]: run for run in cli.history()}
    assert found["last_exit_status", "x"] == 124
    assert found["last_exit_status", "killed"] == 128 + 9
    started, succeeded, ended = (
        found[f"last_{what}_timestamp_seconds", "x"] for what in ("start", "success", "end")
    )
    assert 0 < succeeded <= started < ended
    assert found["last_duration_seconds", "x"] == pytest.approx(runs[3]["elapsed_s"], abs=1e-6)
    by_state = {
        state: found["runs_total", *sorted(["x", state])]
        for state in ("succeeded", "failed", "timed-out", "stopped", "refused", "skipped", "lost")
    }
    assert by_state == {
        "succeeded": 1, "failed": 1, "timed-out": 1, "stopped": 0, "refused": 0, "skipped": 0,
        "lost": 0,
    }  # fmt: skip
    assert found["run_duration_seconds_count", "x"] == 3
    assert found["run_duration_seconds_bucket", "+Inf", "x"] == 3
    assert found["names",] == 2
    assert found["record_size_bytes",] > 10_000
    assert ("overdue", "x") not in found
    assert (("runs_created", "succeeded", "x") in found) is bool(arguments)


def test_of_what_is_open_queued_and_paused(cli):
    with cli.hold("-n", "x") as holding:
        cli.run("-n", "x", "true")
        cli.run("-n", "x", "--skip", "true")
        waiter = cli.start("-w", "-n", "x", "true")
        eventually(lambda: [r for r in cli.json("ps") if r["state"] == "waiting"], "the waiter")
        cli.run("pause", "q")
        cli.add("-n", "q", "true")
        cli.add("-n", "q", "--delay", "1h", "true")
        found = metrics(cli)
        assert found["running", "x"] == found["waiting", "x"] == 1
        assert found["last_start_timestamp_seconds", "x"] > 0, "while it runs"
        assert ("last_end_timestamp_seconds", "x") not in found
        assert found["refused_in_a_row", "x"] == 2
        assert (found["paused", "x"], found["paused", "q"]) == (0, 1)
        jobs = [found["jobs", *sorted(["q", each])] for each in ("queued", "delayed", "failed")]
        assert jobs == [1, 1, 0]
        holding.release()
        waiter.wait()
    found = metrics(cli)
    assert found["running", "x"] == found["waiting", "x"] == found["refused_in_a_row", "x"] == 0
    assert found["runs_total", "succeeded", "x"] == 2
    assert found["runs_total", "refused", "x"] == found["runs_total", "skipped", "x"] == 1


def test_a_run_that_is_to_be_tried_again_holds_its_name(cli):
    cli.start("-n", "x", "--retries", "1", "--retry-delay", "1h", "false")
    eventually(lambda: [r for r in cli.json("ps") if r["next_try_at"]], "the first failure")
    found = metrics(cli)
    assert (found["running", "x"], found["waiting", "x"]) == (1, 0)


def test_an_orphan_and_a_zombie(cli):
    orphan, zombie = cli.hold("-n", "o"), cli.hold("-n", "z")
    for holding in (orphan, zombie):
        holding.wrapper.kill()
        holding.wrapper.wait()
    os.kill(zombie.pid, 9)
    eventually(lambda: metrics(cli)["zombies", "z"], "the end of the command")
    found = metrics(cli)
    assert (found["orphans", "o"], found["zombies", "o"], found["orphans", "z"]) == (1, 0, 0)
    assert found["running", "o"] == found["running", "z"] == 0
    os.kill(orphan.pid, 9)
    eventually(lambda: metrics(cli)["zombies", "o"], "the end of the other")
    cli.run("reap")
    found = metrics(cli)
    assert found["runs_total", "lost", "z"] == 1
    assert ("last_exit_status", "z") not in found


def test_counters_do_not_fall_when_runs_are_forgotten(cli):
    for _ in range(3):
        cli.run("-n", "x", "true")
    before = metrics(cli)
    cli.sql("DELETE FROM runs")
    cli.sql("DELETE FROM run_names")
    cli.run("-n", "x", "true")
    after = metrics(cli)
    assert before["runs_total", "succeeded", "x"] == 3
    assert after["runs_total", "succeeded", "x"] == 4
    assert after["run_duration_seconds_sum", "x"] > before["run_duration_seconds_sum", "x"]


def test_names_of_any_bytes_in_any_locale(cli):
    names = [b"\xff\xfe", b'quo"te\\', "grün\u2028".encode(), b"line\nfeed", b"-dash", b"\x1b[31m"]
    for name in names:
        cli.run(b"--name=" + name, "true")
    for locale in ("C.UTF-8", "POSIX", "en_US.ISO-8859-1"):
        found = metrics(cli, env=cli.env | {"LC_ALL": locale, "PYTHONUTF8": "0"})
        shown = {key[1] for key in found if key[0] == "running"}
        assert shown == {name.decode("utf-8", "backslashreplace") for name in names}


def test_the_names_used_last_and_how_many_are_left_out(cli):
    for name in ("a", "b", "c", "a"):
        cli.run("-n", name, "true")
    result = cli.run("metrics", "--limit", "2", text=False)
    assert (
        result.stderr
        == b"singlerun: 1 name is left out; to include more: singlerun metrics --limit N\n"
    )
    found = samples(result.stdout)
    assert {key[1] for key in found if key[0] == "running"} == {"a", "c"}
    assert (found["names",], found["names_left_out",]) == (3, 1)
    assert cli.run("metrics", "--limit", "2", "-q").stderr == ""
    with cli.hold("-n", "b"):
        found = samples(cli.run("metrics", "--limit", "1", text=False).stdout)
        assert {key[1] for key in found if key[0] == "running"} == {"b"}, "what is open comes first"


def test_what_is_expected(cli, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("""[jobs.backup]\nexpect = "26h"\n[jobs.never]\nexpect = "1h"\n""")
    cli.env["SINGLERUN_CONFIG"] = str(file)
    for name in ("backup", "other", "another"):
        cli.run("-n", name, "true")
    found = metrics(cli)
    assert found["expected_interval_seconds", "backup"] == 26 * 3600
    assert (found["overdue", "backup"], found["overdue", "never"]) == (0, 1)
    assert ("overdue", "other") not in found
    assert ("last_success_timestamp_seconds", "never") not in found
    found = samples(cli.run("metrics", "-q", "--limit", "2", text=False).stdout)
    assert {key[1] for key in found if key[0] == "running"} == {"backup", "never"}
    assert (found["names",], found["names_left_out",]) == (4, 2)


# -- in a file ----------------------------------------------------------------------------------


def test_a_file_for_node_exporter(cli, tmp_path):
    cli.run("-n", "x", "true")
    path = tmp_path / "singlerun.prom"
    for umask in (0o077, 0):
        result = cli.run("metrics", "--textfile", str(path), umask=umask)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert samples(path.read_bytes())["runs_total", "succeeded", "x"] == 1
    assert {entry.name for entry in tmp_path.iterdir()} == {"state", "singlerun.prom"}


def test_a_reader_sees_all_of_the_old_file_until_the_new_one_is_on_the_disk(cli, tmp_path):
    cli.run("-n", "x", "true")
    path = tmp_path / "singlerun.prom"
    path.write_text("old\n")
    stopped = Stopped(cli, "fsync", 1, "metrics", "--textfile", str(path))
    assert path.read_text() == "old\n"
    (new,) = tmp_path.glob("singlerun.prom.*")
    assert not new.name.endswith(".prom"), "node_exporter does not read it"
    assert new.read_bytes().endswith(b"\n")
    stopped.go_on()
    assert stopped.tracer.wait() == 0
    assert samples(path.read_bytes())["names",] == 1
    assert not new.exists()


def test_a_failure_keeps_the_old_file(cli, small_disk):
    for number in range(20):
        cli.run("-n", f"name-{number}", "true")
    path = small_disk / "singlerun.prom"
    path.write_text("old\n")
    fill(small_disk)
    result = cli.run("metrics", "--textfile", str(path))
    assert result.returncode == 125
    assert result.stderr.startswith(f"singlerun: cannot write {path}: no space left on device; ")
    assert path.read_text() == "old\n"
    assert {entry.name for entry in small_disk.iterdir()} == {"singlerun.prom", "filler"}


@pytest.mark.parametrize("path", ["/dev/null", "missing/x.prom", "."])
def test_a_path_that_can_take_no_file(cli, tmp_path, path):
    before = os.stat("/dev/null").st_mode
    result = cli.run("metrics", "--textfile", path, cwd=tmp_path)
    assert result.returncode == 125
    assert result.stderr.startswith("singlerun: cannot write ")
    assert result.stderr.count("\n") == 1
    assert os.stat("/dev/null").st_mode == before


def test_a_record_that_cannot_be_read_keeps_the_old_file(cli, tmp_path):
    cli.run("-n", "x", "true")
    path = tmp_path / "singlerun.prom"
    path.write_text("old\n")
    (cli.dir / "singlerun.db").unlink()
    (cli.dir / "singlerun.db").mkdir()
    result = cli.run("metrics", "--textfile", str(path))
    assert result.returncode == 125
    assert "it is not a regular file" in result.stderr
    assert path.read_text() == "old\n"


def test_a_reader_that_goes_away(cli):
    cli.run("-n", "x", "true")
    script = f"{cli.binary} metrics | head -1"
    shell = ["bash", "-o", "pipefail", "-c", script]
    result = subprocess.run(shell, env=cli.env, capture_output=True, text=True, check=False)
    assert result.stderr == ""
