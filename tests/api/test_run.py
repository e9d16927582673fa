"""``run``, and the package itself: what it exports and what importing it costs."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import PATIENCE, eventually, is_alive

import singlerun


def test_run_returns_how_a_command_ended(cli):
    ended = singlerun.run(["sh", "-c", "exit 75"], name="x")
    assert (ended.exit_code, ended.exit_status, ended.state) == (75, 75, "failed")
    last = cli.last("x")
    assert (ended.run_id, last["command"]) == (last["id"], ["sh", "-c", "exit 75"])
    assert ended.elapsed_ns > 0
    ended = singlerun.run(["sh", "-c", "kill -9 $$"])
    assert (ended.exit_code, ended.signal, ended.exit_status) == (None, 9, 137)
    ended = singlerun.run(["sleep", "1000"], timeout=0.1)
    assert (ended.state, ended.timed_out, ended.exit_status) == ("timed-out", True, 124)


def test_run_takes_streams_directory_and_environment(cli, tmp_path):
    ended = singlerun.run(
        ["sh", "-c", "cat; pwd; echo $A $SINGLERUN_NAME; echo err >&2"], name="x", cwd=tmp_path,
        env={"A": "b", "PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert ended.stdout == f"{tmp_path}\nb x\n".encode()
    assert ended.stderr == b"err\n"
    assert cli.last("x")["id"] == ended.run_id, "one lock domain, whatever its environment"


def test_run_in_a_program_without_standard_streams(cli):
    """A daemon's: what is opened next gets their numbers."""
    script = (
        "import os, subprocess, sys\n"
        "os.close(0); os.close(1)\n"
        "import singlerun\n"
        "pipes = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE}\n"
        "print(singlerun.run(['echo', 'x'], **pipes).stdout, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=cli.env, capture_output=True, text=True, check=True
    )
    assert result.stderr == "b'x\\n'\n"


@pytest.mark.parametrize("broken", [False, True])
def test_run_raises_why_the_command_did_not_start(cli, broken, capfd):
    with singlerun.hold("w"):
        pass
    if broken:
        for path in cli.dir.glob("singlerun.db*"):
            path.unlink()
        (cli.dir / "singlerun.db").mkdir()
    with cli.hold("-n", "x", stderr=subprocess.DEVNULL) if not broken else warned_hold("x"):
        with pytest.raises(singlerun.HeldError, match="x is held by PID") as raised:
            singlerun.run(["true"], name="x")
        assert raised.value.pid is not None
        assert singlerun.run(["true"], name="x", skip=True).state == "skipped"
        with pytest.raises(singlerun.HeldError, match=r"still held after 0\.1s"):
            singlerun.run(["true"], name="x", wait=0.1)
    with pytest.raises(singlerun.CommandNotFoundError, match="no-such: command not found"):
        singlerun.run(["no-such"])
    with pytest.raises(singlerun.CommandNotExecutableError):
        singlerun.run(["/etc/passwd"])
    assert singlerun.run(["sh", "-c", "exit 127"]).exit_status == 127
    assert ("without a record" in capfd.readouterr().err) == broken


class warned_hold:  # noqa: N801
    """A hold by another thread, which cannot be recorded."""

    def __init__(self, name):
        self._name = name
        self._held, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self):
        with pytest.warns(RuntimeWarning), singlerun.hold(self._name):
            self._held.set()
            self._over.wait(PATIENCE)

    def __enter__(self):
        self._thread.start()
        assert self._held.wait(PATIENCE)

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()


def test_run_refuses_invalid_options(cli):
    with pytest.raises(singlerun.UsageError, match="--restart"):
        singlerun.run(["true"], retries=1, restart="always")
    with pytest.raises(singlerun.UsageError, match="bad duration"):
        singlerun.run(["true"], timeout="5 minutes")
    with pytest.raises(TypeError, match="list of words"):
        singlerun.run("ls -l")
    with pytest.raises(singlerun.HeldError, match="too recently"):
        for _ in range(2):
            singlerun.run(["true"], min_interval="1h")


def test_run_that_is_interrupted_ends_its_command(cli, program):
    started = program("""
    try:
        singlerun.run(["sh", "-c", "echo $$; exec sleep 1000"], name="x")
    except KeyboardInterrupt:
        print("interrupted")
    """)
    pid = int(started.line())
    eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the record")
    started.process.send_signal(signal.SIGINT)
    assert started.end() == ["interrupted"]
    assert not is_alive(pid)
    assert cli.last("x")["state"] == "stopped"


def test_the_command_does_not_inherit_the_report(cli):
    seen = singlerun.run(["ls", "-l", "/proc/self/fd"], stdout=subprocess.PIPE).stdout
    assert b"memfd" not in seen


# -- the package ------------------------------------------------------------------------------


def test_import_is_free_and_names_are_found(cli):
    script = (
        "import sys; before = set(sys.modules); import singlerun;"
        "print(sorted(set(sys.modules) - before)); print(sorted(set(singlerun.__all__)"
        " - set(dir(singlerun)))); print([n for n in singlerun.__all__"
        " if getattr(singlerun, n).__name__ != n])"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert out.split("\n")[:3] == ["['singlerun']", "[]", "[]"]
    with pytest.raises(AttributeError, match="nothing"):
        singlerun.nothing  # noqa: B018


def test_errors_survive_being_sent_to_another_process(cli):
    import pickle

    with singlerun.hold("x"), pytest.raises(singlerun.HeldError) as raised:
        with singlerun.hold("x"):
            pass
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (str(copy), vars(copy)) == (str(raised.value), vars(raised.value))
