"""The price of a press of Tab: `singlerun --complete KIND` against bare Python, in a large record.

    python tests/bench/completion.py [ROUNDS [RUNS [JOBS]]]

The record is made first, with 1,000,000 runs and 100,000 jobs unless told otherwise. What counts is
the median of the ratios to `python -c pass` in the same round.
"""

import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from singlerun.store.words import KINDS

PYTHON = sys.executable
SINGLERUN = str(Path(PYTHON).parent / "singlerun")
NAMES = 5000
QUEUES = 50


def timed(command, env):
    begun = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def copies(database, table, numbers, change):
    """Insert copies of a table's first row, changed for each number."""
    cursor = database.execute(f"SELECT * FROM {table} ORDER BY id LIMIT 1")
    columns = [column for column, *_ in cursor.description]
    row = dict(zip(columns, cursor.fetchone(), strict=True))
    holes = ",".join("?" * len(columns))
    database.executemany(
        f"INSERT INTO {table} ({','.join(columns)}) VALUES ({holes})",
        (tuple((row | change(number)).values()) for number in numbers),
    )


def fill(directory, env, runs, jobs):
    for words in (["true"], ["pause", "q"], ["add", "-qn", "q", "true"]):
        subprocess.run([SINGLERUN, *words], env=env, check=True)
    numbers = range(10, runs + 10)
    with closing(sqlite3.connect(directory / "singlerun.db")) as database, database:
        copies(database, "runs", numbers, lambda n: {"id": n, "names": b"name%d" % (n % NAMES)})
        names = [(b"name%d" % (number % NAMES), number) for number in numbers]
        database.executemany("INSERT INTO run_names VALUES (?, ?)", names)
        names = [(b"name%d" % number,) for number in range(NAMES)]
        database.executemany("INSERT INTO names VALUES (?, 1)", names)
        states = ("succeeded", "queued", "failed", "delayed", "succeeded")
        copies(database, "jobs", range(runs + 10, runs + 10 + jobs), lambda number: {
            "id": number, "name": b"q%d" % (number % QUEUES), "label": f"l{number % 100}",
            "state": states[number % len(states)],
        })  # fmt: skip


def main():
    rounds, runs, jobs = [*map(int, sys.argv[1:]), *[30, 1_000_000, 100_000][len(sys.argv) - 1 :]]
    commands = {"python -c pass": [PYTHON, "-c", "pass"]}
    for kind in KINDS:
        for begun in ("", "n" if kind in {"names", "running"} else "1"):
            words = ["--complete", kind, begun]
            commands[f"{kind} {begun}"] = [SINGLERUN, *words]
    with tempfile.TemporaryDirectory() as directory:
        env = dict(os.environ, SINGLERUN_CONFIG="", SINGLERUN_DIR=directory)
        fill(Path(directory), env, runs, jobs)
        taken = {name: [] for name in commands}
        for round_ in range(rounds + 3):
            for name, command in commands.items():
                seconds = timed(command, env)
                if round_ >= 3:
                    taken[name].append(seconds)
    base = taken["python -c pass"]
    for name, times in taken.items():
        ratio = statistics.median(a / b for a, b in zip(times, base, strict=True))
        print(f"{name:20} {statistics.median(times) * 1e3:7.2f} ms {ratio:7.2f}")


if __name__ == "__main__":
    main()
