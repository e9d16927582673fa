"""A power loss: what was not synced is gone, and what ``add`` had acknowledged is not.

The state directory is on a file system of its own, in a file. Everything is killed at once, and a
copy of that file is mounted instead: what the file system had not written to it yet was in memory
only, and is lost.
"""

import collections
import os
import signal
import subprocess
import threading
from itertools import chain

import pytest
from conftest import demand_or_skip, eventually, need
from test_queue_crash import running, sql

SIZE = 64 * 1024 * 1024


@pytest.fixture
def disk(cli, tmp_path):
    """Mount a file system at the state directory; return a function that pulls the plug."""
    need("mkfs.ext4", "mount")
    if os.geteuid() != 0:
        demand_or_skip("only root can mount a file system")
    image, copy = tmp_path / "image", tmp_path / "copy"
    with open(image, "wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    cli.dir.mkdir()

    def mount(what):
        mounted = subprocess.run(
            ["mount", "-o", "loop", what, cli.dir], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            demand_or_skip(f"no file system can be mounted: {mounted.stderr}")

    def plug():
        subprocess.run(["cp", image, copy], check=True)
        subprocess.run(["umount", "-l", cli.dir], check=True)
        mount(copy)

    mount(image)
    cli.dir.chmod(0o700)
    yield plug
    for pid in chain(*running(cli)):
        os.kill(pid, signal.SIGKILL)
    subprocess.run(["umount", "-l", cli.dir], check=True)


def after_a_boot(cli, tmp_path, *arguments):
    """Run singlerun, and its workers, as if the machine had been rebooted since."""
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("11111111-2222-3333-4444-555555555555\n")
    script = f'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", cli.binary, *arguments]
    return subprocess.run(command, env=cli.env, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("work", ["sleep 0.01", ":"], ids=["short", "brief"])
def test_what_was_acknowledged_survives_and_nothing_starts_twice(cli, tmp_path, disk, work):
    need("sqlite3", "unshare")
    witness = tmp_path / "witness"
    witness.touch()
    line = f'echo "$SINGLERUN_JOB_ID" >> {witness}; {work}\n'
    adders, accepted = [], []
    plugged = threading.Event()

    def add():
        while not plugged.is_set():
            adder = cli.start(
                "add", "-n", "q", "--stdin", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            adders.append(adder)
            answer, _ = adder.communicate(line.encode() * 10)
            if adder.returncode == 0:
                accepted.extend(map(int, answer.split()))

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(
        lambda: min(witness.read_text().count("\n"), len(accepted)) > 30, "the start of some jobs"
    )
    plugged.set()
    for pid in [*(adder.pid for adder in adders), *chain(*running(cli))]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    disk()
    for thread in threads:
        thread.join()

    assert sql(cli, "PRAGMA integrity_check") == [["ok"]]
    known = {int(row[0]) for row in sql(cli, "SELECT id FROM jobs")}
    assert set(accepted) <= known
    assert len(accepted) > 30

    def is_over():
        after_a_boot(cli, tmp_path, "reap", "-q")
        return sql(cli, "SELECT count(*) FROM jobs WHERE ended_ns IS NULL") == [["0"]]

    eventually(is_over, "the end of what was left")
    counts = collections.Counter(map(int, witness.read_text().split()))
    assert max(counts.values()) == 1, "nothing twice"
    for number, state in sql(cli, "SELECT id, state FROM jobs"):
        assert state in {"succeeded", "lost"}
        assert counts[int(number)] == 1 or state == "lost"
    eventually(lambda: running(cli) == ([], []), "the end of the worker")


def test_what_only_waits_survives_too(cli, disk):
    """Nothing but ``add`` itself has synced anything."""
    numbers = [int(cli.run("add", "-n", "q", "--delay", "1h", "true").stdout) for _ in range(5)]
    for pid in chain(*running(cli)):
        os.kill(pid, signal.SIGKILL)
    disk()
    assert [int(row[0]) for row in sql(cli, "SELECT id FROM jobs ORDER BY id")] == numbers
