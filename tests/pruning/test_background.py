"""The prune that starts by itself: once an hour, alone, with nothing of the run that started it."""

import json
import os
import sys
import time

import pytest
from conftest import eventually

from singlerun import lifecycle
from singlerun.process import interpreter
from singlerun.pruning import background
from singlerun.timings import PRUNE_EVERY

SPY = """
import json, os, sys
open_ones = [number for number in range(3, 100) if os.path.exists(f"/proc/self/fd/{number}")]
with open(sys.argv[1] + ".new", "w") as file:
    json.dump([dict(os.environ), open_ones, os.getsid(0) == os.getpid(), sys.argv[2:]], file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Return what a prune would have found, once it is started."""
    file = tmp_path / "seen"
    words = [sys.executable, "-c", SPY, str(file)]
    monkeypatch.setattr(interpreter, "words", lambda _: words)

    def read():
        eventually(file.exists, "the start")
        return json.loads(file.read_text())

    read.file = file
    return read


def test_nothing_of_the_run_reaches_it(state, seen, monkeypatch, tmp_path):
    for key in ("SINGLERUN_NAME", "SINGLERUN_TOKEN", "SINGLERUN_DIR", "SINGLERUN_LOCKS"):
        monkeypatch.setenv(key, "1")
    monkeypatch.setenv("SINGLERUN_CONFIG", "/c")
    held = os.open(tmp_path / "held", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(held, True)
    try:
        background.start(state)
        env, descriptors, is_leader, arguments = seen()
    finally:
        os.close(held)
        os.wait()
    assert {key for key in env if key.startswith("SINGLERUN")} == {"SINGLERUN_CONFIG"}
    assert held not in descriptors
    assert is_leader
    assert arguments == [os.fsdecode(state.path)]


def test_it_is_started_once_an_hour(state, seen):
    stamp = os.path.join(state.path, lifecycle.PRUNED)
    background.start_in_time(state)
    assert os.stat(stamp).st_size == 0, "a new directory has nothing to forget"
    before = time.time() - PRUNE_EVERY + 100
    os.utime(stamp, (before, before))
    background.start_in_time(state)
    assert os.stat(stamp).st_mtime == pytest.approx(before)
    os.utime(stamp, (before - 200, before - 200))
    background.start_in_time(state)
    seen()
    os.wait()
    seen.file.unlink()
    background.start_in_time(state)
    assert not seen.file.exists()


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_what_cannot_be_touched_or_started_is_silent(state, monkeypatch, capfd, error):
    def fail(*_, **__):
        raise error

    stamp = os.path.join(state.path, lifecycle.PRUNED)
    background.start_in_time(state)
    for what in ("utime", "posix_spawn"):
        os.utime(stamp, (1, 1))
        with monkeypatch.context() as patch:
            patch.setattr(os, what, fail)
            background.start_in_time(state)
    assert capfd.readouterr() == ("", "")


def test_one_is_alone(state):
    with background.alone(state) as first, background.alone(state) as second:
        assert first
        assert not second
    with background.alone(state) as third:
        assert third


def test_a_file_that_cannot_be_made_keeps_none_out(state, monkeypatch):
    os.symlink("elsewhere", os.path.join(state.path, lifecycle.PRUNED))
    with background.alone(state) as is_alone:
        assert is_alone
