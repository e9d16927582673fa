"""Thousands of cycles of taking and freeing one lock, in many processes at once."""

import subprocess
import sys

import pytest
from conftest import PATIENCE

PROCESSES, CYCLES = 8, 1000

# The holder makes a directory and removes it: two at once would fail to make it. With "delete", a
# holder that created the lock file deletes it again, as a run that is refused in the end does; only
# then does singlerun itself delete a lock file.
CYCLE = """
import os, sys, random
from singlerun import lock
from singlerun.paths import StateDir

state, busy, ways, seed = StateDir(os.fsencode(sys.argv[1])), *sys.argv[2:]
chance, ways = random.Random(int(seed)), ways.split("+")
held = overlaps = 0
while held < int({cycles}) and not overlaps:
    hold = lock.of_names((b"x",), state, shared=False)
    if chance.choice(ways) == "wait":
        hold.take()
    elif not hold.try_in_turn():
        hold.free()
        continue
    held += 1
    try:
        os.mkdir(busy)
    except FileExistsError:
        overlaps += 1
    else:
        os.rmdir(busy)
    if "delete" in ways:
        hold.forget_created()
    hold.free()
print(held, overlaps)
"""


@pytest.mark.stress
@pytest.mark.parametrize("ways", ["try+delete", "try+wait+delete"])
def test_eight_processes_and_a_thousand_cycles_never_show_two(cli, tmp_path, ways):
    script = CYCLE.format(cycles=CYCLES)
    (tmp_path / "state").mkdir(mode=0o700)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script, cli.dir, tmp_path / "busy", ways, str(seed)],
            env=cli.env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(PROCESSES)
    ]  # fmt: skip
    cli.started += workers
    for worker in workers:
        assert worker.communicate(timeout=4 * PATIENCE) == (f"{CYCLES} 0\n", "")
    assert not (tmp_path / "busy").exists()
    lines = cli.dir / "lines" / "x"
    assert not lines.exists() or list(lines.iterdir()) == [], "no ticket is left behind"
