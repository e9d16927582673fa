"""A file is read only if no other user can have written it."""

import os

import pytest
from conftest import demand_or_skip

from singlerun.config import trust

STRANGER = 12345


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "above" / "config.toml"
    file.parent.mkdir(mode=0o700)
    file.write_text("x = 1\n")
    file.chmod(0o644)
    return file


def read(path):
    return trust.read(os.fsencode(path))


def refusal(path):
    with pytest.raises(trust.UntrustedError) as refused:
        read(path)
    return str(refused.value)


def give_away(path):
    if os.geteuid() != 0:
        demand_or_skip("only root can give a file to another user")
    os.lchown(path, STRANGER, STRANGER)


def test_own_file_is_read(file):
    assert read(file) == b"x = 1\n"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_file_that_others_may_write_to(file, mode):
    file.chmod(mode)
    assert refusal(file) == f"others may write to {file}; chmod go-w {file}"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_directory_that_others_may_write_to(file, mode):
    file.parent.chmod(mode)
    assert refusal(file) == f"others may write to {file.parent}; chmod go-w {file.parent}"


def test_sticky_directory_is_shared_safely(file):
    file.parent.chmod(0o1777)
    assert read(file) == b"x = 1\n"
    give_away(file)
    assert f"{file} belongs to user {STRANGER}, not to root" in refusal(file)


def test_directory_of_another_user(file):
    give_away(file.parent)
    assert f"{file.parent} belongs to user {STRANGER}" in refusal(file)


def test_link_is_followed_and_each_directory_on_the_way_is_looked_at(file, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "second").symlink_to("../above/config.toml")
    (tmp_path / "first").symlink_to(tmp_path / "open" / "second")
    assert read(tmp_path / "first") == b"x = 1\n"
    (tmp_path / "open").chmod(0o777)
    assert f"others may write to {tmp_path}/open;" in refusal(tmp_path / "first")


def test_link_that_was_planted(file, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(file)
    assert read(shared / "link") == b"x = 1\n"
    give_away(shared / "link")
    assert f"{shared}/link belongs to user {STRANGER}" in refusal(shared / "link")


def test_link_to_a_directory_that_was_planted(file, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(file.parent)
    give_away(shared / "link")
    assert "shared/link belongs to user" in refusal(shared / "link" / "config.toml")


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        read(tmp_path / "a")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")  # opening it does not hang
    assert "not a regular file" in refusal(tmp_path / "fifo")
    assert "not a regular file" in refusal(tmp_path)
    assert "not a regular file" in refusal("/dev/null")


def test_file_without_end(file):
    with file.open("wb") as whole:
        whole.truncate(trust.LARGEST + 1)
    assert refusal(file) == "it is larger than 1 MB; make it shorter"
    os.truncate(file, trust.LARGEST)
    assert len(read(file)) == trust.LARGEST


def test_dots_in_a_path(file):
    assert read(file.parent / ".." / "." / "above" / "config.toml") == b"x = 1\n"
