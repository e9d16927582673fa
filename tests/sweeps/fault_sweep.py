"""Inject every fault at every system call of singlerun's main thread, one at a time.

    python tests/sweeps/fault_sweep.py [--form FORM]... [--kind KIND]... [--sample N] [--jobs N]

For each form a reference trace is recorded, and then each of its calls is made to fail in each way
that it can (faults.py), and once to be the last before SIGKILL. What must hold after each is in
forms.py. Prints a line for each form, and each violation; exits with 1 if there is one.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from arena import Arena, scratch
from faults import KILL, calls, faults
from forms import FORMS
from trial import Trial


class Sweep:
    """The sweep of one form."""

    def __init__(self, form, place):
        self.form = form()
        self._template = place / form.name
        arena = Arena()
        try:
            self.form.template(arena)
            if arena.dir.exists():
                shutil.copytree(arena.dir, self._template)
        finally:
            arena.close()
        trace = place / f"{form.name}.trace"
        self._undisturbed(trace, [])  # writes bytecode
        self._undisturbed(trace, ["-y"])
        self.calls = calls(trace.read_text(errors="replace"), "/state")

    def _undisturbed(self, trace, options):
        """Run without a fault."""
        arena = self._arena()
        try:
            trial = Trial(self.form, arena, trace, options)
            wrong = trial.run()
            if wrong:
                raise SystemExit(f"{self.form.name}, undisturbed: {wrong}")
        finally:
            arena.close()

    def _arena(self):
        return Arena(self._template if self._template.exists() else None)

    def inject(self, fault):
        """Return whether the fault came to pass, and what is wrong."""
        arena = self._arena()
        try:
            trace = arena.place / "trace"
            trial = Trial(self.form, arena, trace, fault.options(), fault)
            wrong = trial.run()
            seen = trace.read_text(errors="replace")
        except Exception:  # noqa: BLE001 - the others are injected nevertheless
            return True, ["the sweep itself: " + traceback.format_exc()]
        else:
            hit = fault.came_to_pass(seen, trial.status)
            return hit, wrong if hit or "(INJECTED)" not in seen else []
        finally:
            arena.close()


SWEEPS = {}


def one(work):
    name, fault = work
    begun = time.monotonic()
    hit, wrong = SWEEPS[name].inject(fault)
    return name, fault, hit, wrong, time.monotonic() - begun


def sample(found, size, seed):
    """Return that many of these faults, the same each time, of all calls and kinds."""
    shuffled = random.Random(seed).sample(found, len(found))
    seen, first, rest = set(), [], []
    for fault in shuffled:
        key = fault.call.name, fault.kind == KILL
        (rest if key in seen else first).append(fault)
        seen.add(key)
    return (first + rest)[:size]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", action="append", choices=FORMS)
    parser.add_argument("--kind", action="append")
    parser.add_argument("--only", help="one fault, as CALL:NTH:KIND")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="sweep-", dir=scratch()))
    os.environ["PYTHONPYCACHEPREFIX"] = str(place / "bytecode")
    try:
        work = []
        for name in given.form or FORMS:
            SWEEPS[name] = Sweep(FORMS[name], place)
            found = faults(SWEEPS[name].calls, given.kind)
            print(f"{name}: {len(SWEEPS[name].calls)} calls, {len(found)} faults", flush=True)
            if given.only:
                found = [fault for fault in found if str(fault) == given.only]
            if given.sample:
                found = sample(found, given.sample, given.seed)
            work += [(name, fault) for fault in found]
        sys.exit(report(work, given.jobs)) if given.jobs else None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def report(work, jobs):
    done, missed, failed = Counter(), Counter(), Counter()
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for name, fault, hit, wrong, seconds in pool.imap_unordered(one, work, chunksize=4):
            key = name, "KILL" if fault.kind == KILL else "error"
            (done if hit else missed)[key] += 1
            if wrong:
                failed[key] += 1
                print(f"{name} {fault} {fault.call.text[:150]}")
                print("".join(f"    {line}\n" for line in wrong), end="", flush=True)
            elif seconds > 5:
                print(f"{name} {fault} took {seconds:.1f} s {fault.call.text[:150]}", flush=True)
    for key in sorted(done | missed):
        print(f"{key[0]:10}{key[1]:7}{done[key]:6} injected{missed[key]:6} not reached"
              f"{failed[key]:6} violations")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    main()
