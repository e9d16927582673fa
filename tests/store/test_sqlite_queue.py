"""The queues in SQLite: the contract of all, and what is their own."""

import os
import sqlite3
from contextlib import closing

import pytest
from conftest import fill
from contract import fields
from contract_queue import QueueContract, a_context, a_job

from singlerun.errors import RecordError
from singlerun.outcome import Outcome
from singlerun.paths import StateDir
from singlerun.process.identity import this_process
from singlerun.store.run import Ending
from singlerun.store.sqlite_queue import SqliteQueue


@pytest.fixture
def kind():
    return SqliteQueue


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
                " AND blocked = 0 ORDER BY not_before_ns LIMIT 1"
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


def test_a_database_begun_anew_has_contexts_of_its_own(store, again, state):
    """Each numbers them from one, and a worker lives on."""
    store.enqueue([a_job(), a_job()], a_context(cwd=b"/old"), unique=False, limit=None)
    assert store.claim(b"x", this_process()).context.cwd == b"/old"
    os.unlink(os.path.join(state.path, b"singlerun.db"))
    for suffix in (b"-wal", b"-shm"):
        os.unlink(os.path.join(state.path, b"singlerun.db" + suffix))
    again().enqueue([a_job()], a_context(cwd=b"/new"), unique=False, limit=None)
    assert store.claim(b"x", this_process()).context.cwd == b"/new"


# -- what fails changes nothing --------------------------------------------------------------------


def present(state):
    """Return the rows of all tables."""
    with closing(sqlite3.connect(os.path.join(state.path, b"singlerun.db"))) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: sorted(database.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for (name,) in tables
            if name != "sqlite_sequence"
        }


ENDING = Ending(Outcome(3, elapsed_ns=7))
VERBS = {
    "enqueue": lambda queue, _: queue.enqueue([a_job()], a_context(), unique=True, limit=None),
    "claim": lambda queue, _: queue.claim(b"x", this_process()),
    "give_back": lambda queue, job: queue.give_back(job, "why"),
    "announce": lambda queue, _: queue.announce(b"x"),
    "retract": lambda queue, job: queue.retract(job.id + 1),
    "finish": lambda queue, job: queue.finish(job, ENDING),
    "finish_and_claim": lambda queue, job: queue.finish_and_claim(job, ENDING, this_process()),
    "finish_and_claim_announced": lambda queue, job: queue.finish_and_claim_announced(
        job, ENDING, this_process(), job.id + 1
    ),
    "cancel": lambda queue, job: queue.cancel(job.id + 1, "why"),
    "retry": lambda queue, job: queue.retry(job.id + 2),
    "put_first": lambda queue, job: queue.put_first(job.id + 1),
    "pause": lambda queue, _: queue.pause(b"x", None),
    "resume": lambda queue, _: queue.resume(b"y"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_whose_change_could_not_be_written_is_as_it_was(small_disk, verb):
    """A real full disk: the COMMIT fails. Given room, the same verb does what it should have."""
    state = StateDir(os.fsencode(small_disk / "state"))
    queue = SqliteQueue(state)
    jobs = [a_job(), a_job(), a_job()]
    numbers = queue.enqueue(jobs, a_context(), unique=False, limit=None)
    queue.cancel(numbers[2], "why")
    queue.pause(b"y", None)
    job = queue.claim(b"x", this_process())
    if verb != "announce":
        queue.announce(b"x")
    before, rows = fields(job), present(state)
    fill(small_disk)
    with pytest.raises(RecordError, match="make room"):
        VERBS[verb](queue, job)
    assert fields(job) == before
    os.unlink(small_disk / "filler")
    assert present(state) == rows
    VERBS[verb](queue, job)
    assert present(state) != rows
    if verb in {"give_back", "finish", "finish_and_claim", "finish_and_claim_announced"}:
        assert fields(job.run) == fields(queue.find(job.run.id))
    queue.close()
    state.close()
