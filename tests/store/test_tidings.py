"""What notifications ask of the record."""

import pytest

from singlerun.outcome import Outcome
from singlerun.process.identity import this_process
from singlerun.store.run import REFUSED, SKIPPED, Ending, Run


def asked(name=b"x", **more):
    names = (name,)
    return Run(names=names, argv=(b"true",), wrapper=this_process(), uid=0, asked_ns=1, **more)


@pytest.fixture
def add(store):
    def ended(status=0, name=b"x"):
        run = asked(name)
        store.start_run(run, None)
        store.finish_run(run, Ending(Outcome(status)))
        return run

    def refused(state=REFUSED, name=b"x"):
        run = asked(name)
        store.refuse_run(run, state, "held")
        return run

    return ended, refused


def test_the_run_before(store, add):
    ended, refused = add
    assert store.run_before(asked()) is None
    ended(name=b"y")
    first = ended(3)
    assert store.run_before(first) is None
    refused()
    second = ended()
    assert store.run_before(second).id == first.id
    assert store.run_before(asked()).id == second.id
    open_ = asked()
    store.start_run(open_, None)
    assert store.run_before(asked()).id == second.id, "what has not ended tells nothing"


def test_the_run_before_is_not_of_the_same_job(store, add):
    ended, _ = add
    first = ended()
    for _ in range(2):
        run = asked(job_id=77)
        store.start_run(run, None)
        store.finish_run(run, Ending(Outcome(1)))
    assert store.run_before(run).id == first.id


def test_refusals_in_a_row(store, add):
    ended, refused = add
    for count in (1, 2):
        assert store.refused_in_a_row(refused()) == (count, 0)
    refused(name=b"y")
    started = ended().started_ns
    assert store.refused_in_a_row(asked()) == (0, started)
    refused(SKIPPED)
    assert store.refused_in_a_row(refused()) == (2, started)
    assert store.refused_in_a_row(asked(b"y")) == (1, 0)


def test_a_run_that_waited_ends_the_row_when_it_starts(store, add):
    """Its number is lower than those of the runs that were refused while it waited."""
    _, refused = add
    waiting = asked()
    store.wait_run(waiting)
    refused()
    store.start_run(waiting, None)
    assert store.refused_in_a_row(refused())[0] == 1


def test_telling_once(store):
    assert store.tell_once(b"x", "refused", 5)
    assert not store.tell_once(b"x", "refused", 5)
    assert store.tell_once(b"x", "refused", 6)
    assert store.tell_once(b"y", "refused", 6)
    assert store.tell_once(b"x", "lost", 6)
    assert not store.tell_once(b"x", "refused", 6)
