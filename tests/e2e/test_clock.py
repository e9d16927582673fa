"""Clocks that jump, as after a suspend or a correction, and daylight saving time.

The commands run with libfaketime preloaded. It reads the difference to the real time from a file at
each query, so a clock can jump in the middle of a wait. The monotonic clock (CLOCK_MONOTONIC) is
left alone, as the kernel leaves it alone when the time is set.
"""

import json
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import PATIENCE, blocked_on, eventually, need

FIVE_HOURS = 5 * 3600


class Clock:
    """The clock of every process that is started with ``cli.env``."""

    def __init__(self, cli, directory):
        self._file = directory / "clock"
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        self.jump(0)
        cli.env |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        shown = subprocess.run(["date", "+%s"], env=cli.env, capture_output=True, check=True)
        assert abs(int(shown.stdout) - time.time()) < PATIENCE

    def jump(self, seconds):
        """Set the clock so many seconds ahead of the real one, at once and for all."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)

    def set(self, text):
        """Set the clock to this time in UTC."""
        self.jump(int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() - time.time()))


@pytest.fixture
def clock(cli, tmp_path):
    need("faketime")
    forget_the_dead()
    yield Clock(cli, tmp_path)
    forget_the_dead()


def forget_the_dead():
    """Remove what libfaketime leaves in shared memory for each process that was killed.

    It is named after the PID, and the next process with that PID could not start.
    """
    for path in Path("/dev/shm").glob("*faketime_s*_*"):
        if not Path(f"/proc/{path.name.rpartition('_')[2]}").exists():
            path.unlink(missing_ok=True)


def waits(cli, wrapper):
    """Return whether a run stands in line: it has its ticket, and is shown as waiting."""
    # By the real clock: a look that must wait for its turn sleeps, and libfaketime gets that wrong.
    env = {key: value for key, value in cli.env.items() if key != "LD_PRELOAD"}
    runs = json.loads(cli.run("ps", "--json", env=env).stdout)["runs"]
    rows = [run for run in runs if run["state"] == "waiting"]
    has_ticket = any((cli.dir / "lines" / "x").glob(f"*-{wrapper.pid}"))
    return has_ticket and wrapper.pid in [run["wrapper_pid"] for run in rows]


@pytest.mark.parametrize("seconds", [FIVE_HOURS, -FIVE_HOURS])
@pytest.mark.parametrize("options", [[], ["--lock-type", "lockfile"]], ids=["flock", "lockfile"])
def test_a_jump_of_the_clock_expires_nothing(cli, clock, seconds, options):
    """Neither the hold of the holder, nor the place and the timeout of a waiter.

    No run waits for a lock file here: that wait polls, and libfaketime gets its sleeps wrong.
    """
    script = "trap 'echo alive' USR1; echo $$; while ! read line; do :; done"
    with cli.hold("-n", "x", "-t", "1h", *options, script=script) as holding:
        waiters = [] if options else [cli.start("--wait-for", "1h", "-n", "x", "true")]
        eventually(lambda: all(waits(cli, waiter) for waiter in waiters), "the waiting")
        clock.jump(seconds)
        shown = subprocess.run(["date", "+%s"], env=cli.env, capture_output=True, check=True)
        assert abs(int(shown.stdout) - time.time() - seconds) < PATIENCE, "it did jump"
        for _ in range(2):  # a signal wakes the wrapper, which checks its deadline and sleeps on
            holding.wrapper.send_signal(signal.SIGUSR1)
            assert holding.wrapper.stdout.readline() == b"alive\n"
        assert cli.run("-n", "x", *options, "true").returncode == 75
        for arguments in ([], ["--kill-orphans"]):
            reaped = cli.run("reap", *arguments)
            assert (reaped.returncode, reaped.stdout, reaped.stderr) == (0, "", "")
        states = {run["wrapper_pid"]: run["state"] for run in cli.json("ps")}
        assert states.pop(holding.wrapper.pid) == "running"
        assert states == {waiter.pid: "waiting" for waiter in waiters}
        holding.wrapper.stdin.write(b"end\n")
        assert holding.release() == 0
        assert [waiter.wait(PATIENCE) for waiter in waiters] == [0] * len(waiters)
    runs = {run["wrapper_pid"]: run for run in cli.history("x")}
    for wrapper in (holding.wrapper, *waiters):
        assert runs[wrapper.pid]["state"] == "succeeded"
        assert 0 < runs[wrapper.pid]["elapsed_s"] < FIVE_HOURS / 2, "it took no five hours"


def test_a_lingering_run_takes_as_long_as_it_takes(cli, clock):
    with cli.hold("-n", "x", "--linger") as holding:
        clock.jump(FIVE_HOURS)
        assert holding.release() == 0
    assert 0 < cli.last("x")["elapsed_s"] < FIVE_HOURS / 2


def test_a_waiter_is_next_though_the_clock_says_that_it_came_before(cli, clock, tmp_path):
    """The clock was set back between the arrivals of the first and the second in line."""
    witness = tmp_path / "witness"
    with cli.hold("-n", "x") as holding:
        waiters = []
        for number, jump in enumerate([0, -FIVE_HOURS, FIVE_HOURS, -FIVE_HOURS]):
            clock.jump(jump)
            script = f"echo {number} >> {witness}"
            waiters.append(cli.start("-w", "-n", "x", "sh", "-c", script))
            eventually(lambda: waits(cli, waiters[-1]), "the waiting")
        holding.release()
        assert [waiter.wait(PATIENCE) for waiter in waiters] == [0] * 4
    assert witness.read_text().split() == ["0", "1", "2", "3"]


def test_tokens_grow_and_the_latest_is_known_though_the_clock_is_set_back(cli, clock):
    tokens = []
    for jump in (FIVE_HOURS, 0, -FIVE_HOURS):
        clock.jump(jump)
        tokens.append(int(cli.run("-n", "x", "printenv", "SINGLERUN_TOKEN").stdout))
    assert tokens == sorted(set(tokens))
    assert [run["token"] for run in cli.history("x")] == tokens[::-1]


def test_a_start_in_the_future_blocks_no_start(cli, clock):
    """The clock was wrong at that start, and has been set back since."""
    clock.jump(FIVE_HOURS)
    assert cli.run("-n", "x", "--max-starts", "1/1h", "true").returncode == 0
    clock.jump(0)
    for option in (["--min-interval", "1h"], ["--max-starts", "1/1h"]):
        assert cli.run("-n", "x", *option, "true").returncode == 0
        assert cli.run("-n", "x", *option, "true").returncode == 75, "that was now"
        cli.sql("DELETE FROM runs")


# In spring an hour of the night is missing; in autumn one comes twice.
NIGHTS = [
    ("2030-03-31T00:59:05", "2030-03-31T01:00:05", 75, "a minute, though the clock skips an hour"),
    ("2030-10-27T00:30:05", "2030-10-27T01:30:15", 0, "an hour, though the clock shows the same"),
]


@pytest.mark.parametrize("first, second, status, why", NIGHTS, ids=["forward", "back"])
@pytest.mark.parametrize("option", [["--min-interval", "30m"], ["--max-starts", "1/30m"]])
def test_intervals_know_no_daylight_saving(cli, clock, first, second, status, why, option):
    cli.env["TZ"] = "Europe/Berlin"
    clock.set(first)
    shown = [cli.run("-n", "x", *option, "date", "+%H:%M").stdout]
    clock.set(second)
    assert cli.run("-n", "x", *option, "true").returncode == status, why
    shown.append(cli.run("-n", "y", "date", "+%H:%M").stdout)
    assert shown == (["01:59\n", "03:00\n"] if status else ["02:30\n", "02:30\n"]), (
        "it is that night"
    )
    runs = cli.history()[::-1]
    asked = [run["asked_at"] for run in runs]
    assert asked == sorted(asked), "in the record each moment is known, and their order"
    assert asked[0].startswith(first[:16])


def test_intervals_know_no_time_zone(cli):
    """Two users of one name, or cron and a login, may live in different time zones."""
    for zone in ("Pacific/Kiritimati", "Pacific/Midway"):  # 25 hours apart
        cli.env["TZ"] = zone
        first = cli.run("-n", zone, "--min-interval", "20h", "date", "+%d %H")
        assert first.returncode == 0
        for other in ("Pacific/Midway", "UTC", "Pacific/Kiritimati"):
            cli.env["TZ"] = other
            for option in (["--min-interval", "20h"], ["--max-starts", "1/20h"]):
                assert cli.run("-n", zone, *option, "true").returncode == 75


def test_a_timeout_passes_though_the_clock_is_set_back(cli, clock):
    with cli.hold("-n", "x") as holding:
        waiter = cli.start("--wait-for", "3", "-n", "x", "true")
        # On a busy machine it may have timed out by now; then this shows nothing.
        eventually(lambda: blocked_on(cli.lock_path("x")) or waiter.poll(), "the waiting")
        clock.jump(-FIVE_HOURS)
        assert waiter.wait(PATIENCE) == 75
        assert holding.wrapper.poll() is None
