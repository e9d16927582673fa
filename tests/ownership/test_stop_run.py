"""A run is stopped by its recorded identity: its end is brought about, and no one else's."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from conftest import PATIENCE, demand_or_skip, eventually, need
from owners import ELSEWHERE, dead, living, owner_of, running, waiting

from singlerun.outcome import Outcome
from singlerun.ownership import stop
from singlerun.paths import StateDir
from singlerun.process import termination
from singlerun.store.run import FAILED, LOST, RUNNING, STOPPED, SUCCEEDED, WAITING, Ending
from singlerun.store.sqlite import SqliteStore


@contextmanager
def deaf(program="signal.signal(signal.SIGTERM, signal.SIG_IGN)"):
    """Run a process that ignores SIGTERM."""
    script = f"import signal; {program}; print(flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


# -- which processes -------------------------------------------------------------------------------

REUSED = """
import os, signal, subprocess, sys, time
from singlerun.ownership import stop
from singlerun.paths import StateDir
from singlerun.process.identity import start_time, this_process
from singlerun.store.sqlite import SqliteStore
sys.path.insert(0, sys.argv[2])
from owners import owner_of, running

store = SqliteStore(StateDir(os.fsencode(sys.argv[1])))
victim = subprocess.Popen(["sleep", "infinity"])
run = running(store, owner_of(victim))
attempt = stop._Attempt(store, run)
before = start_time(victim.pid)
victim.kill()
victim.wait()
while start_time("self") is None or time.clock_gettime(time.CLOCK_BOOTTIME) * 100 < before + 2:
    time.sleep(0.005)  # the next tick of start times
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(victim.pid - 1))
stranger = subprocess.Popen(["sleep", "infinity"])
assert stranger.pid == victim.pid, (stranger.pid, victim.pid)
attempt.begin()
try:
    print("signalled", stranger.wait(0.2))
except subprocess.TimeoutExpired:
    print("untouched")
stranger.kill()
"""


def test_a_process_that_took_over_the_pid_is_not_signalled(state):
    """In a PID namespace of its own, where the next PID can be chosen."""
    need("unshare")
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c"]
    if subprocess.run([*words, ""], capture_output=True, check=False).returncode:
        demand_or_skip("no PID namespace can be made")
    told = subprocess.run(
        [*words, REUSED, os.fsdecode(state.path), Path(__file__).parent],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert (told.stdout, told.stderr) == ("untouched\n", "")


def test_what_is_no_longer_found_is_not_signalled():
    """It is looked for again once its pidfd is open."""
    with living() as one, living() as other:
        looks = iter([{one.pid, other.pid}, {other.pid}])
        termination.Targets(lambda: next(looks)).send(signal.SIGKILL)
        assert other.wait(PATIENCE) == -signal.SIGKILL
        assert one.poll() is None


def test_the_wrapper_alone_is_asked_to_end_it_asks_the_rest(store):
    with living() as wrapper, living() as command:
        run = running(store, owner_of(wrapper), command=owner_of(command))
        attempt = stop._Attempt(store, run)
        assert attempt.begin() is True
        assert wrapper.wait(PATIENCE) == -signal.SIGTERM
        assert command.poll() is None


def test_of_a_program_that_became_its_command_all_is_asked_to_end(store):
    with living() as wrapper:
        run = running(store, owner_of(wrapper), command=owner_of(wrapper))
        with living(run) as marked:
            stop._Attempt(store, run).begin()
            assert marked.wait(PATIENCE) == wrapper.wait(PATIENCE) == -signal.SIGTERM


def test_of_a_job_the_command_is_ended_and_not_its_worker(store):
    with living() as worker, living() as command:
        run = running(store, owner_of(worker), command=owner_of(command), job_id=7)
        threading.Thread(target=command.wait).start()  # reaped, as by its worker
        assert stop.stop(store, run, "stopped by me") == stop.STOPPED_NOW
        assert command.wait(PATIENCE) == -signal.SIGTERM
        assert worker.poll() is None
        assert store.find(run.id).state == RUNNING, "its worker records the end"
        store.finish_run(run, Ending(Outcome(None, 15)))
    assert (run.state, run.detail) == (STOPPED, "stopped by me")


def test_a_stopped_process_is_made_to_go_on_and_end(store):
    with living() as wrapper:
        run = running(store, owner_of(wrapper))
        wrapper.send_signal(signal.SIGSTOP)
        threading.Thread(target=wrapper.wait).start()
        assert stop.stop(store, run, "stopped by me", 1e6) == stop.STOPPED_NOW
        assert wrapper.wait(PATIENCE) == -signal.SIGTERM


# -- how it ends -----------------------------------------------------------------------------------


def test_what_has_ended_already_is_not_stopped(store):
    with living() as wrapper:
        run = running(store, owner_of(wrapper))
        read = store.find(run.id)
        store.finish_run(run, Ending(Outcome(0)))
        assert stop.stop(store, read, "stopped by me") == stop.HAD_ENDED
        assert wrapper.poll() is None


def test_what_cannot_be_seen_is_left_alone_and_bears_no_note(store):
    run = running(store, ELSEWHERE)
    assert stop.stop(store, run, "stopped by me") == stop.UNSTOPPABLE
    found = store.find(run.id)
    assert (found.state, found.detail) == (RUNNING, None)


def test_what_outlives_sigkill_bears_no_note(store):
    """A process that waits to be reaped by a parent in no hurry has ended; a living one has not."""
    with living() as wrapper:
        run = running(store, owner_of(wrapper))
        attempt = stop._Attempt(store, run)
        assert attempt.begin()
        store.finish_run(run, Ending(Outcome(0)))
        assert attempt.finish(PATIENCE) is True


def test_a_deaf_wrapper_is_killed_after_what_it_has_started(store):
    with deaf() as wrapper:
        run = running(store, owner_of(wrapper))
        with living(run) as command:
            threading.Thread(target=wrapper.wait).start()
            assert stop.stop(store, run, "stopped by me", 0.05) == stop.STOPPED_NOW
            assert command.wait(PATIENCE) == wrapper.wait(PATIENCE) == -signal.SIGKILL
    assert store.find(run.id).state == STOPPED
    assert store.find(run.id).detail == "stopped by me"


def test_a_wrapper_that_records_the_end_may_live_on(store):
    """It calls hooks, or was a block of a program that goes on."""
    with deaf() as wrapper:
        run = running(store, owner_of(wrapper))

        def finish():
            eventually(lambda: store_of_its_own.find(run.id).detail, "the note")
            store_of_its_own.finish_run(run, Ending(Outcome(0)))
            store_of_its_own.close()  # SQLite wants that in the thread that opened it

        store_of_its_own = SqliteStore(StateDir(os.path.dirname(store._database.path)))
        thread = threading.Thread(target=finish)
        thread.start()
        assert stop.stop(store, store.find(run.id), "stopped by me", 1e6) == stop.STOPPED_NOW
        thread.join()
        assert wrapper.poll() is None
    assert (store.find(run.id).state, run.detail) == (STOPPED, "stopped by me")


def test_an_orphan_is_ended_and_its_record_closed(store):
    run = running(store, dead())
    with living(run) as left:
        assert stop.stop(store, run, "stopped by me") == stop.STOPPED_NOW
        assert left.wait(PATIENCE) == -signal.SIGTERM
    found = store.find(run.id)
    assert (found.state, found.detail) == (STOPPED, "stopped by me")


def test_a_dead_waiter_is_closed_and_nothing_signalled(store):
    run = waiting(store, dead())
    run.token = 5
    with living(run) as stranger:
        assert stop.stop(store, run, "stopped by me") == stop.STOPPED_NOW
        assert stranger.poll() is None
    assert store.find(run.id).state == STOPPED


def test_the_process_group_of_the_command_ends_with_it(store):
    """What carries no marks, and is no descendant any more, is still of its group."""
    script = "sleep infinity & echo $!; exec sleep infinity"
    with subprocess.Popen(
        ["sh", "-c", f"({script}) & wait"], start_new_session=True, stdout=subprocess.PIPE, env={}
    ) as command:
        command.stdout.readline()
        run = running(store, dead(), command=owner_of(command))
        assert stop.kill_survivors(run)
        assert command.stdout.read() == b"", "all that had the pipe has ended"


# -- waiting for the end ---------------------------------------------------------------------------


def test_a_run_of_the_same_id_in_a_new_record_is_another(store):
    run = running(store, ELSEWHERE)
    assert not stop.is_over(store, run)
    store.finish_run(run, Ending(Outcome(0)))
    assert stop.is_over(store, run)
    run.asked_ns -= 1
    assert not stop.is_over(store, run)


def test_an_end_that_was_recorded_is_returned_at_once(store):
    run = running(store, ELSEWHERE)
    read = store.find(run.id)
    store.finish_run(run, Ending(Outcome(3)))
    found = stop.await_end(store, read, None)
    assert (found.state, stop.exit_status_of(found)) == (FAILED, 3)


def test_a_run_whose_processes_died_is_returned_as_lost(store):
    with living() as wrapper:
        run = running(store, owner_of(wrapper))
        threading.Timer(0.05, wrapper.kill).start()
        threading.Thread(target=wrapper.wait).start()
        found = stop.await_end(store, run, None)
    assert (found.state, stop.exit_status_of(found)) == (LOST, 125)
    assert store.find(run.id).state == RUNNING, "to close it is not the onlooker's business"


def test_a_deadline_ends_the_wait(store):
    with living() as wrapper, living() as command:
        for run in (
            running(store, owner_of(wrapper)),
            running(store, owner_of(wrapper), command=owner_of(command)),
            waiting(store, owner_of(wrapper)),
            running(store, ELSEWHERE),
        ):
            assert stop.await_end(store, run, time.monotonic() + 0.02) is None


def test_a_waiting_run_is_awaited_through_its_start_to_its_end(store):
    with living() as wrapper:
        run = waiting(store, owner_of(wrapper))
        read = store.find(run.id)
        other = SqliteStore(StateDir(os.path.dirname(store._database.path)))
        found = []

        def wait():
            found.append(stop.await_end(other, read, None))
            other.close()

        thread = threading.Thread(target=wait)
        thread.start()
        assert store.find(run.id).state == WAITING
        store.start_run(run, None)
        store.finish_run(run, Ending(Outcome(0)))
        thread.join(PATIENCE)
        assert [one.state for one in found] == [SUCCEEDED]
