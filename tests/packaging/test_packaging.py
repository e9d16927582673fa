"""The wheel and the sdist: what they contain, and that the installed wheel does the main job.

Nothing is downloaded: hatchling is a requirement of the tests, and the fresh environment finds the
dependencies in the one that runs them.
"""

import email
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import singlerun

PROJECT = Path(__file__).parents[2]
SHARED = {
    "singlerun.bash": "bash-completion/completions/singlerun",
    "_singlerun": "zsh/site-functions/_singlerun",
    "singlerun.fish": "fish/vendor_completions.d/singlerun.fish",
} | {page.name: f"man/man1/{page.name}" for page in (PROJECT / "man").iterdir()}
"""Where the manual pages and completions belong, below ``share``."""


def build(project, target, directory):
    """Build a wheel or an sdist of a project; return its path."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", directory]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = directory.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(PROJECT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build(PROJECT, "sdist", tmp_path_factory.mktemp("sdist"))


def contents(wheel):
    """Return the bytes of each file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_contains_the_package_and_what_it_shares(wheel):
    stem = f"singlerun-{singlerun.__version__}"
    wanted = {
        path.relative_to(PROJECT).as_posix(): path
        for path in [*PROJECT.glob("singlerun/**/*.py"), PROJECT / "singlerun/py.typed"]
    }
    wanted |= {
        f"{stem}.data/data/share/{place}": next(PROJECT.glob(f"*/{name}"))
        for name, place in SHARED.items()
    }
    wanted |= {
        f"singlerun/{path.relative_to(PROJECT).as_posix()}": path
        for path in PROJECT.glob("completions/*")
    }
    wanted[f"{stem}.data/scripts/singlerun"] = PROJECT / "singlerun/process/launch.sh"
    found = contents(wheel)
    package = {name for name in found if not name.startswith(f"{stem}.dist-info/")}
    assert package == set(wanted)
    assert [name for name, path in wanted.items() if found[name] != path.read_bytes()] == []


def test_metadata_is_complete(wheel):
    name = f"singlerun-{singlerun.__version__}.dist-info/METADATA"
    metadata = email.message_from_string(contents(wheel)[name].decode())
    assert (metadata["Name"], metadata["Version"]) == ("singlerun", singlerun.__version__)
    assert metadata["Author"] == "singlerun contributors"
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata["Keywords"]
    assert metadata["Project-URL"] is None
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (PROJECT / "README.md").read_text()
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    names = {re.match(r"[\w-]+", line)[0] for line in needed}
    assert names == {"click", "filelock", "rich", "tomli-w"}


def test_sdist_builds_the_same_wheel_and_has_tests_and_documents(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    for pattern in (
        "tests/**/*.py",
        "bin/*",
        "man/*",
        "completions/*",
        "examples/**/*.*",
        "*.md",
        "LICENSE",
    ):
        for path in PROJECT.glob(pattern):
            if "__pycache__" not in path.parts:
                there = tree / path.relative_to(PROJECT)
                assert there.read_bytes() == path.read_bytes()
    (tmp_path / "dist").mkdir()
    assert contents(build(tree, "wheel", tmp_path / "dist")) == contents(wheel)


def test_installed_wheel_does_the_main_job(cli, wheel, tmp_path):
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin" / "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True)
    (packages,) = home.glob("lib/python*/site-packages")

    def run(*words):
        return subprocess.run(
            [home / "bin" / "singlerun", *words],
            env=cli.env, cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip

    inner = f"echo one; {home}/bin/singlerun -n hello echo two; echo $?"
    done = run("-n", "hello", "sh", "-c", inner)
    assert (done.returncode, done.stdout) == (0, "one\n75\n")
    assert done.stderr.startswith("singlerun: hello is held by ")

    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    where = subprocess.run(
        [home / "bin" / "python", "-c", "import singlerun; print(singlerun.__file__)"],
        cwd="/", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(where).is_relative_to(packages)
    assert run("--version").stdout.split()[-1] == singlerun.__version__
    assert [line.split()[2] for line in run("history").stdout.splitlines()[1:]] == [
        "refused", "succeeded",
    ]  # fmt: skip

    shared = {home / "share" / place for place in SHARED.values()}
    assert {path for path in shared if path.is_file()} == shared
    subprocess.run([*pip, "uninstall", "--yes", "singlerun"], check=True)
    left = [*shared, home / "bin" / "singlerun", packages / "singlerun"]
    assert [path for path in left if path.exists()] == []
