"""The queue while its workers and commands are killed: nothing lost, nothing twice, in order.

The commands themselves report what happened, and so does sqlite3. The numbers are small
here; ``SINGLERUN_STRESS=5000 pytest tests/e2e/test_queue_crash.py`` asks for as many jobs.
"""

import collections
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from conftest import PATIENCE, eventually, need

JOBS = int(os.environ.get("SINGLERUN_STRESS", "400"))
ADDERS = 20
KILLS = max(16, JOBS // 25)

# Each command detects another one with a lock of its own, and notes its start and its end.
COMMAND = """exec 9>>{0}.lock; flock -n 9 || echo overlap >> {0}
echo "begin $SINGLERUN_JOB_ID" >> {0}; echo "end $SINGLERUN_JOB_ID" >> {0}"""


def running(cli):
    """Return the PIDs of the workers of a state directory, and of the commands that they run."""
    workers, commands = [], []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
            with open(f"/proc/{pid}/environ", "rb") as file:
                environ = file.read()
        except OSError:
            continue
        if b"singlerun.queue.worker" in line and os.fsencode(cli.dir) in line:
            workers.append(int(pid))
        elif b"SINGLERUN_JOB_ID=" in environ and os.fsencode(cli.dir) in environ:
            commands.append(int(pid))
    return workers, commands


def kill_at_random(cli, chance, stop, killed):
    while not stop.is_set() and len(killed) < KILLS:
        victims = [pid for pids in running(cli) for pid in chance.sample(pids, min(1, len(pids)))]
        for pid in chance.sample(victims, min(1, len(victims))):
            try:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            except ProcessLookupError:
                pass
        stop.wait(chance.uniform(0, 0.02))


def sql(cli, query):
    database = cli.dir / "singlerun.db"
    result = subprocess.run(
        ["sqlite3", database, query], capture_output=True, text=True, check=True
    )
    return [line.split("|") for line in result.stdout.splitlines()]


def is_over(cli):
    cli.run("reap", "-q")  # as a crontab does
    return sql(cli, "SELECT count(*) FROM jobs WHERE ended_ns IS NULL") == [["0"]]


@pytest.mark.stress
@pytest.mark.parametrize("retries", [0, 100])
def test_every_job_runs_once_or_is_lost_with_its_evidence(cli, tmp_path, retries):
    need("flock", "sqlite3")
    witness = tmp_path / "witness"
    witness.touch()
    each, batch = JOBS // ADDERS, 10 if JOBS <= 1000 else 50
    lines = (COMMAND.format(witness).replace("\n", ";") + "\n").encode() * batch
    accepted = []

    def add():
        for _ in range(each // batch):
            options = ["--retries", str(retries), "--retry-delay", "0"]
            result = cli.run(
                "add", "-n", "q", "--stdin", *options, input=lines, text=False, timeout=PATIENCE * 4
            )
            assert result.returncode == 0, result.stderr
            accepted.extend(map(int, result.stdout.split()))

    adders = [threading.Thread(target=add) for _ in range(ADDERS)]
    stop, killed = threading.Event(), []
    chance = random.Random(retries)
    killer = threading.Thread(target=kill_at_random, args=(cli, chance, stop, killed))
    killer.start()
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    deadline = time.monotonic() + PATIENCE * 10
    while not is_over(cli) or len(killed) < KILLS // 4:
        assert time.monotonic() < deadline
        if len(killed) < KILLS // 4 and is_over(cli):  # the jobs ended before the kills
            add()
    stop.set()
    killer.join()

    told = [line.split() for line in witness.read_text().splitlines()]
    assert ["overlap"] not in told
    begun = [int(line[1]) for line in told if line[0] == "begin"]
    ended = collections.Counter(int(line[1]) for line in told if line[0] == "end")
    rows = {int(row[0]): row[1:] for row in sql(cli, "SELECT id, state, tries, detail FROM jobs")}
    assert sorted(accepted) == sorted(rows), "every job that was accepted is there, and no other"
    assert len(set(accepted)) == len(accepted) >= each // batch * batch * ADDERS
    counts = collections.Counter(begun)
    for number, (state, tries, detail) in rows.items():
        assert counts[number] <= int(tries)
        if retries:
            assert state == "succeeded", (number, state, detail)
            assert ended[number] >= 1
            continue
        assert counts[number] <= 1, "nothing twice"
        if state == "succeeded":
            assert ended[number] == 1
        elif state == "lost":
            assert "is lost" in detail
            assert "PID" in detail
        else:
            assert state == "failed", detail
    if not retries:
        assert begun == sorted(begun), "in the order of their ids"
    assert sql(cli, "PRAGMA integrity_check") == [["ok"]]
    eventually(lambda: running(cli) == ([], []), "the end of all workers")
    log = cli.dir / "workers.log"
    assert not log.exists() or log.read_text() == ""
