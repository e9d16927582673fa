"""The price of the prefix: `singlerun true` against bare Python and against GNU sem.

    python tests/bench/plain.py [ROUNDS]

All commands are run in turn, round by round, so that a machine that gets slower or faster meanwhile
does so for all of them; what counts is the median of the ratios.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

PYTHON = sys.executable
SINGLERUN = str(Path(PYTHON).parent / "singlerun")
COMMANDS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "singlerun true": [SINGLERUN, "true"],
    "singlerun -n x true": [SINGLERUN, "-n", "x", "true"],
    "flock FILE true": ["flock", "FILE", "true"],
    "sem --fg true": ["sem", "--fg", "true"],
}


def timed(command, env):
    null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    begun = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, env, file_actions=null)
    status = os.waitpid(pid, 0)[1]
    taken = time.perf_counter() - begun
    assert status == 0, command
    return taken


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as directory:
        env = dict(
            os.environ,
            SINGLERUN_CONFIG="",
            SINGLERUN_DIR=f"{directory}/state",
            PARALLEL_HOME=directory,
        )
        commands = {
            name: [word.replace("FILE", f"{directory}/lock") for word in command]
            for name, command in COMMANDS.items()
            if shutil.which(command[0])
        }
        taken = {name: [] for name in commands}
        for round_ in range(rounds + 3):
            for name, command in commands.items():
                seconds = timed(command, env)
                if round_ >= 3:
                    taken[name].append(seconds)
    base, ours = taken["python -c pass"], taken["singlerun true"]
    print(f"{rounds} rounds{'':14}   median   to python   singlerun true to it")
    for name, times in taken.items():
        to_base = statistics.median(a / b for a, b in zip(times, base, strict=True))
        ours_to = statistics.median(a / b for a, b in zip(ours, times, strict=True))
        print(f"{name:22} {statistics.median(times) * 1e3:7.2f} ms {to_base:9.2f} {ours_to:15.2f}")


if __name__ == "__main__":
    main()
