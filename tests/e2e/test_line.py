"""The waiting line: first come, first served, and nothing jumps the queue."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE, blocked_on, eventually, need


def tickets(cli, name="x"):
    try:
        return sorted(path.name for path in (cli.dir / "lines" / name).iterdir())
    except FileNotFoundError:
        return []


def stand_in_line(cli, number, witness, *options):
    """Start a waiter that writes its number when its turn comes; return once it is in line."""
    script = f"echo {number} >> {witness}"
    waiter = cli.start("-n", "x", *(options or ["-w"]), "sh", "-c", script, stderr=subprocess.PIPE)
    # By its own ticket: those of others may go meanwhile.
    mine = f"-{waiter.pid}"
    eventually(
        lambda: any(name.endswith(mine) for name in tickets(cli)) or waiter.poll() is not None,
        "the ticket",
    )
    return waiter


@pytest.mark.stress
@pytest.mark.parametrize("share", [0, 1 / 3])
def test_waiters_start_in_the_order_in_which_they_came(cli, tmp_path, share):
    """A third of them are killed, interrupted or time out, and are passed over."""
    witness, count = tmp_path / "witness", 24
    chance = random.Random(7)
    fates = {number: chance.choice(["kill", "interrupt", "time out"]) for number in range(count)
             if chance.random() < share}  # fmt: skip
    with cli.hold("-n", "x") as holding:
        waiters = [
            stand_in_line(
                cli, number, witness,
                *(["--wait-for", "3"] if fates.get(number) == "time out" else []),
            )
            for number in range(count)
        ]  # fmt: skip
        for number, fate in fates.items():
            if fate == "kill":
                waiters[number].kill()
            elif fate == "interrupt":
                waiters[number].send_signal(signal.SIGINT)
            waiters[number].wait(PATIENCE)
        assert len(tickets(cli)) <= count - sum(fate != "kill" for fate in fates.values())
        holding.release()
    for waiter in waiters:
        assert waiter.communicate(timeout=PATIENCE)[1].count(b"\n") <= 1
    came = [int(line) for line in witness.read_text().split()]
    assert came == [number for number in range(count) if number not in fates]
    assert tickets(cli) == [], "nothing is left behind"
    assert cli.run("reap").returncode == 0
    assert cli.json("ps") == []


def test_the_last_in_line_leaves_nothing_behind_either(cli, tmp_path):
    """A killed waiter's ticket is deleted by the one behind it; the last has none behind it."""
    with cli.hold("-n", "x") as holding:
        waiters = [stand_in_line(cli, number, tmp_path / "witness") for number in range(4)]
        for number in (0, 2, 3):
            waiters[number].kill()
            waiters[number].wait(PATIENCE)
        assert holding.release() == 0
        assert waiters[1].wait(PATIENCE) == 0
    assert tickets(cli) == []
    assert (tmp_path / "witness").read_text().split() == ["1"]


def test_no_run_jumps_the_queue(cli, tmp_path):
    """A thief that tries in a loop, while the lock passes from waiter to waiter, never gets it."""
    witness = tmp_path / "witness"
    thief_ran = tmp_path / "thief"
    with cli.hold("-n", "x") as holding:
        waiters = [stand_in_line(cli, number, witness) for number in range(8)]
        script = (
            f"while [ $(wc -l < {witness}) -lt 8 ]; do"
            f" {cli.binary} -q -n x sh -c '[ $(wc -l < {witness}) -ge 8 ] || echo >> {thief_ran}';"
            " done 2>/dev/null; true"
        )
        witness.touch()
        thieves = [subprocess.Popen(["sh", "-c", script], env=cli.env) for _ in range(3)]
        eventually(lambda: len(cli.history("x")) > 12, "the thieves at work")
        holding.release()
        for waiter in waiters:
            assert waiter.wait(PATIENCE) == 0
            waiter.stderr.close()
        for thief in thieves:
            assert thief.wait(PATIENCE) == 0
    assert [int(line) for line in witness.read_text().split()] == list(range(8))
    assert not thief_ran.exists()


THIEF = """
import os, sys
from singlerun import lock
from singlerun.paths import StateDir

state, witness = StateDir(os.fsencode(sys.argv[1])), sys.argv[2]
print("at work", flush=True)
taken = False
while not taken:
    hold = lock.of_names((b"x",), state, shared=False)
    taken = hold.try_in_turn()
    with open(witness) as file:
        ended = len(file.read().split())
    hold.free()
print(ended)
"""


@pytest.mark.stress
def test_a_thief_that_tries_thousands_of_times_gets_the_lock_after_all_others(cli, tmp_path):
    """It makes the try of a plain run without the rest of it, so it misses no moment."""
    witness = tmp_path / "witness"
    witness.touch()
    with cli.hold("-n", "x") as holding:
        waiters = [stand_in_line(cli, number, witness) for number in range(12)]
        thief = [sys.executable, "-c", THIEF, cli.dir, witness]
        with subprocess.Popen(thief, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            cli.started.append(process)
            assert process.stdout.readline() == "at work\n"
            holding.release()
            assert process.communicate(timeout=PATIENCE)[0] == "12\n"
        for waiter in waiters:
            assert waiter.wait(PATIENCE) == 0
            waiter.stderr.close()


def test_a_run_that_does_not_wait_is_refused_though_only_the_line_holds(cli, tmp_path):
    """The lock is free, but a waiter that is stopped before it takes it is in line."""
    with cli.hold("-n", "x") as holding:
        waiter = stand_in_line(cli, 1, tmp_path / "witness")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        os.kill(waiter.pid, signal.SIGSTOP)
        holding.release()
        try:
            result = cli.run("-n", "x", "true")
            assert result.returncode == 75
            assert result.stderr.count("\n") == 1
        finally:
            os.kill(waiter.pid, signal.SIGCONT)
        assert waiter.wait(PATIENCE) == 0
    assert cli.run("-n", "x", "true").returncode == 0


def test_readers_behind_a_writer_wait_for_it(cli, tmp_path):
    with cli.hold("-s", "-n", "x") as reader:
        writer = stand_in_line(cli, "writer", tmp_path / "w")
        late = stand_in_line(cli, "reader", tmp_path / "w", "-w", "-s")
        assert cli.run("-s", "-n", "x", "true").returncode == 75, "the writer came before"
        reader.release()
        assert writer.wait(PATIENCE) == late.wait(PATIENCE) == 0
    assert (tmp_path / "w").read_text().split() == ["writer", "reader"]


def test_a_waiter_for_two_names_keeps_its_place_in_both_lines(cli, tmp_path):
    witness = tmp_path / "witness"
    with cli.hold("-n", "a") as holding:
        both = cli.start("-w", "-n", "a", "-n", "b", "sh", "-c", f"echo both >> {witness}")
        eventually(lambda: tickets(cli, "b"), "the ticket")
        later = cli.start("-w", "-n", "b", "sh", "-c", f"echo later >> {witness}")
        eventually(lambda: len(tickets(cli, "b")) == 2, "the ticket")
        assert cli.run("-n", "b", "true").returncode == 75
        holding.release()
        assert both.wait(PATIENCE) == later.wait(PATIENCE) == 0
    assert witness.read_text().split() == ["both", "later"]


def test_places_are_shown(cli, tmp_path):
    with cli.hold("-n", "x"):
        for number in range(3):
            stand_in_line(cli, number, tmp_path / "w")
        rows = cli.json("ps")
        assert [row["place"] for row in rows] == [None, 1, 2, 3]
        assert [row["state"] for row in rows] == ["running", *["waiting"] * 3]
        table = cli.run("ps").stdout.splitlines()
        assert "waiting #2" in table[3]


def test_a_deleted_line_keeps_its_order_once_another_waiter_joins(cli, tmp_path):
    witness = tmp_path / "witness"
    with cli.hold("-n", "x") as holding:
        waiters = [stand_in_line(cli, number, witness) for number in range(4)]
        third = cli.dir / "lines" / "x" / tickets(cli)[2]
        eventually(lambda: blocked_on(third), "the last behind the third")
        shutil.rmtree(cli.dir / "lines")
        assert cli.run("-n", "x", "true").returncode == 75
        waiters.append(stand_in_line(cli, 4, witness))
        assert [row["place"] for row in cli.json("ps")] == [None, 1, 2, 3, 4, 5]
        waiters[1].kill()
        waiters[1].wait(PATIENCE)
        holding.release()
        for number in (0, 2, 3, 4):
            assert waiters[number].wait(PATIENCE) == 0
    assert witness.read_text().split() == ["0", "2", "3", "4"]
    assert tickets(cli) == []


@pytest.mark.parametrize("what", ["", "locks"])
def test_a_waiter_starts_though_its_directory_was_deleted(cli, tmp_path, what):
    with cli.hold("-n", "x") as holding:
        waiters = [stand_in_line(cli, number, tmp_path / "witness") for number in range(2)]
        eventually(lambda: blocked_on(cli.lock_path("x")), "the wait for the lock")
        shutil.rmtree(cli.dir / what)
        holding.release()
        assert [waiter.wait(PATIENCE) for waiter in waiters] == [0, 0]
    assert sorted((tmp_path / "witness").read_text().split()) == ["0", "1"]


def test_a_waiter_stopped_while_it_joins_keeps_no_other_from_its_deadline(cli, tmp_path):
    """Neither from its signals, nor from the lock."""
    need("strace")
    with cli.hold("-n", "x") as holding:
        trace = tmp_path / "trace"
        trace.touch()
        strace = ["strace", "-D", "-f", "-qq", "-o", trace, "-P", cli.dir / "lines" / "x"]
        strace += ["-e", "trace=/^mkdir", "-e", "inject=/^mkdir:signal=SIGSTOP:when=1"]
        arguments = ["-n", "x", "-w", "true"]
        stopped = subprocess.Popen([*strace, str(cli.binary), *arguments], env=cli.env)
        cli.started.append(stopped)
        eventually(lambda: "stopped by SIGSTOP" in trace.read_text(), "the stop")
        assert cli.run("-n", "x", "--wait-for", "0.1", "true").returncode == 75
        waiter = stand_in_line(cli, 1, tmp_path / "witness")
        waiter.terminate()
        assert waiter.wait(PATIENCE) == 128 + signal.SIGTERM
        holding.release()
        assert cli.run("-n", "x", "true").returncode == 0
        os.kill(stopped.pid, signal.SIGCONT)
        assert stopped.wait(PATIENCE) == 0


def test_a_chosen_lock_file_has_a_line_too(cli, tmp_path):
    path, witness = tmp_path / "chosen", tmp_path / "witness"
    with cli.hold("--lock-file", str(path)) as holding:
        waiters = []
        for number in range(5):
            script = f"echo {number} >> {witness}"
            waiters.append(cli.start("--lock-file", str(path), "-w", "sh", "-c", script))
            eventually(
                lambda n=number: len(list((cli.dir / "lines").glob("*chosen*/*"))) > n, "the ticket"
            )
        holding.release()
        assert [waiter.wait(PATIENCE) for waiter in waiters] == [0] * 5
    assert witness.read_text().split() == list("01234")


def test_a_front_waiter_sleeps_on_the_lock_and_the_others_on_tickets(cli, tmp_path):
    with cli.hold("-n", "x"):
        for number in range(3):
            stand_in_line(cli, number, tmp_path / "w")
        first = Path(cli.dir / "lines" / "x" / tickets(cli)[0])
        eventually(lambda: blocked_on(cli.lock_path("x")) == 1, "one at the lock")
        eventually(lambda: blocked_on(first) == 1, "one behind the first")


def test_the_first_run_of_a_name_does_not_wait_behind_its_waiters(cli):
    """Its lock file is new, so it looks twice; meanwhile others join the line for its lock."""
    for round_ in range(12):
        name = f"n{round_}"
        both = [cli.start("-w", "-n", name, "true") for _ in range(3)]
        assert [process.wait(PATIENCE) for process in both] == [0, 0, 0]
