"""The queue beside its peers and beside bare SQLite, each figure as a ratio within one run.

    python tests/bench/queue.py [ROUNDS]

1. 1,000 jobs of ``true``: how many a second, from the first start to the last end; beside tsp and
   nq, including the time to add their jobs, since they begin with the first one.
2. The gap from the recorded end of a job to the first thing that the next command does.
3. 100,000 jobs through ``add --stdin``, beside a bare ``executemany`` of the same rows.
"""

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BINARY = Path(sys.executable).parent / "singlerun"
DRAINED, ADDED = 1_000, 100_000


def timed(function, *arguments):
    begun = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begun


class Queue:
    def __init__(self, directory):
        self.dir = directory
        self.env = os.environ | {"SINGLERUN_CONFIG": "", "SINGLERUN_DIR": str(directory)}

    def run(self, *arguments, **more):
        return subprocess.run([BINARY, *arguments], env=self.env, check=True, **more)

    def database(self):
        return sqlite3.connect(self.dir / "singlerun.db", timeout=60)

    def drain(self):
        while self.database().execute("SELECT 1 FROM jobs WHERE ended_ns IS NULL").fetchone():
            time.sleep(0.02)


def drained_by_us(directory):
    """Return the jobs per second: all are queued, then a worker is started."""
    queue = Queue(directory)
    queue.run("pause", "q")
    lines = b'["true"]\n' * DRAINED
    queue.run("add", "-q", "-n", "q", "--stdin", "--json", input=lines)
    queue.run("resume", "q")
    queue.drain()
    query = "SELECT min(started_ns), max(ended_ns), sum(exit_code), count(*) FROM runs"
    first, last, failed, count = queue.database().execute(query).fetchone()
    assert (failed, count) == (0, DRAINED)
    return DRAINED / ((last - first) / 1e9)


def drained_by_tsp(directory):
    env = os.environ | {"TS_SOCKET": str(directory / "socket"), "TS_MAXFINISHED": "10"}

    def drain():
        for _ in range(DRAINED):
            subprocess.run(["tsp", "true"], env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["tsp", "-w"], env=env, check=True)

    seconds = timed(drain)
    subprocess.run(["tsp", "-K"], env=env, check=True)
    return DRAINED / seconds


def drained_by_nq(directory):
    env = os.environ | {"NQDIR": str(directory)}

    def drain():
        for _ in range(DRAINED):
            subprocess.run(["nq", "true"], env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["nq", "-w"], env=env, check=True)

    return DRAINED / timed(drain)


def gaps(directory):
    """Return the milliseconds between jobs, which include the start of sh and of date."""
    queue, witness = Queue(directory), directory / "witness"
    queue.run("pause", "q")
    command = f"date +%s%N >> {witness}\n"
    queue.run("add", "-q", "-n", "q", "--stdin", input=command.encode() * 300)
    queue.run("resume", "q")
    queue.drain()
    ends = [end for (end,) in queue.database().execute("SELECT ended_ns FROM runs ORDER BY id")]
    begins = map(int, witness.read_text().split())
    next(begins)
    return [(begin - end) / 1e6 for end, begin in zip(ends, begins, strict=False)]


def added_by_us(directory):
    queue = Queue(directory)
    queue.run("pause", "q")
    lines = "".join(f"echo {number} >/dev/null\n" for number in range(ADDED)).encode()
    seconds = timed(lambda: queue.run("add", "-q", "-n", "q", "--stdin", input=lines))
    database = queue.database()
    assert database.execute("SELECT count(*) FROM jobs").fetchone() == (ADDED,)
    rows = database.execute("SELECT * FROM jobs").fetchall()
    query = "SELECT sql FROM sqlite_master WHERE tbl_name = 'jobs' AND sql > '' ORDER BY type DESC"
    schema = [row[0] for row in database.execute(query)]
    bare = sqlite3.connect(directory / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    for statement in schema:
        bare.execute(statement)

    def insert():
        bare.execute("BEGIN IMMEDIATE")
        bare.executemany(f"INSERT INTO jobs VALUES ({','.join('?' * len(rows[0]))})", rows)
        bare.execute("COMMIT")

    return seconds, timed(insert)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rates, ratios, waits = {"singlerun": [], "tsp": [], "nq": []}, [], []
    drains = {"singlerun": drained_by_us, "tsp": drained_by_tsp, "nq": drained_by_nq}
    for _ in range(rounds):
        for name, drain in drains.items():
            if name != "singlerun" and shutil.which(name) is None:
                continue
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                rates[name].append(drain(Path(directory)))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            waits += gaps(Path(directory))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            ratios.append(added_by_us(Path(directory)))
    print(f"{DRAINED:,} jobs of true, medians of {rounds} rounds:")
    ours = statistics.median(rates["singlerun"])
    for name, found in rates.items():
        if found:
            rate = statistics.median(found)
            print(f"  {name:10} {rate:8.0f} a second; singlerun to it {ours / rate:5.2f}")
    print(f"gap between jobs: median {statistics.median(waits):.2f} ms")
    median = statistics.median(mine / bare for mine, bare in ratios)
    seconds = statistics.median(mine for mine, _ in ratios)
    print(f"{ADDED:,} jobs through add --stdin: {seconds:.2f} s, {median:.2f} of bare executemany")


if __name__ == "__main__":
    main()
