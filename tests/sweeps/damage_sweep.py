"""Damage every byte of the first two pages of the run-log, and 2,000 others, one at a time.

    python tests/sweeps/damage_sweep.py [--sample N] [--real] [--jobs N]

Each byte is changed to a random other value, to 0x00 and to 0xff. Whatever it is, a command runs
under its lock and exits with its own status, with one warning at most; ps, history, reap and add
work, or say in one sentence why not. Where there was a warning, the file has been set aside, so the
next run has none. Each is played in a fork of this process, with --real in processes of its own.
Prints each violation; exits with 1 if there is one.
"""

import argparse
import json
import multiprocessing
import os
import random
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

from arena import BINARY, BOUND, STATUS, Arena, environment, scratch
from forms import add_without_worker

from singlerun import cli
from singlerun.commands import common
from singlerun.queue import wakeup

PAGES = 2
PAGE = 4096
OTHERS = 2000
LOOKS = (
    ("ps", "-a"), ("history",), ("history", "x", "--json"), ("reap", "x"), ("queue", "--all"),
    ("why", "x"), ("stats",), ("timeline",),
)  # fmt: skip
HELD = 'flock -n "$1" true && exit 99; exit 7'
"""A command that looks whether its lock is held."""


def make_template(place):
    """Make a run-log of a few runs and jobs, all in the database itself."""
    arena = Arena()
    try:
        for _ in range(5):
            arena.call("-n", "x", "--", *arena.command("t"))
            arena.call("-n", "y", "--log", "--", "true")
        add_without_worker(arena, "1", "2")
        open_run = arena.start("-n", "z", "sleep", "1000")
        while not arena.sql("SELECT 1 FROM runs WHERE command_pid AND ended_ns IS NULL"):
            time.sleep(0.01)
        os.kill(open_run.pid, 9)
        open_run.wait()
        arena.kill_all()
        with closing(sqlite3.connect(arena.dir / "singlerun.db")) as log:
            log.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copytree(arena.dir, place / "template")
    finally:
        arena.close()
    return place / "template"


def damages(size, seed):
    """Return all damages as (offset, value, number); None stands for a random other value."""
    rest = random.Random(seed).sample(range(PAGES * PAGE, size), OTHERS)
    places = [*range(PAGES * PAGE), *rest]
    return [(at, value, number) for number, at in enumerate(places) for value in (None, 0, 255)]


def damaged(original, damage):
    """Return the damaged bytes, and what was changed."""
    at, value, number = damage
    was = original[at]
    if value is None:
        value = (was + random.Random(number).randint(1, 255)) % 256
    changed = bytearray(original)
    changed[at] = value
    return changed, f"byte {at}: {was:#04x} -> {value:#04x}"


leave = os._exit


class Ended(BaseException):
    """What the command line raises here where it would end the process."""


class Damaged:
    """A run-log that has one other byte, and the verbs that are tried on it.

    With ``real`` each is a process of its own; otherwise all are played in this one.
    """

    def __init__(self, arena, changed, *, real=False):
        self.arena = arena
        self.wrong = []
        self._real = real
        for path in arena.dir.glob("singlerun.db*"):
            path.unlink()
        (arena.dir / "singlerun.db").write_bytes(changed)
        (arena.dir / "singlerun.db").chmod(0o600)

    def _call(self, *words):
        if self._real:
            environ = environment() | {"SINGLERUN_CONFIG": "", "SINGLERUN_DIR": str(self.arena.dir)}
            done = subprocess.run(
                [BINARY, *words], env=environ, capture_output=True, text=True,
                stdin=subprocess.DEVNULL, timeout=BOUND, check=False,
            )  # fmt: skip
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            status, out, err = play(words)
        lines = err.splitlines()
        self._check(len(lines) <= 1, f"{words}: {lines}")
        bad = [line for line in lines if not line.startswith("singlerun: ")]
        bad += [line for line in lines if "internal error" in line or "Traceback" in line]
        self._check(not bad, f"{words}: {bad}")
        return status, out, err

    def run(self):
        """Run a command; return whether there was a warning."""
        lock = str(self.arena.dir / "locks" / "x.lock")
        script = ["sh", "-c", HELD, "sh", lock] if self._real else ["sh", "-c", "exit 7"]
        status, _, err = self._call("-n", "x", "--", *script)
        self._check(status == STATUS, f"the command exits with {status}: {err}")
        self._check(not err or "set aside" in err, f"it was not set aside: {err}")
        return bool(err)

    def look(self, *words):
        """Look at the record."""
        status, _, err = self._call(*words)
        self._check(status == 0 or (status == 125 and err), f"{words}: {status} {err}")

    def add(self):
        """Add a job."""
        status, out, err = self._call("add", "-n", "x", "--", "true")
        self._check(status == 0 or (status == 125 and err), f"add: {status} {err}")
        if status == 0:
            there = self.arena.sql("SELECT 1 FROM jobs WHERE id = ?", int(out))
            self._check(there, f"job {out} was accepted and is not there")

    def heal(self):
        """Run a command again: now nothing is wrong any more."""
        status, _, err = self._call("-n", "x", "--", "sh", "-c", "exit 7")
        self._check(status == STATUS and not err, f"then {status} {err}")

    def _check(self, is_true, what):
        if not is_true:
            self.wrong.append(what)


def play(words):
    """Play the command line in this process; return exit status, output and errors."""
    common._state.cache_clear()
    common._store.cache_clear()
    sys.argv = ["singlerun", *words]
    for stream in (1, 2):
        os.ftruncate(stream, 0)
        os.lseek(stream, 0, os.SEEK_SET)
    try:
        cli.main()
    except Ended as end:
        status = end.args[0]
    return status, *(os.pread(stream, 1 << 20, 0).decode(errors="replace") for stream in (1, 2))


def end(status):
    raise Ended(status)


def inject(arena, original, damage, *, real=False):
    """Return whether a damage was noticed, and what is wrong."""
    changed, _ = damaged(original, damage)
    number = damage[2]
    tried = Damaged(arena, changed, real=real)
    noticed = tried.run()
    if noticed:
        tried.heal()
    wrong = tried.wrong
    tried = Damaged(arena, changed, real=real)
    verbs = [tried.add, *(lambda words=words: tried.look(*words) for words in LOOKS)]
    turn = number % len(verbs)
    verbs = verbs[turn:] + verbs[:turn]
    for verb in verbs if damage[1] is None else verbs[:2]:
        verb()
    if tried.run():
        tried.heal()
    return noticed, wrong + tried.wrong


def one(damage):
    """Try one damage in a fork of this process; return what it was, and what came of it."""
    arena, original = ARENA
    what = damaged(original, damage)[1]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            report = inject(arena, original, damage)
        except BaseException:  # noqa: BLE001 - the others are tried nevertheless
            report = False, ["the sweep itself: " + traceback.format_exc()]
        finally:
            os.write(writing, json.dumps(report).encode())
            leave(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], BOUND)[0]:
            os.kill(pid, 9)
            return what, False, ["hangs"]
        data = os.read(reading, 1 << 20)
    finally:
        os.close(reading)
        os.waitpid(pid, 0)
    noticed, wrong = json.loads(data) if data else (False, ["died without a word"])
    return what, noticed, wrong


def real(damage):
    """Try one damage with real processes."""
    arena, original = ARENA
    what = damaged(original, damage)[1]
    return what, *inject(arena, original, damage, real=True)


ARENA = None


def prepare(template, *, plays):
    """Make a state directory for a process of the pool, and load all that the verbs need."""
    global ARENA  # noqa: PLW0603 - one each
    arena = Arena(template, within=template.parent)
    ARENA = arena, (template / "singlerun.db").read_bytes()
    if not plays:
        return
    os.environ |= {"SINGLERUN_CONFIG": "", "SINGLERUN_DIR": str(arena.dir)}
    os._exit = end
    for stream in (1, 2):
        file = os.open(arena.place / f"stream{stream}", os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(file, stream)
    for words in LOOKS:
        play(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="only so many of them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at", type=int, help="only this byte")
    parser.add_argument("--real", action="store_true", help="with real processes")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sweep-", dir=scratch()))
    try:
        template = make_template(place)
        found = damages((template / "singlerun.db").stat().st_size, given.seed)
        if given.at is not None:
            found = [damage for damage in found if damage[0] == given.at]
        if given.sample:
            found = random.Random(given.seed).sample(found, given.sample)
        # A worker would work the queue off.
        wakeup.ensure = lambda *_words, **_more: False
        sys.exit(report(found, given, template))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def report(found, given, template):
    counts = Counter(damages=0, noticed=0, violations=0)
    tried = real if given.real else one
    context = multiprocessing.get_context("fork")
    with context.Pool(given.jobs, partial(prepare, template, plays=not given.real)) as pool:
        for what, noticed, wrong in pool.imap_unordered(tried, found, chunksize=8):
            counts["damages"] += 1
            counts["noticed"] += noticed
            counts["violations"] += bool(wrong)
            if wrong:
                print(what, *wrong, sep="\n    ", flush=True)
    print(*(f"{count} {what}" for what, count in counts.items()), sep=", ")
    return 1 if counts["violations"] else 0


if __name__ == "__main__":
    main()
