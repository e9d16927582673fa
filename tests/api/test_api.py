"""The Python interface: the same locks, lines and records as the command line's."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
from conftest import CLOSING, PATIENCE, eventually, is_alive

import singlerun
from singlerun.process import procfs


@pytest.fixture(autouse=True)
def same_domain(cli, monkeypatch):
    for name in os.environ:
        if name.startswith("SINGLERUN_") and name != "SINGLERUN_NO_SKIPS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("SINGLERUN_DIR", str(cli.dir))


class Program:
    """A Python program that says what it does, and goes on when it is told."""

    def __init__(self, cli, tmp_path, source, *options, before="", **more):
        source = textwrap.dedent(source)
        source = f"import os, sys, signal, threading, time\n{before}\nimport singlerun\n{source}"
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", source], env=cli.env, cwd=tmp_path, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
        )  # fmt: skip
        self.pid = self.process.pid
        cli.started.append(self.process)

    def line(self):
        return self.process.stdout.readline().strip()

    def end(self):
        """Let it go on, and give all that it still says."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert err == ""
        assert self.process.returncode == 0
        return out.split()


HOLD = """
with singlerun.hold({names}) as holding:
    print("held", flush=True)
    sys.stdin.read()
"""
WAIT = """
with singlerun.hold("x", wait={wait}):
    with open("witness", "a") as file:
        print({number}, file=file)
"""


@pytest.fixture
def program(cli, tmp_path):
    def start(source, *options, **more):
        return Program(cli, tmp_path, source, *options, **more)

    return start


@pytest.fixture
def holder(program):
    def start(names='"x"'):
        started = program(HOLD.format(names=names))
        assert started.line() == "held"
        return started

    return start


def tickets(cli, name="x"):
    try:
        return sorted(path.name for path in (cli.dir / "lines" / name).iterdir())
    except FileNotFoundError:
        return []


def in_line(cli, count, name="x"):
    eventually(lambda: len(tickets(cli, name)) >= count, "the ticket")


def is_free(cli, name="x"):
    return cli.run("-n", name, "true").returncode == 0


# -- holding ----------------------------------------------------------------------------------


def test_hold_excludes_the_command_line_and_is_seen_by_it(cli, holder):
    program = holder()
    (run,) = cli.json("ps")
    assert (run["name"], run["state"], run["pid"], run["wrapper_pid"]) == (
        "x", "running", program.pid, program.pid,
    )  # fmt: skip
    assert run["command"][:2] == [sys.executable, "-c"]
    refused = cli.run("-n", "x", "true")
    assert refused.returncode == 75
    assert f"held by PID {program.pid} " in refused.stderr
    assert cli.run("is-running", "x").returncode == 0
    program.end()
    assert is_free(cli)
    assert [run["state"] for run in cli.history("x")] == ["succeeded", "refused", "succeeded"]


def test_command_line_excludes_hold(cli):
    with cli.hold("-n", "x") as command:
        with pytest.raises(singlerun.HeldError) as raised, singlerun.hold("x"):
            pytest.fail("both hold it")
        assert cli.last("x")["state"] == "refused"
    error = raised.value
    held = next(run for run in cli.history("x") if run["state"] == "succeeded")
    assert str(error).startswith(f"x is held by PID {command.pid} ")
    assert str(error).endswith("; to wait: wait=True")
    assert (error.names, error.pid, error.run_id) == (("x",), command.pid, held["id"])
    assert (error.user, error.waited, error.exit_status) == (held["user"], None, 75)
    assert error.since is not None


def test_bytes_and_text_are_one_name(cli):
    with singlerun.hold("ä"), pytest.raises(singlerun.HeldError), singlerun.hold("ä".encode()):
        pass


def test_what_is_held_is_told(cli):
    before = dict(os.environ)
    with singlerun.hold("x", "y") as first:
        assert first.names == ("x", "y")
        assert dict(os.environ) == before
        env = first.environ
        assert env["SINGLERUN_RUN_ID"] == str(first.run_id) == str(cli.last("x")["id"])
        seen = subprocess.run(
            ["sh", "-c", "echo $SINGLERUN_NAME $SINGLERUN_TOKEN"],
            env=env, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert seen.split() == ["x", str(first.token)]
    with singlerun.hold("x") as second:
        assert second.token > first.token


@pytest.mark.parametrize(
    ("error", "state", "status"),
    [
        (ValueError("x"), "failed", 1),
        (SystemExit(3), "failed", 3),
        (SystemExit(), "succeeded", 0),
        (KeyboardInterrupt(), "stopped", 1),
    ],
)
def test_exception_is_recorded_and_goes_on(cli, error, state, status):
    with pytest.raises(type(error)), singlerun.hold("x"):
        raise error
    last = cli.last("x")
    assert (last["state"], last["exit_code"]) == (state, status)
    assert is_free(cli)


def test_several_names_are_held_all_or_none(cli):
    with cli.hold("-n", "b"), pytest.raises(singlerun.HeldError) as raised:
        with singlerun.hold("a", "b", "c"):
            pass
    assert raised.value.names == ("b",)
    with singlerun.hold("a", "b", "c"):
        assert [is_free(cli, name) for name in "abc"] == [False] * 3
    assert [is_free(cli, name) for name in "abc"] == [True] * 3


def test_readers_and_slots(cli):
    with singlerun.hold("x", shared=True), singlerun.hold("x", shared=True):
        assert cli.run("-s", "-n", "x", "true").returncode == 0
        assert not is_free(cli)
    with singlerun.hold("x", slots=2):
        assert cli.run("-j2", "-n", "x", "true").returncode == 0
        with singlerun.hold("x", slots=2):
            assert cli.run("-j2", "-n", "x", "true").returncode == 75
    assert is_free(cli)


def test_lock_file_is_the_one_that_flock_takes(cli, tmp_path):
    path = tmp_path / "chosen"
    try_it = ["flock", "-n", path, "true"]
    with singlerun.hold(lock_file=path):
        assert subprocess.run(try_it, check=False).returncode == 1
        assert cli.run("--lock-file", str(path), "true").returncode == 75
    assert subprocess.run(try_it, check=False).returncode == 0


def test_decorated_function_holds_in_each_call(cli):
    @singlerun.hold("x")
    def work(number, *, more):
        """Do it."""
        assert not is_free(cli)
        return number + more

    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert is_free(cli)
    assert [work(1, more=2), work(3, more=4)] == [3, 7]
    assert is_free(cli)


def test_recursion_is_refused(cli):
    @singlerun.hold("x", wait=True)
    def work(depth):
        return work(depth - 1) if depth else depth

    with pytest.raises(singlerun.HeldError, match="the run that this one is a part of"):
        work(1)
    assert is_free(cli)


def test_what_runs_later_can_not_be_decorated():
    async def coroutine():
        pass

    def generator():
        yield

    for function in (coroutine, generator, int):
        with pytest.raises(TypeError, match="with block"):
            singlerun.hold("x")(function)
    with pytest.raises(TypeError, match=r'hold\("name"\)'):
        singlerun.hold(generator)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ([], {}),
        ([""], {}),
        (["a\0b"], {}),
        (["x"], {"wait": -1}),
        (["x"], {"wait": float("nan")}),
        (["x"], {"slots": 0}),
        (["x", "y"], {"lock_file": "f"}),
    ],
)
def test_senseless_arguments(names, options):
    with pytest.raises(singlerun.UsageError):
        singlerun.hold(*names, **options)


def test_threads_exclude_each_other_with_one_guard(cli):
    guard = singlerun.hold("x", wait=True)
    inside, most, turns = [], [], []

    def work():
        for _ in range(3):
            with guard as holding:
                inside.append(holding.run_id)
                most.append(len(inside))
                turns.append(holding.run_id)
                inside.remove(holding.run_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert set(most) == {1}
    assert len(set(turns)) == 12
    assert is_free(cli)
    assert tickets(cli) == []


def test_other_thread_waits_but_the_same_would_wait_for_itself(cli):
    done = threading.Event()

    def work():
        with singlerun.hold("x", wait=True):
            done.set()

    with singlerun.hold("x"):
        thread = threading.Thread(target=work)
        thread.start()
        in_line(cli, 1)
        with pytest.raises(singlerun.HeldError, match="a part of"), singlerun.hold("x", wait=9e9):
            pass
        assert not done.is_set()
    thread.join(PATIENCE)
    assert done.is_set()


def test_what_is_nested_knows_its_parent_and_does_not_wait_for_it(cli):
    source = """
    try:
        with singlerun.hold("outer", wait=True):
            print("got in")
    except singlerun.HeldError as error:
        print(error)
    with singlerun.hold("inner"), singlerun.hold("innermost") as holding:
        singlerun.run(["true"], name="command")
    """
    source = "import singlerun\n" + textwrap.dedent(source)
    result = cli.run("-n", "outer", sys.executable, "-P", "-c", source)
    assert "a part of" in result.stdout
    assert result.stderr == ""
    runs = {run["name"]: run for run in cli.history()}
    for parent, child in [("outer", "inner"), ("inner", "innermost"), ("innermost", "command")]:
        assert runs[child]["parent_id"] == runs[parent]["id"] is not None


def test_marked_command_does_not_wait_for_the_block_around_it(cli):
    with singlerun.hold("x") as holding:
        nested = cli.run("-w", "-n", "x", "true", env=holding.environ)
        assert nested.returncode == 75
        with pytest.raises(singlerun.HeldError, match="a part of"):
            singlerun.run(["true"], name="x", wait=True, env={})


def test_program_that_is_killed_frees_the_name(cli, holder):
    program = holder()
    program.process.kill()
    program.process.wait()
    assert is_free(cli)
    assert [run["state"] for run in cli.history("x")] == ["succeeded", "lost"]


def test_marked_command_keeps_the_name_of_a_program_that_was_killed(cli, program):
    started = program("""
    import subprocess
    with singlerun.hold("x") as holding:
        command = subprocess.Popen(["sleep", "1000"], env=holding.environ)
        print(command.pid, flush=True)
        sys.stdin.read()
    """)
    pid = int(started.line())
    started.process.kill()
    started.process.wait()
    try:
        assert not is_free(cli)
        assert cli.json("ps")[0]["state"] == "orphan"
        with pytest.raises(singlerun.HeldError, match="orphan") as raised, singlerun.hold("x"):
            pass
        assert raised.value.pid == pid
        with pytest.warns(RuntimeWarning, match="orphan"), pytest.raises(singlerun.HeldError):
            with singlerun.hold("x", wait=0.1):
                pass
    finally:
        os.kill(pid, signal.SIGKILL)
    with warnings.catch_warnings():  # perhaps it is still about to die
        warnings.simplefilter("ignore")
        with singlerun.hold("x", wait=PATIENCE):
            pass


# -- waiting ----------------------------------------------------------------------------------


def test_programs_and_commands_stand_in_one_line(cli, program, tmp_path):
    waiters = []
    with cli.hold("-n", "x") as command:
        for number in range(8):
            if number % 2:
                script = f"echo {number} >> {tmp_path}/witness"
                waiters.append(cli.start("-w", "-n", "x", "sh", "-c", script))
            else:
                waiters.append(program(WAIT.format(wait=True, number=number)).process)
            in_line(cli, number + 1)
        rows = cli.json("ps")
        assert [row["place"] for row in rows] == [None, *range(1, 9)]
        assert [row["wrapper_pid"] for row in rows[1:]] == [waiter.pid for waiter in waiters]
        with pytest.raises(singlerun.HeldError), singlerun.hold("x"):
            pass
        command.release()
    assert [waiter.wait(PATIENCE) for waiter in waiters] == [0] * 8
    assert (tmp_path / "witness").read_text().split() == [str(number) for number in range(8)]
    assert tickets(cli) == []
    assert cli.json("ps") == []


def test_nobody_barges_in_past_a_program_that_waits(cli, program, tmp_path):
    with cli.hold("-n", "x") as command:
        waiter = program(WAIT.format(wait=True, number=1))
        in_line(cli, 1)
        (deputy,) = procfs.descendants([waiter.pid])
        os.kill(deputy, signal.SIGSTOP)
        command.release()
        try:
            assert not is_free(cli)
        finally:
            os.kill(deputy, signal.SIGCONT)
        waiter.end()
    assert is_free(cli)


FACTS = """
def facts():
    return (
        {number: signal.getsignal(number) for number in signal.valid_signals()},
        signal.pthread_sigmask(signal.SIG_BLOCK, []),
        dict(os.environ),
        sorted(os.listdir("/proc/self/fd")),
        os.listdir("/proc/self/task"),
        os.getcwd(),
    )
"""


def test_time_out_leaves_nothing_behind(cli, program, tmp_path):
    with cli.hold("-n", "x") as command:
        first = program(
            FACTS
            + """
before = facts()
try:
    with singlerun.hold("x", wait=1.5):
        print("got in")
except singlerun.HeldError as error:
    print(error.waited >= 1.5, "still held after" in str(error), flush=True)
assert facts() == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("childless", flush=True)
sys.stdin.read()
"""
        )
        in_line(cli, 1)
        second = program(WAIT.format(wait=True, number=2))
        in_line(cli, 2)
        assert [first.line(), first.line()] == ["True True", "childless"]
        assert len(tickets(cli)) == 1
        assert cli.last("x")["state"] == "waiting"
        command.release()
        second.end()
        first.end()
    assert {run["state"] for run in cli.history("x")} == {"succeeded", "refused"}


def test_wait_that_ends_well_changes_nothing_of_the_program(cli, program):
    with cli.hold("-n", "x") as command:
        waiter = program(
            FACTS
            + """
before = facts()
with singlerun.hold("x", wait=True):
    inside = facts()
    assert inside[:3] == before[:3] and inside[4:] == before[4:]
assert facts() == before
"""
        )
        in_line(cli, 1)
        command.release()
        waiter.end()


@pytest.mark.parametrize("victim", ["program", "deputy"])
def test_waiter_that_is_killed_is_passed_over(cli, program, victim):
    with cli.hold("-n", "x") as command:
        first = program("""
        try:
            with singlerun.hold("x", wait=True):
                print("got in")
        except singlerun.SinglerunError as error:
            print(error)
        """)
        in_line(cli, 1)
        second = program(WAIT.format(wait=True, number=2))
        in_line(cli, 2)
        (deputy,) = procfs.descendants([first.pid])
        os.kill(first.pid if victim == "program" else deputy, signal.SIGKILL)
        if victim == "deputy":
            assert "has died" in " ".join(first.end())
        else:
            first.process.wait()
            eventually(lambda: not is_alive(deputy), "the deputy's end")
        command.release()
        second.end()
    assert is_free(cli)
    assert cli.json("ps") == []
    assert tickets(cli) == []


def test_killed_waiter_does_not_live_on_in_a_forked_child(cli, program):
    """The child has copies of all that the waiting thread has opened."""
    with cli.hold("-n", "x") as command:
        waiter = program("""
        def work():
            with singlerun.hold("x", wait=True):
                pass
        threading.Thread(target=work, daemon=True).start()
        sys.stdin.readline()
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            time.sleep(1000)
        time.sleep(1000)
        """)
        in_line(cli, 1)
        waiter.process.stdin.write("\n")
        waiter.process.stdin.flush()
        child = int(waiter.line())
        waiter.process.kill()
        waiter.process.wait()
        try:
            eventually(lambda: tickets(cli) == [], "the end of its place")
            command.release()
            assert is_free(cli)
        finally:
            os.kill(child, signal.SIGKILL)


def test_keyboard_interrupt_ends_a_wait(cli, program):
    with cli.hold("-n", "x") as command:
        waiter = program("""
        try:
            with singlerun.hold("x", wait=True):
                print("got in")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        sys.stdin.read()
        """)
        in_line(cli, 1)
        waiter.process.send_signal(signal.SIGINT)
        assert waiter.line() == "interrupted"
        assert tickets(cli) == []
        assert procfs.descendants([waiter.pid]) == []
        assert cli.last("x")["state"] == "stopped"
        command.release()
        assert is_free(cli)
        waiter.end()


def test_ctrl_c_that_a_program_survives_does_not_cost_its_place(cli, program):
    """The terminal tells the whole group, but only the program may decide."""
    with cli.hold("-n", "x") as command:
        waiter = program("""
        signal.signal(signal.SIGINT, lambda *_: print("told", flush=True))
        with singlerun.hold("x", wait=True):
            print("got in", flush=True)
        """, start_new_session=True)  # fmt: skip
        in_line(cli, 1)
        before = tickets(cli)
        os.killpg(waiter.pid, signal.SIGINT)
        assert waiter.line() == "told"
        assert tickets(cli) == before
        command.release()
        assert waiter.end() == ["got", "in"]


def test_lock_file_that_is_deleted_while_one_waits(cli, program):
    with cli.hold("-n", "x") as command:
        waiter = program("""
        with singlerun.hold("x", wait=True):
            print("held", flush=True)
            sys.stdin.read()
        """)
        in_line(cli, 1)
        cli.lock_path("x").unlink()
        command.release()
        assert waiter.line() == "held"
        assert not is_free(cli)
        waiter.end()
    assert is_free(cli)


def test_waiting_for_many_names_at_once(cli, program, tmp_path):
    """More than one message can carry the descriptors of."""
    names = ", ".join(f'"n{number}"' for number in range(300))
    with cli.hold("-n", "n0") as command:
        waiter = program(HOLD.format(names=f"{names}, wait=True"))
        in_line(cli, 1, "n0")
        command.release()
        assert waiter.line() == "held"
        assert not is_free(cli, "n0")
        assert not is_free(cli, "n299")
        waiter.end()


def test_waiting_for_a_slot(cli, program):
    with cli.hold("-j1", "-n", "x") as command:
        waiter = program(HOLD.format(names='"x", slots=1, wait=True'))
        in_line(cli, 1)
        command.release()
        assert waiter.line() == "held"
        assert cli.run("-j1", "-n", "x", "true").returncode == 75
        waiter.end()
    assert cli.run("-j1", "-n", "x", "true").returncode == 0


def test_slot_beside_an_orphan_that_closed_the_lock(cli, program):
    """Its slot is free in the kernel; threads that come at once must not all find room."""
    with cli.hold("-n", "x", "-j", "3", script=CLOSING) as orphan:
        orphan.wrapper.kill()
        orphan.wrapper.wait(PATIENCE)
        counting = program("""
            mutex, inside, most = threading.Lock(), 1, 1

            def work():
                global inside, most
                for _ in range(15):
                    try:
                        with singlerun.hold("x", slots=3):
                            with mutex:
                                inside += 1
                                most = max(most, inside)
                            time.sleep(0.01)
                            with mutex:
                                inside -= 1
                    except singlerun.HeldError:
                        pass

            threads = [threading.Thread(target=work) for _ in range(6)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            print(most)
        """)
        assert counting.end() == ["3"]


def test_wait_ends_with_the_block_and_not_with_the_program(cli, program):
    holding = program("""
        with singlerun.hold("x"):
            print("held", flush=True)
            sys.stdin.readline()
        print("left", flush=True)
        sys.stdin.read()
    """)
    assert holding.line() == "held"
    waiting = cli.start("wait", "x")
    eventually(lambda: cli.run("wait", "-t", "0.05", "x").returncode == 124, "the block")
    assert waiting.poll() is None
    holding.process.stdin.write("\n")
    holding.process.stdin.flush()
    assert holding.line() == "left"
    assert waiting.wait(PATIENCE) == 0
    assert holding.process.poll() is None
    holding.end()


@pytest.mark.parametrize(
    "command", [("stop", "-k", "0.3", "x"), ("-n", "x", "--replace", "-k", "0.3", "true")]
)
def test_program_that_leaves_the_block_when_it_is_told_to_lives_on(cli, program, command):
    """It is told once: a second TERM would meet it in what comes after the block."""
    holding = program("""
        def end(*_):
            raise InterruptedError
        signal.signal(signal.SIGTERM, end)
        try:
            with singlerun.hold("x"):
                print("held", flush=True)
                time.sleep(60)
        except InterruptedError:
            print("told", flush=True)
        sys.stdin.read()
        print("alive")
    """)
    assert holding.line() == "held"
    assert cli.run(*command).returncode == 0
    assert holding.line() == "told"
    assert holding.end() == ["alive"]
    assert cli.history("x")[-1]["state"] == "stopped"


def test_package_that_only_the_program_can_find_waits_too(cli, program, tmp_path):
    """From a directory of its own, without site-packages."""
    vendor = tmp_path / "vendor"
    vendor.mkdir()
    (vendor / "singlerun").symlink_to(os.path.dirname(singlerun.__file__))
    (vendor / "socket.py").write_text("raise SystemExit('this is not the standard module')")
    source = WAIT.format(wait=True, number=1)
    with cli.hold("-n", "x") as command:
        waiter = program(source, "-I", "-S", before="sys.path.append('vendor')")
        in_line(cli, 1)
        command.release()
        waiter.end()
    assert (tmp_path / "witness").read_text() == "1\n"


# -- forks ------------------------------------------------------------------------------------


def test_forked_child_that_leaves_the_block_frees_nothing(cli):
    with singlerun.hold("x"):
        pid = os.fork()
        if pid == 0:
            break_out = False
        else:
            assert os.waitpid(pid, 0)[1] == 0
            assert not is_free(cli)
            assert cli.last("x")["state"] == "refused"
            assert cli.json("ps")[0]["state"] == "running"
            break_out = True
    if not break_out:
        os._exit(0)
    assert is_free(cli)


def test_forked_child_that_lives_on_keeps_nothing_back(cli, program):
    started = program("""
    with singlerun.hold("x"):
        pid = os.fork()
        if pid == 0:
            sys.stdin.read()
            with singlerun.hold("x", wait=True):
                print("in turn", flush=True)
            os._exit(0)
    print("free", flush=True)
    os.waitpid(pid, 0)
    """)
    assert started.line() == "free"
    with cli.hold("-n", "x") as command:
        started.process.stdin.close()
        in_line(cli, 1)
        command.release()
    assert started.line() == "in turn"


def test_forked_child_works_on_under_the_lock_of_a_parent_that_was_killed(cli, program):
    started = program("""
    with singlerun.hold("x"):
        pid = os.fork()
        if pid:
            print(pid, flush=True)
        time.sleep(1000)
    """)
    child = int(started.line())
    started.process.kill()
    started.process.wait()
    refused = cli.run("-n", "x", "true")
    os.kill(child, signal.SIGKILL)
    assert refused.returncode == 75
    assert f"PID {child} " in refused.stderr
    eventually(lambda: is_free(cli), "the end of the lock")


def test_forked_child_does_not_wait_for_the_block_around_it(cli, program):
    started = program("""
    import multiprocessing
    def work():
        try:
            with singlerun.hold("x", wait=True):
                print("got in", flush=True)
        except singlerun.HeldError as error:
            print("a part of" in str(error), flush=True)
    context = multiprocessing.get_context("fork")
    with singlerun.hold("x"):
        child = context.Process(target=work)
        child.start()
        child.join()
    child = context.Process(target=work)
    child.start()
    child.join()
    """)
    assert started.end() == ["True", "got", "in"]


# -- the record -------------------------------------------------------------------------------


def test_broken_record_is_a_warning_and_the_lock_holds(cli):
    (cli.dir / "singlerun.db").mkdir(parents=True, mode=0o700)
    cli.dir.chmod(0o700)
    with pytest.warns(RuntimeWarning, match="not a regular file") as warned:
        with singlerun.hold("x") as holding:
            assert holding.run_id is None
            assert holding.token > 0
            with pytest.raises(singlerun.HeldError, match="x is held by"), singlerun.hold("x"):
                pass
            with pytest.raises(singlerun.HeldError, match="a part of"):
                with singlerun.hold("x", wait=True):
                    pass
    assert {warning.filename for warning in warned} == {__file__}
    with pytest.raises(singlerun.RecordError), singlerun.hold("x", require_record=True):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning), singlerun.hold("x"):
            pytest.fail("it is an error")
    (cli.dir / "singlerun.db").rmdir()
    assert is_free(cli)


def test_end_that_could_not_be_recorded_is_recorded_later(cli):
    database, aside = cli.dir / "singlerun.db", cli.dir / "aside"
    with pytest.warns(RuntimeWarning, match="not a regular file"), singlerun.hold("x"):
        database.rename(aside)
        database.mkdir()
    database.rmdir()
    aside.rename(database)
    with singlerun.hold("x"):
        assert [run["state"] for run in cli.history("x")] == ["running", "succeeded"]


def test_nothing_stays_open(cli):
    with singlerun.hold("x"):
        pass
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        with singlerun.hold("x", "y"), pytest.raises(singlerun.HeldError), singlerun.hold("x"):
            pass
    assert os.listdir("/proc/self/fd") == before


# -- run --------------------------------------------------------------------------------------


def test_run_tells_how_a_command_ended(cli):
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


@pytest.mark.parametrize("broken", [False, True])
def test_run_raises_what_kept_the_command_from_its_start(cli, broken, capfd):
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
    """A hold of another thread, which can't be recorded."""

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


def test_run_refuses_senseless_options(cli):
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


def test_report_is_nothing_that_the_command_sees(cli):
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


def test_using_hold_without_a_conflict_starts_nothing(cli, program):
    started = program("""
    import subprocess
    def none(*arguments, **more):
        raise AssertionError("a process")
    subprocess.Popen = os.posix_spawn = os.fork = none
    for _ in range(2):
        with singlerun.hold("x"):
            pass
    assert "singlerun.api.deputy" not in sys.modules
    """)
    started.end()


def test_errors_survive_being_sent_to_another_process(cli):
    import pickle

    with singlerun.hold("x"), pytest.raises(singlerun.HeldError) as raised:
        with singlerun.hold("x"):
            pass
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (str(copy), vars(copy)) == (str(raised.value), vars(raised.value))


def test_program_without_an_interpreter_can_not_wait(cli, monkeypatch):
    with cli.hold("-n", "x"):
        monkeypatch.setattr(sys, "executable", "")
        with pytest.raises(singlerun.SinglerunError, match="no Python interpreter"):
            with singlerun.hold("x", wait=True):
                pass
    assert is_free(cli)
