"""What is synced to the disk before a verb returns: all that a queue promises, and no plain run."""

import re
import subprocess
import sys

from conftest import need

SCRIPT = """
import os, sys
from singlerun.outcome import Outcome
from singlerun.paths import StateDir
from singlerun.process.identity import this_process
from singlerun.store.queue import Context, Job
from singlerun.store.run import LOST, Ending, Run
from singlerun.store.sqlite_queue import SqliteQueue
import time

store = SqliteQueue(StateDir(os.fsencode(sys.argv[1])))
me, context = this_process(), Context(b"/", 0, (), {})

def do(verb, call):
    os.write(1, b"begin %s" % verb.encode())
    result = call()
    os.write(1, b"end %s" % verb.encode())
    return result

def add(count=1):
    jobs = [Job(name=b"x", argv=(b"true",)) for _ in range(count)]
    return do("enqueue", lambda: store.enqueue(jobs, context, unique=False, limit=None))

def run():
    return Run(names=(b"x",), argv=(b"true",), wrapper=me, uid=0, asked_ns=time.time_ns())

def ending():
    return Ending(Outcome(0))

add(6)
job = do("claim", lambda: store.claim(b"x", me))
do("give_back", lambda: store.give_back(job, "why"))
job = store.claim(b"x", me)
announced = do("announce", lambda: store.announce(b"x"))
do("retract", lambda: store.retract(announced))
job, _ = do("finish_and_claim", lambda: store.finish_and_claim(job, ending(), me))
announced = store.announce(b"x")
job, _ = do(
    "finish_and_claim_announced",
    lambda: store.finish_and_claim_announced(job, ending(), me, announced),
)
do("finish", lambda: store.finish(job, ending()))
(number,) = store.enqueue([Job(name=b"y", argv=(b"true",))], context, unique=False, limit=None)
do("put_first", lambda: store.put_first(number))
do("cancel", lambda: store.cancel(number, "why"))
do("retry", lambda: store.retry(number))
do("pause", lambda: store.pause(b"x", None))
do("resume", lambda: store.resume(b"x"))

first = run()
do("wait_run", lambda: store.wait_run(first))
do("start_run", lambda: store.start_run(first, None))
do("name_command", lambda: store.name_command(first, me))
do("finish_run", lambda: store.finish_run(first, ending()))
second = run()
do("refuse_run", lambda: store.refuse_run(second, "refused", "held"))
do("look", lambda: store.look(b"x"))
do("open_runs", lambda: store.open_runs())
"""
SYNCED = {
    "enqueue", "claim", "give_back", "announce", "retract", "finish_and_claim", "finish",
    "put_first", "cancel", "retry", "pause", "resume",
}  # fmt: skip
WRITTEN = {
    "finish_and_claim_announced", "wait_run", "start_run", "name_command", "finish_run",
    "refuse_run",
}  # fmt: skip
READ = {"look", "open_runs"}


def test_verbs_of_a_queue_are_synced_and_those_of_a_run_are_not(tmp_path):
    need("strace")
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-qq", "-y", "-o", trace, "-e", "trace=fdatasync,fsync,pwrite64,write",
         sys.executable, "-c", SCRIPT, tmp_path / "state"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    became, what = {}, "read"
    for line in trace.read_text().splitlines():
        if re.search(r'"begin \w+"', line):
            what = "read"
        elif ends := re.search(r'"end (\w+)"', line):
            became[ends[1]] = what
        elif "singlerun.db-wal" in line:
            # SQLite syncs the head of a new log before anything else is in it.
            what = "synced" if "sync(" in line else "written"
    assert became == (
        dict.fromkeys(SYNCED, "synced")
        | dict.fromkeys(WRITTEN, "written")
        | dict.fromkeys(READ, "read")
    )
