import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun import paths
from singlerun.errors import StateDirError
from singlerun.spec import derived_name

names = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name)


@given(names, names)
def test_different_names_have_different_files(one, other):
    assert (paths.lock_file_name(one) == paths.lock_file_name(other)) == (one == other)


@given(names)
def test_file_names_are_plain_and_short(name):
    file = paths.lock_file_name(name)
    assert len(file) <= 255
    assert file.isascii()
    assert b"/" not in file
    assert not file.startswith((b".", b"-")) or name.startswith(b"-")


def test_a_readable_name_stays_readable():
    assert paths.lock_file_name(b"invoice:42") == b"invoice:42.lock"
    assert paths.lock_file_name(b"a/b c") == b"a%2Fb%20c.lock"


def test_a_long_name_does_not_meet_its_own_escaped_form():
    long = b"\xff" * 4096
    assert paths.lock_file_name(long) != paths.lock_file_name(paths.lock_file_name(long)[:-5])


def test_default_does_not_depend_on_home_or_xdg(monkeypatch):
    before = paths.state_path(None)
    monkeypatch.delenv("SINGLERUN_DIR", raising=False)
    default = paths.state_path(None)
    for variable in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, "/elsewhere")
    assert paths.state_path(None) == default
    assert before
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert paths.state_path(None) == b"/var/lib/singlerun"


def test_default_of_a_user_is_in_the_home_of_the_password_database(monkeypatch):
    import pwd

    someone = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
    monkeypatch.delenv("SINGLERUN_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: someone.pw_uid)
    first = pwd.getpwuid(someone.pw_uid)
    assert paths.state_path(None) == os.fsencode(first.pw_dir + "/.local/state/singlerun")


def test_derived_name_does_not_follow_links(tmp_path):
    """/srv/app/current/job is one job, whichever release "current" leads to."""
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "job").write_text("")
    current = tmp_path / "current"
    current.symlink_to("1")
    first = derived_name([str(current / "job")])
    current.unlink()
    current.symlink_to("2")
    assert derived_name([str(current / "job")]) == first
    assert derived_name([str(tmp_path / "1" / "job")]) != first


def test_derived_name_tells_where_arguments_end():
    assert len({derived_name(words) for words in (["a", "b c"], ["a", "b", "c"], ["a", "bc"])}) == 3


@pytest.mark.parametrize("flaw", ["a stranger's", "writable for others", "no directory for locks"])
def test_a_directory_that_is_refused_is_not_kept_open(tmp_path, monkeypatch, flaw):
    paths.StateDir(os.fsencode(tmp_path)).close()
    if flaw == "a stranger's":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    elif flaw == "writable for others":
        tmp_path.chmod(0o777)
    else:
        (tmp_path / "locks").rmdir()
        (tmp_path / "locks").write_text("")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(StateDirError):
        paths.StateDir(os.fsencode(tmp_path))
    assert os.listdir("/proc/self/fd") == before
