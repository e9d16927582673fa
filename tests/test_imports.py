"""What the plain form imports, which is its cost. Add to the list only what is worth it."""

import json
import os
import subprocess
import sys

import pytest
from conftest import BINARY

from singlerun import config
from singlerun.config import cache

OURS = {
    "singlerun", "singlerun.cli", "singlerun.duration", "singlerun.errors", "singlerun.lifecycle",
    "singlerun.lock", "singlerun.lock.flock", "singlerun.lock.line", "singlerun.lock.lockset",
    "singlerun.options", "singlerun.outcome", "singlerun.paths", "singlerun.process",
    "singlerun.process.child", "singlerun.process.identity", "singlerun.process.launch",
    "singlerun.process.marks",
    "singlerun.process.search", "singlerun.process.signals", "singlerun.process.spawn",
    "singlerun.recorder", "singlerun.render", "singlerun.render.line", "singlerun.render.text",
    "singlerun.runner", "singlerun.spec", "singlerun.store", "singlerun.store.base",
    "singlerun.store.database", "singlerun.store.guard", "singlerun.store.migrations",
    "singlerun.store.rows", "singlerun.store.run", "singlerun.store.sqlite", "singlerun.timings",
}  # fmt: skip
CONFIGURED = {
    "singlerun.config", "singlerun.config.cache", "singlerun.config.files",
    "singlerun.config.glob", "singlerun.config.settings",
}  # fmt: skip
OTHERS = {"_blake2", "_functools", "_sqlite3", "fcntl", "resource"}

SPY = """
import json, os, sys
before = set(sys.modules)
def ended(status):
    import json
    with open(os.environ["SPY_FILE"], "w") as file:
        json.dump(sorted(set(sys.modules) - before), file)
    os.exit_now(status)
os.exit_now, os._exit = os._exit, ended
sys.argv = sys.argv[1:]
from singlerun.cli import main
main()
"""


def imported(cli, tmp_path, *arguments):
    file = tmp_path / "modules"
    env = cli.env | {"SPY_FILE": str(file)}
    result = subprocess.run(
        [sys.executable, "-P", "-c", SPY, "singlerun", *arguments],
        env=env,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(file.read_text()))


@pytest.mark.parametrize(
    "options", [[], ["-n", "x"], ["-qsn", "x", "--wait-for=1m", "-E3", "--"], ["--skip", "--wait"]]
)
def test_plain_form_imports_just_this(cli, tmp_path, options):
    cli.run("true")
    modules = imported(cli, tmp_path, *options, "true")
    ours = {module for module in modules if module.partition(".")[0] == "singlerun"}
    # The first run of a name creates its lock file and looks twice, which is not the plain case.
    modules = imported(cli, tmp_path, *options, "true")
    ours = {module for module in modules if module.partition(".")[0] == "singlerun"}
    # Where the temporary files have no block device, as on a tmpfs, their file system is examined.
    assert ours - {"singlerun.lock.filesystem"} == OURS
    # Built-in modules cost nothing, and differ between versions of the interpreter.
    others = modules - ours - set(sys.builtin_module_names)
    assert others <= OTHERS | {"time"}


def test_configuration_is_not_parsed_again(cli, tmp_path, monkeypatch):
    file = tmp_path / "config.toml"
    file.write_text('[defaults]\nretries = 1\n[jobs."x*"]\nlog = false\n')
    file.chmod(0o600)
    cli.env["SINGLERUN_CONFIG"] = str(file)
    cli.run("-n", "x", "true")
    monkeypatch.setenv("SINGLERUN_CONFIG", str(file))
    monkeypatch.setattr(cache, "_UNSETTLED_NS", 0)  # the file counts as old enough to be kept
    config.load(os.fsencode(cli.dir))
    modules = imported(cli, tmp_path, "-n", "x", "true")
    ours = {module for module in modules if module.partition(".")[0] == "singlerun"}
    assert ours - {"singlerun.lock.filesystem"} == OURS | CONFIGURED
    others = modules - ours - set(sys.builtin_module_names)
    assert others <= OTHERS | {"time"}


def test_the_real_functools_is_there_afterwards(cli, tmp_path):
    script = (
        "import sys; import singlerun.store.database as s; assert 'functools' not in sys.modules;"
        "import functools; assert functools.partial; c = s.sqlite3.connect(':memory:');"
        "assert c.execute('SELECT 1').fetchone() == c.execute('SELECT 1').fetchone() == (1,)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_help_imports_neither_rich_nor_filelock(cli, tmp_path):
    modules = imported(cli, tmp_path, "--help")
    assert "click" in modules
    assert not {"rich", "filelock"} & {module.partition(".")[0] for module in modules}


def test_tables_in_a_pipe_do_not_import_rich(cli, tmp_path):
    assert "rich" not in imported(cli, tmp_path, "ps")


def test_module_can_be_run_like_the_script(cli):
    result = subprocess.run(
        [sys.executable, "-m", "singlerun", "-n", "x", "sh", "-c", "exit 4"],
        env=cli.env,
        check=False,
    )
    assert result.returncode == 4
    assert BINARY.read_text().startswith("#!")
