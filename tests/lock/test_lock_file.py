"""A lock file and its claim: what is left when something fails between two steps."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from actor import actors, names  # noqa: F401 - a fixture
from conftest import PATIENCE, blocked_on, demand_or_skip, eventually
from filelock import MarkerSoftFileLock, SoftFileLock, StrictSoftFileLock, Timeout

from singlerun.errors import LockFileError
from singlerun.lock import claims
from singlerun.lock.flock import ChosenFile
from singlerun.lock.lockfile import LockFile

X = names("x", lock_type="lockfile")
HELD = """
import os, sys
from filelock import StrictSoftFileLock
lock = StrictSoftFileLock(sys.argv[1])
lock.acquire()
os._exit(0)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def lock_at(path, *, both=True, mode=None, needs_links=True):
    kernel = ChosenFile(os.fsencode(f"{path}.kernel"), shared=False)
    return LockFile(os.fsencode(path), kernel, both=both, mode=mode, needs_links=needs_links)


def left(path):
    """Return the claims and notes that are left."""
    found = Path(f"{path}.filelock").rglob("*")
    return sorted(file.name.partition("-")[0] for file in found if file.is_file())


def is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


# -- the claim and the kernel lock: both or none -------------------------------------------------


def test_no_claim_is_left_where_the_kernel_lock_is_held(path):
    lock, kernel = lock_at(path), ChosenFile(os.fsencode(f"{path}.kernel"), shared=False)
    assert kernel.try_take()
    assert not lock.try_take()
    assert left(path) == []
    kernel.free()
    assert lock.try_take()
    assert not kernel.try_take()
    assert left(path) == ["held", "intent"]
    lock.free()
    assert left(path) == []
    assert kernel.try_take()
    kernel.free()


def test_no_kernel_lock_is_taken_where_there_is_a_claim(path):
    lock = lock_at(path)
    with StrictSoftFileLock(path):
        assert not lock.try_take()
        assert not Path(f"{path}.kernel").exists()
    assert lock.try_take()
    assert lock.fds == [lock._kernel.fd]
    lock.unlock()
    assert ChosenFile(os.fsencode(f"{path}.kernel"), shared=False).try_take()
    lock.free()
    assert lock.fds == [-1]


def test_its_paths_and_what_it_created(path):
    lock, alone = lock_at(path), lock_at(path.with_name("alone"), both=False)
    assert lock.try_take()
    assert alone.try_take()
    assert [os.path.basename(file) for file in lock.paths] == [b"file.kernel", b"file"]
    assert [os.path.basename(file) for file in alone.paths] == [b"alone"]
    assert lock.created
    assert alone.created
    assert lock.needs_freeing
    assert alone.fds == []
    for taken in (lock, alone):
        taken.free()
        assert taken.try_take()
        assert not taken.created
        taken.forget_created()
        taken.free()
    assert path.exists()
    assert path.with_name("alone").exists()


def test_only_what_was_created_is_forgotten(path):
    lock = lock_at(path)
    assert lock.try_take()
    lock.forget_created()
    assert not path.exists()
    assert not Path(f"{path}.kernel").exists()
    assert not lock.is_current()
    lock.free()
    assert lock.try_take()
    assert lock.is_current()
    for file in Path(f"{path}.filelock", "claims").iterdir():
        file.unlink()
    assert not lock.is_current(), "without its claim"
    lock.free()


# -- claims of others ----------------------------------------------------------------------------


def test_a_dead_claim_is_broken_and_a_living_one_is_not(path):
    subprocess.run([sys.executable, "-c", HELD, path], check=True)
    lock = lock_at(path)
    assert lock.try_take()
    (claim,) = claims.read(os.fsencode(path))
    assert claim.pid == os.getpid()
    lock.free()
    with StrictSoftFileLock(path):
        assert not lock.try_take()
        assert len(left(path)) == 2
    assert lock.try_take()
    lock.free()


def test_a_claim_that_cannot_be_judged_is_not_broken(path):
    subprocess.run(
        ["unshare", "--uts", "sh", "-c", 'hostname another; exec "$@"', "sh",
         sys.executable, "-c", HELD, path],
        check=True,
    )  # fmt: skip
    assert not lock_at(path).try_take()
    assert len(left(path)) == 2


def test_another_that_claims_meanwhile_is_not_taken_for_us(actors, tmp_path):  # noqa: F811
    """Stopped after its look at the claims, when it makes its own; then another has one."""
    late, other = actors(X), actors(X)
    late.begin_and_stop_at("locks.try_take()", "/^link", tmp_path / "trace")
    taken = other.ask("locks.try_take()")
    late.go_on()
    assert (late.answer(), taken) in [("False", "True"), ("True", "False")]
    late.ask("locks.note((7, 7))")
    other.ask("locks.note((7, 7))")
    file = tmp_path / "state" / "locks" / "x.soft"
    assert left(file) == ["held", "intent", "note"]
    (note,) = Path(f"{file}.filelock").glob("note-*")
    (held,) = Path(f"{file}.filelock", "claims").glob("held-*")
    assert note.name.removeprefix("note-") in held.name


@pytest.mark.parametrize("other", [SoftFileLock, MarkerSoftFileLock])
def test_the_other_soft_locks_of_filelock_exclude_it_and_are_excluded(path, other):
    """The sentinel stays, for taking it away would let them in beside a StrictSoftFileLock."""
    lock, theirs = lock_at(path), other(path)
    with theirs:
        assert not lock.try_take()
        assert not lock.try_take()
    assert left(path) == []
    assert lock.try_take()
    with pytest.raises(Timeout):
        theirs.acquire(blocking=False)
    lock.free()
    with pytest.raises(Timeout):
        theirs.acquire(blocking=False)
    path.unlink()
    with theirs:
        assert not lock.try_take()


def test_the_claim_of_a_user_whose_files_cannot_be_linked_holds(tmp_path):
    """With fs.protected_hardlinks filelock can't look at it more closely."""
    if os.geteuid() != 0:
        demand_or_skip("only root can be two users")
    tmp_path.chmod(0o755)
    for directory in tmp_path.parents:
        if directory.stat().st_uid == os.geteuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    # Group-writable records let the other user read, and its umask none write.
    with StrictSoftFileLock(shared / "file", mode=0o644):
        for directory in (shared / "file.filelock", shared / "file.filelock" / "claims"):
            directory.chmod(0o777)
        script = (
            "import os, sys; from singlerun.lock.lockfile import LockFile;"
            "from singlerun.lock.flock import ChosenFile; p = os.fsencode(sys.argv[1]);"
            "os.setgid(12345); os.setuid(12345);"
            "print(LockFile(p, ChosenFile(p, shared=False), both=False).try_take())"
        )
        command = [sys.executable, "-c", script, shared / "file"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.stdout, result.stderr) == ("False\n", "")


# -- giving up -----------------------------------------------------------------------------------


@pytest.mark.stress
def test_nothing_is_taken_after_it_was_abandoned(actors, tmp_path):  # noqa: F811
    """It is given up while another thread is in the middle of a try."""
    run = actors(X)
    file = tmp_path / "state" / "locks" / "x.soft"
    run.ask("(t := __import__('threading'))")
    run.ask("(waiting := t.Thread(target=locks.take))")
    run.inject("/^link", "delay_enter=1s", tmp_path / "trace")
    run.ask("waiting.start()")
    eventually((tmp_path / "trace").read_text, "the try")
    assert run.ask("locks.abandon()") == "None"
    run.ask("waiting.join(30)")
    assert run.ask("waiting.is_alive()") == "False"
    assert left(file) == []
    assert run.ask("locks.try_take()") == "False"


def test_a_waiter_that_gives_up_ends(path):
    lock = lock_at(path)
    with StrictSoftFileLock(path):
        waiting = threading.Thread(target=lock.take)
        waiting.start()
        lock.abandon()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
    assert left(path) == []


def test_what_was_given_to_a_command_is_not_forsaken(path):
    lock = lock_at(path)
    assert lock.try_take()
    lock.note((3, 7), None)
    lock.note((3, 7), (os.getpid(), 1))
    lock.forsake()
    assert left(path) == ["held", "intent", "note"]
    lock.note((3, 7), None)  # the next try
    lock.forsake()
    assert left(path) == []
    assert lock.fds == [-1]


def test_the_note_is_forgotten_before_its_claim(actors, tmp_path):  # noqa: F811
    """Without its claim, the note of a process that is killed in between is never found."""
    run = actors(X)
    assert run.ask("locks.try_take()") == "True"
    run.ask("locks.note((3, 7))")
    trace = tmp_path / "trace"
    run.inject("/^unlink", "delay_enter=0", trace)
    run.ask("locks.free()")
    gone = re.findall(r"(note|held|intent)-\w*", trace.read_text())
    assert gone == ["note", "held", "intent"]


def test_marks_that_cannot_be_noted_are_an_error_before_the_start_alone(path):
    lock = lock_at(path)
    assert lock.try_take()
    note = claims.note_path(os.fsencode(path), lock._token)
    os.mkdir(note)
    with pytest.raises(LockFileError, match="make room"):
        lock.note((3, 7), None)
    lock.note((3, 7), (os.getpid(), 1))
    os.rmdir(note)
    lock.note((3, 7), (os.getpid(), 1))
    assert Path(os.fsdecode(note)).read_text().split()[2:] == ["3", "7", str(os.getpid()), "1"]
    lock.free()


@pytest.mark.parametrize("what", ["", "locks"])
def test_a_waiter_makes_anew_what_was_deleted_under_it(actors, tmp_path, what):  # noqa: F811
    held, waiter, other = actors(X), actors(X), actors(X)
    assert held.ask("locks.try_take()") == "True"
    waiter.begin("locks.take()")
    eventually(lambda: list((tmp_path / "state" / "lines").glob("x/*")), "the wait")
    os.kill(waiter.pid, signal.SIGSTOP)  # it may be about to make a file
    eventually(lambda: is_stopped(waiter.pid), "the stop")
    shutil.rmtree(tmp_path / "state" / what)
    os.kill(waiter.pid, signal.SIGCONT)
    held.ask("locks.free()")
    assert waiter.answer() == "None"
    assert waiter.ask("locks.is_current()") == "True"
    assert other.ask("locks.try_take()") == "False"
    assert not blocked_on(tmp_path / "state" / "locks" / "x.lock")


def test_without_hard_links_there_is_an_error_or_the_kernel_lock(actors, tmp_path):  # noqa: F811
    path = os.fsencode(tmp_path / "file")
    making = "LockFile({0}, ChosenFile({0}, shared=False), both=True, needs_links={1})"
    for needed, answer in [(True, "makes no hard links"), (False, "True")]:
        run = actors("__import__('singlerun.lock.lockfile')")
        run.ask("(LockFile := __import__('sys').modules['singlerun.lock.lockfile'].LockFile)")
        run.ask(f"(locks := {making.format(path, needed)})")
        run.inject("/^link", "error=EOPNOTSUPP", tmp_path / "trace")
        assert answer in run.ask("locks.try_take()")
        assert left(tmp_path / "file") == []
