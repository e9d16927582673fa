"""One lock file between two system calls: deleted, replaced, planted."""

import os
import shutil
import subprocess

import pytest
from actor import actors, names  # noqa: F401 - a fixture
from conftest import blocked_on, demand_or_skip, eventually, need

from singlerun import lock
from singlerun.errors import LockFileError
from singlerun.lock.flock import ChosenFile, NamedLock
from singlerun.paths import StateDir
from singlerun.symlinks import resolve

X = names("x")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "locks" / "x.lock"


def chosen(path, *, shared=False):
    return ChosenFile(os.fsencode(path), shared=shared)


# -- deleted under a waiter or a holder ----------------------------------------------------------


def test_a_waiter_for_a_file_that_was_replaced_goes_on_to_the_new_one(actors, file):  # noqa: F811
    old, waiter, new = actors(X), actors(X), actors(X)
    assert old.ask("locks.try_take()") == "True"
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(file), "the wait for the old file")
    file.unlink()
    assert new.ask("locks.try_take()") == "True"
    old.ask("locks.free()")
    eventually(lambda: blocked_on(file), "the wait for the new file")
    new.ask("locks.free()")
    assert waiter.answer() == "None"
    assert waiter.ask("locks.is_current()") == "True"


def test_a_file_replaced_between_open_and_lock_is_opened_anew(actors, file, tmp_path):  # noqa: F811
    late, new = actors(X), actors(X)
    late.begin_and_stop_at("locks.try_take()", "fcntl", tmp_path / "trace")
    file.unlink()
    assert new.ask("locks.try_take()") == "True"
    late.go_on()
    assert late.answer() == "False"


def test_a_file_that_was_held_and_is_gone_keeps_no_run_from_the_new_one(actors, file, tmp_path):  # noqa: F811
    old, late = actors(X), actors(X)
    assert old.ask("locks.try_take()") == "True"
    late.begin_and_stop_at("locks.try_take()", "flock", tmp_path / "trace")
    file.unlink()
    late.go_on()
    assert late.answer() == "True"
    assert late.ask("locks.created") == str([os.fsencode(file)])
    assert old.ask("locks.is_current()") == "False"


@pytest.mark.parametrize("what", ["", "locks"])
def test_a_waiter_makes_anew_what_was_deleted_under_it(actors, file, what):  # noqa: F811
    """Of the state directory, or of its lock files."""
    held, waiter, other = actors(X), actors(X), actors(X)
    assert held.ask("locks.try_in_turn()") == "True"
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(file), "the wait")
    shutil.rmtree(file.parent.parent / what)
    held.ask("locks.free()")
    assert waiter.answer() == "None"
    assert waiter.ask("locks.is_current()") == "True"
    assert file.exists()
    assert other.ask("locks.try_take()") == "False"


@pytest.mark.parametrize("moved", [False, True])
def test_a_lock_that_cannot_be_opened_is_an_error(actors, file, moved):  # noqa: F811
    run = actors(X)
    file.parent.rmdir()
    (file.parent.parent / ("elsewhere" if moved else "locks")).touch()
    if moved:
        file.parent.symlink_to("elsewhere")
    assert "cannot use the state directory" in run.ask("locks.try_take()")


def test_only_the_file_that_was_created_is_forgotten(tmp_path):
    path = tmp_path / "file"
    first, second = chosen(path), chosen(path)
    assert first.try_take()
    assert first.created
    first.unlock()
    assert second.try_take()
    assert not second.created
    second.forget_created()
    assert path.exists(), "another has created it"
    path.unlink()
    path.touch()
    first.forget_created()
    assert path.exists(), "another file has taken its place"
    path.unlink()
    third = chosen(path)
    assert third.try_take()
    third.forget_created()
    assert not path.exists()
    path.touch()
    third.close()
    third.forget_created()
    assert path.exists(), "it is closed"


# -- open file descriptions ----------------------------------------------------------------------


def test_unlock_frees_for_all_and_close_for_one(tmp_path):
    path = tmp_path / "file"
    mine, other = chosen(path), chosen(path)
    assert mine.try_take()
    inherited = os.dup(mine.fd)
    mine.close()
    assert mine.fd == -1
    assert not other.try_take()
    mine.fd = inherited
    again = os.dup(inherited)
    mine.unlock()
    assert other.try_take()
    os.close(again)
    mine.free()
    other.free()
    other.free()


def test_what_is_adopted_is_held(tmp_path):
    path = tmp_path / "file"
    taker, mine, other = chosen(path), chosen(path), chosen(path)
    assert taker.try_take()
    mine.open()
    before = mine.fd
    mine.adopt(iter([os.dup(taker.fd)]), created=True)
    taker.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(before)
    assert mine.created
    assert not other.try_take()
    mine.adopt(iter([os.dup(mine.fd)]), created=False)
    assert mine.created
    mine.free()
    assert other.try_take()


def test_what_is_adopted_is_as_suspect_as_it_was(tmp_path):
    """Another process has taken it for us, and seen who held it last."""
    state = StateDir(os.fsencode(tmp_path / "state"))
    taker, mine = (NamedLock(b"x.lock", state, shared=False) for _ in range(2))
    for suspected in (True, False):
        assert taker.try_take()
        taker.suspect(suspected=suspected)
        mine.adopt(iter([os.dup(taker.fd)]), created=False)
        assert mine.is_suspect is suspected
        taker.close()
        mine.free()


def test_readers_share_and_writers_do_not(tmp_path):
    path = tmp_path / "file"
    one, two, writer = chosen(path, shared=True), chosen(path, shared=True), chosen(path)
    assert one.try_take()
    assert two.try_take()
    assert not writer.try_take()
    one.free()
    assert not writer.try_take()
    two.free()
    assert writer.try_take()
    assert not one.try_take()


def test_the_lock_on_a_file_is_exclusive_unless_it_is_shared(tmp_path):
    def lock_on(*, shared):
        return lock.of_file(os.fsencode(tmp_path / "file"), None, shared=shared)

    writers, readers = ([lock_on(shared=shared) for _ in range(2)] for shared in (False, True))
    assert writers[0].try_take()
    assert not writers[1].try_take()
    assert not readers[0].try_take()
    writers[0].free()
    assert readers[0].try_take()
    assert readers[1].try_take()
    assert not writers[0].try_take()
    for reader in readers:
        reader.free()


@pytest.mark.parametrize("error", ["EBADF", "EIO"])
def test_a_lock_that_fails_for_ever_is_an_error(actors, tmp_path, error):  # noqa: F811
    run = actors(f"lock.of_file({os.fsencode(tmp_path / 'file')}, None, shared=False)")
    run.inject("flock", f"error={error}", tmp_path / "trace")
    assert "put it on a local file system" in run.ask("locks.try_take()")
    assert (tmp_path / "trace").read_text().count("flock") == 2


def test_the_files_of_the_state_are_looked_up_in_the_directory_that_was_opened(tmp_path):
    state = StateDir(os.fsencode(tmp_path / "state"))
    lock = NamedLock(b"x.lock", state, shared=False)
    assert lock.try_take()
    (tmp_path / "state").rename(tmp_path / "moved")
    assert lock.is_current()
    (tmp_path / "moved" / "locks" / "x.lock").unlink()
    (tmp_path / "moved" / "locks" / "x.lock").symlink_to(tmp_path / "other")
    assert not lock.is_current()
    lock.free()


def test_a_file_of_another_file_system_is_another(small_disk):
    """Though it has the same number, as the first file of each tmpfs has."""
    mine = chosen(small_disk / "file")
    assert mine.try_take()
    number = os.fstat(mine.fd).st_ino
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", small_disk], check=True)
    try:
        (small_disk / "file").touch()
        assert os.stat(small_disk / "file").st_ino == number
        assert not mine.is_current()
    finally:
        subprocess.run(["umount", "-l", small_disk], check=True)
    assert mine.is_current()
    mine.free()


# -- symbolic links ------------------------------------------------------------------------------


@pytest.fixture
def sticky(tmp_path):
    """A directory like /tmp, and a link in it to a file outside."""
    directory = tmp_path / "sticky"
    directory.mkdir()
    directory.chmod(0o1777)
    (directory / "link").symlink_to(tmp_path / "target")
    return directory


def give(path, user):
    if os.geteuid() != 0:
        demand_or_skip("only root can give a link away")
    os.lchown(path, user, user)


def test_a_planted_link_is_not_followed(sticky, tmp_path):
    give(sticky / "link", 12345)
    lock = chosen(sticky / "link")
    with pytest.raises(LockFileError, match="it is a symbolic link of user 12345"):
        lock.try_take()
    assert not (tmp_path / "target").exists()
    (tmp_path / "target").touch()
    with pytest.raises(LockFileError, match="it is a symbolic link of user 12345"):
        lock.take()


def test_a_planted_link_in_the_middle_of_a_path_is_not_followed(sticky, tmp_path):
    (tmp_path / "target").mkdir()
    give(sticky / "link", 12345)
    with pytest.raises(LockFileError, match="it is a symbolic link of user 12345"):
        chosen(sticky / "link" / "file").try_take()
    (tmp_path / "own").symlink_to(sticky / "link" / "file")
    with pytest.raises(LockFileError, match="it is a symbolic link of user 12345"):
        chosen(tmp_path / "own").try_take()
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "owner_of_directory", "owner_of_link"),
    [(0o1777, 0, 0), (0o1777, 54321, 0), (0o1777, 12345, 12345), (0o777, 0, 12345),
     (0o1775, 0, 12345)],
    ids=["own link", "own link elsewhere", "owner of directory", "not sticky", "not for all"],
)  # fmt: skip
def test_other_links_are_followed(sticky, tmp_path, mode, owner_of_directory, owner_of_link):
    give(sticky, owner_of_directory)
    give(sticky / "link", owner_of_link)
    sticky.chmod(mode)
    lock = chosen(sticky / "link")
    assert lock.try_take()
    assert (tmp_path / "target").exists()
    assert not chosen(tmp_path / "target").try_take()
    assert lock.is_current()


def test_a_link_planted_after_the_look_is_not_followed(actors, sticky, tmp_path):  # noqa: F811
    """The path is looked at, found to be no link, and opened as none."""
    (sticky / "link").unlink()
    path = sticky / "link"
    run = actors(f"lock.of_file({os.fsencode(path)}, None, shared=False)")
    # os.lstat(3) is newfstatat(2) or lstat(2).
    run.begin_and_stop_at("locks.try_take()", "/^(newf|l)stat", tmp_path / "trace", path=path)
    path.symlink_to(tmp_path / "target")
    give(path, 12345)
    run.go_on()
    assert "it is a symbolic link of user 12345" in run.answer()
    assert not (tmp_path / "target").exists()


def test_a_link_replaced_after_the_look_is_opened_as_a_file(actors, sticky):  # noqa: F811
    path = sticky / "link"
    run = actors(f"lock.of_file({os.fsencode(path)}, None, shared=False)")
    trace = sticky.parent / "trace"
    run.begin_and_stop_at("locks.try_take()", "/^(newf|l)stat", trace, path=path)
    path.unlink()
    path.touch()
    run.go_on()
    assert run.answer() == "True"
    assert not chosen(path).try_take()


def test_a_link_planted_after_its_owner_was_looked_at_is_not_followed(actors, sticky, tmp_path):  # noqa: F811
    """The link that was judged is the one whose target counts."""
    path = sticky / "link"
    run = actors(f"lock.of_file({os.fsencode(path)}, None, shared=False)")
    opened = len(os.listdir(f"/proc/{run.pid}/fd"))
    # The first look at the directory is for a link in its place, the second for its owner.
    trace = tmp_path / "trace"
    run.begin_and_stop_at("locks.try_take()", "/^(newf|l)?stat", trace, when=2, path=sticky)
    path.unlink()
    path.symlink_to(tmp_path / "planted")
    give(path, 12345)
    run.go_on()
    run.answer()
    assert not (tmp_path / "planted").exists()
    assert len(os.listdir(f"/proc/{run.pid}/fd")) <= opened + 1, "of the file alone"


def test_resolving_is_what_realpath_does(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "a" / "up").symlink_to("../file")
    (tmp_path / "a" / "absolute").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "chain").symlink_to("a/absolute/../up")
    (tmp_path / "dangling").symlink_to("missing/deep")
    for word in ("file", "a/up", "a/absolute/x", "chain", "dangling", "a/b/../../a//./b", "no/../x",
                 "file/below", "../..", ""):  # fmt: skip
        path = os.fsencode(f"{tmp_path}/{word}")
        assert resolve(path) == os.path.realpath(path), word
    assert resolve(b"/") == b"/"
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(LockFileError, match=r"[Tt]oo many levels of symbolic links"):
        resolve(os.fsencode(tmp_path / "circle"))


def test_a_lock_file_is_a_file_or_a_directory(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LockFileError, match="neither a file nor a directory"):
        chosen(tmp_path / "fifo").try_take()
    with pytest.raises(LockFileError, match="name a file that you may read or create"):
        chosen(tmp_path / "missing" / "file").try_take()
    need("flock")
    lock = chosen(tmp_path)
    assert lock.try_take()
    assert subprocess.run(["flock", "-n", tmp_path, "true"], check=False).returncode == 1
    lock.free()
