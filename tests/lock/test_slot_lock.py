"""A lock with slots: which files are held while one waits, and afterwards."""

import os

import pytest
from actor import actors, names  # noqa: F401 - a fixture
from conftest import blocked_on, eventually

THREE = names("x", slots=3)


def slot(directory, number):
    return directory / "state" / "locks" / f"%%{number}-x.lock"


@pytest.fixture
def full(actors, tmp_path):  # noqa: F811
    """Three holders, and one that waits for any of them."""
    holders = [actors(THREE) for _ in range(3)]
    assert [holder.ask("locks.try_in_turn()") for holder in holders] == ["True"] * 3
    waiter = actors(THREE)
    waiter.begin("locks.take()")
    for number in (1, 2, 3):
        eventually(lambda number=number: blocked_on(slot(tmp_path, number)), "the wait")
    return holders, waiter


def files(pid, suffix=".lock"):
    directory = f"/proc/{pid}/fd"
    found = (os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory))
    return sorted(os.path.basename(file) for file in found if file.endswith(suffix))


@pytest.mark.parametrize("freed", [0, 1, 2])
def test_a_waiter_keeps_the_slot_that_it_got_and_no_other(actors, tmp_path, full, freed):  # noqa: F811
    holders, waiter = full
    holders[freed].ask("locks.free()")
    assert waiter.answer() == "None"
    assert waiter.ask("locks.is_current()") == "True"
    mine = [f"%%{freed + 1}-x.lock", "x.lock"]
    opened = [int(fd) for fd in os.listdir(f"/proc/{waiter.pid}/fd") if int(fd) > 2]
    assert len(opened) == 1 + 1 + 2 + 2, "state directory, lock, slots"
    assert waiter.ask(f"any(map(os.get_inheritable, {opened}))") == "False"
    # Of the other slots its threads wait for on, it has no descriptor.
    assert files(waiter.pid) == mine
    fds = waiter.ask("[os.path.basename(os.readlink(f'/proc/self/fd/{fd}')) for fd in locks.fds]")
    assert sorted(eval(fds)) == mine
    for holder in holders:
        holder.ask("locks.free()")
    for number in {1, 2, 3} - {freed + 1}:
        eventually(lambda number=number: not blocked_on(slot(tmp_path, number)), "the ends")
    others = [actors(THREE), actors(THREE), actors(THREE)]

    def two_more():
        return [other.ask("locks.try_take()") for other in others[:2]] == ["True", "True"]

    eventually(two_more, "two free slots")
    assert others[2].ask("locks.try_take()") == "False"
    waiter.ask("locks.free()")
    assert others[2].ask("locks.try_take()") == "True"


def test_a_slot_that_was_waited_for_is_exclusive(actors, tmp_path):  # noqa: F811
    one = names("x", slots=1)
    holder, waiter, late = actors(one), actors(one), actors(one)
    assert holder.ask("locks.try_take()") == "True"
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(slot(tmp_path, 1)), "the wait")
    holder.ask("locks.free()")
    assert waiter.answer() == "None"
    late.begin("locks.take()")
    eventually(lambda: blocked_on(slot(tmp_path, 1)), "the next wait")
    waiter.ask("locks.free()")
    assert late.answer() == "None"


def test_a_waiter_can_wait_again(actors, tmp_path, full):  # noqa: F811
    holders, waiter = full
    for holder in holders:
        holder.ask("locks.free()")
    assert waiter.answer() == "None"
    waiter.ask("locks.free()")
    eventually(
        lambda: [holder.ask("locks.try_take()") for holder in holders] == ["True"] * 3, "the slots"
    )
    waiter.begin("locks.take()")
    for number in (1, 2, 3):
        eventually(lambda number=number: blocked_on(slot(tmp_path, number)), "the wait")
    holders[1].ask("locks.free()")
    assert waiter.answer() == "None"


def test_all_slots_freed_at_once_give_a_waiter_one(actors, tmp_path, full):  # noqa: F811
    holders, waiter = full
    for holder in holders:
        holder.begin("locks.free()")
    for holder in holders:
        holder.answer()
    assert waiter.answer() == "None"
    others = [actors(THREE), actors(THREE), actors(THREE)]
    eventually(
        lambda: [other.ask("locks.try_take()") for other in others] == ["True", "True", "False"],
        "two free slots",
    )


def test_who_has_no_slot_keeps_no_exclusive_lock_waiting(actors, tmp_path):  # noqa: F811
    one_of_one = names("x", slots=1)
    holder, late, alone = actors(one_of_one), actors(one_of_one), actors(names("x"))
    assert holder.ask("locks.try_in_turn()") == "True"
    assert late.ask("locks.try_in_turn()") == "False"
    assert alone.ask("locks.try_in_turn()") == "False"
    holder.ask("locks.free()")
    assert files(late.pid) == files(holder.pid) == []
    assert alone.ask("locks.try_in_turn()") == "True"
    assert late.ask("locks.try_in_turn()") == "False"


def test_a_slot_replaced_under_its_waiter_is_not_the_one_it_gets(actors, tmp_path):  # noqa: F811
    one = names("x", slots=1)
    holder, waiter, other = actors(one), actors(one), actors(one)
    assert holder.ask("locks.try_take()") == "True"
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(slot(tmp_path, 1)), "the wait")
    slot(tmp_path, 1).unlink()
    assert other.ask("locks.try_take()") == "True"
    holder.ask("locks.free()")
    eventually(lambda: blocked_on(slot(tmp_path, 1)), "the wait for the new file")
    other.ask("locks.free()")
    assert waiter.answer() == "None"
    assert waiter.ask("locks.is_current()") == "True"
    slot(tmp_path, 1).unlink()
    assert waiter.ask("locks.is_current()") == "False"


def test_a_main_file_that_was_deleted_is_not_current(actors, tmp_path):  # noqa: F811
    holder = actors(THREE)
    assert holder.ask("locks.is_current()").endswith("Error: [Errno 9] Bad file descriptor")
    assert holder.ask("locks.try_take()") == "True"
    (tmp_path / "state" / "locks" / "x.lock").unlink()
    assert holder.ask("locks.is_current()") == "False"


def test_a_slot_that_cannot_be_locked_is_an_error(actors, tmp_path, full):  # noqa: F811
    late = actors(THREE)
    late.inject("flock", "error=EIO", tmp_path / "trace", path=slot(tmp_path, 2))
    assert "Input/output error" in late.ask("locks._locks[0].take()")


def test_unlock_frees_slot_and_lock_for_all(actors):  # noqa: F811
    one = names("x", slots=1)
    holder, other, alone = actors(one), actors(one), actors(names("x"))
    assert holder.ask("locks.try_take()") == "True"
    holder.ask("(copies := [os.dup(fd) for fd in locks.fds])")
    holder.ask("locks.unlock()")
    assert other.ask("locks.try_take()") == "True"
    assert alone.ask("locks.try_take()") == "False"
    other.ask("locks.close()")
    assert alone.ask("locks.try_take()") == "True"


@pytest.mark.parametrize("current", [True, False])
def test_an_adopted_slot_is_the_one_that_was_taken(actors, tmp_path, current):  # noqa: F811
    holder = actors(THREE)
    first = "(first := lock.of_names((b'x',), state, shared=False, slots=3)).try_take()"
    assert holder.ask(first) == "True"
    assert holder.ask("locks.try_take()") == "True"
    assert files(holder.pid) == ["%%1-x.lock", "%%2-x.lock", "x.lock", "x.lock"]
    if not current:
        slot(tmp_path, 2).unlink()
    adopted = "(adopted := lock.of_names((b'x',), state, shared=False, slots=3)).adopt"
    assert holder.ask(f"{adopted}([os.dup(fd) for fd in locks.fds], [False])") == "None"
    holder.ask("locks.close()")
    assert holder.ask("adopted.is_current()") == str(current)
    other = actors(names("x"))
    holder.ask("first.free()")
    assert other.ask("locks.try_take()") == "False"
    holder.ask("adopted.free()")
    assert other.ask("locks.try_take()") == "True"
    assert files(holder.pid) == files(holder.pid, ".lock (deleted)") == []
