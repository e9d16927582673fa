"""The waiting line between two system calls: stopped joiners, dead tickets, deleted directories."""

import fcntl
import os
import shutil
import signal
import threading
import time

import pytest
from actor import actors, names  # noqa: F401 - a fixture
from conftest import PATIENCE, blocked_on, eventually

from singlerun.errors import StateDirError
from singlerun.lock.line import Line, Lines, OccupiedError, position

X = names("x")
TAKEN = "[locks.take(), locks.is_current()]"


@pytest.fixture
def lines(tmp_path):
    return tmp_path / "state" / "lines"


def tickets(line):
    try:
        return sorted(os.listdir(line))
    except FileNotFoundError:
        return []


def lock_path(lines, name="x"):
    return lines.parent / "locks" / f"{name}.lock"


def blocked_on_ticket(line):
    return any(blocked_on(line / name) for name in tickets(line))


@pytest.fixture
def held(actors, lines):  # noqa: F811
    """A holder of x."""
    holder = actors(X)
    assert holder.ask("locks.try_in_turn()") == "True"
    return holder


@pytest.fixture
def dead_ticket(actors, lines, held):  # noqa: F811
    """The ticket of a waiter that was killed, in the line of x, which is held."""
    waiter = actors(X)
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines)), "the wait")
    waiter.kill()
    (name,) = tickets(lines / "x")
    return name


# -- stopped processes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "when"), [("/^mkdir", 2), ("openat", 2), ("fcntl", 1), ("flock", 1)]
)
def test_a_process_stopped_while_it_joins_holds_up_no_other(actors, lines, tmp_path, call, when):  # noqa: F811
    joiner, other, later = actors(X), actors(X), actors(X)
    joiner.begin_and_stop_at(TAKEN, call, tmp_path / "trace", when=when)
    has_ticket = call == "flock"
    assert other.ask("locks.try_in_turn()") == str(not has_ticket), "one that is locked counts"
    other.ask("locks.free()")
    assert other.ask("locks.try_take()") == "True"
    later.begin(TAKEN)
    eventually(
        lambda: any(name.endswith(f"-{later.pid}") for name in tickets(lines / "x")), "its ticket"
    )
    if not has_ticket:
        other.ask("locks.free()")
        assert later.answer() == "[None, True]"
    joiner.go_on()
    eventually(lambda: blocked_on(lock_path(lines)), "its wait for the lock")
    for holder, waiter in [(other, joiner), (joiner, later)] if has_ticket else [(later, joiner)]:
        holder.ask("locks.free()")
        assert waiter.answer() == "[None, True]"
        assert waiter.ask("locks.out_of_line") == "None"
    assert tickets(lines / "x") == []


def test_a_process_stopped_while_it_looks_holds_up_no_other(actors, lines, tmp_path, dead_ticket):  # noqa: F811
    looker, other = actors(X), actors(X)
    looker.begin_and_stop_at("locks.is_awaited()", "flock", tmp_path / "trace")
    assert other.ask("locks.is_awaited()") == "False", "the looker is no waiter"
    assert tickets(lines / "x") == []
    other.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines)), "the wait")
    looker.go_on()
    assert looker.answer() == "False"
    assert len(tickets(lines / "x")) == 1


def test_a_ticket_taken_for_dead_before_it_was_locked_is_made_anew(actors, lines, tmp_path, held):  # noqa: F811
    joiner, looker = actors(X), actors(X)
    joiner.begin_and_stop_at("locks.take()", "fcntl", tmp_path / "trace")
    (first,) = tickets(lines / "x")
    assert looker.ask("locks.is_awaited()") == "False"
    assert tickets(lines / "x") == []
    joiner.go_on()
    eventually(lambda: blocked_on(lock_path(lines)), "its wait for the lock")
    assert tickets(lines / "x") != [first]
    assert looker.ask("locks.is_awaited()") == "True"


def test_two_tickets_of_one_moment_get_two_names(tmp_path):
    """As two threads of one process may want them."""
    line = Line(os.fsencode(tmp_path / "line"))
    ticket = line.issue(b"1-1")
    assert ticket >= 0
    assert line.issue(b"1-1") == -1
    assert list(line.live()) == [b"1-1"]
    os.close(ticket)


def test_a_ticket_looked_at_before_it_was_locked_is_made_anew(actors, lines, tmp_path, held):  # noqa: F811
    joiner, looker = actors(X), actors(X)
    joiner.begin_and_stop_at("locks.take()", "fcntl", tmp_path / "joiner")
    (first,) = tickets(lines / "x")
    looker.begin_and_stop_at("locks.is_awaited()", "flock", tmp_path / "looker")
    joiner.go_on()
    eventually(lambda: blocked_on(lock_path(lines)), "its wait for the lock")
    (second,) = tickets(lines / "x")
    assert second > first
    looker.go_on()
    assert looker.answer() == "False"
    assert tickets(lines / "x") == [second]
    held.ask("locks.free()")
    assert joiner.answer() == "None"
    assert joiner.ask("locks.out_of_line") == "None"


def test_a_ticket_is_deleted_before_its_waiter_can_lock_it(actors, lines, tmp_path, held):  # noqa: F811
    """The looker has found it unlocked, and is stopped as it has let go of it again."""
    joiner, looker = actors(X), actors(X)
    joiner.begin_and_stop_at("locks.take()", "fcntl", tmp_path / "joiner")
    (first,) = tickets(lines / "x")
    # The first close(2) is that of the low descriptor, which was moved out of the way.
    trace, path = tmp_path / "looker", lines / "x" / first
    looker.begin_and_stop_at("locks.is_awaited()", "close", trace, when=2, path=path)
    joiner.go_on()
    eventually(lambda: blocked_on(lock_path(lines)), "its wait for the lock")
    looker.go_on()
    looker.answer()
    (mine,) = [name for name in tickets(lines / "x") if name.endswith(f"-{joiner.pid}")]
    assert mine != first
    assert actors(X).ask("locks.is_awaited()") == "True"


def test_a_waiter_deletes_a_ticket_before_its_owner_can_lock_it(actors, lines, tmp_path, held):  # noqa: F811
    """As above, but the other one is a waiter that takes the ticket before it for a dead one."""
    joiner, other = actors(X), actors(X)
    joiner.begin_and_stop_at("locks.take()", "fcntl", tmp_path / "joiner")
    (first,) = tickets(lines / "x")
    trace, path = tmp_path / "other", lines / "x" / first
    other.begin_and_stop_at("locks.take()", "close", trace, when=2, path=path)
    joiner.go_on()
    eventually(lambda: blocked_on_ticket(lines / "x"), "the wait of the joiner, behind it")
    other.go_on()
    eventually(lambda: blocked_on(lock_path(lines)) == 1, "the wait of the front")
    found = tickets(lines / "x")
    assert first not in found
    assert [name.partition("-")[2] for name in found] == [str(other.pid), str(joiner.pid)]


@pytest.mark.parametrize("what", ["line", "lines"])
def test_a_line_deleted_before_its_first_ticket_is_joined_anew(actors, lines, tmp_path, held, what):  # noqa: F811
    joiner = actors(X)
    trace = tmp_path / "trace"
    joiner.begin_and_stop_at("locks.take()", "/chmod", trace, path=lines / "x")
    shutil.rmtree(lines / "x" if what == "line" else lines)
    joiner.go_on()
    eventually(lambda: blocked_on(lock_path(lines)), "its wait for the lock")
    assert len(tickets(lines / "x")) == 1
    held.ask("locks.free()")
    assert joiner.answer() == "None"
    assert joiner.ask("locks.out_of_line") == "None"


# -- order -------------------------------------------------------------------------------------


def test_the_front_keeps_its_ticket_until_it_has_the_lock(actors, lines, held):  # noqa: F811
    waiter, other = actors(X), actors(X)
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines)), "the wait")
    os.kill(waiter.pid, signal.SIGSTOP)
    held.ask("locks.free()")
    assert other.ask("locks.try_in_turn()") == "False"
    os.kill(waiter.pid, signal.SIGCONT)
    assert waiter.answer() == "None"


def test_waiters_sleep_on_the_nearest_before_them(actors, lines, held):  # noqa: F811
    waiters = []
    for number in range(4):
        waiters.append(actors(X))
        waiters[-1].begin("locks.take()")
        eventually(lambda count=number + 1: len(tickets(lines / "x")) == count, "the ticket")
    found = [lines / "x" / name for name in tickets(lines / "x")]
    for path in found[:-1]:
        eventually(lambda path=path: blocked_on(path) == 1, "one on each")
    assert [position(os.fsencode(lines / "x"), waiter.pid) for waiter in waiters] == [1, 2, 3, 4]
    waiters[1].kill()
    eventually(lambda: len(tickets(lines / "x")) == 3, "the end of its ticket")
    eventually(lambda: blocked_on(found[0]) == 1, "the third behind the first")
    held.ask("locks.free()")
    for waiter, behind in [(waiters[0], waiters[2]), (waiters[2], waiters[3])]:
        assert waiter.answer() == "None"
        assert not behind.is_done()
        waiter.ask("locks.free()")
    assert waiters[3].answer() == "None"


def test_two_waiters_for_two_locks_stand_in_one_order_in_both_lines(actors, lines, tmp_path):  # noqa: F811
    """The first is stopped between its two tickets, while the other joins both lines."""
    first, second = actors(names("a", "b")), actors(names("b", "a"))
    first.begin_and_stop_at("locks.take()", "/^mkdir", tmp_path / "trace", path=lines / "b")
    second.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "b")) == 1, "the other's ticket")
    first.go_on()
    assert first.answer() == "None"
    assert not second.is_done()
    first.ask("locks.free()")
    assert second.answer() == "None"


def test_a_retry_is_a_retry_in_all_lines(actors, lines, tmp_path):  # noqa: F811
    """One of its two tickets is taken for dead; with another name in one of the lines it would
    stand before the other waiter in one of them, and behind it in the other."""
    holders = [actors(names(name)) for name in "ab"]
    assert [holder.ask("locks.try_take()") for holder in holders] == ["True", "True"]
    first, second, looker = actors(names("a", "b")), actors(names("a", "b")), actors(names("b"))
    first.begin_and_stop_at("locks.take()", "fcntl", tmp_path / "trace", when=2)
    assert [len(tickets(lines / name)) for name in "ab"] == [1, 1]
    assert looker.ask("locks.is_awaited()") == "False"
    second.begin("locks.take()")
    eventually(lambda: blocked_on(lines / "a" / tickets(lines / "a")[0]) == 1, "the other's wait")
    first.go_on()
    eventually(lambda: blocked_on(lock_path(lines, "a")) == 1, "the wait for the lock")
    assert tickets(lines / "a") == tickets(lines / "b")
    for holder in holders:
        holder.ask("locks.free()")
    for waiter in (second, first):
        assert waiter.answer() == "None"
        waiter.ask("locks.free()")


def test_locks_are_taken_in_one_order(actors, lines):  # noqa: F811
    """Whichever order they are named in, no job holds one lock while it sleeps on one before it."""
    holder = actors(names("a"))
    assert holder.ask("locks.try_take()") == "True"
    locks = "lock.LockSet([NamedLock(n, state, shared=False) for n in (b'b.lock', b'a.lock')], [])"
    waiter, other = actors(locks), actors(names("b"))
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines, "a")) == 1, "the wait")
    assert other.ask("locks.try_in_turn()") == "True"


def test_all_or_none(actors):  # noqa: F811
    holder, both, first = actors(names("b")), actors(names("a", "b")), actors(names("a"))
    assert holder.ask("locks.try_in_turn()") == "True"
    assert both.ask("locks.try_in_turn()") == "False"
    assert first.ask("locks.try_in_turn()") == "True"


def test_a_ticket_bears_the_moment_of_arrival_and_the_process(tmp_path):
    """By the clock that no user sets; padded, so that names sort as numbers do."""
    line = Line(os.fsencode(tmp_path / "line"))
    lines = Lines([line])
    before = time.monotonic_ns()
    lines.join(pid=4711)
    (name,) = tickets(tmp_path / "line")
    arrival, _, pid = name.partition("-")
    assert before <= int(arrival) <= time.monotonic_ns()
    assert len(arrival) == 19
    assert pid == "4711"
    assert position(line.path, 4711) == 1
    lines.leave()


def test_a_waiter_for_two_locks_waits_in_both_lines(actors, lines):  # noqa: F811
    holder, first, both = actors(names("b")), actors(names("b")), actors(names("a", "b"))
    assert holder.ask("locks.try_take()") == "True"
    first.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines, "b")) == 1, "the wait for the lock")
    both.begin("locks.take()")
    eventually(lambda: blocked_on(lines / "b" / tickets(lines / "b")[0]) == 1, "behind the first")
    assert blocked_on(lock_path(lines, "b")) == 1


def test_a_holder_holds_whoever_waits(actors, lines, held):  # noqa: F811
    waiter = actors(X)
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines)), "the wait")
    assert held.ask("locks.try_in_turn()") == "True"
    held.ask("locks.free()")
    assert waiter.answer() == "None"
    held.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines)), "the wait")
    assert waiter.ask("locks.try_in_turn()") == "True"
    waiter.ask("(kept := [os.dup(fd) for fd in locks.fds])")
    waiter.ask("locks.close()")
    assert waiter.ask("locks.try_in_turn()") == "False"
    waiter.ask("locks.adopt(kept, [False])")
    assert waiter.ask("locks.try_in_turn()") == "True"
    waiter.ask("locks.free()")
    assert held.answer() == "None"
    assert waiter.ask("locks.try_in_turn()") == "False"


def test_all_files_must_be_current(actors, lines):  # noqa: F811
    for name in "ab":
        run = actors(names("a", "b"))
        assert run.ask("locks.try_take()") == "True"
        assert run.ask("locks.is_current()") == "True"
        lock_path(lines, name).unlink()
        assert run.ask("locks.is_current()") == "False"
        run.ask("locks.free()")


# -- one waiter at most: unless_occupied ---------------------------------------------------------


COALESCE = "locks.take(unless_occupied=True)"


def test_of_two_that_join_unless_occupied_one_waits(actors, lines, tmp_path, held):  # noqa: F811
    """The first is stopped after it has looked, and before it has a ticket."""
    first, second = actors(X), actors(X)
    first.begin_and_stop_at(COALESCE, "fcntl", tmp_path / "trace", when=2)
    second.begin(COALESCE)
    eventually(lambda: blocked_on(lines / "x") == 1, "the wait for the first's decision")
    first.go_on()
    assert second.answer().startswith("OccupiedError")
    assert len(tickets(lines / "x")) == 1
    held.ask("locks.free()")
    assert first.answer() == "None"


def test_gates_are_shut_in_one_order(actors, lines, tmp_path):  # noqa: F811
    holders = [actors(names(name)) for name in "ab"]
    assert [holder.ask("locks.try_take()") for holder in holders] == ["True", "True"]
    both = "lock.LockSet([NamedLock(n + b'.lock', state, shared=False) for n in {0}],"
    both += " [lock.Line(state.line_path(n)) for n in {0}])"
    first, second = actors(both.format("(b'a', b'b')")), actors(both.format("(b'b', b'a')"))
    first.begin_and_stop_at(COALESCE, "flock", tmp_path / "trace", when=1)
    second.begin(COALESCE)
    eventually(lambda: blocked_on(lines / "a") == 1, "the wait for the gate of a")
    first.go_on()
    assert second.answer().startswith("OccupiedError")
    for holder in holders:
        holder.ask("locks.free()")
    assert first.answer() == "None"


def test_a_gate_that_was_deleted_is_none(actors, lines, held):  # noqa: F811
    """Another process may be deciding behind the gate of the line that took its place."""
    waiter = actors(X)
    gates = []
    for _ in range(2):
        (lines / "x").mkdir(parents=True)
        gates.append(os.open(lines / "x", os.O_RDONLY))
        fcntl.flock(gates[-1], fcntl.LOCK_EX)
        if len(gates) == 1:
            waiter.begin(COALESCE)
            eventually(lambda: blocked_on(lines / "x") == 1, "the wait for the gate")
            shutil.rmtree(lines)
    os.close(gates[0])
    eventually(lambda: blocked_on(lines / "x") == 1, "the wait for the new gate")
    os.close(gates[1])
    eventually(lambda: len(tickets(lines / "x")) == 1, "its ticket")


def test_an_occupied_line_is_left_as_it_was(tmp_path):
    line = Line(os.fsencode(tmp_path / "line"))
    first, second = Lines([line]), Lines([line])
    first.join()
    before = tickets(tmp_path / "line")
    with pytest.raises(OccupiedError):
        second.join(unless_occupied=True)
    assert tickets(tmp_path / "line") == before
    with pytest.raises(OccupiedError):
        second.join(unless_occupied=True)  # and its gate is open
    first.leave()
    second.join(unless_occupied=True)
    second.leave()
    assert tickets(tmp_path / "line") == []


# -- nothing leaks -------------------------------------------------------------------------------


def test_a_ticket_made_after_the_wait_was_given_up_is_deleted(tmp_path):
    path = tmp_path / "line"
    path.mkdir()
    lines = Lines([Line(os.fsencode(path))])
    gate = os.open(path, os.O_RDONLY)
    fcntl.flock(gate, fcntl.LOCK_EX)
    joining = threading.Thread(target=lines.join, kwargs={"unless_occupied": True})
    joining.start()
    eventually(lambda: blocked_on(path) == 1, "the wait for the gate")
    lines.abandon()
    os.close(gate)
    joining.join(PATIENCE)
    assert tickets(path) == []
    lines.leave()


def test_a_wait_that_is_given_up_leaves_no_ticket(tmp_path):
    lines = Lines([Line(os.fsencode(tmp_path / name)) for name in "ab"])
    lines.join()
    assert tickets(tmp_path / "a") == tickets(tmp_path / "b") != []
    lines.abandon()
    assert tickets(tmp_path / "a") == tickets(tmp_path / "b") == []
    lines.leave()


def test_what_is_taken_after_the_wait_was_given_up_is_freed(actors, lines, held):  # noqa: F811
    waiter, other = actors(X), actors(X)
    waiter.ask("(waiting := __import__('threading').Thread(target=locks.take))")
    waiter.ask("waiting.start()")
    eventually(lambda: blocked_on(lock_path(lines)), "the wait")
    assert waiter.ask("locks.abandon()") == "None"
    assert tickets(lines / "x") == []
    held.ask("locks.free()")
    waiter.ask("waiting.join(30)")
    assert waiter.ask("waiting.is_alive()") == "False"
    assert other.ask("locks.try_take()") == "True"


def test_giving_up_deletes_what_is_held_and_was_created(actors, lines):  # noqa: F811
    creator, other = actors(X), actors(X)
    assert creator.ask("locks.try_take()") == "True"
    creator.ask("locks.abandon()")
    assert not lock_path(lines).exists()
    creator, waiter = actors(X), actors(X)
    waiter.ask("locks._locks[0].open()")
    assert waiter.ask("bool(locks.created)") == "True"
    assert creator.ask("locks.try_take()") == "True"
    waiter.ask("locks.abandon()")
    assert lock_path(lines).exists(), "it is another's lock"
    assert other.ask("locks.try_take()") == "False"


def test_giving_up_frees_the_locks(actors, held):  # noqa: F811
    other = actors(X)
    held.ask("locks.abandon()")
    assert other.ask("locks.try_take()") == "True"


def test_the_holder_deletes_the_last_of_the_dead(lines, held, dead_ticket):
    held.ask("locks.free()")
    assert tickets(lines / "x") == []


def test_a_line_that_cannot_be_read_keeps_no_lock_from_being_freed(lines, held):
    shutil.rmtree(lines, ignore_errors=True)
    lines.mkdir()
    (lines / "x").touch()
    assert held.ask("locks.free()") == "None"


def test_a_line_that_cannot_be_joined_is_left(tmp_path):
    good, bad = tmp_path / "a", tmp_path / "b"
    bad.touch()
    lines = Lines([Line(os.fsencode(path)) for path in (good, bad)])
    open_before = os.listdir("/proc/self/fd")
    with pytest.raises(StateDirError):
        lines.join()
    assert tickets(good) == []
    assert os.listdir("/proc/self/fd") == open_before


def test_the_dead_are_cleared_away_and_the_living_are_not(tmp_path, dead_ticket, lines, actors):  # noqa: F811
    waiter = actors(X)
    waiter.begin("locks.take()")
    eventually(lambda: blocked_on(lock_path(lines)), "the wait")
    assert dead_ticket not in tickets(lines / "x"), "by the waiter behind it"
    (lines / "x" / "0000000000000000001-1").touch()
    (lines / "x" / "9999999999999999998-1").touch()
    (lines / "x" / "9999999999999999999-1").touch()
    (lines / "x" / "9999999999999999999-x").touch()
    (lines / "x" / "notes").touch()
    line = Line(os.fsencode(lines / "x"))
    line.trim()
    (live,) = (name for name in tickets(lines / "x") if name.endswith(f"-{waiter.pid}"))
    others = ["9999999999999999999-x", "notes"]
    assert tickets(lines / "x") == ["0000000000000000001-1", live, *others]
    assert Lines([line]).are_empty() is False
    assert tickets(lines / "x") == [live, *others]
    (lines / "x" / "9999999999999999999-1").touch()
    Lines([line]).sweep()
    assert tickets(lines / "x") == [live, *others]
    assert position(line.path, waiter.pid) == 1
    assert position(line.path, os.getpid()) is None


# -- deleted lines -------------------------------------------------------------------------------


@pytest.fixture
def queue(actors, lines, held):  # noqa: F811
    """Three waiters for x, which is held, whose line was deleted under them."""
    waiters = []
    for number in range(3):
        waiters.append(actors(X))
        waiters[-1].begin("locks.take()")
        eventually(lambda count=number + 1: len(tickets(lines / "x")) == count, "the ticket")
    eventually(lambda: blocked_on(lines / "x" / tickets(lines / "x")[1]), "the last")
    shutil.rmtree(lines)
    return waiters


def test_a_later_waiter_passes_none_of_a_deleted_line(actors, lines, held, queue):  # noqa: F811
    late = actors(X)
    late.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "x")) == 4, "all four in line")
    path = os.fsencode(lines / "x")
    assert [position(path, waiter.pid) for waiter in [*queue, late]] == [1, 2, 3, 4]
    queue[1].kill()
    held.ask("locks.free()")
    for waiter, behind in [(queue[0], queue[2]), (queue[2], late), (late, None)]:
        assert waiter.answer() == "None"
        assert behind is None or not behind.is_done()
        waiter.ask("locks.free()")
    assert tickets(lines / "x") == []


def test_the_dead_of_a_deleted_line_hold_up_no_waiter(actors, lines, held, queue):  # noqa: F811
    late, other = actors(X), actors(X)
    late.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "x")) == 4, "all four in line")
    for waiter in (queue[2], queue[1], queue[0]):
        waiter.kill()
    held.ask("locks.free()")
    assert late.answer() == "None"
    late.ask("locks.free()")
    assert other.ask("locks.try_in_turn()") == "True"
    assert tickets(lines / "x") == []


def test_a_second_waiter_of_a_deleted_line_waits_for_no_other(actors, lines, tmp_path, held, queue):  # noqa: F811
    """The first is stopped while it looks for the deleted tickets."""
    first, second = actors(X), actors(X)
    first.begin_and_stop_at("locks.take()", "openat", tmp_path / "trace", path="/proc/locks")
    second.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "x")) == 4, "its ticket behind the three")
    first.go_on()
    eventually(lambda: len(tickets(lines / "x")) == 5, "the ticket of the first")


def test_a_deleted_line_is_found_through_its_real_path(actors, lines, tmp_path, held, queue):  # noqa: F811
    (tmp_path / "short").symlink_to(tmp_path)
    late = actors(X, tmp_path / "short" / "state")
    late.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "x")) == 4, "all four in line")


def test_the_tickets_of_another_line_are_not_restored(actors, lines, held, queue):  # noqa: F811
    """Its name has the same length, so what is cut off its path is a ticket's name, too."""
    holder, other, late = actors(names("y")), actors(names("y")), actors(names("y"))
    assert holder.ask("locks.try_take()") == "True"
    other.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "y")) == 1, "its ticket")
    shutil.rmtree(lines)
    late.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "y")) >= 2, "the line")
    waiting = [name.partition("-")[2] for name in tickets(lines / "y")]
    assert waiting == [str(other.pid), str(late.pid)]


def test_a_waiter_that_is_gone_with_its_descriptor_is_dead(actors, lines, tmp_path, held, queue):  # noqa: F811
    """Its PID may be another user's by now, whose descriptors can't be looked at."""
    late, looker = actors(X), actors(X)
    late.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "x")) == 4, "all four in line")
    for number, error in enumerate(["ENOENT", "ESRCH", "EACCES"]):
        (lines / "x" / f"{number + 1:019}-1").symlink_to("/proc/1/fd/1")
        looker.inject("readlink", f"error={error}:when=2", tmp_path / error)
        assert looker.ask("locks.is_awaited()") == "True"
        assert len(tickets(lines / "x")) == 4
        looker._tracer.terminate()
        looker._tracer.wait(PATIENCE)
        looker._tracer.stderr.close()


def test_a_ticket_is_restored_from_its_own_waiter(actors, lines, held, queue):  # noqa: F811
    """The waiter behind it has it open too, but may die before it."""
    for number in range(5):  # for the processes are looked at in any order
        (lines / "x").mkdir(parents=True, exist_ok=True)
        with open(lines / "x" / "notes", "w") as notes:
            fcntl.flock(notes, fcntl.LOCK_EX)
            shutil.rmtree(lines)
            late = actors(X)
            late.begin("locks.take()")
            eventually(lambda count=number + 4: len(tickets(lines / "x")) == count, "the line")
        for name in tickets(lines / "x")[:-1]:
            link = os.readlink(lines / "x" / name)
            assert link.startswith(f"/proc/{name.partition('-')[2]}/fd/")


@pytest.mark.parametrize("deleted", [False, True])
def test_a_link_to_a_descriptor_that_was_used_again_is_dead(tmp_path, deleted):
    """It leads to another file by now, though to one that is locked too."""
    line = Line(os.fsencode(tmp_path / "line"))
    (tmp_path / "line").mkdir()
    with open(tmp_path / "file", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if deleted:
            (tmp_path / "file").unlink()
        name = f"{1:019}-{os.getpid()}"
        os.symlink(f"/proc/self/fd/{file.fileno()}", tmp_path / "line" / name)
        assert list(line.live()) == []
    assert tickets(tmp_path / "line") == []


@pytest.mark.parametrize("when", [2, 3], ids=["link", "ticket"])  # the first lists the line
def test_too_many_open_files_make_no_waiter_dead(actors, lines, tmp_path, held, queue, when):  # noqa: F811
    late, other = actors(X), actors(X)
    late.begin("locks.take()")
    eventually(lambda: len(tickets(lines / "x")) == 4, "all four in line")
    other.inject("openat", f"error=EMFILE:when={when}", tmp_path / "trace")
    assert other.ask("locks.is_awaited()") == "True"
    assert len(tickets(lines / "x")) == 4


def test_a_ticket_that_cannot_be_locked_leaves_no_open_file(actors, lines, tmp_path):  # noqa: F811
    waiter = actors(X)
    opened = "os.listdir('/proc/self/fd')"
    before = waiter.ask(opened)
    waiter.inject("flock", "error=ENOLCK:when=1", tmp_path / "trace")
    assert waiter.ask("locks.stand_in_line()") == "None"
    assert "no locks available; see dmesg(1)" in waiter.ask("locks.out_of_line")
    assert waiter.ask(opened) == before
