"""What /proc says about other processes, and when it says nothing."""

import os
import subprocess

import pytest
from conftest import eventually, is_alive

from singlerun.process import identity, procfs
from singlerun.process.marks import Marks
from singlerun.process.tree import ProcessTree

MARKS = Marks(b"x", 3, 2**61 + os.getpid())


@pytest.fixture
def family():
    """A marked leader of a group, with a child in it and one outside of both group and marks."""
    script = "sleep 60 & echo $!; setsid env -i sh -c 'echo $$; exec sleep 60' & wait"
    env = dict(os.environb)
    MARKS.apply(env)
    leader = subprocess.Popen(
        ["sh", "-c", script], env=env, stdout=subprocess.PIPE, process_group=0
    )
    pids = [int(leader.stdout.readline()) for _ in range(2)]
    inside, outside = sorted(pids, key=lambda pid: os.getpgid(pid) != leader.pid)
    # Its exec cleans the environment that is to be looked at.
    eventually(lambda: procfs.command_line(outside)[:1] == [b"sleep"], "the exec")
    yield leader, inside, outside
    for pid in (leader.pid, inside, outside):
        if is_alive(pid):
            os.kill(pid, 9)
    leader.wait()
    leader.stdout.close()


def test_a_snapshot_answers_all_questions(family):
    leader, inside, outside = family
    snapshot = procfs.Snapshot()
    assert sorted(snapshot.marked(3, MARKS.token)) == sorted([leader.pid, inside])
    assert sorted(snapshot.group(leader.pid)) == sorted([leader.pid, inside])
    assert sorted(snapshot.descendants([leader.pid])) == sorted([inside, outside])
    assert {leader.pid, inside, outside} <= snapshot.live().keys()
    os.kill(inside, 9)
    eventually(lambda: not is_alive(inside), "its end")
    assert inside in snapshot.live(), "it is of one moment"
    assert inside not in procfs.Snapshot().live()


def test_a_tree_is_group_descendants_and_marks(family):
    leader, inside, outside = family
    for owns_group in (True, False):
        tree = ProcessTree(leader.pid, MARKS, owns_group=owns_group, adopted=False)
        assert set(tree.live()) == {leader.pid, inside, outside}
    os.kill(leader.pid, 9)
    eventually(lambda: not is_alive(leader.pid), "its end")
    assert set(tree.live()) == {inside, outside}, "the orphan was seen before"


def test_a_stranger_with_the_pid_of_one_of_the_tree_is_left_alone(family):
    leader, inside, outside = family
    with subprocess.Popen(["sleep", "60"]) as stranger:
        tree = ProcessTree(leader.pid, MARKS, owns_group=True, adopted=False)
        tree.live()
        tree._known[stranger.pid] = identity.start_time(stranger.pid) - 1
        assert set(tree.live()) == {leader.pid, inside, outside}
        tree._known[stranger.pid] = identity.start_time(stranger.pid)
        assert stranger.pid in tree.live()
        tree._known[stranger.pid] -= 1
        tree.send(9)
        assert leader.wait() == -9
        assert tree.await_others(5)
        assert stranger.poll() is None
        stranger.kill()


def test_children_of_ours_that_are_no_part_of_the_tree_are_left_alone(family):
    leader, inside, outside = family
    with subprocess.Popen(["sleep", "60"]) as stranger:
        tree = ProcessTree(
            leader.pid, MARKS, owns_group=True, adopted=True, strangers={stranger.pid}
        )
        assert {leader.pid, inside, outside} <= set(tree.live())
        assert stranger.pid not in tree.live()
        stranger.kill()


def test_proc_of_another_namespace_says_nothing(family, monkeypatch, tmp_path):
    leader, _, _ = family
    monkeypatch.setattr(identity, "_has_proc", False)
    snapshot = procfs.Snapshot()
    assert snapshot.live() == {}
    assert snapshot.marked(3, MARKS.token) == []
    assert procfs.holding(os.fsencode(tmp_path)) == []
    assert procfs.Snapshot().descendants([leader.pid]) == procfs.Snapshot().group(leader.pid) == []
    assert list(procfs.pids()) == procfs.command_line(leader.pid) == []
    assert procfs.user_of(leader.pid) is None
    assert identity.start_time(leader.pid) is None
    tree = ProcessTree(leader.pid, MARKS, owns_group=True, adopted=True)
    assert tree.live() == []
    tree.send(9)
    assert leader.wait() == -9, "the command and its group are known without it"
    assert tree.await_others(5)
