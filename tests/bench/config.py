"""The price of a configuration: `singlerun -n x true` with and without one.

    python tests/bench/config.py [ROUNDS]

The configuration has 50 tables, a drop-in, and an option that holds for x; it may cost 15 % of a
start. All are run in turn, round by round, so that a machine that gets slower or faster meanwhile
does so for all of them; what counts is the median of the ratios.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from plain import PYTHON, SINGLERUN, timed

NONE, CACHED, CHANGED = "no configuration", "a configuration", "one that has just changed"
COMMAND = [SINGLERUN, "-n", "x", "true"]


def write(directory):
    jobs = "".join(f'[jobs."job{n}*"]\ntimeout = "{n}h"\nlog = true\n' for n in range(1, 51))
    path = directory / "config.toml"
    path.write_text(f'[defaults]\nkill-after = "5s"\n{jobs}')
    (directory / "conf.d").mkdir()
    (directory / "conf.d" / "90-set.toml").write_text("[jobs.x]\nretries = 1\n")
    for each in (path, directory / "conf.d" / "90-set.toml"):
        each.chmod(0o600)
    return path


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = write(directory)
        env = dict(os.environ, SINGLERUN_DIR=f"{name}/state")
        envs = {
            "python -c pass": env,
            NONE: env | {"SINGLERUN_CONFIG": ""},
            CACHED: env | {"SINGLERUN_CONFIG": str(path)},
            CHANGED: env | {"SINGLERUN_CONFIG": str(path), "SINGLERUN_DIR": f"{name}/other"},
        }
        time.sleep(2.5)  # a file that has changed less than two seconds ago is read again
        taken = {which: [] for which in envs}
        for round_ in range(rounds + 3):
            for which, its in envs.items():
                if which == CHANGED and round_:
                    os.unlink(f"{name}/other/config.cache")
                words = [PYTHON, "-c", "pass"] if which == "python -c pass" else COMMAND
                seconds = timed(words, its)
                if round_ >= 3:
                    taken[which].append(seconds)
    base = taken[NONE]
    print(f"{rounds} rounds{'':18}   median   to none")
    for which, times in taken.items():
        ratio = statistics.median(a / b for a, b in zip(times, base, strict=True))
        print(f"{which:26} {statistics.median(times) * 1e3:7.2f} ms {ratio:9.2f}")


if __name__ == "__main__":
    main()
