"""What starts wait for a prune: 1,000,000 runs are forgotten beside 50 starts a second.

    python tests/bench/prune.py [--runs N] [--rate N] [--seconds N] [--most SECONDS]

First so many starts a second without a prune, for so long; then as many until the prune has ended.
No start beside it should take twice the median of those without it; how many of those without it
do so anyway tells how busy the machine is.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time

from record import SINGLERUN, fill

NAMES = 100
"""Names of the starts."""
MOST = 2.0
"""How many times the median a start may take."""


class Starts:
    """Runs that are started at a rate, each measured from its start to its end."""

    def __init__(self, directory, rate):
        self._env = dict(os.environ, SINGLERUN_DIR=directory)
        self._pause = 1 / rate
        self._begun, self._taken = {}, []
        self._ended = set()
        self._lock = threading.Condition()

    def start(self, *arguments):
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
        with self._lock:
            begun = time.monotonic()
            pid = os.posix_spawn(SINGLERUN, [SINGLERUN, *arguments], self._env, file_actions=null)
            self._begun[pid] = begun
            self._lock.notify()
        return pid

    def has_ended(self, pid):
        return pid in self._ended

    def go_on_until(self, is_over):
        """Start runs until it is over; return the seconds that each took, once all have ended."""
        over = threading.Event()
        reaper = threading.Thread(target=self._reap, args=(over,))
        reaper.start()
        due, count = time.monotonic(), 0
        while not is_over():
            self.start("-n", f"start-{count % NAMES}", "-w", "true")
            count += 1
            due = max(due + self._pause, time.monotonic() - self._pause)
            time.sleep(max(0, due - time.monotonic()))
        over.set()
        with self._lock:
            self._lock.notify()
        reaper.join()
        return [taken for pid, taken in self._taken if pid not in self._ended]

    def _reap(self, over):
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._begun or over.is_set())
                if not self._begun:
                    return
            pid, status = os.wait()
            ended = time.monotonic()
            if status and pid != self.prune:
                sys.exit(f"a start failed: {status}")
            with self._lock:
                self._taken.append((pid, ended - self._begun.pop(pid)))
                if pid == self.prune:
                    self._ended.add(pid)

    prune = 0


def show(what, taken, median):
    slow = sum(each > MOST * median for each in taken)
    print(
        f"{what:16} {len(taken):6} starts, median {statistics.median(taken) * 1e3:5.1f} ms,"
        f" longest {max(taken) * 1e3:6.1f} ms, {max(taken) / median:5.2f} times the median without;"
        f" {slow} ({slow / len(taken):.2%}) above {MOST:g} times",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--most", type=float, help="end after so many seconds beside the prune")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        fill(directory, options.runs, 0)
        before = os.stat(f"{directory}/singlerun.db").st_size
        Starts(directory, 10).go_on_until(iter([*[False] * NAMES, True]).__next__)  # their files
        until = time.monotonic() + options.seconds
        alone = Starts(directory, options.rate).go_on_until(lambda: time.monotonic() > until)
        median = statistics.median(alone)
        show("without a prune", alone, median)
        begun = time.monotonic()
        starts = Starts(directory, options.rate)
        starts.prune = starts.start("prune", "--older-than", "1h")
        most = begun + (options.most or float("inf"))

        def is_over():
            if time.monotonic() > most and not starts.has_ended(starts.prune):
                os.kill(starts.prune, signal.SIGKILL)
            return starts.has_ended(starts.prune)

        beside = starts.go_on_until(is_over)
        seconds = time.monotonic() - begun
        show("beside it", beside, median)
        after = os.stat(f"{directory}/singlerun.db").st_size
        print(f"{options.runs:,} runs in {seconds:.0f} s; the file: {before:,} -> {after:,} bytes")
    return 1 if max(beside) > MOST * median else 0


if __name__ == "__main__":
    sys.exit(main())
