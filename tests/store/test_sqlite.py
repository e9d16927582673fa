"""The SQLite store: the contract of all stores, and what is its own."""

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from contract import StoreContract, a_run

from singlerun.errors import RecordError
from singlerun.paths import StateDir
from singlerun.store import migrations
from singlerun.store.database import LOG_BYTES
from singlerun.store.sqlite import SqliteStore


@pytest.fixture
def state(tmp_path):
    return StateDir(os.fsencode(tmp_path / "state"))


@pytest.fixture
def again(state):
    stores = []

    def open_again():
        stores.append(SqliteStore(state))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(again):
    return again()


class TestContract(StoreContract):
    pass


def peek(state, query):
    database = sqlite3.connect(os.path.join(state.path, b"singlerun.db"))
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_schema_is_marked_and_sound(store, state):
    store.start_run(a_run(), None)
    assert peek(state, "PRAGMA user_version") == [(migrations.LATEST,)]
    assert peek(state, "PRAGMA application_id") == [(migrations.APPLICATION_ID,)]
    assert peek(state, "PRAGMA journal_mode") == [("wal",)]
    assert peek(state, "PRAGMA integrity_check") == [("ok",)]


def test_migrations_are_only_appended():
    """A migration that was released must not change: it has run on people's machines."""
    import hashlib

    known = ["2671b7f8562e"]
    digests = [hashlib.sha256(text.encode()).hexdigest()[:12] for text in migrations.MIGRATIONS]
    assert digests[: len(known)] == known


def test_open_and_history_queries_use_their_indexes(store, state):
    store.start_run(a_run(), None)
    for query, index in (
        ("SELECT * FROM runs WHERE ended_ns IS NULL ORDER BY id", "runs_open"),
        ("SELECT * FROM runs JOIN run_names ON run_id = id WHERE name = 'x' ORDER BY run_id DESC",
         "PRIMARY KEY"),
    ):  # fmt: skip
        plan = " ".join(str(row) for row in peek(state, f"EXPLAIN QUERY PLAN {query}"))
        assert index in plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.stress
def test_sixteen_processes_that_create_it_at_once(state):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from contract import a_run;"
        "from singlerun.paths import StateDir; from singlerun.store.sqlite import SqliteStore;"
        "import os; sys.stdin.read(); s = SqliteStore(StateDir(os.fsencode(sys.argv[1])));"
        "[s.start_run(a_run(), None) for _ in range(20)]; print(s.notices)"
    )
    here = os.path.dirname(__file__)
    gate, opener = os.pipe()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, os.fsdecode(state.path), here],
            stdin=gate, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(16)
    ]  # fmt: skip
    os.close(gate)
    os.close(opener)
    for writer in writers:
        assert writer.communicate() == ("[]\n", "")
    assert peek(state, "SELECT count(*), count(DISTINCT token) FROM runs") == [(320, 320)]
    assert peek(state, "PRAGMA integrity_check") == [("ok",)]


def test_runs_of_two_logs_have_marks_of_their_own(store, tmp_path, monkeypatch):
    """Cron begins many jobs in one instant; with two logs they have the same ids, too."""
    other = SqliteStore(StateDir(os.fsencode(tmp_path / "other")))
    moments = itertools.count(time.time_ns(), 1000)
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    mine, its = a_run(), a_run()
    store.start_run(mine, None)
    other.start_run(its, None)
    other.close()
    assert mine.id == its.id
    assert mine.token != its.token


def test_write_ahead_log_stays_small_though_nobody_closes(state):
    path = os.path.join(state.path, b"singlerun.db-wal")
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            SqliteStore(state).start_run(a_run(), None)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    assert 0 < os.path.getsize(path) < 2 * LOG_BYTES


def test_guard_gives_up_on_a_stopped_writer(store, again, monkeypatch):
    monkeypatch.setattr("singlerun.store.database.PATIENCE", 0.2)
    other = again()
    with other.exclusively(), pytest.raises(RecordError, match=r"kept it busy.*fuser"):
        store.start_run(a_run(), None)
    store.start_run(a_run(), None)


def test_guard_waits_for_a_short_writer(store, again):
    other, entered, leave = again(), threading.Event(), threading.Event()

    def keep():
        with other.exclusively():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=keep)
    thread.start()
    entered.wait()
    threading.Timer(0.1, leave.set).start()
    store.start_run(a_run(), None)
    assert leave.is_set()
    thread.join()


def test_database_of_an_older_boot_is_not_young(store, state):
    store.start_run(a_run(), None)
    database = sqlite3.connect(os.path.join(state.path, b"singlerun.db"))
    with database:
        database.execute("UPDATE origin SET boot_id = 'older'")
    database.close()
    assert not store.is_young()
