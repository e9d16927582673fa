"""The SQLite store forgets: the contract, and what is its own."""

import os
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from contract import a_run
from contract_pruning import ALL, NONE, PruningContract, limits, now

from singlerun.outcome import Outcome
from singlerun.store import compact, migrations, prunable
from singlerun.store.run import FAILED, Ending
from singlerun.store.sqlite_pruning import SqlitePruning


@pytest.fixture
def kind():
    return SqlitePruning


class TestContract(PruningContract):
    pass


def path(state):
    return os.path.join(state.path, b"singlerun.db")


def peek(state, query):
    with closing(sqlite3.connect(path(state))) as database:
        return database.execute(query).fetchall()


def many(state, count, *, argv=b"x" * 200):
    """Add runs that have ended, all at once; some names, the same for each twentieth."""
    columns = (
        "names, argv, shared, state, uid, host, boot_id, pid_ns, wrapper_pid, asked_ns,"
        " started_ns, ended_ns, elapsed_ns"
    )
    with closing(sqlite3.connect(path(state))) as database, database:
        database.executemany(
            f"INSERT INTO runs ({columns}) VALUES (?, ?, 0, 'succeeded', 0, 'h', 'b', 1, 1,"
            " ?, ?, ?, 1)",
            ((b"n%d" % (n % 20), argv, n, n, n + 1) for n in range(1, count + 1)),
        )
        database.execute("INSERT OR IGNORE INTO run_names SELECT names, id FROM runs")


def made_by_an_earlier_version(state):
    """Make the database anew, as it was made before it could shrink."""
    with closing(sqlite3.connect(path(state), isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        for text in migrations.MIGRATIONS[:7]:
            database.executescript(text)
        database.execute("PRAGMA user_version = 7")
        database.execute(f"PRAGMA application_id = {migrations.APPLICATION_ID}")


# -- the file ------------------------------------------------------------------------------------


def test_the_file_shrinks(store, state):
    store.start_run(a_run(), None)
    many(state, 5000)
    store.settle()
    before = os.stat(path(state)).st_size
    list(store.forget_runs(limits(before_ns=now())))
    given = sum(store.shrink())
    store.settle()
    after = os.stat(path(state)).st_size
    assert after < before / 4
    assert given > before / 2
    assert peek(state, "PRAGMA integrity_check") == [("ok",)]


def test_a_file_of_an_earlier_version_is_written_anew_once(store, state):
    made_by_an_earlier_version(state)
    many(state, 5000)
    before = os.stat(path(state)).st_size
    list(store.forget_runs(limits(before_ns=now())))
    assert list(store.shrink()) == []
    assert store.compact(most=0)
    assert peek(state, "PRAGMA auto_vacuum") == [(0,)]
    assert not store.compact()
    assert peek(state, "PRAGMA auto_vacuum") == [(2,)]
    assert os.stat(path(state)).st_size < before / 4
    assert peek(state, "PRAGMA integrity_check") == [("ok",)]
    assert peek(state, "PRAGMA journal_mode") == [("wal",)]
    assert not store.compact()


def test_a_file_is_not_written_anew_without_room(store, state, monkeypatch):
    made_by_an_earlier_version(state)
    store.start_run(a_run(), None)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((4096, 4096, *[1] * 8)))
    assert store.compact()
    assert peek(state, "PRAGMA auto_vacuum") == [(0,)]


def test_a_file_that_others_read_meanwhile_is_left_as_it_is_or_written_anew(store, state, again):
    made_by_an_earlier_version(state)
    store.start_run(a_run(), None)
    with closing(sqlite3.connect(path(state), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        store.compact()
        reader.execute("COMMIT")
    assert len(again().open_runs()) == 1
    assert peek(state, "PRAGMA integrity_check") == [("ok",)]


def test_waiting_processes_see_that_the_file_is_being_written(store, state, monkeypatch):
    store.start_run(a_run(), None)
    monkeypatch.setattr(compact, "GUARD_PATIENCE", 0.01)
    log = path(state) + b"-wal"
    os.utime(log, (1, 1))
    with compact._Progress(log):
        while os.stat(log).st_mtime == 1:
            time.sleep(0.001)


def test_the_log_stays_short(store, state):
    store.start_run(a_run(), None)
    many(state, 5000)
    for _ in store.forget_runs(limits(before_ns=now())):
        store.settle()
        assert os.stat(path(state) + b"-wal").st_size < 2 * compact.SHORT


def test_the_record_is_free_between_two_steps(store, state, again):
    store.start_run(a_run(), None)
    many(state, 500)
    other = again()
    for _ in store.forget_runs(limits(before_ns=now())):
        other.start_run(a_run(b"other"), None)
    assert len(other.open_runs((b"other",))) >= 5


# -- which rows ----------------------------------------------------------------------------------


def test_each_page_finds_its_rows_by_an_index(store, state):
    store.start_run(a_run(), None)
    with closing(sqlite3.connect(path(state))) as database:
        statements = []
        database.set_trace_callback(statements.append)
        store._do = lambda work: work(database)
        list(store.forget_jobs(limits(before_ns=now(), count=NONE)))
        list(store.forget_runs(limits(before_ns=now(), count=NONE)))
        list(store.forget_contexts())
        list(store.forget_pauses(limits(before_ns=now())))
        store.names_in_use()
        database.set_trace_callback(None)
        plans = {
            (statement, row[3])
            for statement in statements
            if statement.startswith(("SELECT", "DELETE"))
            for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")
        }
    scanned = [plan for plan in plans if plan[1].startswith("SCAN") and "USING" not in plan[1]]
    allowed = (
        "pauses",
        "contexts",
        "(subquery",
        "sqlite_sequence",
        "CONSTANT",
        "tallied",
        "untallied",
    )
    assert [plan for plan in scanned if not plan[1].split()[1].startswith(allowed)] == []


def test_a_name_that_has_only_failed_for_long_keeps_its_latest_success(store, state, monkeypatch):
    monkeypatch.setattr(prunable, "DEEP", 3)
    first, success = (self_ended(store) for _ in range(2))
    for _ in range(10):
        self_ended(store, FAILED)
    list(store.forget_runs(limits(before_ns=now(), count=NONE)))
    assert store.find(success.id) is not None
    assert store.find(first.id) is None
    assert len(store.runs(limit=ALL)) == 2


def self_ended(store, state=None):
    run = a_run()
    store.start_run(run, None)
    store.finish_run(run, Ending(Outcome(1 if state else 0, elapsed_ns=1), state))
    return run


def test_a_damaged_row_is_left_alone(store, state):
    for _ in range(3):
        self_ended(store)
    with closing(sqlite3.connect(path(state))) as database, database:
        database.execute("UPDATE runs SET asked_ns = 'x' WHERE id = 1")
        database.execute("UPDATE runs SET ended_ns = x'00' WHERE id = 2")
    list(store.forget_runs(limits(before_ns=now(), count=NONE)))
    assert peek(state, "SELECT id FROM runs ORDER BY id") == [(1,), (2,), (3,)]


def test_two_that_forget_count_nothing_twice(store, state, again):
    store.start_run(a_run(), None)
    many(state, 3000)
    stores = [again() for _ in range(2)]
    done = []

    def forget(one):
        for step in one.forget_runs(limits(before_ns=now())):
            done.append(step.rows)
            one.settle()

    threads = []
    for _ in stores:
        # A connection stays in its thread, so each opens its own.
        threads.append(threading.Thread(target=lambda: forget(SqlitePruning(state))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert sum(done) == 3000 - 20
    assert peek(state, "SELECT sum(runs) FROM tallies") == [(3000,)]
