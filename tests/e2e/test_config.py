"""What is configured holds for runs and queues; a broken configuration keeps none from its lock."""

import json
import os
import subprocess

import pytest
from conftest import BINARY, demand_or_skip, need


@pytest.fixture
def configured(cli, tmp_path):
    """Write the configuration that the command line reads."""
    path = tmp_path / "config.toml"
    cli.env["SINGLERUN_CONFIG"] = str(path)

    def write(text):
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def test_run_takes_what_is_configured_for_its_name(cli, configured):
    configured('[jobs.x]\ntimeout = 0.2\n[jobs."hel*"]\nskip = true\n')
    result = cli.run("-n", "x", "sleep", "100")
    assert (result.returncode, result.stderr) == (124, "singlerun: x: timed out after 0.2 s\n")
    with cli.hold("-n", "held"):
        assert cli.run("-n", "held", "true").returncode == 0
        assert cli.run("-n", "held", "--no-config", "true").returncode == 75
        assert cli.run("-n", "held", "--wait-for", "0.1", "true").returncode == 75, "one choice"
        assert (
            cli.run("-n", "held", "true", env=cli.env | {"SINGLERUN_CONFIG": ""}).returncode == 75
        )


def test_both_parsers_take_it(cli, configured):
    configured('[defaults]\non-success = "echo configured"\n')
    for arguments in (["true"], ["run", "true"], ["run", "--no-config", "true"]):
        expected = "" if "--no-config" in arguments else "configured\n"
        assert cli.run(*arguments).stdout == expected


def test_derived_name(cli, configured, tmp_path):
    configured('[jobs."job.sh-*"]\non-finish = "echo $SINGLERUN_NAME"\n')
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    name = cli.run(script).stdout.strip()
    assert name.startswith("job.sh-")
    assert cli.last()["name"] == name


def test_lock_file_keeps_the_name_in_the_record(cli, configured, tmp_path):
    lock = tmp_path / "lock"
    configured(f'[jobs.x]\nlock-file = "{lock}"\n')
    assert cli.run("-n", "x", "flock", "-n", lock, "true").returncode == 1, "it is that lock"
    assert cli.last()["name"] == "x"


def test_state_directory_holds_for_every_subcommand(cli, configured, tmp_path):
    del cli.env["SINGLERUN_DIR"]
    other = tmp_path / "other"
    configured(f'[defaults]\ndir = "{other}"\n')
    home = {"PATH": os.environ["PATH"], "SINGLERUN_CONFIG": cli.env["SINGLERUN_CONFIG"]}
    env = home | {"SINGLERUN_DIR": str(cli.dir)}
    assert cli.run("-n", "x", "true", env=env).returncode == 0
    assert cli.dir.exists(), "the environment is nearer"
    assert not other.exists()
    # The cache would be in the default directory, which is none of a test's.
    assert cli.run("--dir", other, "-n", "x", "true").returncode == 0
    assert cli.run("history", "--dir", other).stdout.count("\n") == 2


def test_queue_takes_what_is_configured(cli, configured, gate):
    configured(
        "[jobs.q]\npriority = 3\nlabel = 'grün'\ntimeout = '1h'\nretries = 2\nenv = 'EXTRA=1'\n"
    )
    with cli.hold("-n", "q", "--no-config"):
        first = cli.add("-n", "q", "true")
        second = cli.add("-n", "q", "--priority", "9", "--label", "typed", "--retries", "0", "true")
        third = cli.add("-n", "q", "--no-config", "true")
        assert cli.run("-n", "q", "--queue", "sh", "-c", "echo $EXTRA").returncode == 0
        jobs = {job["id"]: job for job in cli.queue("q")}
        (fourth,) = set(jobs) - {first, second, third}
        fields = {number: (job["priority"], job["label"]) for number, job in jobs.items()}
        assert fields == {
            first: (3, "grün"), second: (9, "typed"), third: (0, None), fourth: (3, "grün"),
        }  # fmt: skip
        kept = cli.sql("SELECT id, retries FROM jobs ORDER BY id")
        assert kept == [(first, 2), (second, 0), (third, 0), (fourth, 2)]
    assert cli.run("wait", str(fourth)).returncode == 0
    assert cli.run("logs", str(fourth)).stdout == "1\n"


def test_configured_timeout_stops_a_job(cli, configured):
    configured("[jobs.q]\ntimeout = 0.2\n")
    number = cli.add("-n", "q", "sleep", "100")
    assert cli.run("wait", str(number)).returncode == 124


def test_name_with_a_lock_file_has_no_queue(cli, configured, tmp_path):
    configured(f'[jobs."q*"]\nlock-file = "{tmp_path}/lock"\n')
    for arguments in (["add", "-n", "q1", "true"], ["-n", "q1", "--queue", "true"]):
        result = cli.run(*arguments)
        assert result.returncode == 125
        assert "sets a lock-file for q1, which its direct runs lock" in result.stderr
        assert cli.run(*arguments[:-1], "--no-config", "true").returncode == 0


def test_worker_takes_the_state_directory(cli, configured, tmp_path):
    configured("[jobs.q]\nretries = 1\n")
    number = cli.add("-n", "q", "true")
    cli.run("wait", str(number))
    assert cli.run("worker", "-n", "q").returncode == 0


# -- mistakes ---------------------------------------------------------------------------------


def test_broken_file_costs_one_warning_and_no_run(cli, configured):
    path = configured("[defaults]\nskip = tru\n")
    for _ in range(2):
        result = cli.run("-n", "x", "echo", "it ran")
        assert (result.returncode, result.stdout) == (0, "it ran\n")
        assert result.stderr == (
            f"singlerun: {path}:2: it is not TOML: invalid value; left out;"
            " see: singlerun config check\n"
        )
    with cli.hold("-n", "x", stderr=subprocess.DEVNULL):
        assert cli.run("-n", "x", "true").returncode == 75, "it still has its lock"
    result = cli.run("add", "-n", "q", "true")
    assert (result.returncode, result.stderr.count("\n")) == (0, 1)
    assert cli.run("ps").stderr == "", "to look needs no configuration"


def test_broken_file_changes_no_lock(cli, configured, tmp_path):
    """A run under a configured lock file stays alone while that file of settings is broken."""
    text = f'[jobs.x]\nlock-file = "{tmp_path}/lock"\n'
    path = configured(text)
    with cli.hold("-n", "x"):
        path.write_text(text + "x = [\n")
        result = cli.run("-n", "x", "true")
        assert result.returncode == 75
        assert f"{path}:" in result.stderr


def test_strict_refuses(cli, configured):
    path = configured("[defaults]\nstrict = true\n")
    assert cli.run("true").returncode == 0
    path.write_text("[defaults\n")
    for arguments in (["true"], ["run", "true"], ["add", "true"], ["--queue", "true"]):
        result = cli.run(*arguments)
        assert result.returncode == 125
        assert result.stderr.startswith(f"singlerun: {path}:1: it is not TOML: ")
        assert "nothing runs until that is mended; see: singlerun config check" in result.stderr
    assert cli.run("--no-config", "true").returncode == 0
    assert cli.run("ps").returncode == 0
    path.write_text("[defaults]\n")
    assert cli.run("true").returncode == 0


def test_file_that_another_can_write_to_runs_no_hook(cli, configured, tmp_path):
    path = configured(f'[defaults]\non-finish = "touch {tmp_path}/planted"\n')
    path.chmod(0o666)
    result = cli.run("true")
    assert result.returncode == 0
    assert f"{path}:1: others may write to {path}; chmod go-w {path}; left out" in result.stderr
    assert not (tmp_path / "planted").exists()
    path.chmod(0o600)
    cli.run("true")
    assert (tmp_path / "planted").exists()


def test_file_of_another_user_is_not_read(cli, configured):
    if os.geteuid() != 0:
        demand_or_skip("only root can give a file away")
    path = configured("[defaults]\nskip = true\n")
    os.chown(path, 12345, 12345)
    result = cli.run("true")
    assert result.returncode == 0
    assert f"{path} belongs to user 12345, not to root" in result.stderr


def test_missing_file_that_was_named(cli, configured, tmp_path):
    cli.env["SINGLERUN_CONFIG"] = str(tmp_path / "none.toml")
    result = cli.run("true")
    assert result.returncode == 0
    assert "none.toml:1: SINGLERUN_CONFIG names this file, which is missing" in result.stderr


def test_cache_that_cannot_be_kept_is_no_failure(cli, configured, small_disk):
    cli.env["SINGLERUN_DIR"] = str(small_disk / "state")
    configured("[defaults]\nskip = true\n")
    assert cli.run("-n", "x", "true").returncode == 0
    from conftest import fill

    fill(small_disk)
    configured("[defaults]\nquiet = true\n")
    result = cli.run("-n", "x", "sh", "-c", "exit 3")
    assert result.returncode == 3
    assert "config" not in result.stderr


def test_environment_of_the_command_is_as_without(cli, configured):
    configured("[defaults]\nretries = 1\n")
    assert f"SINGLERUN_CONFIG={cli.env['SINGLERUN_CONFIG']}\n" in cli.run("env").stdout
    number = cli.add("-n", "q", "env")
    cli.run("wait", str(number))
    assert "SINGLERUN_CONFIG=" in cli.run("logs", str(number)).stdout


# -- where the files are ----------------------------------------------------------------------

IN_A_NAMESPACE = """
set -e
cp -a /etc/nsswitch.conf /etc/ld.so.* /etc/group /etc/localtime $PLACE/etc/ 2>/dev/null || :
echo "root:x:0:0:root:$PLACE/home:/bin/sh" > $PLACE/etc/passwd
mount --bind $PLACE/etc /etc
mount -t tmpfs -o mode=755 tmpfs /var/lib
exec "$@"
"""


def test_files_of_the_system_and_of_the_home_in_the_password_database(cli, tmp_path):
    need("unshare")
    if os.geteuid() != 0:
        demand_or_skip("only root can mount a directory")
    place = tmp_path / "place"
    (place / "home" / ".config" / "singlerun").mkdir(parents=True)
    (place / "etc").mkdir()
    script = f"""
        {BINARY} -n x sh -c 'exit 3' || echo $?
        {BINARY} config set --system jobs.x.on-finish 'echo system'
        {BINARY} config set jobs.x.on-success 'echo home'
        {BINARY} -n x true
        {BINARY} config path --json
        {BINARY} config set --system defaults.dir {place}/state
        {BINARY} -n x sh -c 'exit 3' || echo $?
        ls -d {place}/state/singlerun.db /var/lib/singlerun/config.cache
        {BINARY} history x | wc -l
        HOME=/nowhere XDG_CONFIG_HOME=/nowhere {BINARY} config get jobs.x.on-success
        stat -c '%a %n' /etc/singlerun/conf.d/90-set.toml {place}/home/.config/singlerun/conf.d
    """
    env = {"PATH": os.environ["PATH"], "PLACE": str(place), "HOME": str(place / "elsewhere")}
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", IN_A_NAMESPACE, "sh", "sh", "-ec", script],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare failed" in result.stderr or "mount:" in result.stderr:
        demand_or_skip(f"no file system can be mounted: {result.stderr}")
    assert result.stderr == ""
    before, opening, rest = result.stdout.partition("{")
    document, closing, after = rest.partition("\n}\n")
    files = json.loads(opening + document + closing)["files"]
    own = f"{place}/home/.config/singlerun"
    assert before.split("\n") == ["3", "home", "system", ""]
    assert [(file["path"], file["state"]) for file in files] == [
        ("/etc/singlerun/config.toml", "missing"),
        (f"{own}/config.toml", "missing"),
        ("/etc/singlerun/conf.d/90-set.toml", "read"),
        (f"{own}/conf.d/90-set.toml", "read"),
    ]
    assert after.split("\n") == [
        "system", "3", f"{place}/state/singlerun.db", "/var/lib/singlerun/config.cache",
        "2", "echo home", "644 /etc/singlerun/conf.d/90-set.toml", f"700 {own}/conf.d", "",
    ]  # fmt: skip


def test_completion_offers_keys_and_the_names_of_the_configured_directory(cli, configured):
    configured("[jobs.x]\nretries = 1\n")
    offered = cli.run("--complete", "keys", "defaults.wait").stdout
    assert offered.startswith("defaults.wait\tWait if the lock is held.\ndefaults.wait-for\t")
    assert "jobs.x.timeout\t" in cli.run("--complete", "keys", "jobs.x.").stdout
    assert "defaults.name" not in cli.run("--complete", "keys", "").stdout
    cli.run("-n", "known", "true")
    assert cli.run("--complete", "names", "kn").stdout.startswith("known")
    assert cli.dir.exists()
