"""Whether an open run lives is judged by its processes: none is missed, none is mistaken."""

import os

from owners import ELSEWHERE, a_run, dead, living, owner_of, running, waiting

from singlerun import lock
from singlerun.outcome import Outcome
from singlerun.ownership.judge import (
    ORPHAN,
    ZOMBIE,
    is_holding,
    judge,
    judge_all,
    look_at,
    survivors,
)
from singlerun.process.identity import Owner, Place, here
from singlerun.store.run import RUNNING, SUCCEEDED, WAITING, Ending


def told(verdict):
    return verdict.state, verdict.pids


def test_survivors_are_the_command_and_then_what_it_marked(store):
    run = running(store, dead())
    with living(run) as marked, living() as command, living():
        run.command = owner_of(command)
        assert survivors(run) == [command.pid, marked.pid]
        run.command = Owner(here(), command.pid, 1)  # its PID was used again
        assert survivors(run) == [marked.pid]
    assert survivors(run) == []


def test_a_command_that_carries_the_marks_survives_once(store):
    run = running(store, dead())
    with living(run) as command:
        run.command = owner_of(command)
        assert survivors(run) == [command.pid]


def test_marks_of_a_run_of_another_boot_say_nothing(store):
    place = here()
    wrapper = Owner(Place(place.host, "another boot", place.pid_ns), os.getpid(), None)
    run = running(store, wrapper)
    with living(run):
        assert survivors(run) == []
        assert told(judge(run)) == (ZOMBIE, [])


def test_what_cannot_be_seen_is_as_recorded(store):
    for make, state in ((running, RUNNING), (waiting, WAITING)):
        assert told(judge(make(store, ELSEWHERE))) == (state, [])


def test_a_living_wrapper_is_named_after_what_it_started(store):
    with living() as wrapper:
        run = running(store, owner_of(wrapper))
        assert told(judge(run)) == (RUNNING, [wrapper.pid])
        with living(run) as left, living() as command:
            run.command = owner_of(command)
            assert told(judge(run)) == (RUNNING, [command.pid])
            run.command = dead()
            assert told(judge(run)) == (RUNNING, [left.pid, wrapper.pid])


def test_a_dead_wrapper_leaves_an_orphan_or_a_zombie(store):
    run = running(store, dead())
    with living(run) as left:
        assert told(judge(run)) == (ORPHAN, [left.pid])
    assert told(judge(run)) == (ZOMBIE, [])


def test_what_died_while_it_waited_is_a_zombie_whatever_has_its_id(store):
    run = waiting(store, dead())
    run.token = 5
    with living(run):
        assert told(judge(run)) == (ZOMBIE, [])


def test_a_wrapper_that_dies_during_the_look_is_judged_by_what_lives_after_it(store):
    """One walk of /proc serves the runs whose wrappers were dead before it began, and no other."""
    with living() as wrapper:
        zombie, run = running(store, dead()), running(store, owner_of(wrapper))
        left = []

        class Runs(list):
            """The second time through, a wrapper dies just after it has started its command."""

            times = 0

            def __iter__(self):
                self.times += 1
                for one in super().__iter__():
                    if one is run and self.times == 2:
                        left.append(living(run))
                        left.append(left[0].__enter__())
                        wrapper.kill()
                        wrapper.wait()
                    yield one

        first, second = judge_all(Runs([zombie, run]))
        assert told(first) == (ZOMBIE, [])
        assert told(second) == (ORPHAN, [left[1].pid])
        left[0].__exit__(None, None, None)


def test_an_end_that_was_recorded_during_the_look_counts(store):
    """The run was read as open, its wrapper recorded the end and died, and then it was judged."""
    run, ended = running(store, dead()), running(store, dead())
    read = store.open_runs()
    store.finish_run(run, Ending(Outcome(0)))
    store.finish_run(ended, Ending(Outcome(3)))
    verdicts = look_at(store, [*read, ended])
    assert [verdict.state for verdict in verdicts] == [SUCCEEDED, "failed", "failed"]
    assert verdicts[0].run.exit_code == 0


def test_a_run_that_is_no_longer_recorded_is_still_judged(store):
    run = a_run(dead())
    assert [verdict.state for verdict in look_at(store, [run])] == [ZOMBIE]


def test_a_run_between_two_tries_holds_its_lock(store, state):
    hold = lock.of_names((b"x",), state, shared=False)
    assert hold.try_take()
    with living() as other, living(inheriting=hold.fds) as holder:
        assert is_holding(waiting(store, owner_of(holder)), hold.paths)
        assert not is_holding(waiting(store, owner_of(other)), hold.paths)
        assert is_holding(running(store, owner_of(other)), hold.paths)
    hold.free()
    left = running(store, dead())
    assert not is_holding(left, hold.paths)
    with living(left):
        assert is_holding(left, hold.paths)
