"""The compiled configuration holds until a file changes, and is made anew if it is damaged."""

import os
import stat
import time

import pytest

from singlerun import options
from singlerun.config import cache, reading


@pytest.fixture(autouse=True)
def _settled(monkeypatch):
    """A file counts as settled at once, so that no test waits for two seconds."""
    monkeypatch.setattr(cache, "_UNSETTLED_NS", 0)


@pytest.fixture
def parsed(monkeypatch):
    """How often the files were parsed."""
    calls = []
    read = reading.read

    def counted(mains):
        calls.append(mains)
        return read(mains)

    monkeypatch.setattr(reading, "read", counted)
    return calls


def is_parsed_once(files, parsed):
    parsed.clear()
    first, second = files.options(), files.options()
    assert first == second
    return len(parsed) == 1


@pytest.fixture
def main(files):
    return files.write(files.user / "config.toml", "[defaults]\nretries = 1\n")


def test_it_is_read_once(files, main, parsed):
    assert is_parsed_once(files, parsed)
    path = os.path.join(files.state, cache.FILE)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert sorted(os.listdir(files.state)) == [cache.FILE]


@pytest.mark.parametrize(
    "change",
    [
        lambda main: main.write_text("[defaults]\nretries = 2\n"),
        lambda main: main.rename(main.with_name("gone")),
        lambda main: main.chmod(0o644),
        lambda main: (main.parent / "conf.d" / "1.toml").write_text("[defaults]\nretries = 3\n"),
        lambda main: (main.parent.parent / "etc" / "config.toml").write_text(
            "[defaults]\nskip=true"
        ),
        lambda main: (main.parent.parent / "etc" / "conf.d" / "a.toml").write_text(""),
    ],
    ids=["written", "moved", "mode", "drop-in", "system", "drop-in of the system"],
)
def test_it_is_read_again_after_a_change(files, main, parsed, change):
    assert is_parsed_once(files, parsed)
    change(main)
    assert is_parsed_once(files, parsed)


def test_same_size_and_time_but_another_file(files, main, parsed):
    files.options()
    entry = main.stat()
    other = files.write(main.with_name("other"), "[defaults]\nretries = 2\n")
    os.utime(other, ns=(entry.st_atime_ns, entry.st_mtime_ns))
    other.rename(main)
    assert files.options() == {"retries": 2}


def test_drop_in_that_changes_or_goes(files, main, parsed):
    path = files.write(files.user / "conf.d" / "a.toml", "[defaults]\ntimeout = 1\n")
    assert files.options() == {"retries": 1, "timeout": 1}
    path.write_text("[defaults]\ntimeout = 2\n")
    assert files.options() == {"retries": 1, "timeout": 2}
    path.unlink()
    assert files.options() == {"retries": 1}


def test_file_that_has_just_changed_may_change_again_unseen(files, main, parsed, monkeypatch):
    monkeypatch.setattr(cache, "_UNSETTLED_NS", 10**9 * 3600)
    assert not is_parsed_once(files, parsed)
    monkeypatch.setattr(cache, "_UNSETTLED_NS", 0)
    assert is_parsed_once(files, parsed)


def test_time_that_is_in_the_future_is_not_trusted(files, main, parsed, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    assert not is_parsed_once(files, parsed)


def test_mistakes_are_kept_too(files, main, parsed):
    main.write_text("[defaults]\nretires = 1\n")
    first, second = files.load().problems, files.load().problems
    assert first == second != ()
    assert len(parsed) == 1


def test_file_that_is_not_trusted_is_looked_at_each_time(files, main, parsed):
    main.chmod(0o666)
    assert files.load().problems
    main.parent.chmod(0o700)
    main.chmod(0o600)
    assert files.load().problems == ()
    main.parent.chmod(0o777)
    assert files.load().problems == (), "what was read when it was trusted is still there"
    main.write_text("[defaults]\nretries = 3\n")
    assert "others may write" in files.load().problems[0]
    main.parent.chmod(0o700)
    assert files.options() == {"retries": 3}


@pytest.mark.parametrize("at", [0, 8, 15, 16, 17, 40, 100, -1])
def test_damaged_byte(files, main, parsed, at):
    files.options()
    path = os.path.join(files.state, cache.FILE)
    with open(path, "rb") as file:
        content = bytearray(file.read())
    content[at] ^= 0x40
    with open(path, "wb") as file:
        file.write(content)
    assert is_parsed_once(files, parsed)


@pytest.mark.parametrize("length", [0, 5, 16, 17, 100])
def test_cut_short(files, main, parsed, length):
    files.options()
    os.truncate(os.path.join(files.state, cache.FILE), length)
    assert is_parsed_once(files, parsed)


def test_of_another_version(files, main, parsed, monkeypatch):
    files.options()
    monkeypatch.setattr(cache, "__version__", "99")
    assert is_parsed_once(files, parsed)


def test_options_have_changed_since(files, main, parsed, monkeypatch):
    files.options()
    stamp = cache._stamp
    changed = os.path.realpath(options.__file__)

    def restamped(path):
        if os.path.realpath(os.fsdecode(path)) == changed:
            return -2
        return stamp(path)

    monkeypatch.setattr(cache, "_stamp", restamped)
    assert is_parsed_once(files, parsed)


@pytest.mark.parametrize("what", ["link", "mode", "fifo", "directory"])
def test_planted_cache_is_not_read(files, main, parsed, what, tmp_path):
    files.options()
    path = os.path.join(files.state, cache.FILE)
    if what == "mode":
        os.chmod(path, 0o666)
    else:
        os.rename(path, tmp_path / "cache")
        make = {
            "link": lambda: os.symlink(tmp_path / "cache", path),
            "fifo": lambda: os.mkfifo(path),
            "directory": lambda: os.mkdir(path),
        }
        make[what]()
    parsed.clear()
    assert files.options() == {"retries": 1}
    assert len(parsed) == 1


def test_state_directory_that_others_may_write_to_gets_none(files, main, parsed):
    os.chmod(files.state, 0o777)
    assert not is_parsed_once(files, parsed)
    assert os.listdir(files.state) == []


def test_missing_state_directory_is_made_only_where_another_one_is_configured(files, main, parsed):
    os.rmdir(files.state)
    assert not is_parsed_once(files, parsed)
    assert not os.path.exists(files.state)
    main.write_text('[defaults]\ndir = "/srv/state"\n')
    assert is_parsed_once(files, parsed)
    assert os.listdir(files.state) == [cache.FILE]


def test_new_cache_that_was_left_behind_is_no_hindrance(files, main, parsed):
    with open(os.path.join(files.state, cache._NEW), "wb") as file:
        file.write(b"x" * 10_000)
    assert is_parsed_once(files, parsed)
    assert os.listdir(files.state) == [cache.FILE]


def test_link_in_place_of_the_new_cache_is_not_followed(files, main, parsed, tmp_path):
    (tmp_path / "victim").write_text("mine")
    os.symlink(tmp_path / "victim", os.path.join(files.state, cache._NEW))
    assert not is_parsed_once(files, parsed)
    assert (tmp_path / "victim").read_text() == "mine"


def test_several_configurations_are_kept(files, main, parsed, monkeypatch, tmp_path):
    """One line of a crontab may name another file than the rest, and none forgets its lock."""
    others = [files.write(tmp_path / f"{n}.toml", f"[defaults]\nslots = {n}\n") for n in (1, 2, 3)]
    for _ in range(2):
        monkeypatch.delenv("SINGLERUN_CONFIG", raising=False)
        assert files.options() == {"retries": 1}
        for number, other in enumerate(others, 1):
            monkeypatch.setenv("SINGLERUN_CONFIG", str(other))
            assert files.options() == {"slots": number}
    assert len(parsed) == 4
    others[-1].write_text("x = 1")
    assert files.load().options(b"") == {"slots": 3}
    monkeypatch.setenv("SINGLERUN_CONFIG", str(files.write(tmp_path / "new", "x = 1")))
    assert files.load().options(b"") == {}, "what another file says is none of its business"
