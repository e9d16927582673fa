"""What is counted of each name: every run once, in order, and for good."""

import time

import pytest
from contract import a_run

from singlerun.errors import RecordError
from singlerun.outcome import Outcome
from singlerun.store import tallies
from singlerun.store.run import FAILED, LOST, REFUSED, SKIPPED, SUCCEEDED, Ending
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.store.tallies import BOUNDS

SECOND = 10**9
NOON = 1_790_000_000 * SECOND


@pytest.fixture
def kind():
    return SqliteQueue


@pytest.fixture
def at(monkeypatch):
    """Return a function that sets the time, in seconds after noon."""
    return lambda seconds: monkeypatch.setattr(time, "time_ns", lambda: NOON + seconds * SECOND)


def start(store, *names):
    run = a_run(*names)
    store.start_run(run, None)
    return run


def end(store, run, took=1.0, state=SUCCEEDED, exit_code=0):
    outcome = Outcome(exit_code, elapsed_ns=round(took * SECOND))
    store.finish_run(run, Ending(outcome, state))
    return run


def refuse(store, *names, state=REFUSED):
    run = a_run(*names)
    store.refuse_run(run, state, "held by PID 1")
    return run


def counts(store, name=b"x"):
    return {state: tally.runs for state, tally in store.tallies([name])[name].items()}


def standing(store, name=b"x"):
    store.tally()
    return store.standings([name])[name]


def test_runs_are_counted_once_however_often_one_looks(store):
    end(store, start(store))
    end(store, start(store), state=FAILED, exit_code=3)
    refuse(store, state=SKIPPED)
    for _ in range(3):
        store.tally()
    assert counts(store) == {SUCCEEDED: 1, FAILED: 1, SKIPPED: 1}
    end(store, start(store))
    store.tally()
    assert counts(store) == {SUCCEEDED: 2, FAILED: 1, SKIPPED: 1}


def test_a_run_that_is_passed_while_it_is_open_is_counted_when_it_ends(store):
    early = start(store)
    end(store, start(store))
    store.tally()
    assert counts(store) == {SUCCEEDED: 1}
    late = start(store)
    store.tally()
    end(store, early, state=FAILED)
    store.tally()
    assert counts(store) == {SUCCEEDED: 1, FAILED: 1}
    end(store, late)
    store.tally()
    assert counts(store) == {SUCCEEDED: 2, FAILED: 1}


def test_nothing_that_was_counted_falls_when_runs_are_deleted(store):
    for _ in range(3):
        end(store, start(store), took=2)
    store.tally()
    store._do(lambda database: database.execute("DELETE FROM runs"))
    store._do(lambda database: database.execute("DELETE FROM run_names"))
    end(store, start(store), took=2)
    store.tally()
    (tally,) = store.tallies([b"x"])[b"x"].values()
    assert (tally.runs, tally.elapsed_ns, tally.buckets[1]) == (4, 8 * SECOND, 4)


def test_all_is_counted_a_few_at_a_time(store, monkeypatch):
    monkeypatch.setattr(tallies, "TALLY_BURST", 0)
    monkeypatch.setattr(tallies, "TALLY_REST", 0)
    runs = [start(store) for _ in range(4)] + [end(store, start(store)) for _ in range(7)]
    assert store.tally_some()
    store.tally()
    assert not store.tally_some()
    assert counts(store) == {SUCCEEDED: 7}
    for run in runs[:4]:
        end(store, run)
    store.tally()
    assert counts(store) == {SUCCEEDED: 11}


def test_a_run_under_two_names_counts_for_each(store):
    end(store, start(store, b"a", b"b"))
    store.tally()
    assert counts(store, b"a") == counts(store, b"b") == {SUCCEEDED: 1}


def test_durations_fall_between_their_bounds(store):
    for took in (0, 1, 1.001, 86_400, 86_401):
        end(store, start(store), took=took)
    refuse(store)
    store.tally()
    found = store.tallies([b"x"])[b"x"]
    assert found[SUCCEEDED].buckets == [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert len(found[SUCCEEDED].buckets) == len(BOUNDS) + 1
    assert found[REFUSED].buckets == [0] * 10, "it took no time"


def test_the_latest_start_end_and_success(store, at):
    at(0)
    first = start(store)
    at(10)
    second = start(store)
    at(20)
    end(store, second)
    at(30)
    end(store, first, took=30, state=FAILED, exit_code=3)
    found = standing(store)
    assert found.started_ns == NOON + 10 * SECOND
    assert (found.ended_ns, found.state, found.exit_code) == (NOON + 30 * SECOND, FAILED, 3)
    assert found.elapsed_ns == 30 * SECOND
    assert found.succeeded_ns == NOON + 20 * SECOND
    assert found.used_ns == NOON + 30 * SECOND


def test_refusals_in_a_row_end_with_a_start(store, at):
    at(0)
    run = start(store)
    for second in range(1, 4):
        at(second)
        refuse(store, state=SKIPPED if second == 2 else REFUSED)
        assert standing(store).refused == second
    at(4)
    end(store, run)
    assert standing(store).refused == 3, "the end of a run is no start"
    at(5)
    again = start(store)
    assert standing(store).refused == 0, "also while it runs"
    at(6)
    refuse(store)
    end(store, again)
    assert standing(store).refused == 1


def test_refusals_while_another_run_waits_end_with_its_start(store, at):
    at(0)
    waiter = a_run()
    store.wait_run(waiter)
    at(1)
    refuse(store)
    assert standing(store).refused == 1
    at(2)
    store.start_run(waiter, None)
    assert standing(store).refused == 0


def test_refusals_count_by_their_time_and_not_by_their_number(store, at):
    at(0)
    patient, first = a_run(), a_run()
    store.wait_run(patient)
    store.wait_run(first)
    at(8)
    store.start_run(first, None)
    at(10)
    store.refuse_run(patient, REFUSED, "held by PID 1")  # has waited in vain, until after the start
    assert standing(store).refused == 1
    at(11)
    second, impatient = a_run(b"y"), a_run(b"y")
    store.wait_run(second)
    store.wait_run(impatient)
    at(12)
    store.refuse_run(impatient, REFUSED, "held by PID 1")
    at(13)
    store.start_run(second, None)
    assert standing(store, b"y").refused == 0


def test_a_lost_run_is_the_latest_end(store, at):
    at(0)
    run = start(store)
    at(5)
    store.close_run(run, LOST, "it died")
    found = standing(store)
    assert (found.state, found.exit_code, found.elapsed_ns) == (LOST, None, None)
    assert counts(store) == {LOST: 1}


def test_names_come_by_their_latest_use(store, at):
    for second, name in enumerate([b"a", b"b", b"c"]):
        at(second)
        end(store, start(store, name))
    at(10)
    refuse(store, b"a")
    store.tally()
    store.set_told(b"never used", "overdue")
    assert store.latest_names(2) == ([b"a", b"c"], 3)
    assert store.latest_names(9, NOON + 1 * SECOND) == ([b"a", b"c"], 2)


def test_what_was_told_is_kept_beside_what_is_counted(store):
    store.set_told(b"x", "overdue")
    end(store, start(store))
    assert standing(store).told == "overdue"
    store.set_told(b"x", None)
    assert standing(store).told is None
    assert standing(store).succeeded_ns


def test_since_when_runs_are_counted(store, at):
    assert store.tallied_since_ns() == 0
    at(0)
    end(store, start(store))
    at(9)
    store.tally()
    assert store.tallied_since_ns() == NOON
    store.tally()
    assert store.tallied_since_ns() == NOON


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE standings SET used_ns = 'x'",
        "UPDATE standings SET told = x'07'",
        "UPDATE tallies SET b3 = 'x'",
        "UPDATE tallies SET state = 'x'",
    ],
)
def test_damage_sets_the_record_aside(store, damage):
    end(store, start(store))
    store.tally()
    store._do(lambda database: database.execute(damage))
    try:
        store.tally()
        store.standings([b"x"])
        store.tallies([b"x"])
    except RecordError:
        pytest.fail("it is set aside, and a new one begun")
    assert "set aside" in store.notices[0]
    assert store.tallies([b"x"]) == {b"x": {}}


@pytest.mark.parametrize("damage", ["asked_ns = 'x'", "state = x'07'", "names = 'text'"])
def test_a_damaged_run_is_passed_over(store, damage):
    end(store, start(store))
    end(store, start(store))
    store._do(lambda database: database.execute(f"UPDATE runs SET {damage} WHERE id = 1"))
    store.tally()
    assert counts(store) == {SUCCEEDED: 1}
    assert store.notices == []


def test_the_latest_names_are_found_by_an_index(store):
    store.tally()
    query = "SELECT name FROM standings WHERE used_ns > 0 ORDER BY used_ns DESC LIMIT 5"
    plan = store._do(lambda db: db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())
    assert "standings_used" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
