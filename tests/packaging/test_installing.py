"""The script ``singlerun``, installed in each way, below a path that no first line can name.

Nothing is downloaded: each installation finds the dependencies in the one that runs the tests.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import PATIENCE, eventually

import singlerun

PROJECT = Path(__file__).parents[2]
LAUNCHER = PROJECT / "singlerun" / "process" / "launch.sh"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
BASE = Path(sys._base_executable).resolve()
SEARCH = f"{BASE.parent}:/usr/bin:/bin"
HOSTILE = {
    "PYTHONHOME": "/nonexistent",
    "PYTHONIOENCODING": "bogus",
    "PYTHONHASHSEED": "abc",
    "PYTHONWARNINGS": "error",
    "PYTHONUTF8": "2",
}


def call(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory, cwd=PROJECT)
    (path,) = directory.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a virtual environment with the wheel; it may be copied."""
    home = tmp_path_factory.mktemp("venv")
    pip(make_venv(home), wheel)
    dependencies(home)
    return home


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "vênv €'\"$x*" / ("l" * 125) / ("o" * 125)
    path.mkdir(parents=True)
    return path


def pip(python, *arguments, **more):
    options = ["--no-index", "--no-deps", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options]
    call(*command, *arguments, env=os.environ | more)


def outside(*arguments, **more):
    """Install with the interpreter that the environment of the tests was made with."""
    pip(BASE, "--break-system-packages", "--ignore-installed", *arguments, **more)


def make_venv(home):
    call(sys.executable, "-m", "venv", "--without-pip", home)
    return home / "bin" / "python"


def dependencies(home):
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return packages


def check(cli, script, package, *, path="/usr/bin:/bin", subcommands=True):
    """Check that a script runs this package, isolated, in the plain form and with the others."""
    env = {"PATH": path, "SINGLERUN_CONFIG": "", "SINGLERUN_DIR": str(cli.dir)} | HOSTILE

    def run(*words):
        return subprocess.run(
            [script, *words], env=env, cwd="/", capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip

    told = 'echo "$PYTHONHOME $1"; tr "\\0" "\\n" </proc/$PPID/cmdline; exit 3'
    done = run("-n", "x", "sh", "-c", told, "sh", "a  b")
    assert (done.returncode, done.stderr) == (3, "")
    hello, _python, *words = done.stdout.split("\n")
    assert hello == "/nonexistent a  b"
    assert words[:2] == ["-I", "-S"]
    assert os.path.samefile(words[2], package / "__main__.py")
    if subcommands:
        done = run("--version")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split()[-1] == singlerun.__version__


def test_virtual_environment(cli, wheel, place):
    home = place / "venv"
    python = make_venv(home)
    pip(python, wheel)
    package = dependencies(home) / "singlerun"
    check(cli, home / "bin" / "singlerun", package)
    assert singlerun.__version__ in call(python, "-m", "singlerun", "--version", cwd="/")
    (place / "link").symlink_to("venv/bin/singlerun")
    (place / "two").mkdir()
    (place / "two" / "singlerun").symlink_to("../link")
    check(cli, place / "two" / "singlerun", package)
    (place / "directory").symlink_to("venv/bin")
    check(cli, place / "directory" / "singlerun", package.resolve())
    moved = place / "moved"
    home.rename(moved)
    package = moved / package.relative_to(home)
    check(cli, moved / "bin" / "singlerun", package)
    # As after the copy of it into a container.
    for path in (moved / "bin").glob("python*"):
        path.unlink()
        path.symlink_to("/nonexistent/python")
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / VERSION).symlink_to(BASE)
    check(cli, moved / "bin" / "singlerun", package, path=f"{place}/elsewhere:/usr/bin:/bin")


@pytest.mark.parametrize("kept", ["pipx/venvs", "uv/tools"])
def test_link_to_an_environment_of_its_own_needs_no_readlink(cli, installed, place, kept):
    """As pipx and uv make it."""
    home = place / "share" / kept / "singlerun"
    shutil.copytree(installed, home, symlinks=True)
    (place / "bin").mkdir()
    (place / "bin" / "singlerun").symlink_to(home / "bin" / "singlerun")
    (packages,) = home.glob("lib/python*/site-packages")
    check(cli, place / "bin" / "singlerun", packages / "singlerun", path="/nonexistent:/bin")
    done = subprocess.run(
        [place / "bin" / "singlerun", "-n", "x", "/bin/true"],
        env=cli.env | {"PATH": "/nonexistent"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0


def test_other_words_for_the_script(cli, installed, tmp_path):
    home = shutil.copytree(installed, tmp_path / "venv", symlinks=True)
    (home / "bin" / "below").mkdir()
    env = cli.env | {"PATH": f"{home}/bin:/usr/bin:/bin"}
    for words, cwd in (
        (["singlerun"], "/"), (["./singlerun"], home / "bin"), (["bin/singlerun"], home),
        (["sh", "singlerun"], home / "bin"), (["../bin/singlerun"], home / "lib"),
        (["../singlerun"], home / "bin" / "below"), (["sh", "bin/singlerun"], home),
    ):  # fmt: skip
        assert call(*words, "-n", "x", "echo", "hi", env=env, cwd=cwd) == "hi\n"


def test_user_prefix_and_target(cli, wheel, place):
    base = place / "local"
    outside("--user", wheel, PYTHONUSERBASE=str(base))
    packages = dependencies(base)
    # Interpreters of other versions, as uv puts them there.
    (base / "bin" / "python").symlink_to("/bin/false")
    (base / "bin" / "python3").symlink_to("/bin/false")
    check(cli, base / "bin" / "singlerun", packages / "singlerun", path=SEARCH)

    outside("--prefix", place / "prefix", wheel)
    (main,) = place.glob("prefix/**/singlerun/__main__.py")
    (script,) = place.glob("prefix/**/bin/singlerun")
    check(cli, script, main.parent, path=SEARCH, subcommands=False)

    outside("--target", place / "target", wheel)
    script = place / "target" / "bin" / "singlerun"
    check(cli, script, place / "target" / "singlerun", path=SEARCH, subcommands=False)


def test_editable(cli, place):
    """As hatchling makes it, and in a way that the script doesn't know."""
    home = place / "venv"
    python = make_venv(home)
    shutil.copy(LAUNCHER, home / "bin" / "singlerun")
    packages = dependencies(home)
    source = place / "source"
    source.mkdir()
    shutil.copytree(PROJECT / "singlerun", source / "singlerun")
    file = packages / "_editable_impl_singlerun.pth"
    file.write_text(str(source))
    check(cli, home / "bin" / "singlerun", source / "singlerun")
    file.rename(packages / "a.pth")  # before the dependencies, beside which it may be as well
    told = call(
        home / "bin" / "singlerun", "-n", "x", "sh", "-c", "tr '\\0' '\\n' </proc/$PPID/cmdline",
        env=cli.env, cwd="/",
    )  # fmt: skip
    assert told.split("\n")[:3] == [str(python), "-I", f"{source}/singlerun/__main__.py"]


def test_no_interpreter_is_one_line(tmp_path):
    (tmp_path / "bin").mkdir()
    script = shutil.copy(LAUNCHER, tmp_path / "bin" / "singlerun")
    done = subprocess.run(
        [script, "true"], env={"PATH": "/nonexistent"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert done.stderr.startswith(f"singlerun: {tmp_path}/bin has no python3 ")
    assert done.stderr.count("\n") == 1


def test_zip_application_runs_commands_and_queues(cli, place):
    tree = place / "tree"
    shutil.copytree(PROJECT / "singlerun", tree / "singlerun")
    for name in ("click", "rich", "pygments", "filelock", "tomli_w", "markdown_it", "mdurl"):
        shutil.copytree(Path(sysconfig.get_path("purelib"), name), tree / name)
    application = place / "singlerun.pyz"
    words = ["-m", "zipapp", tree, "-m", "singlerun.cli:main", "-o", application]
    call(sys.executable, *words)
    shutil.rmtree(tree)

    def run(*words):
        return call(BASE, "singlerun.pyz", *words, cwd=place, env=cli.env)

    assert run("-n", "x", "echo", "hi") == "hi\n"
    run("add", "-n", "x", "sh", "-c", f"echo done >{cli.dir}/told")
    eventually((cli.dir / "told").exists, "the job")
    eventually(lambda: "succeeded" in run("queue", "--all", "x"), "the record of its end")


BUNDLE = """#!{python}
import os, sys
sys.path.insert(0, {project!r})
sys.frozen, sys.executable = True, os.path.abspath(sys.argv[0])
from singlerun.cli import main
main()
"""


def test_program_without_an_interpreter_starts_workers_of_itself(cli, tmp_path):
    """As PyInstaller bundles it: ``sys.executable`` is the program, and ``sys.frozen`` is set."""
    bundle = tmp_path / "bundle"
    bundle.write_text(BUNDLE.format(python=sys.executable, project=str(PROJECT)))
    bundle.chmod(0o755)
    assert call(bundle, "-n", "x", "echo", "hi", env=cli.env) == "hi\n"
    call(bundle, "add", "-n", "x", "sh", "-c", f"echo done >{cli.dir}/told", env=cli.env)
    eventually((cli.dir / "told").exists, "the job")
    eventually(lambda: "succeeded" in call(bundle, "queue", "-a", env=cli.env), "its end")
