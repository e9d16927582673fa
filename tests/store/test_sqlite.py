"""The SQLite store: the contract of all stores, and what is its own."""

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from conftest import fill
from contract import StoreContract, a_copy, a_run, fields

from singlerun.errors import RecordError
from singlerun.outcome import Outcome
from singlerun.paths import StateDir
from singlerun.store import migrations
from singlerun.store.database import LOG_BYTES, MANY, Database
from singlerun.store.rows import DamagedError
from singlerun.store.run import LOST, RUNNING, Ending
from singlerun.store.sqlite import SqliteStore


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


def test_write_ahead_log_is_shortened_also_by_one_that_lives_long(store, state):
    path = os.path.join(state.path, b"singlerun.db-wal")
    sizes = []
    for _ in range(MANY):
        store.start_run(a_run(), None)
        sizes.append(os.path.getsize(path))
    assert max(sizes) > LOG_BYTES
    assert sizes[-1] < max(sizes)


@pytest.mark.stress
def test_guard_gives_up_on_a_stopped_writer(store, again, monkeypatch):
    monkeypatch.setattr("singlerun.store.guard.GUARD_PATIENCE", 0.2)
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


# -- what fails changes nothing --------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["wait", "start", "name", "finish", "refuse", "close"])
def test_a_run_whose_change_could_not_be_written_is_as_it_was(small_disk, verb):
    """A real full disk: the COMMIT fails, or the INSERT before it."""
    store = SqliteStore(StateDir(os.fsencode(small_disk / "state")))
    run = a_run(argv=(b"x" * 8192,))
    if verb in {"name", "finish", "close"}:
        store.start_run(run, None)
    verbs = {
        "wait": lambda: store.wait_run(run),
        "start": lambda: store.start_run(run, None),
        "name": lambda: store.name_command(run, run.wrapper),
        "finish": lambda: store.finish_run(run, Ending(Outcome(0), detail="x" * 8192)),
        "refuse": lambda: store.refuse_run(run, "refused", "x" * 8192),
        "close": lambda: store.close_run(run, LOST, "x" * 8192),
    }
    store.start_run(a_run(), None)
    before = fields(run)
    fill(small_disk)
    for _ in range(40):  # until the log has used up what it had
        store_ = verbs[verb]
        try:
            store_()
        except RecordError:
            break
        before = fields(run)
    else:
        pytest.skip("the log had room")
    assert fields(run) == before
    os.unlink(small_disk / "filler")
    verbs[verb]()
    assert store.find(run.id) is not None
    store.close()


def test_a_failed_start_is_repeated_under_an_id_of_its_own(small_disk):
    store = SqliteStore(StateDir(os.fsencode(small_disk / "state")))
    first, run = a_run(), a_run(argv=(b"x" * 500_000,))
    store.start_run(first, None)
    fill(small_disk)
    with pytest.raises(RecordError, match="make room"):
        store.start_run(run, None)
    assert (run.id, run.token, run.started_ns) == (None, None, None)
    other = a_run()
    os.unlink(small_disk / "filler")
    store.start_run(other, None)
    run.argv = (b"true",)
    store.start_run(run, None)
    assert [first.id, other.id, run.id] == sorted({first.id, other.id, run.id})
    assert [a_copy(store, one).state for one in (first, other, run)] == [RUNNING] * 3
    store.close()


def test_a_run_that_waited_in_a_log_that_was_deleted_is_recorded_anew(store, state):
    run = a_run()
    store.wait_run(run)
    for name in os.listdir(state.path):
        if name.startswith(b"singlerun.db") and not name.endswith(b".lock"):
            os.unlink(os.path.join(state.path, name))
    other = a_run()
    store.start_run(other, None)
    store.start_run(run, None)
    assert run.id != other.id
    assert a_copy(store, run).token == run.token


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", b"running"), ("names", "x"), ("argv", 7),
        ("wrapper_pid", 2**40), ("asked_ns", 1.5), ("token", "t"), ("boot_id", b"\xff"),
        ("detail", b"x"), ("elapsed_ns", "x"),
    ],
)  # fmt: skip
def test_a_cell_of_a_wrong_type_sets_the_log_aside(store, state, column, value):
    run = a_run()
    store.start_run(run, None)
    with sqlite3.connect(os.path.join(state.path, b"singlerun.db")) as database:
        database.execute(f"UPDATE runs SET {column} = ?", (value,))
    database.close()
    assert store.open_runs() == []
    (notice,) = store.notices
    assert f"damaged {column}" in notice
    assert "set aside" in notice


def test_a_log_that_is_set_aside_takes_its_latest_writes_along(state, again):
    """They are in a file beside it while another has it open, and are nothing of the new log's."""
    store = SqliteStore(state)
    store.start_run(a_run(), None)
    store.close()  # all that was written is in the file itself
    again().start_run(a_run(), None)
    path = os.path.join(state.path, b"singlerun.db")
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.write(bytes(range(256)) * (size // 256))
    store = SqliteStore(state)
    store.start_run(a_run(b"y"), None)
    assert [run.names for run in store.runs(limit=9)] == [(b"y",)]
    store.close()
    aside = [file for file in os.listdir(state.path) if b".broken-" in file]
    assert any(file.endswith(b"-wal") for file in aside)


def test_a_log_is_private_whatever_the_umask(state):
    before = os.umask(0o777)
    try:
        store = SqliteStore(state)
        store.start_run(a_run(), None)
    finally:
        os.umask(before)
    for suffix in (b"", b"-wal", b"-shm", b".lock"):
        path = os.path.join(state.path, b"singlerun.db" + suffix)
        assert os.stat(path).st_mode & 0o777 == 0o600, path
    store.close()


def test_a_text_that_is_not_utf_8_sets_the_log_aside(store, state):
    store.start_run(a_run(), None)
    with sqlite3.connect(os.path.join(state.path, b"singlerun.db")) as database:
        database.execute("UPDATE runs SET host = CAST(x'ff' AS TEXT)")
    database.close()
    assert store.open_runs() == []
    assert "set aside" in store.notices[0]


def test_a_message_about_damage_that_is_not_utf_8_sets_the_log_aside(store, state):
    store.start_run(a_run(), None)
    store.close()
    path = os.path.join(state.path, b"singlerun.db")
    with open(path, "r+b") as file:
        data = file.read()
        at = data.index(b"CREATE TABLE runs")
        file.seek(at)
        file.write(b"CREATE \xff\xfeBLE runs")
    other = a_run()
    store.start_run(other, None)
    assert other.id == 1
    assert "set aside" in store.notices[0]


def test_what_only_once_looks_damaged_is_left_where_it_is(state):
    database, seen = Database(state), []

    def work(connection):
        seen.append(connection)
        if len(seen) == 1:
            raise DamagedError("a read that failed")
        return "done"

    assert database.do(work) == "done"
    assert database.notices == []
    assert seen[0] is not seen[1]
    database.close()


def test_a_connection_that_failed_is_not_used_again(state):
    database, seen = Database(state), []
    database.do(seen.append)
    with pytest.raises(RecordError):
        database.do(lambda _: 1 / 0)
    database.do(seen.append)
    assert seen[0] is not seen[1]
    database.close()


# -- the guard -------------------------------------------------------------------------------------


def test_a_crowd_that_makes_progress_is_no_reason_to_give_up(store, again, monkeypatch):
    monkeypatch.setattr("singlerun.store.guard.GUARD_PATIENCE", 1.0)
    other, entered, done = again(), threading.Event(), threading.Event()

    def crowd():
        """Write often, and be away from the guard for a moment too short to be noticed."""
        with other.exclusively():
            entered.set()
            end = time.monotonic() + 3.0
            while time.monotonic() < end:
                other.start_run(a_run(b"y"), None)
                time.sleep(0.02)
            done.set()
        other.close()  # SQLite wants that in the thread that opened it

    thread = threading.Thread(target=crowd)
    thread.start()
    entered.wait()
    store.start_run(a_run(), None)
    assert done.is_set()
    thread.join()


def test_a_stop_from_the_terminal_waits_until_the_guard_is_free(store, state):
    import signal

    seen = []
    with store.exclusively():
        seen.append(signal.SIGTSTP in signal.pthread_sigmask(signal.SIG_BLOCK, []))
        with store.exclusively():
            seen.append(signal.SIGTSTP in signal.pthread_sigmask(signal.SIG_BLOCK, []))
        seen.append(signal.SIGTSTP in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    seen.append(signal.SIGTSTP in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    assert seen == [True, True, True, False]
