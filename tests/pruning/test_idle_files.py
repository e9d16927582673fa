"""The files of idle names: which are deleted, and that none is deleted under its owner."""

import os
import time

import pytest

from singlerun import lock
from singlerun.lock.line import Line, Lines
from singlerun.outcome import Outcome
from singlerun.paths import slot_file_name
from singlerun.process.identity import this_process
from singlerun.pruning.files import IdleFiles, name_of
from singlerun.queue import wakeup
from singlerun.store.queue import Context, Job
from singlerun.store.run import Ending, Run
from singlerun.store.sqlite_pruning import SqlitePruning

LATER = 2**62


@pytest.fixture
def store(state):
    store = SqlitePruning(state)
    yield store
    store.close()


def idle(state, store, before_ns=LATER, *, dry_run=False):
    return IdleFiles(state, store, before_ns, dry_run=dry_run)


def deleted(found):
    return sum(count for count, _ in found)


def a_run(*names, **more):
    return Run(
        names=names or (b"x",), argv=(b"true",), wrapper=this_process(), uid=0,
        asked_ns=time.time_ns(), **more,
    )  # fmt: skip


def took(state, *names, **more):
    """Take locks and free them, so that their files are there."""
    locks = lock.of_names(names or (b"x",), state, shared=False, **more)
    assert locks.try_take()
    locks.free()


def add(store, name):
    job = Job(name=name, argv=(b"true",))
    store.enqueue([job], Context(b"/", 0, (), {}), unique=False, limit=None)


def files(state, directory=b"locks"):
    return sorted(os.listdir(os.path.join(state.path, directory)))


# -- lock files ----------------------------------------------------------------------------------


def test_lock_files_of_idle_names_are_deleted(state, store):
    took(state, b"a", b"b")
    took(state, b"c", slots=3)
    assert len(files(state)) >= 4
    assert deleted(idle(state, store, dry_run=True).lock_files()) == len(files(state))
    assert files(state)
    list(idle(state, store).lock_files())
    assert files(state) == []


def test_those_of_names_that_were_used_lately_are_kept(state, store):
    took(state, b"a")
    took(state, b"b")
    for name in (b"a", b"b"):
        run = a_run(name)
        store.start_run(run, None)
        store.finish_run(run, Ending(Outcome(0)))
    os.utime(os.path.join(state.locks, b"b.lock"), (1, 1))
    assert deleted(idle(state, store, run.ended_ns).lock_files()) == 1
    assert files(state) == [b"b.lock"]


def test_those_that_the_record_does_not_know_are_judged_by_their_time(state, store):
    took(state, b"a", b"b")
    os.utime(os.path.join(state.locks, b"b.lock"), (1, 1))
    list(idle(state, store, 10**10).lock_files())
    assert files(state) == [b"a.lock"]


@pytest.mark.parametrize("how", [{}, {"shared": True}, {"slots": 2}])
def test_a_held_lock_file_is_kept(state, store, how):
    locks = lock.of_names((b"x",), state, **{"shared": False} | how)
    assert locks.try_take()
    before = files(state)
    list(idle(state, store).lock_files())
    assert set(files(state)) == set(before) - {b"%%2-x.lock"}
    assert locks.is_current()
    locks.free()


def test_those_of_open_runs_are_kept_though_they_can_be_locked(state, store):
    """Their command has closed the descriptor: only the record, or its marks, tell."""
    took(state, b"a", b"b")
    took(state, b"c", slots=2)
    store.start_run(a_run(b"a", b"b"), None)
    store.start_run(a_run(b"c", slots=2), None)
    before = files(state)
    list(idle(state, store).lock_files())
    assert files(state) == before


def test_the_record_is_asked_again_while_the_lock_is_held(state, store):
    took(state)
    found = idle(state, store)
    store.start_run(a_run(), None)
    list(found.lock_files())
    assert files(state) == [b"x.lock"]


def test_one_whose_holder_could_not_be_recorded_is_kept(state, store):
    took(state)
    os.chmod(os.path.join(state.locks, b"x.lock"), 0o700)
    list(idle(state, store).lock_files())
    assert files(state) == [b"x.lock"]


def test_those_of_pending_jobs_and_paused_names_are_kept(state, store):
    took(state, b"a", b"b")
    store.enqueue(
        [Job(name=b"a", argv=(b"true",))], Context(b"/", 0, (), {}), unique=False, limit=None
    )
    store.pause(b"b", None)
    list(idle(state, store).lock_files())
    assert len(files(state)) == 2


def test_no_other_file_is_touched(state, store, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    os.symlink(victim, os.path.join(state.locks, b"link.lock"))
    os.link(victim, os.path.join(state.locks, b"second.lock"))
    os.mkfifo(os.path.join(state.locks, b"fifo.lock"))
    os.mkdir(os.path.join(state.locks, b"directory.lock"))
    with open(os.path.join(state.locks, b"full.lock"), "w") as file:
        file.write("something")
    before = files(state)
    list(idle(state, store).lock_files())
    assert files(state) == before
    assert victim.read_text() == "kept"


def test_nothing_is_deleted_where_kernel_locks_cannot_be_trusted(state, store, monkeypatch):
    took(state)
    monkeypatch.setattr("singlerun.pruning.files.distrusted", lambda _: "nfs")
    list(idle(state, store).lock_files())
    assert files(state) == [b"x.lock"]


def test_nothing_is_deleted_in_a_directory_that_others_may_exchange(state, store):
    took(state)
    state.is_exchangeable = True
    list(idle(state, store).lock_files())
    assert files(state) == [b"x.lock"]


@pytest.mark.parametrize("name", [b"x", b"a/b", b"\xff%", b".x", b"%", b"a%%b", b"0"])
def test_names_are_read_back_from_file_names(name):
    from singlerun.paths import lock_file_name

    file = lock_file_name(name)
    assert name_of(file.removesuffix(b".lock")) == name
    assert name_of(slot_file_name(file, 3).removesuffix(b".lock")) == name
    assert name_of(lock_file_name(name * 300).removesuffix(b".lock")) is None
    assert name_of(slot_file_name(b"%%" + file, 3).removesuffix(b".lock")) is None


# -- lines ---------------------------------------------------------------------------------------


def test_empty_lines_are_deleted_and_made_anew(state, store):
    line = Line(state.line_path(b"x"))
    lines = Lines([line])
    lines.join()
    assert deleted(idle(state, store).lines()) == 0
    lines.leave()
    assert deleted(idle(state, store, 1).lines()) == 0, "a ticket has just left"
    assert deleted(idle(state, store, dry_run=True).lines()) == 1
    assert deleted(idle(state, store).lines()) == 1
    assert files(state, b"lines") == []
    lines.join()
    assert not lines.are_empty()
    lines.leave()


def test_a_line_is_kept_while_a_process_is_about_to_join_it(state, store):
    line = Line(state.line_path(b"x"))
    gate = line.shut()
    assert deleted(idle(state, store).lines()) == 0
    os.close(gate)
    assert deleted(idle(state, store).lines()) == 1


# -- FIFOs ---------------------------------------------------------------------------------------


def test_fifos_of_idle_queues_are_deleted(state, store):
    fifo = state.open_fifo(b"x")
    assert wakeup.try_lock(fifo)
    assert deleted(idle(state, store).fifos()) == 0, "it has a worker"
    os.close(fifo)
    assert deleted(idle(state, store, 1).fifos()) == 0, "it was used lately"
    assert deleted(idle(state, store, dry_run=True).fifos()) == 1
    assert deleted(idle(state, store).fifos()) == 1
    assert files(state, b"workers") == []


def test_the_fifo_of_a_queue_with_a_job_is_kept(state, store):
    os.close(state.open_fifo(b"x"))
    found = idle(state, store)
    store.enqueue(
        [Job(name=b"x", argv=(b"true",))], Context(b"/", 0, (), {}), unique=False, limit=None
    )
    assert deleted(found.fifos()) == 0


def test_an_adder_that_has_opened_a_deleted_fifo_starts_over(state, monkeypatch):
    opened, started = [], []

    def open_and_lose(name, really=state.open_fifo):
        opened.append(really(name))
        if len(opened) == 1:
            os.unlink(os.path.join(state.path, b"workers", name))
        return opened[-1]

    monkeypatch.setattr(state, "open_fifo", open_and_lose)
    monkeypatch.setattr(wakeup, "_start", lambda *arguments: started.append(arguments[2]))
    assert wakeup.ensure(state, b"x")
    assert started == [opened[1]]


# -- leftovers -----------------------------------------------------------------------------------


def test_what_was_to_become_a_lock_file_of_filelock_is_deleted(state, store):
    took(state, lock_type="lockfile")
    hexadecimal = b"0" * 32
    claims = os.path.join(state.locks, b"x.soft.filelock", b"claims")
    left = [
        os.path.join(state.locks, b".x.soft.private-v1-%s.tmp" % hexadecimal),
        os.path.join(claims, b".held-v1-0.claim.private-v1-%s.tmp" % hexadecimal),
        os.path.join(claims, b".probe-v1-%s.tmp" % hexadecimal),
    ]
    for path in left:
        os.close(os.open(path, os.O_CREAT, 0o600))
    assert deleted(idle(state, store, 1).leftovers()) == 0
    assert deleted(idle(state, store).leftovers()) == 3
    assert not any(map(os.path.exists, left))
    assert os.path.exists(os.path.join(state.locks, b"x.soft")), (
        "SoftFileLock would take it for free"
    )
    took(state, lock_type="lockfile")


def test_a_lock_file_that_is_held_keeps_its_kernel_lock(state, store):
    locks = lock.of_names((b"x",), state, shared=False, lock_type="lockfile")
    assert locks.try_take()
    list(idle(state, store).lock_files())
    list(idle(state, store).leftovers())
    assert locks.is_current()
    locks.free()
