"""The price of keeping output: a gigabyte through `--log` against the same through cat.

    python tests/bench/output.py [ROUNDS [BYTES]]

Both run in turn, round by round; what counts is the median of the ratios of their rates.
"""

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SINGLERUN = shlex.quote(str(Path(sys.executable).parent / "singlerun"))
SOURCES = {
    "large writes": "head -c {size} /dev/zero",
    "lines": "yes 'a line of some forty characters, or so' | head -c {size}",
}
SINKS = {"nowhere": ">/dev/null", "a pipe": "| cat >/dev/null", "a file": ">{directory}/sink"}
WAYS = {
    "cat": "sh -c {command} | cat {sink}",
    "--log": f"{SINGLERUN} -n x --log sh -c {{command}} {{sink}}",
    "--only-failed": f"{SINGLERUN} -n x --only-failed sh -c {{command}} {{sink}}",
}


def timed(line, env):
    begun = time.perf_counter()
    subprocess.run(["sh", "-c", line], env=env, check=True)
    return time.perf_counter() - begun


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 1 << 30
    print(f"{rounds} rounds of {size:,} bytes; rates in MB/s, ratios to cat's rate")
    for source, command in SOURCES.items():
        for sink, redirection in SINKS.items():
            taken = {way: [] for way in WAYS}
            # The latest output may still be being compressed.
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                env = dict(os.environ, SINGLERUN_CONFIG="", SINGLERUN_DIR=f"{directory}/state")
                lines = {
                    way: line.format(
                        command=shlex.quote(command.format(size=size)),
                        sink=redirection.format(directory=directory),
                    )
                    for way, line in WAYS.items()
                }
                for _ in range(rounds):
                    for way, line in lines.items():
                        taken[way].append(timed(line, env))
            shown = []
            for way, times in taken.items():
                rate = size / statistics.median(times) / 1e6
                ratio = statistics.median(a / b for a, b in zip(taken["cat"], times, strict=True))
                shown.append(f"{way} {rate:5.0f} ({ratio:.2f})")
            print(f"{source:12} to {sink:8} {'   '.join(shown)}")


if __name__ == "__main__":
    main()
