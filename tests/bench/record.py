"""What a large record costs: 1,000,000 runs and 100,000 jobs against 100 runs and 10 jobs.

    python tests/bench/record.py [--rounds N] [COMMAND...]

Each COMMAND is what follows ``singlerun``, quoted as one word; without any, all of COMMANDS. Both
records have the same latest day, so what is compared is the size of the rest. Each command line is
run in turn against both; what counts is the median of the ratios, on a busy machine that of the
processor time.
"""

import argparse
import os
import shlex
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from singlerun.paths import StateDir
from singlerun.process import identity
from singlerun.store.job_rows import insert_jobs
from singlerun.store.queue import Context, Job
from singlerun.store.sqlite_queue import SqliteQueue

SINGLERUN = str(Path(sys.executable).parent / "singlerun")
LARGE = {"runs": 1_000_000, "jobs": 100_000}
SMALL = {"runs": 100, "jobs": 10}
LIMIT = 1.2
"""The ratio above which a command line is marked."""
DAY = 86_400 * 10**9
LATEST = 100
"""Runs of the latest day, the same in both records."""
COMMANDS = (
    "-n plain true",
    "ps",
    "ps --json",
    "history",
    "history name-3",
    "history unknown",
    "history --failed",
    "history --refused",
    "history --state lost",
    "history --state waiting",
    "history --since 1d",
    "history --until 1d",
    "history --name 'name-1*'",
    "history --json",
    "queue",
    "queue name-3",
    "queue --all",
    "queue name-3 --all",
    "why name-3",
    "why unknown",
    "stats --since 1d",
    "stats --since 1d name-3",
    "timeline --since 1d",
    "timeline --since 1d name-3",
    "timeline --since 1d --html /dev/null",
    "check",
    "check name-3",
    "metrics",
)
STATES = (*["succeeded"] * 88, *["failed"] * 5, *["refused"] * 5, "timed-out", "lost")


def rows(count):
    """Yield the rows of runs, oldest first: the latest hundred in the latest day."""
    now, older = time.time_ns(), max(count - LATEST, 1)
    here = identity.this_process().place
    for number in range(count):
        left = count - number
        ago = left * DAY // (LATEST + 1) if left <= LATEST else DAY + left * 999 * DAY // older
        state = STATES[left * 7919 // 13 % len(STATES)]
        asked = now - ago
        ran = state != "refused"
        elapsed = (left * 7919 % 300 + 1) * 10**9 if ran and state != "lost" else None
        ended = min(asked + (elapsed or 10**9), now)
        exit_code = {"succeeded": 0, "failed": 1}.get(state)
        yield (
            number + 1, asked // 1000 if ran else None, b"name-%d" % (left % 20),
            b"rsync\0-a\0src\0dst", 0, state, 0, here.host, here.boot_id, here.pid_ns, 4_000_000, 1,
            asked,
            asked if ran else None, ended, elapsed, exit_code, 1_200_000, 300_000, 12_000,
            None if ran else "held by PID 4000001 (rsync -a src dst), user root",
        )  # fmt: skip


COLUMNS = (
    "id", "token", "names", "argv", "shared", "state", "uid", "host", "boot_id", "pid_ns",
    "wrapper_pid", "wrapper_started", "asked_ns", "started_ns", "ended_ns", "elapsed_ns",
    "exit_code", "user_us", "system_us", "max_rss_kb", "detail",
)  # fmt: skip


def fill(directory, runs, jobs):
    """Make a state directory with so many runs that have ended, and jobs that are delayed."""
    state = StateDir(os.fsencode(directory))
    store = SqliteQueue(state)
    store.pause(b"paused", None)  # makes the database
    store.close()
    with closing(sqlite3.connect(f"{directory}/singlerun.db", isolation_level=None)) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("BEGIN IMMEDIATE")
        holes = ",".join("?" * len(COLUMNS))
        database.executemany(f"INSERT INTO runs ({','.join(COLUMNS)}) VALUES ({holes})", rows(runs))
        database.execute("INSERT INTO run_names SELECT names, id FROM runs")
        database.execute(
            "INSERT INTO names SELECT names, max(token) FROM runs WHERE token GROUP BY names"
        )
        later = time.time_ns() + DAY
        waiting = [
            Job(name=b"name-%d" % (number % 20), argv=(b"true",), not_before_ns=later)
            for number in range(jobs)
        ]
        insert_jobs(database, waiting, Context(b"/", 0o22, (), {}))
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def timed(arguments, directory):
    """Return the seconds that a command line takes, and those of the processor alone."""
    env = dict(os.environ, SINGLERUN_CONFIG="", SINGLERUN_DIR=directory)
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    begun = time.perf_counter()
    pid = os.posix_spawn(SINGLERUN, [SINGLERUN, *arguments], env, file_actions=null)
    _, status, usage = os.wait4(pid, 0)
    taken = time.perf_counter() - begun
    if status and arguments[0] != "check":  # its exit status tells that some runs have failed
        sys.exit(f"failed: SINGLERUN_DIR={directory} singlerun {shlex.join(arguments)}")
    return taken, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keep", metavar="DIR", help="make the records here, or use those there")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", default=COMMANDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        base = options.keep or temporary
        for name, size in (("small", SMALL), ("large", LARGE)):
            if not os.path.exists(f"{base}/{name}"):
                fill(f"{base}/{name}", **size)
        print(f"{'':38}   small    large   ratio   ratio of processor time")
        over = 0
        for line in options.commands:
            words = shlex.split(line)
            pairs = [
                (timed(words, f"{base}/small"), timed(words, f"{base}/large"))
                for _ in range(options.rounds + 1)
            ][1:]
            small, large = (
                statistics.median(taken for taken, _ in each) * 1e3
                for each in zip(*pairs, strict=True)
            )
            ratio, of_cpu = (
                statistics.median(big[which] / little[which] for little, big in pairs)
                for which in (0, 1)
            )
            over += of_cpu > LIMIT
            mark = f"  more than {LIMIT}" if of_cpu > LIMIT else ""
            numbers = f"{small:5.0f} ms {large:5.0f} ms {ratio:7.2f} {of_cpu:7.2f}"
            print(f"{line:38} {numbers}{mark}", flush=True)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
