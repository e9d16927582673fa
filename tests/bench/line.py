"""The waiting line: how long a lock takes from one command to the next, and whether order is kept.

    python tests/bench/line.py [WAITERS] [ROUNDS]

First WAITERS commands wait behind a holder, for `singlerun -w` and for `flock` in turn; each notes
when it starts and when it ends, and what counts is the time from an end to the next start. Then,
for ROUNDS rounds, a third of 64 waiters is killed or times out, the processor time of the rest is
taken while they wait, and their order is held against the order in which they came.
"""

import itertools
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SINGLERUN = str(Path(sys.executable).parent / "singlerun")
NOTE = 'date +"S %s%N $0" >> "$1"; date +"E %s%N $0" >> "$1"'


WATCHED = 0.5
"""Seconds for which the waiters are watched while nothing happens."""


def wait_for(condition):
    while not condition():
        time.sleep(0.002)


def blocked(path):
    inode = os.stat(path).st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return sum(" -> FLOCK" in line and f":{inode} " in line for line in lines)


def handover(directory, env, prefix, waiters, standing):
    """Return the milliseconds from the end of one waiter's command to the start of the next."""
    witness = directory / "witness"
    witness.write_text("")
    holder = subprocess.Popen([*prefix, "cat"], env=env, stdin=subprocess.PIPE)
    wait_for(lambda: "cat" in children(holder.pid))
    started = []
    for number in range(waiters):
        command = ["sh", "-c", NOTE, str(number), str(witness)]
        started.append(subprocess.Popen([*prefix, *command], env=env))
        wait_for(lambda number=number: standing() > number)
    holder.communicate()
    for process in started:
        process.wait()
    lines = [line.split() for line in witness.read_text().splitlines()]
    return [
        (int(after[1]) - int(before[1])) / 1e6
        for before, after in zip(lines[1::2], lines[2::2], strict=False)
    ]


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    names = []
    for child in text.split():
        try:
            names.append(Path(f"/proc/{child}/comm").read_text().strip())
        except OSError:
            continue
    return names


def processor_time(processes):
    """Return the nanoseconds that processes have run so far (proc(5), schedstat), all threads."""
    return sum(
        int(path.read_text().split()[0])
        for process in processes
        for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    )


def disorder(directory, env, waiters, chance):
    """Run one round; return inversions, overlaps, stale tickets, and processor time of waiting."""
    witness, line = directory / "witness", directory / "state" / "lines" / "x"
    witness.write_text("")
    holder = subprocess.Popen([SINGLERUN, "-n", "x", "cat"], env=env, stdin=subprocess.PIPE)
    wait_for(lambda: "cat" in children(holder.pid))
    started, fates = [], {}
    for number in range(waiters):
        policy = ["-w"]
        if chance.random() < 1 / 3:
            fates[number] = chance.choice(["kill", "time out"])
            policy = ["--wait-for", "0.5"] if fates[number] == "time out" else ["-w"]
        command = ["sh", "-c", NOTE, str(number), str(witness)]
        process = subprocess.Popen([SINGLERUN, "-q", "-n", "x", *policy, *command], env=env)
        started.append(process)
        ticket = f"*-{process.pid}"
        wait_for(
            lambda process=process, ticket=ticket: (
                process.poll() is not None or any(line.glob(ticket))
            )
        )
    for number, fate in fates.items():
        if fate == "kill":
            os.kill(started[number].pid, signal.SIGKILL)
        started[number].wait()
    waiting = [process for number, process in enumerate(started) if number not in fates]
    before, after = -1, processor_time(waiting)
    while before != after:  # waiters behind dead ones move up
        time.sleep(0.05)
        before, after = after, processor_time(waiting)
    time.sleep(WATCHED)
    spent = processor_time(waiting) - before
    holder.communicate()
    for process in started:
        process.wait()
    lines = [entry.split() for entry in witness.read_text().splitlines()]
    came = [int(entry[2]) for entry in lines if entry[0] == "S"]
    inversions = sum(a > b for a, b in itertools.pairwise(came))
    overlaps = sum(
        (first[0], second[0]) != ("S", "E") or first[2] != second[2]
        for first, second in zip(lines[::2], lines[1::2], strict=True)
    )
    return inversions, overlaps, len(list(line.glob("*"))), spent


def main():
    waiters = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        env = dict(os.environ, SINGLERUN_CONFIG="", SINGLERUN_DIR=str(directory / "state"))
        (directory / "lock").touch()
        ours, theirs = [], []
        line = directory / "state" / "lines" / "x"
        for _ in range(5):
            ours += handover(
                directory, env, [SINGLERUN, "-w", "-n", "x"], waiters,
                lambda: len(list(line.glob("*"))),
            )  # fmt: skip
            theirs += handover(
                directory, env, ["flock", str(directory / "lock")], waiters,
                lambda: blocked(directory / "lock"),
            )  # fmt: skip
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(f"handover among {waiters}, median: singlerun {mine:.2f} ms, flock {other:.2f} ms,")
        print(f"    which is {mine / other:.2f} times")
        seed = random.randrange(10**6)
        chance = random.Random(seed)
        results = [disorder(directory, env, 64, chance) for _ in range(rounds)]
        inversions, overlaps, left, spent = (sum(column) for column in zip(*results, strict=True))
        print(f"{rounds} rounds of 64 waiters, seed {seed}: {inversions} inversions, "
              f"{overlaps} overlaps, {left} tickets left behind")  # fmt: skip
        print(f"processor time of all waiters in {rounds * WATCHED:g} s of waiting: {spent} ns")


if __name__ == "__main__":
    main()
