"""Owners of a name: alive, dead or unknown, on evidence alone."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import eventually

from singlerun.process import identity
from singlerun.process.identity import ALIVE, DEAD, UNKNOWN, Owner, Place, life


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def named(pid, started, **place):
    here = identity.here()
    fields = {"host": here.host, "boot_id": here.boot_id, "pid_ns": here.pid_ns} | place
    return Owner(Place(**fields), pid, started)


def test_this_process_is_alive():
    assert life(identity.this_process()) == ALIVE


def test_a_process_that_ended_is_dead_before_and_after_it_was_waited_for(sleeper):
    owner = named(sleeper.pid, identity.start_time(sleeper.pid))
    assert life(owner) == ALIVE
    sleeper.kill()
    eventually(lambda: identity.stat_fields(sleeper.pid)[0] == b"Z", "its end")
    assert life(owner) == DEAD
    sleeper.wait()
    assert life(owner) == DEAD


def test_a_pid_that_was_used_again_is_another_process(sleeper):
    assert life(named(sleeper.pid, identity.start_time(sleeper.pid) - 1)) == DEAD


def test_another_boot_of_this_host_is_dead(sleeper):
    owner = named(sleeper.pid, identity.start_time(sleeper.pid), boot_id="other")
    assert life(owner) == DEAD


@pytest.mark.parametrize(
    "place", [{"pid_ns": 1}, {"boot_id": "other", "host": "elsewhere"}, {"boot_id": ""}]
)
def test_what_cannot_be_seen_is_unknown_and_never_judged_by_its_pid(place):
    no_such_process = 2**22 - 1
    assert life(named(no_such_process, 1, **place)) == UNKNOWN


def test_another_name_of_this_host_changes_nothing(sleeper):
    assert life(named(sleeper.pid, identity.start_time(sleeper.pid), host="renamed")) == ALIVE


def test_age_is_no_evidence(sleeper, monkeypatch):
    owner = named(sleeper.pid, identity.start_time(sleeper.pid))
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real + 5 * 3600)
    assert life(owner) == ALIVE


def test_unreadable_start_time_counts_as_alive(sleeper):
    assert life(named(sleeper.pid, None)) == ALIVE


def test_a_process_hidden_from_proc_counts_as_alive(sleeper, monkeypatch):
    """As with /proc mounted hidepid=2."""

    def hidden(_):
        raise FileNotFoundError

    monkeypatch.setattr(identity, "stat_fields", hidden)
    assert life(named(1, 5)) == ALIVE
    assert life(named(sleeper.pid, 5)) == ALIVE
    sleeper.kill()
    sleeper.wait()
    assert life(named(sleeper.pid, 5)) == DEAD


def test_a_process_whose_first_thread_ended_is_alive():
    script = (
        "import ctypes, threading, sys; threading.Thread(target=sys.stdin.read).start();"
        "print('ready', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        eventually(
            lambda: identity.stat_fields(process.pid)[0] == b"Z", "the end of the first thread"
        )
        assert life(named(process.pid, identity.start_time(process.pid))) == ALIVE
        process.kill()


def test_brackets_in_a_name_confuse_nothing(tmp_path):
    program = tmp_path / "a) Z 1 ("
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as process:
        status = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: b"(a) Z 1 ()" in status.read_bytes(), "its exec")
        assert life(named(process.pid, identity.start_time(process.pid))) == ALIVE
        process.kill()


def test_threads_of_ours_do_not_matter():
    result = []
    thread = threading.Thread(target=lambda: result.append(identity.this_process().started))
    thread.start()
    thread.join()
    assert result == [identity.start_time(os.getpid())]
