"""The queues in SQLite: the contract of all, and what is their own."""

import os
import sqlite3
from contextlib import closing

import pytest
from contract_queue import QueueContract, a_context, a_job

from singlerun.paths import StateDir
from singlerun.store.sqlite_queue import SqliteQueue


@pytest.fixture
def state(tmp_path):
    return StateDir(os.fsencode(tmp_path / "state"))


@pytest.fixture
def again(state):
    stores = []

    def open_again():
        stores.append(SqliteQueue(state))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(again):
    return again()


class TestContract(QueueContract):
    pass


def test_what_is_asked_again_and_again_reads_no_more_than_it_needs(store, state):
    """A queue may hold a million jobs, and whoever drains it looks after each."""
    store.enqueue([a_job()], a_context(), unique=False, limit=None)
    with closing(sqlite3.connect(os.path.join(state.path, b"singlerun.db"))) as database:
        for query in (
            "SELECT 1 FROM jobs WHERE name = 'x' AND state = 'queued' LIMIT 1",
            (
                "SELECT not_before_ns FROM jobs WHERE name = 'x' AND state = 'delayed'"
                " AND NOT blocked ORDER BY not_before_ns LIMIT 1"
            ),
            (
                "SELECT id FROM jobs WHERE name = 'x' AND state = 'queued'"
                " ORDER BY priority DESC, position, id LIMIT 1"
            ),
            "SELECT id, name FROM jobs WHERE after_id = 1 AND blocked AND state = 'delayed'",
        ):
            plan = " ".join(str(row) for row in database.execute(f"EXPLAIN QUERY PLAN {query}"))
            assert "USING" in plan and "SCAN" not in plan, (query, plan)
            assert "TEMP B-TREE" not in plan, (query, plan)


def test_contexts_are_shared_by_what_was_added_together(store, state):
    store.enqueue([a_job() for _ in range(50)], a_context(), unique=False, limit=None)
    with closing(sqlite3.connect(os.path.join(state.path, b"singlerun.db"))) as database:
        assert database.execute("SELECT count(*) FROM contexts").fetchone() == (1,)
