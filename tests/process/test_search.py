"""The search of PATH."""

import os

import pytest

from singlerun.process.search import find_program


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Directories a to d: a program, the same one as a plain file, as a directory, and nothing."""
    monkeypatch.chdir(tmp_path)
    for name, mode in (("a", 0o755), ("b", 0o644)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text("#!/bin/sh\n")
        (tmp_path / name / "tool").chmod(mode)
    (tmp_path / "c" / "tool").mkdir(parents=True)
    (tmp_path / "d").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "path, found, file",
    [
        ("a:b", "a/tool", "a/tool"),
        ("b:a", "a/tool", "b/tool"),
        ("c:d:missing:b", None, "b/tool"),
        ("c:d", None, None),
    ],
)
def test_first_program_is_found(places, path, found, file):
    assert find_program("tool", path) == found
    assert find_program("tool", path, executable=False) == file
    absolute = ":".join(str(places / name) for name in path.split(":"))
    assert find_program("tool", absolute) == (found and str(places / found))


def test_empty_entry_is_the_working_directory(places, monkeypatch):
    monkeypatch.chdir(places / "a")
    for path in ("", ":/nowhere", "/nowhere:", "/nowhere::"):
        assert find_program("tool", path) == "./tool"


def test_path_of_the_environment_is_the_default(places, monkeypatch):
    monkeypatch.setenv("PATH", str(places / "a"))
    assert find_program("tool") == str(places / "a" / "tool")
    monkeypatch.delenv("PATH")
    assert os.path.basename(find_program("sh")) == "sh"


def test_a_command_with_a_slash_is_not_searched_for(places, monkeypatch):
    monkeypatch.setenv("PATH", str(places))
    assert find_program("a/tool") == "a/tool"
    assert find_program("b/tool") == "b/tool", "execve(2) tells what is wrong with it"
    assert find_program("d/tool") is None
    assert find_program("/nowhere/tool") is None
