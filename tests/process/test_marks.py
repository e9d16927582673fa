"""The marks of a run, in the environment of what it started."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlerun.process import procfs
from singlerun.process.marks import Marks, locks_of

numbers = st.integers(1, 2**63 - 1)


@given(st.binary(min_size=1), numbers, numbers)
def test_what_is_applied_is_read(name, run_id, token):
    env = {b"SINGLERUN_RUN_ID": b"1", b"SINGLERUN_TOKEN": b"2", b"PATH": b"/bin"}
    Marks(name, run_id, token).apply(env)
    marks = Marks.from_environ(env)
    assert (marks.name, marks.run_id, marks.token) == (name, run_id, token)
    assert env.pop(b"PATH") == b"/bin"
    assert env == marks.environ()


def test_without_a_record_the_id_of_the_outer_run_goes():
    env = {b"SINGLERUN_NAME": b"outer", b"SINGLERUN_RUN_ID": b"1", b"SINGLERUN_TOKEN": b"2"}
    Marks(b"inner", None, 3).apply(env)
    assert env == {b"SINGLERUN_NAME": b"inner", b"SINGLERUN_TOKEN": b"3"}
    assert Marks.from_environ(env) is None, "there is no run to be the parent of another"


def test_lock_files_are_named_by_their_real_paths(tmp_path):
    (tmp_path / "link").symlink_to("file")
    real = [os.fsencode(tmp_path.resolve() / name) for name in ("file", "other")]
    env = {}
    Marks(b"x", None, 3, [os.fsencode(tmp_path / "link"), real[1]]).apply(env)
    assert locks_of(b"%b=%b" % item for item in env.items()) == real
    Marks(b"inner", None, 4).apply(env)
    assert locks_of(b"%b=%b" % item for item in env.items()) == [], "those of the outer run go"


@pytest.mark.parametrize("token", [b"", b"x", b"0", b"-1", b"%d" % 2**63, b"1.5", b"\xff"])
@pytest.mark.parametrize("which", [b"SINGLERUN_RUN_ID", b"SINGLERUN_TOKEN"])
def test_what_is_no_number_of_a_run_counts_as_no_mark(which, token):
    env = Marks(b"x", 1, 1).environ()
    assert Marks.from_environ(env | {which: token}) is None


def test_processes_are_found_by_id_and_token():
    def start(marks):
        env = {b"PATH": b"/usr/bin:/bin"}
        marks.apply(env)
        return subprocess.Popen(["sh", "-c", "echo; exec cat"], env=env, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)  # fmt: skip

    token = 2**62 + 12345
    recorded, bare = Marks(b"x", 7, token), Marks(b"x", None, token)
    with start(recorded) as first, start(bare) as second:
        first.stdout.readline()
        second.stdout.readline()
        assert procfs.marked(7, token) == [first.pid]
        assert sorted(procfs.marked(None, token)) == sorted([first.pid, second.pid])
        assert procfs.marked(8, token) == procfs.marked(None, token // 10) == []
