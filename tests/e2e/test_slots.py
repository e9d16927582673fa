"""``--slots``: at most N at once, also after kills, and in the order in which they came."""

import random
import signal
import subprocess

import pytest
from conftest import CLOSING, PATIENCE, blocked_on, eventually, is_alive


def waiting(cli):
    return [run for run in cli.json("ps") if run["state"] == "waiting"]


def test_n_run_at_once_and_not_one_more(cli):
    with cli.hold("-n", "x", "-j", "2"), cli.hold("-n", "x", "-j", "2") as second:
        result = cli.run("-n", "x", "-j", "2", "true")
        assert result.returncode == 75
        assert "x (2 slots) is held by 2 runs, the oldest PID" in result.stderr
        assert cli.run("-n", "x", "true").returncode == 75, "an exclusive run waits for all"
        assert cli.run("is-running", "x").returncode == 0
        runs = cli.json("ps")
        assert [(run["state"], run["slots"]) for run in runs] == [("running", 2)] * 2
        second.release()
        assert cli.run("-n", "x", "-j", "2", "true").returncode == 0
    assert cli.run("-n", "x", "true").returncode == 0


def test_alone_means_no_slots(cli):
    with cli.hold("-n", "x"):
        assert cli.run("-n", "x", "-j", "2", "true").returncode == 75
    with cli.hold("-s", "-n", "x"):
        assert cli.run("-n", "x", "-j", "2", "true").returncode == 75
    with cli.hold("-j", "2", "-n", "x"):
        assert cli.run("-n", "x", "-s", "true").returncode == 75


def test_a_waiter_takes_whichever_is_free_first(cli):
    for freed in (0, 1, 2):
        holdings = [cli.hold("-n", "x", "-j", "3") for _ in range(3)]
        waiter = cli.start("-w", "-n", "x", "-j", "3", "true")
        eventually(lambda: blocked_on(cli.dir / "locks" / "%%1-x.lock"), "the waiting")
        holdings[freed].release()
        assert waiter.wait(PATIENCE) == 0
        for holding in holdings:
            holding.__exit__()


WITNESS = """
exec 9>>{0}/mutex
flock 9; n=$(cat {0}/count); echo $((n+1)) > {0}/count; [ $n -lt {1} ] || touch {0}/overlap
echo {2} >> {0}/order; flock -u 9
sleep 0.02
flock 9; n=$(cat {0}/count); echo $((n-1)) > {0}/count
"""


def test_many_waiters_never_too_many_in_their_order(cli, tmp_path):
    """A third of the waiters are killed while they wait; the commands themselves count."""
    (tmp_path / "count").write_text("0\n")
    chance = random.Random(3)
    with cli.hold("-n", "x", "-j", "3"), cli.hold("-n", "x", "-j", "3"), \
            cli.hold("-n", "x", "-j", "3"):  # fmt: skip
        waiters = []
        for number in range(18):
            script = WITNESS.format(tmp_path, 3, number)
            waiters.append(cli.start("-w", "-n", "x", "-j", "3", "sh", "-c", script))
            eventually(lambda: len(waiting(cli)) == len(waiters), "the ticket")
        killed = set(chance.sample(range(18), 6))
        for number in killed:
            waiters[number].kill()
            waiters[number].wait()
    for number, waiter in enumerate(waiters):
        assert waiter.wait(PATIENCE) == (-signal.SIGKILL if number in killed else 0)
    assert not (tmp_path / "overlap").exists()
    order = [int(line) for line in (tmp_path / "order").read_text().split()]
    assert sorted(order) == [number for number in range(18) if number not in killed]
    # Three start at once, and record it in any order: none is overtaken by more than those.
    for place, number in enumerate(order):
        assert abs(sorted(order).index(number) - place) <= 2
    cli.run("reap")
    assert cli.json("ps") == []


def test_an_orphan_keeps_its_slot_also_if_it_closed_the_lock(cli):
    with cli.hold("-n", "x", "-j", "2", script=CLOSING) as orphan:
        orphan.wrapper.kill()
        orphan.wrapper.wait(PATIENCE)
        with cli.hold("-n", "x", "-j", "2"):
            assert cli.run("-n", "x", "-j", "2", "true").returncode == 75
        waiter = None
        with cli.hold("-n", "x", "-j", "2") as second:
            waiter = cli.start("-w", "-n", "x", "-j", "2", "true")
            eventually(lambda: waiting(cli), "the waiting")
            second.release()
        assert waiter.wait(PATIENCE) == 0, "one of the two has ended"


def test_starts_at_once_beside_an_orphan_that_closed_the_lock(cli, tmp_path):
    """The slot that it lost is free in the kernel: two must not both find room."""
    (tmp_path / "count").write_text("1\n")
    with cli.hold("-n", "x", "-j", "3", script=CLOSING) as orphan:
        orphan.wrapper.kill()
        orphan.wrapper.wait(PATIENCE)
        for how in (("-w",), ("-q",)) * 10:
            scripts = [WITNESS.format(tmp_path, 3, number) for number in range(6)]
            runs = [cli.start(*how, "-n", "x", "-j", "3", "sh", "-c", text) for text in scripts]
            statuses = {run.wait(PATIENCE) for run in runs}
            assert statuses <= ({0} if how == ("-w",) else {0, 75})
            assert 0 in statuses
    assert not (tmp_path / "overlap").exists()
    assert {run["state"] for run in cli.history("x")[:-1]} <= {"succeeded", "refused"}


def test_replacing_beside_an_orphan_that_closed_the_lock_ends_only_the_oldest(cli):
    with cli.hold("-n", "x", "-j", "3", script=CLOSING) as orphan:
        orphan.wrapper.kill()
        orphan.wrapper.wait(PATIENCE)
        with cli.hold("-n", "x", "-j", "3") as one, cli.hold("-n", "x", "-j", "3") as other:
            assert cli.run("-n", "x", "-j", "3", "--replace", "true").returncode == 0
            assert not is_alive(orphan.pid)
            assert one.wrapper.poll() is None
            assert other.wrapper.poll() is None


def test_slots_of_several_names_and_of_a_file(cli, tmp_path):
    file = str(tmp_path / "file")
    with cli.hold("-j", "2", "-n", "a", "-n", "b"), cli.hold("-j", "2", "-n", "a"):
        assert cli.run("-j", "2", "-n", "a", "-n", "b", "true").returncode == 75
        assert cli.run("-j", "2", "-n", "b", "true").returncode == 0
    with cli.hold("-j", "2", "--lock-file", file):
        assert cli.run("-j", "2", "--lock-file", file, "true").returncode == 0
        assert cli.run("-j", "1", "-n", file, "true").returncode == 0, "a name is no file"
        assert subprocess.run(["flock", "-n", file, "true"], check=False).returncode == 1


def test_replace_ends_only_the_oldest(cli):
    with cli.hold("-n", "x", "-j", "2") as old, cli.hold("-n", "x", "-j", "2") as young:
        assert cli.run("-n", "x", "-j", "2", "--replace", "true").returncode == 0
        assert old.wrapper.wait(PATIENCE) == 143
        assert young.wrapper.poll() is None


def test_a_run_inside_would_wait_for_itself(cli):
    inner = f"{cli.binary} -w -n x -j 1 true; echo $?; {cli.binary} -w -n x -j 2 true; echo $?"
    assert cli.run("-n", "x", "-j", "1", "sh", "-c", inner).stdout == "75\n0\n"


@pytest.mark.parametrize("bad", ["0", "-1", "x", "1000", "1.5"])
def test_bad_numbers(cli, bad):
    result = cli.run("-n", "x", f"--slots={bad}", "true")
    assert result.returncode == 125
    assert "write 1 to 999" in result.stderr


def test_shared_and_slots_exclude_each_other(cli):
    assert cli.run("-s", "-j", "2", "-n", "x", "true").returncode == 125
