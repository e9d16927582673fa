"""A lock file, or a line, is deleted by prune beside those who use it: in every order.

One is stopped after each step of its way, and the other goes all of its.
"""

import os

import pytest
from actor import actors, names  # noqa: F401 - a fixture
from conftest import blocked_on, eventually

from singlerun import lock
from singlerun.lock.line import Line
from singlerun.pruning.files import IdleFiles
from singlerun.store.sqlite_pruning import SqlitePruning

LATER = 2**62
DELETER = (
    "__import__('singlerun.pruning.files', fromlist=['x']).IdleFiles(state,"
    " __import__('singlerun.store.sqlite_pruning', fromlist=['x']).SqlitePruning(state),"
    f" {LATER}, dry_run=False)"
)
"""An actor with these "locks" deletes lock files."""
DELETE = "sum(count for count, _ in locks.lock_files())"


def took(state):
    """Take the lock of x and free it, so that its file is there."""
    locks = lock.of_names((b"x",), state, shared=False)
    assert locks.try_take()
    locks.free()


def both_hold(*holders):
    """Return whether two of these actors hold what they took: the files are those at the paths."""
    return (
        sum(holder.ask("locks._is_held and locks.is_current()") == "True" for holder in holders) > 1
    )


@pytest.mark.parametrize("how", [{}, {"shared": True}, {"slots": 1}])
def test_a_run_that_is_stopped_anywhere_while_its_lock_file_is_deleted(
    state, actors, tmp_path, how  # noqa: F811
):  # fmt: skip
    runs = [actors(names("x", **how)), actors(names("x"))]
    deleter = actors(DELETER)
    slow, fast = runs
    # Opened, locked, looked at what is locked, looked at the path.
    path = os.path.join(state.locks, b"x.lock")
    steps = [("fcntl", path), ("flock", path), ("newfstatat", path), ("newfstatat", b"x.lock")]
    for number, (call, at) in enumerate(steps):
        took(state)
        trace = tmp_path / f"trace-{number}"
        slow.begin_and_stop_at("locks.try_take()", call, trace, path=at)
        deleter.ask(DELETE)
        taken = fast.ask("locks.try_take()")
        slow.go_on()
        answers = [slow.answer(), taken]
        assert answers.count("True") == 1, (call, answers)
        assert not both_hold(*runs)
        for run in runs:
            run.ask("locks.free()")


@pytest.mark.parametrize("how", [{}, {"shared": True}, {"slots": 1}])
def test_a_deletion_that_is_stopped_anywhere_while_runs_take_the_lock(
    state, actors, tmp_path, how  # noqa: F811
):  # fmt: skip
    runs = [actors(names("x", **how)), actors(names("x"))]
    deleter = actors(DELETER)
    # Opened, locked, looked at the path, deleted, closed.
    path, file = os.path.join(state.locks, b"x.lock"), b"x.lock"
    steps = [("openat", file), ("flock", path), ("newfstatat", file), ("unlinkat", file)]
    for number, (call, at) in enumerate([*steps, ("close", path)]):
        took(state)
        trace = tmp_path / f"trace-{number}"
        deleter.begin_and_stop_at(DELETE, call, trace, path=at)
        first = runs[0].ask("locks.try_take()")
        deleter.go_on()
        deleter.answer()
        second = runs[1].ask("locks.try_take()")
        assert [first, second].count("True") == 1, (call, first, second)
        assert not both_hold(*runs)
        for run in runs:
            run.ask("locks.free()")


def test_a_file_that_another_process_has_replaced_is_left_to_its_holder(state, actors, tmp_path):  # noqa: F811
    deleter, run, other = actors(DELETER), actors(names("x")), actors(names("x"))
    took(state)
    deleter.begin_and_stop_at(DELETE, "openat", tmp_path / "trace", path=b"x.lock")
    os.unlink(os.path.join(state.locks, b"x.lock"))
    assert run.ask("locks.try_take()") == "True"
    deleter.go_on()
    assert deleter.answer() == "0"
    assert run.ask("locks.is_current()") == "True"
    assert other.ask("locks.try_take()") == "False"


def test_waiters_for_a_deleted_lock_file_go_on_to_one_and_the_same(state, actors, tmp_path):  # noqa: F811
    """They sleep on the old file, out of line, when it is deleted by force of a bug elsewhere."""
    path = os.path.join(state.locks, b"x.lock")
    holder, *waiters = [actors(names("x")) for _ in range(3)]
    assert holder.ask("locks.try_take()") == "True"
    for waiter in waiters:
        waiter.begin("[each.take() for each in locks._locks]")
    eventually(lambda: blocked_on(path) == 2, "the wait")
    os.unlink(path)
    holder.ask("locks.free()")
    eventually(lambda: any(waiter.is_done() for waiter in waiters), "one of them")
    assert sum(waiter.is_done() for waiter in waiters) == 1
    first = next(waiter for waiter in waiters if waiter.is_done())
    first.answer()
    first.ask("[each.free() for each in locks._locks]")
    eventually(lambda: all(waiter.is_done() for waiter in waiters if waiter is not first))


@pytest.mark.parametrize("call", ["openat", "mkdir", "flock"])
def test_a_waiter_joins_a_line_that_is_deleted_meanwhile(state, actors, tmp_path, call):  # noqa: F811
    waiter = actors(names("x"))
    took(state)
    line = Line(state.line_path(b"x"))
    if call == "mkdir":
        os.mkdir(state.lines, 0o700)
    else:
        os.close(line.shut())
    waiter.begin_and_stop_at("locks._lines.join()", call, tmp_path / "trace")
    store = SqlitePruning(state)
    assert list(IdleFiles(state, store, LATER, dry_run=False).lines())
    store.close()
    waiter.go_on()
    assert waiter.answer() == "None"
    assert len(list(line.live())) == 1
