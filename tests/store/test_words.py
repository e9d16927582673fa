"""What the record knows that a user may be about to type."""

import fcntl
import subprocess
import sys
from contextlib import closing

import pytest
from contract_queue import a_context, a_job

from singlerun.errors import RecordError
from singlerun.paths import StateDir
from singlerun.store import words
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.store.words import KINDS, Words


def find(state, kind, begun=b""):
    with closing(Words(state)) as known:
        return known.find(kind, begun)


def found(state, kind, begun=b""):
    return [word for word, _ in find(state, kind, begun)]


@pytest.fixture
def queue(state):
    queue = SqliteQueue(state)
    yield queue
    queue.close()


def add(queue, *names, **more):
    return [
        number
        for name in names
        for number in queue.enqueue([a_job(name, **more)], a_context(), unique=False, limit=None)
    ]


def test_names_are_those_started_queued_or_paused(cli, queue):
    for name in ("b", "a", "a%", "\udcff"):
        cli.run("-n", name, "true")
    add(queue, b"a queue")
    queue.pause(b"ab", None)
    state = StateDir(bytes(cli.dir))
    assert found(state, "names") == [b"a", b"a queue", b"a%", b"ab", b"b", b"\xff"]
    assert found(state, "names", b"a") == [b"a", b"a queue", b"a%", b"ab"]
    assert found(state, "names", b"\xff") == [b"\xff"]
    assert found(state, "paused") == [b"ab"]
    assert found(state, "queues") == [b"a queue"]


def test_each_queue_is_found_once(state, queue):
    add(queue, *[b"x"] * 3, *[b"y"] * 2, b"x", b"xa")
    add(queue, b"later", not_before_ns=2**62)
    assert found(state, "queues") == [b"later", b"x", b"xa", b"y"]
    assert found(state, "queues", b"x") == [b"x", b"xa"]


def test_running(cli, state):
    with cli.hold("-n", "one", "-n", "two"):
        (run,) = cli.json("ps")
        number = b"%d" % run["id"]
        assert find(state, "running") == [
            (b"one", "running"), (b"two", "running"), (number, "one + two, running"),
        ]  # fmt: skip
        assert found(state, "running", b"t") == [b"two"]
        assert found(state, "running", number) == [number]
    assert found(state, "running") == []


def test_jobs_by_the_digits_they_begin_with(state, queue):
    add(queue, *[b"x"] * 120)
    assert found(state, "pending", b"11") == [
        *(b"%d" % number for number in range(119, 109, -1)), b"11",
    ]  # fmt: skip
    assert found(state, "pending", b"7") == [*(b"%d" % n for n in range(79, 69, -1)), b"7"]
    assert found(state, "pending", b"x") == found(state, "pending", b"0") == []
    assert found(state, "pending")[:2] == [b"120", b"119"]
    assert len(found(state, "pending")) == words.MOST_IDS
    queue.cancel(7, "gone")
    assert found(state, "unsuccessful") == [b"7"]
    assert b"7" not in found(state, "pending", b"7")


def test_old_jobs_are_found_by_their_digits(state, queue, monkeypatch):
    monkeypatch.setattr(words, "LOOKED_AT", 10)
    add(queue, *[b"x"] * 120)
    assert found(state, "jobs", b"3")[-1] == b"3"


def test_labels_are_found_once(state, queue):
    for label in ("red", "red", "green", None):
        add(queue, b"x", label=label)
    assert found(state, "labels") == [b"green", b"red"]
    assert found(state, "labels", b"r") == [b"red"]


def test_runs(cli, state):
    for _ in range(12):
        cli.run("-n", "x", "true")
    assert found(state, "runs", b"1") == [b"12", b"11", b"10", b"1"]
    assert find(state, "runs", b"3") == [(b"3", "x, succeeded")]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_made_or_repaired(state, kind):
    database = state.path + b"/singlerun.db"
    assert found(state, kind) == []
    before = subprocess.run(["ls", state.path], capture_output=True, check=True).stdout
    assert b"singlerun.db" not in before
    with open(database, "wb") as file:
        file.write(b"garbage" * 999)
    with pytest.raises(RecordError):
        found(state, kind)
    with open(database, "rb") as file:
        assert file.read() == b"garbage" * 999


def test_a_record_that_is_kept_busy_is_not_waited_for_long(state, queue, monkeypatch):
    monkeypatch.setattr(words, "TAB_PATIENCE", 0.01)
    add(queue, b"x")
    with open(state.path + b"/singlerun.db.lock", "rb+") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(RecordError, match=r"busy for 0\.01 s"):
            found(state, "names")
    assert found(state, "names") == [b"x"]


def test_an_unknown_kind_is_an_error(state, queue):
    with pytest.raises(KeyError):
        found(state, "nonsense")


def test_the_module_needs_little():
    script = "import sys, singlerun.completion; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert not {"click", "rich", "subprocess", "typing", "singlerun.runner"} & set(loaded.split())
