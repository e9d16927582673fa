"""What the store tells of a period, and of a name."""

import os
import sqlite3
import time
from contextlib import closing

import pytest
from contract import a_run
from contract_queue import a_context, a_job

from singlerun.outcome import Outcome
from singlerun.store.periods import _ASKED, _IN_PERIOD
from singlerun.store.run import FAILED, REFUSED, RUNNING, SUCCEEDED, Ending
from singlerun.store.sqlite import DEEPEST
from singlerun.store.sqlite_queue import SqliteQueue

SECOND = 10**9
HOUR = 3600 * SECOND
NOON = 1_790_000_000 * SECOND


@pytest.fixture
def kind():
    return SqliteQueue


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the time."""

    def set_to(now):
        monkeypatch.setattr(time, "time_ns", lambda: now)

    return set_to


@pytest.fixture
def ran(store, clock):
    """Return a function that records a run of a name and returns its id."""

    def record(begin, end, *names, state=SUCCEEDED, asked=None, refused=False):
        run = a_run(*names, asked_ns=begin if asked is None else asked)
        clock(begin)
        if refused:
            store.refuse_run(run, REFUSED, "held by PID 1")
            return run.id
        store.start_run(run, None)
        if end is not None:
            clock(end)
            outcome = Outcome(0, elapsed_ns=end - begin, user_us=2, system_us=1, max_rss_kb=5)
            store.finish_run(run, Ending(outcome, state))
        return run.id

    return record


def ids(runs):
    return [run.id for run in runs]


def test_runs_of_a_period_are_those_that_waited_or_ran_in_it(store, ran):
    ran(NOON - 3 * HOUR, NOON - 2 * HOUR, b"before")
    inside = [
        ran(NOON - 9 * HOUR, NOON + SECOND, b"long, ends in it"),
        ran(NOON - SECOND, NOON + SECOND, b"short, ends in it"),
        ran(NOON - 20 * HOUR, None, b"still open"),
        ran(NOON - 8 * HOUR, NOON + 8 * HOUR, b"covers it"),
        ran(NOON + SECOND, NOON + 2 * SECOND, b"in it"),
        ran(NOON + SECOND, None, b"in it", refused=True),
        ran(NOON + SECOND, None, b"begins in it, and is open"),
        ran(NOON + HOUR - SECOND, NOON + 9 * HOUR, b"begins in it"),
        ran(NOON + HOUR + SECOND, NOON + 2 * HOUR, b"waits in it", asked=NOON + HOUR - SECOND),
    ]
    ran(NOON + 2 * HOUR, NOON + 3 * HOUR, b"after")
    ran(NOON + 2 * HOUR, None, b"after, and open")
    assert ids(store.runs_in(NOON, NOON + HOUR)) == inside


def test_runs_of_a_period_can_be_of_one_name(store, ran):
    wanted = [ran(NOON, NOON + 1, b"x", b"y"), ran(NOON, None, b"x")]
    ran(NOON, NOON + 1, b"y")
    assert ids(store.runs_in(NOON, NOON + HOUR, b"x")) == wanted


def test_figures_of_the_runs_asked_for_in_a_period(store, ran):
    ran(NOON - SECOND, NOON + SECOND, b"x")
    ran(NOON + 3 * SECOND, NOON + 10 * SECOND, b"x", b"y", asked=NOON)
    ran(NOON + SECOND, NOON + 2 * SECOND, b"x", state=FAILED)
    ran(NOON + 4 * SECOND, None, b"x", refused=True)
    ran(NOON + 5 * SECOND, None, b"x")
    ran(NOON + 5 * SECOND, NOON + 6 * SECOND, b"y")
    found = store.figures(NOON, NOON + HOUR, b"x")
    assert [one.state for one in found] == [SUCCEEDED, FAILED, REFUSED, RUNNING]
    first, _, refused, running = found
    assert (first.waited_ns, first.elapsed_ns) == (3 * SECOND, 7 * SECOND)
    assert (first.cpu_us, first.max_rss_kb, first.names) == (3, 5, (b"x", b"y"))
    assert (refused.has_started, refused.waited_ns, refused.cpu_us) == (False, 0, None)
    assert (running.has_started, running.elapsed_ns) == (True, None)
    assert len(store.figures(NOON, NOON + HOUR)) == 5


def test_each_condition_of_a_period_has_its_index(store, state, ran):
    ran(NOON, NOON + 1, b"x")
    with closing(sqlite3.connect(os.path.join(state.path, b"singlerun.db"))) as database:
        for condition in (*_IN_PERIOD, *_ASKED):
            query = f"EXPLAIN QUERY PLAN SELECT * FROM runs WHERE {condition}"
            plan = " ".join(map(str, database.execute(query, {"since": 1, "until": 2})))
            index = "runs_open" if "ended_ns IS NULL" in condition else "runs_"
            assert f"INDEX {index}" in plan, (condition, plan)
            assert "runs_states (state=?)'" not in plan, (condition, plan)


def pauses(store, *period):
    return [(pause.name, pause.since_ns, pause.until_ns) for pause in store.pauses_in(*period)]


def test_pauses_of_a_period_are_past_and_present_ones(store, clock):
    clock(NOON)
    store.pause(b"resumed", None)
    store.pause(b"over", NOON + HOUR)
    store.pause(b"present", None)
    clock(NOON + 2 * HOUR)
    assert store.resume(b"resumed")
    assert not store.resume(b"resumed")
    store.pause(b"over", NOON + 9 * HOUR)
    assert pauses(store, NOON, NOON + 3 * HOUR) == [
        (b"over", NOON, NOON + HOUR),
        (b"present", NOON, None),
        (b"resumed", NOON, NOON + 2 * HOUR),
        (b"over", NOON + 2 * HOUR, NOON + 9 * HOUR),
    ]
    assert pauses(store, NOON, NOON + HOUR, b"over") == [(b"over", NOON, NOON + HOUR)]
    assert pauses(store, NOON - HOUR, NOON - 1) == []
    later = NOON + 5 * HOUR, NOON + 6 * HOUR
    assert {name for name, *_ in pauses(store, *later)} == {b"over", b"present"}


def test_the_latest_success_of_a_name(store, ran):
    assert store.latest_success(b"x") is None
    ran(NOON, NOON + 1, b"x")
    wanted = ran(NOON + 2, NOON + 3, b"x")
    ran(NOON + 4, NOON + 5, b"x", state=FAILED)
    ran(NOON + 6, NOON + 7, b"y")
    assert store.latest_success(b"x").id == wanted


def test_a_name_that_never_succeeds_is_not_looked_through_without_end(store, state, ran):
    first = ran(NOON, NOON + 7, b"x")
    database = sqlite3.connect(os.path.join(state.path, b"singlerun.db"))
    with closing(database), database:
        database.execute("UPDATE runs SET job_id = 99")
    assert store.usual_ns(b"x", (b"true",)) == 7
    assert store.pace(b"x").tries == 1
    last = ran(NOON, NOON + 1, b"x", state=FAILED)
    database = sqlite3.connect(os.path.join(state.path, b"singlerun.db"))
    with closing(database), database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(runs)")]
        others = ", ".join(column for column in columns if column != "id")
        copy = f"INSERT INTO runs (id, {others}) SELECT ?, {others} FROM runs WHERE id = ?"
        more = range(last + 1, last + DEEPEST + 1)
        database.executemany(copy, ((number, last) for number in more))
        database.executemany("INSERT INTO run_names VALUES (?, ?)", ((b"x", each) for each in more))
    assert store.find(first) is not None
    assert store.latest_success(b"x") is None
    assert store.usual_ns(b"x", (b"true",)) is None
    assert store.pace(b"x") is None


def test_pending_jobs_are_counted_by_state(store):
    jobs = [a_job(), a_job(), a_job(not_before_ns=2**62)]
    store.enqueue(jobs, a_context(), unique=False, limit=None)
    assert store.count_pending(b"x") == (2, 1)
    assert store.count_pending(b"y") == (0, 0)


def test_similar_names_are_those_that_began_alike_and_have_run(store, ran):
    for name in (b"sync", b"save", b"backup", b"s"):
        ran(NOON, NOON + 1, name)
    assert store.similar_names(b"sink", limit=10) == [b"s", b"save", b"sync"]
    assert store.similar_names(b"sink", limit=1) == [b"s"]
    assert store.similar_names(b"zzz", limit=10) == []
