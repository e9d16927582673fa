"""A search finds what a plain look at every run finds, newest first, page by page; see the hints
for how each filter is served.
"""

import os
from fnmatch import fnmatchcase
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singlerun.outcome import Outcome
from singlerun.paths import StateDir
from singlerun.process.identity import this_process
from singlerun.store import history
from singlerun.store.history import Filter
from singlerun.store.run import STATES, Ending, Run
from singlerun.store.sqlite import SqliteStore

HOUR = 3600 * 10**9
OPEN = ("waiting", "running")


def add(store, name, state="succeeded", *, asked=0, took=1, conflict=None, detail=None):
    """Record a run of so many hours, asked for at some hour."""
    names = tuple(name.split(b"+"))
    run = Run(names=names, argv=(b"true",), wrapper=this_process(), uid=os.getuid(), asked_ns=0)
    run.asked_ns = int(asked * HOUR)
    if state in {"refused", "skipped"}:
        store.refuse_run(run, state, detail, conflict_id=conflict)
    else:
        store.wait_run(run)
        if state != "waiting":
            store.start_run(run, None)
        if state not in OPEN:
            store.finish_run(run, Ending(Outcome(0), state))
    ended = None if state in OPEN else run.asked_ns + int(took * HOUR)
    change = "UPDATE runs SET ended_ns = ? WHERE id = ?"
    store._database.do(lambda database: database.execute(change, (ended, run.id)))
    run.ended_ns = ended
    return run


def found(search, size=3):
    runs = []
    while page := search.more(size):
        assert len(page) <= size
        runs += page
    return runs


def expected(runs, wanted):
    return {
        run.id
        for run in runs
        if (not (wanted.names or wanted.globs) or any(
            name in wanted.names or any(fnmatchcase(name, glob) for glob in wanted.globs)
            for name in run.names
        ))
        and (not wanted.states or run.state in wanted.states)
        and (wanted.since_ns is None or run.ended_ns is None or run.ended_ns >= wanted.since_ns)
        and (wanted.until_ns is None or run.asked_ns < wanted.until_ns)
    }  # fmt: skip


hours = st.none() | st.integers(0, 12).map(lambda hour: hour * HOUR)
filters = st.builds(
    Filter,
    st.sets(st.sampled_from([b"a", b"b", b"none"])),
    globs=st.sets(st.sampled_from([b"a*", b"*", b"[bc]", b"?", b"b", b"x*"])),
    states=st.sets(st.sampled_from(STATES)), since_ns=hours, until_ns=hours,
)  # fmt: skip
records = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c", b"ab", b"a+b"]), st.sampled_from(STATES),
        st.integers(0, 10), st.sampled_from([0, 0.5, 1, 1.5, 6]),
    ),
    max_size=12,
)  # fmt: skip


@pytest.mark.parametrize(
    "limits",
    [{}, {"FEW": 1}, {"MOST_NAMES": 0}, {"FEW": 1, "MOST_NAMES": 0}],
    ids=["usual", "names first", "too many names", "both"],
)
@settings(max_examples=40, deadline=None)
@given(records, filters)
def test_a_search_finds_what_there_is(limits, tmp_path_factory, rows, wanted):
    state = StateDir(os.fsencode(tmp_path_factory.mktemp("state") / "x"))
    store = SqliteStore(state)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(history, name, value)
        runs = [add(store, name, kind, asked=at, took=took) for name, kind, at, took in rows]
        got = found(store.search(wanted))
    assert sorted(run.id for run in got) == sorted(expected(runs, wanted)), "each once"
    by_id = all(one.id > other.id for one, other in pairwise(got))
    by_time = all(
        (one.asked_ns, one.id) > (other.asked_ns, other.id) for one, other in pairwise(got)
    )
    assert by_id or by_time
    store.close()
    state.close()


def lines(store, limit=10, **wanted):
    found = store.search(Filter(**wanted)).lines(limit)
    return [(line.run.id, line.run.state, line.count, line.first_ns // HOUR) for line in found]


def test_refusals_in_a_row_of_one_name_by_one_holder_are_one_line(store):
    holder = add(store, b"x", "running", asked=0)
    for hour in range(1, 6):
        add(store, b"x", "refused", asked=hour, conflict=holder.id, detail=f"since {hour} h")
        add(store, b"y", asked=hour)
    assert lines(store, states={"refused"}) == [(10, "refused", 5, 1)]
    assert lines(store)[:3] == [(11, "succeeded", 1, 5), (10, "refused", 5, 1),
                                (9, "succeeded", 1, 4)]  # fmt: skip
    assert len(lines(store)) == 1 + 1 + 5
    assert lines(store, since_ns=3 * HOUR, states={"refused"}) == [(10, "refused", 4, 2)]


def test_refusals_for_another_cause_or_with_a_run_between_are_lines_of_their_own(store):
    first = add(store, b"x", "running")
    add(store, b"x", "refused", asked=1, conflict=first.id)
    add(store, b"x", "refused", asked=2, conflict=99)
    add(store, b"x", "skipped", asked=3, conflict=99)
    for hour in (4, 5):
        add(store, b"x", "refused", asked=hour, detail="paused by root")
    add(store, b"x", asked=6)
    for hour in (7, 8, 9):
        add(store, b"x", "refused", asked=hour, detail="paused by root")
    add(store, b"x", "refused", asked=10, detail="paused by other")
    assert [line[1:] for line in lines(store)] == [
        ("refused", 1, 10), ("refused", 3, 7), ("succeeded", 1, 6), ("refused", 2, 4),
        ("skipped", 1, 3), ("refused", 1, 2), ("refused", 1, 1), ("running", 1, 0),
    ]  # fmt: skip


def test_a_limit_counts_lines(store):
    for hour in range(20):
        add(store, b"x", asked=hour)
        add(store, b"x", "refused", asked=hour, detail="paused by root")
        add(store, b"x", "refused", asked=hour, detail="paused by root")
    assert [line[1:3] for line in lines(store, 4)] == [("refused", 2), ("succeeded", 1)] * 2
    assert len(lines(store, 100)) == 40


def test_many_groups_that_interleave_are_folded_all_the_same(store, monkeypatch):
    monkeypatch.setattr(history, "MOST_FOLDED", 2)
    names = [b"a", b"b", b"c", b"d", b"e"]
    for hour in range(6):
        for name in names:
            add(store, name, "refused", asked=hour, detail="paused by root")
    assert [line[2:] for line in lines(store)] == [(6, 0)] * len(names)


def test_what_is_folded_is_passed_over_and_not_read_page_by_page(store):
    add(store, b"x")
    for hour in range(60):
        add(store, b"x", "refused", asked=hour, detail="paused by root")
    transactions = []

    def do(work):
        transactions.append(work)
        return store._database.do(work)

    assert [line.count for line in history.Search(do, Filter()).lines(3)] == [60, 1]
    assert len(transactions) < 6


def plan(store, wanted):
    """Return what SQLite would do to find the first page."""
    told = []

    def explain(database):
        for branch in history._plan(database, wanted):
            order = ", ".join(f"{column} DESC" for column in branch._order)
            query = (
                f"EXPLAIN QUERY PLAN {history.SELECT_RUNS}{branch.source} WHERE {branch.where}"
                f" ORDER BY {order} LIMIT 20"
            )
            told.append(" | ".join(row[3] for row in database.execute(query, branch.values)))

    store._database.do(explain)
    return told


@pytest.mark.parametrize(
    "wanted",
    [
        {}, {"names": [b"x"]}, {"globs": [b"x*"]}, {"states": ["failed", "lost"]},
        {"since_ns": 9 * HOUR}, {"until_ns": 9 * HOUR}, {"states": ["refused"], "since_ns": HOUR},
    ],
    ids=str,
)  # fmt: skip
def test_no_filter_looks_at_or_sorts_every_run(store, wanted, monkeypatch):
    monkeypatch.setattr(history, "FEW", 1)
    for name in (b"x", b"y"):
        add(store, name, asked=1)
    for told in plan(store, Filter(**wanted)):
        walks_by_id = told == "SCAN runs"
        assert walks_by_id is (not wanted), told
        sorts = "TEMP B-TREE" in told
        assert not sorts or "runs_long" in told or "runs_open" in told, f"{told}: they are few"
