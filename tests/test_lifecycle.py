"""The life of a hold: recorded before it begins and before it is free."""

import errno
import fcntl
import os
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PATIENCE, eventually

import singlerun
from singlerun import lock
from singlerun.lifecycle import CrowdedError, Lifecycle, LockLostError
from singlerun.options import RUN_OPTIONS
from singlerun.outcome import Outcome
from singlerun.process.identity import Owner, here, start_time
from singlerun.recorder import Recorder
from singlerun.spec import RunSpec
from singlerun.store.run import FAILED, LOST, REFUSED, RUNNING, Ending, PausedError
from singlerun.store.sqlite_queue import SqliteQueue


class Lives:
    """Lifecycles in this process, each with a record of its own."""

    def __init__(self, state):
        self._state = state
        self._made = []

    def __call__(self, *names, recorder=Recorder, **more):
        given = {option.dest: option.default for option in RUN_OPTIONS}
        given |= {"name": names or (b"x",), "dir": self._state.path} | more
        told = []
        recorder = recorder(required=False, tell=told.append)
        life = Lifecycle(RunSpec(["true"], given), recorder, None)
        recorder.open(life.state)
        self._made.append((life, told))
        return life

    def acquired(self, *names, **more):
        """Return one that holds its locks, whose files were there before."""
        self(*names, **more).locks.try_take()
        self._made[-1][0].locks.free()
        life = self(*names, **more)
        assert life.acquire_at_once()
        return life

    def told(self, life):
        return next(told for one, told in self._made if one is life)

    def end(self):
        for life, _ in self._made:
            life.locks.free()
            life.recorder.close()
            life.state.close()


@pytest.fixture
def lives(state):
    lives = Lives(state)
    yield lives
    lives.end()


def is_held(state, name=b"x"):
    """Return whether a lock is held, also by this process."""
    hold = lock.of_names((name,), state, shared=False)
    try:
        return not hold.try_take()
    finally:
        hold.free()


@contextmanager
def a_process(marks=None):
    """Run a process while the block lasts."""
    with subprocess.Popen(["sleep", "infinity"], env=os.environ | (marks or {})) as process:
        try:
            yield process
        finally:
            process.kill()


def owner_of(process):
    return Owner(here(), process.pid, start_time(process.pid))


# -- acquire ---------------------------------------------------------------------------------------


def test_at_once_is_for_one_lock_that_was_there_and_left_nothing_open(lives, state, store):
    first = lives()
    assert not first.acquire_at_once(), "its file is new: another may have been deleted"
    assert first.former_owners() == []
    first.begin()
    first.bind(owner_of_this())
    first.end(Ending(Outcome(0)))
    first.release()
    second = lives()
    assert second.acquire_at_once()
    assert not lives().acquire_at_once(), "it is held"
    second.begin()
    second.release()
    assert not lives().acquire_at_once(), "a run was left open"
    assert not lives(b"a", b"b").acquire_at_once(), "would hold one for a moment"
    assert not is_held(state, b"a")


def owner_of_this():
    return Owner(here(), os.getpid(), start_time("self"))


def test_former_owners_that_live_are_returned_and_the_dead_closed(lives, store):
    """The lock was taken from both: its descriptors were closed, and the wrappers killed."""
    runs = []
    with a_process() as wrapper:
        for _ in range(2):
            life = lives.acquired() if not runs else lives()
            assert runs == [] or life.locks.try_take()
            life.run.wrapper = owner_of(wrapper)
            life.begin()
            life.locks.free()
            runs.append(life.run)
        marks = {"SINGLERUN_RUN_ID": str(runs[1].id), "SINGLERUN_TOKEN": str(runs[1].token)}
        with a_process(marks) as left:
            wrapper.kill()
            wrapper.wait()
            life = lives()
            assert not life.acquire_at_once()
            assert life.try_in_turn()
            (living,) = life.former_owners()
            assert (living[0].id, living[1]) == (runs[1].id, [left.pid])
            left.kill()
            left.wait()
            assert life.former_owners() == []
    assert [store.find(run.id).state for run in runs] == [LOST, LOST]


def test_a_lock_file_made_anew_proves_nothing_of_an_owner_out_of_sight(lives, state, store):
    life = lives.acquired()
    life.run.wrapper = Owner(type(here())("elsewhere", "another boot", 7), 4194303, 1)
    life.begin()
    life.locks.free()
    os.unlink(life.locks.paths[0])
    other = lives()
    assert not other.acquire_at_once()
    assert [run.id for run, _ in other.former_owners()] == [life.run.id]
    other.locks.free()
    third = lives()
    assert not third.acquire_at_once()
    assert third.former_owners() == [], "now the lock is the one that the owner would have"
    assert store.find(life.run.id).state == LOST


# -- begin -----------------------------------------------------------------------------------------


def test_a_start_whose_lock_file_was_deleted_is_refused(lives, state, store):
    life = lives.acquired()
    os.unlink(life.locks.paths[0])
    with pytest.raises(LockLostError):
        life.begin()
    found = store.find(life.run.id)
    assert (found.state, found.detail) == (
        REFUSED, "the lock file was deleted in the moment of the start",
    )  # fmt: skip
    life.release()
    life.ask_again()
    assert life.try_in_turn()
    life.begin()
    assert store.find(life.run.id).state == RUNNING


def test_a_slot_beside_as_many_as_there_are_is_none(lives, state, store):
    """One of them has lost its slot, and is seen by its record when the start is to be recorded."""
    first = lives.acquired(slots=2)
    second = lives(slots=2)
    assert second.acquire_at_once() or (second.try_in_turn() and not second.former_owners())
    for life in (first, second):
        life.begin()
        life.bind(owner_of_this())
    first.locks.free()  # its command closed the descriptor, and its wrapper was killed
    third = lives(slots=2)
    assert third.try_in_turn()
    with pytest.raises(CrowdedError):
        third.begin()
    assert (third.run.id, third.run.started_ns) == (None, None)
    first.end(Ending(Outcome(0)))
    third.begin()
    assert third.run.started_ns is not None


class Observer(Recorder):
    """Sees whether other writers are kept out when the record of a start begins."""

    __slots__ = ("is_alone",)

    def start(self, run, parent, *, heed_pause=True):
        with open(os.path.join(self._state.path, b"singlerun.db.lock")) as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.is_alone = True
            else:
                self.is_alone = False
        super().start(run, parent, heed_pause=heed_pause)


def test_none_starts_between_the_look_for_room_beside_others_and_the_record_of_the_start(lives):
    lives.acquired(slots=2).release()
    life = lives(slots=2, recorder=Observer)
    assert life.acquire_at_once()
    life.begin()
    assert life.recorder.is_alone


def test_a_slot_that_cannot_be_recorded_is_a_slot(lives, state):
    life = lives.acquired(slots=2)
    path = os.path.join(state.path, b"singlerun.db")
    os.rename(path, path + b".away")
    os.mkdir(path)
    life.begin()
    assert life.run.started_ns is not None
    assert len(lives.told(life)) == 1


def test_a_pause_is_heeded_unless_it_is_a_later_try(lives, state):
    queue = SqliteQueue(state)
    queue.pause(b"x", None)
    queue.close()
    life = lives.acquired()
    with pytest.raises(PausedError):
        life.begin()
    life.begin(heed_pause=False)


# -- bind, end, release ----------------------------------------------------------------------------


def test_what_is_bound_is_not_released_before_its_end_is_recorded(lives, state, store):
    life = lives.acquired()
    life.begin()
    life.bind(owner_of_this())
    life.release()
    assert is_held(state)
    assert store.find(life.run.id).ended_ns is None
    life.end(Ending(Outcome(3)))
    assert is_held(state)
    assert store.find(life.run.id).state == FAILED
    life.release()
    assert not is_held(state)


def test_what_was_ended_by_another_verb_may_be_released(lives, state):
    life = lives.acquired()
    life.begin()
    life.bind(owner_of_this())
    life.ended()
    life.release()
    assert not is_held(state)


def test_a_record_that_breaks_while_the_command_runs_refuses_nothing(lives, state):
    life = lives.acquired()
    life.begin()
    life.recorder.required = True
    life.bind(owner_of_this())
    path = os.path.join(state.path, b"singlerun.db")
    os.rename(path, path + b".away")
    os.mkdir(path)
    life.end(Ending(Outcome(0)))
    assert life.run.state == "succeeded"
    assert len(lives.told(life)) == 1
    life.release()
    assert not is_held(state)


def test_an_end_that_cannot_be_recorded_for_any_reason_is_told(lives, state, monkeypatch):
    """A clock that fails, as under a library that fakes it, has cost the command's status."""
    life = lives.acquired()
    life.begin()
    life.bind(owner_of_this())

    def fail():
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with monkeypatch.context() as broken:
        broken.setattr(time, "time_ns", fail)
        assert not life.end(Ending(Outcome(0)))
    assert lives.told(life)[-1] == "the end could not be recorded: invalid argument"
    life.release()
    assert not is_held(state)


class Command:
    """A command whose end is awaited by the last resort."""

    def last_resort(self, output):
        return Outcome(3, elapsed_ns=output)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(24, "Too many open files"), "too many open files"),
        (ImportError("No module named 'x'"), "ImportError: No module named 'x'"),
        (MemoryError(), "MemoryError"),
        (AssertionError(), "AssertionError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_fails_while_the_command_runs_is_told_and_the_command_awaited(lives, error, said):
    life = lives.acquired()

    def fail():
        raise error

    outcome = life.watch(Command(), fail, lambda: 7)
    assert (outcome.exit_code, outcome.elapsed_ns) == (3, 7)
    assert lives.told(life) == [f"{said}; waiting for the command all the same"]
    life.harmless("a hook could not be run", fail)
    assert lives.told(life)[1:] == [f"a hook could not be run: {said}"]


def test_a_block_records_its_end_before_it_is_free(state, store):
    """The record is kept from it for a moment; the lock must be held as long."""
    ids = []

    def block():
        with singlerun.hold("x", dir=os.fsdecode(state.path)) as held:
            ids.append((held.run_id, threading.get_native_id()))
            inside.set()
            leave.wait(PATIENCE)

    inside, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=block)
    thread.start()
    assert inside.wait(PATIENCE)
    (run_id, task) = ids[0]
    with store.exclusively():
        leave.set()
        wchan = Path(f"/proc/self/task/{task}/wchan")
        eventually(lambda: "nanosleep" in wchan.read_text(), "its wait for the record")
        assert is_held(state)
        assert store.find(run_id).ended_ns is None
    thread.join(PATIENCE)
    assert store.find(run_id).ended_ns is not None
    assert not is_held(state)
