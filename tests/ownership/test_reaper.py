"""Records of the dead are closed on proof alone, with their lock held, and one by one."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import PATIENCE, eventually
from halting import Halted
from owners import ELSEWHERE, dead, living, owner_of, running, waiting

from singlerun import lock
from singlerun.outcome import Outcome
from singlerun.ownership import reaper
from singlerun.store.run import LOST, RUNNING, STOPPED, SUCCEEDED, WAITING, Ending


def settle(store, *runs, shared=False, proven=True, slots=None):
    """Settle runs; return the ids of those that live, and the state in which each is now."""
    found = reaper.settle(store, list(runs), shared=shared, proven=proven, slots=slots)
    return [(run.id, pids) for run, pids in found], [store.find(run.id).state for run in runs]


def reap(store, state, **more):
    return [(one.run.id, one.state, one.action) for one in reaper.reap(store, state, **more)]


def taken(state, name=b"x", *, shared=False, slots=None):
    """Return a lock, taken, whose file was there before."""
    for _ in range(2):
        hold = lock.of_names((name,), state, shared=shared, slots=slots)
        assert hold.try_take()
        if not hold.created:
            return hold
        hold.free()
    raise AssertionError


# -- settle ----------------------------------------------------------------------------------------


def test_an_owner_out_of_sight_is_closed_by_the_proof_of_its_lock_alone(store):
    run = running(store, ELSEWHERE)
    assert settle(store, run, proven=False) == ([(run.id, [])], [RUNNING])
    assert settle(store, run, proven=True) == ([], [LOST])


def test_a_dead_owner_needs_no_other_proof(store):
    run = running(store, dead())
    assert settle(store, run, proven=False) == ([], [LOST])
    assert store.find(run.id).detail == "died without recording an exit status"


def test_what_a_dead_owner_left_lives_whatever_the_lock_proves(store):
    run = running(store, dead())
    with living(run) as left:
        assert settle(store, run, proven=True) == ([(run.id, [left.pid])], [RUNNING])


def test_a_living_owner_whose_lock_was_taken_lives(store):
    with living() as wrapper, living() as command:
        run = running(store, owner_of(wrapper), command=owner_of(command))
        alive = [(run.id, [command.pid, wrapper.pid])]
        assert settle(store, run) == (alive, [RUNNING])


def test_what_waits_owns_nothing_and_is_closed_if_it_is_dead(store):
    with living() as wrapper:
        runs = [waiting(store, owner) for owner in (dead(), ELSEWHERE, owner_of(wrapper))]
        assert settle(store, *runs) == ([], [STOPPED, WAITING, WAITING])
    assert store.find(runs[0].id).detail == reaper.DIED_WAITING


def test_a_reader_proves_nothing_of_other_readers(store):
    with living() as wrapper:
        owners = (ELSEWHERE, owner_of(wrapper), dead())
        runs = [running(store, owner, shared=True) for owner in owners]
        assert settle(store, *runs, shared=True) == ([], [RUNNING, RUNNING, LOST])
        assert settle(store, runs[1], shared=False)[0], "but a writer excludes them"


def test_a_reader_proves_the_end_of_a_writer(store):
    with living() as wrapper:
        alive, unseen = running(store, owner_of(wrapper)), running(store, ELSEWHERE)
        living_ids, states = settle(store, alive, unseen, shared=True)
    assert ([number for number, _ in living_ids], states) == ([alive.id], [RUNNING, LOST])


def test_a_holder_of_a_slot_is_no_fellow_of_a_reader(store):
    with living() as wrapper:
        run = running(store, owner_of(wrapper), shared=True, slots=2)
        assert settle(store, run, shared=True)[0] == [(run.id, [wrapper.pid])]
        assert settle(store, run, shared=True, slots=2)[0] == []
        reader = running(store, owner_of(wrapper), shared=True)
        assert settle(store, reader, shared=True, slots=2)[0] == [(reader.id, [wrapper.pid])]


def test_as_many_as_there_are_slots_leave_no_room(store):
    """Although we have a slot: one of them has lost its own."""
    with living() as one, living() as two:
        runs = [running(store, owner_of(p), shared=True, slots=2) for p in (one, two)]
        assert settle(store, runs[0], shared=True, slots=2)[0] == []
        assert len(settle(store, *runs, shared=True, slots=2)[0]) == 2
    orphan = running(store, dead(), shared=True, slots=1)
    with living(orphan) as left:
        assert settle(store, orphan, shared=True, slots=1)[0] == [(orphan.id, [left.pid])]


def test_a_record_that_cannot_be_closed_hides_no_living_owner(store, state):
    with living() as wrapper:
        runs = [waiting(store, dead()), running(store, dead()), running(store, owner_of(wrapper))]
        path = os.path.join(state.path, b"singlerun.db")
        os.rename(path, path + b".away")
        os.mkdir(path)
        found = reaper.settle(store, runs, shared=False, proven=True)
        assert [run.id for run, _ in found] == [runs[2].id]
        os.rmdir(path)
        os.rename(path + b".away", path)
    assert [store.find(run.id).state for run in runs] == [WAITING, RUNNING, RUNNING]


# -- reap ------------------------------------------------------------------------------------------


def test_a_dry_run_closes_nothing(store, state):
    taken(state).free()
    zombie, unseen, gone = running(store, dead()), running(store, ELSEWHERE), waiting(store, dead())
    found = reap(store, state, dry_run=True)
    assert [(number, action) for number, _, action in found] == [
        (run.id, reaper.WOULD_CLOSE) for run in (zombie, unseen, gone)
    ]
    assert [run.state for run in store.open_runs()] == [RUNNING, RUNNING, WAITING]
    found = reap(store, state)
    assert found == [
        (zombie.id, LOST, reaper.CLOSED),
        (unseen.id, LOST, reaper.CLOSED),
        (gone.id, STOPPED, reaper.CLOSED),
    ]
    assert store.open_runs() == []


def test_what_holds_the_lock_is_not_closed(store, state):
    zombie, unseen = running(store, dead()), running(store, ELSEWHERE)
    hold = taken(state)
    with living(inheriting=hold.fds):
        assert reap(store, state) == [(zombie.id, "zombie", reaper.STILL_HELD)]
    assert [run.id for run in store.open_runs()] == [zombie.id, unseen.id]
    hold.free()
    assert len(reap(store, state)) == 2


def test_a_lock_file_made_anew_proves_nothing(store, state):
    unseen, waiter = running(store, ELSEWHERE), waiting(store, ELSEWHERE)
    assert reap(store, state) == []
    assert [run.id for run in store.open_runs()] == [unseen.id, waiter.id]


def test_reap_frees_the_lock_that_it_took(store, state):
    running(store, dead())
    assert reap(store, state)
    taken(state).free()


def test_what_changes_while_others_are_reaped_is_looked_at_again(store, state):
    """Killing an orphan takes its time: a zombie may have been closed, a waiter have started."""
    taken(state).free()
    runs = [running(store, dead()), running(store, dead()), waiting(store, dead())]
    steps = reaper.reap(store, state)
    assert next(steps).run.id == runs[0].id
    store.finish_run(runs[1], Ending(Outcome(0)))
    store.start_run(runs[2], None)
    assert list(steps) == []
    states = [store.find(run.id).state for run in runs]
    assert states == [LOST, SUCCEEDED, RUNNING]


def test_an_orphan_is_killed_on_demand_alone(store, state):
    taken(state).free()
    orphan = running(store, dead())
    with living(orphan) as left:
        assert reap(store, state) == [(orphan.id, "orphan", reaper.LEFT)]
        assert reap(store, state, kill_orphans=True, dry_run=True) == [
            (orphan.id, "orphan", reaper.WOULD_KILL)
        ]
        assert left.poll() is None
        assert reap(store, state, kill_orphans=True) == [(orphan.id, LOST, reaper.KILLED)]
        assert left.wait(PATIENCE) == -signal.SIGTERM
    assert store.find(orphan.id).state == LOST


def test_an_orphan_that_lost_its_lock_to_another_is_only_half_killed(store, state):
    orphan, hold = running(store, dead()), taken(state)
    with living(orphan) as left:
        found = reap(store, state, kill_orphans=True)
        assert found == [(orphan.id, "orphan", reaper.HALF_KILLED)]
        left.wait(PATIENCE)
    hold.free()


@pytest.mark.parametrize("look", [["reap"], ["is-running", "x"]], ids=["reap", "is-running"])
def test_no_run_is_refused_because_of_a_look(cli, look):
    """The lock that a look takes for a moment is taken with the store kept to itself."""
    with cli.hold("-n", "x") as holding:
        for process in (holding.wrapper.pid, holding.pid):
            os.kill(process, signal.SIGKILL)
        holding.wrapper.wait(PATIENCE)
    halted = Halted(cli, "flock", cli.lock_path("x"), 1, *look, stdout=subprocess.DEVNULL)
    run = cli.start("-n", "x", "true", stderr=subprocess.PIPE)

    def waits_for_the_store():
        return "nanosleep" in Path(f"/proc/{run.pid}/wchan").read_text()

    eventually(lambda: run.poll() is not None or waits_for_the_store(), "its wait")
    halted.wait()
    assert (run.wait(PATIENCE), run.stderr.read()) == (0, b"")
