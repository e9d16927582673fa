"""``hold``: a name kept around a block or a function, in the lock domain of the command line."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
from conftest import PATIENCE, eventually

import singlerun
from api.conftest import in_line, is_free, tickets

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


def test_the_holding_describes_what_is_held(cli):
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


def test_generators_coroutines_and_classes_cannot_be_decorated():
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
def test_invalid_arguments_are_refused(names, options):
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


def test_other_thread_does_not_wait_for_the_end_of_its_own_program(cli):
    """The lock file was deleted, so only the end of its holder would prove the name free."""
    refused = []

    def work():
        try:
            with singlerun.hold("x", wait=PATIENCE):
                pass
        except singlerun.HeldError as error:
            refused.append(error.waited)

    with singlerun.hold("x"):
        cli.lock_path("x").unlink()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
        assert refused
        assert refused[0] < PATIENCE / 2
    assert cli.run("-n", "x", "true").returncode == 0, "what was refused keeps no lock"


def test_a_nested_hold_knows_its_parent_and_does_not_wait_for_it(cli):
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
    with warnings.catch_warnings():  # the killed command may not be dead yet
        warnings.simplefilter("ignore")
        with singlerun.hold("x", wait=PATIENCE):
            pass


def test_a_program_keeps_its_names_when_the_state_directory_is_moved(cli, holder, tmp_path):
    program = holder('"x", "y"')
    cli.dir.rename(tmp_path / "moved")
    for name in ("x", "y"):
        refused = cli.run("-n", name, "true")
        assert refused.returncode == 75
        assert f"held by PID {program.pid} " in refused.stderr
    assert is_free(cli, "z")
    with pytest.raises(singlerun.HeldError), singlerun.hold("x"):
        pass
    program.end()
    assert is_free(cli)


def test_a_block_leaves_no_open_file(cli):
    with singlerun.hold("x"):  # what is opened once in a process
        pass
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with singlerun.hold("x", "y"):
            pass
    assert len(os.listdir("/proc/self/fd")) == len(before)


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


def test_end_that_could_not_be_recorded_is_recorded_later(cli, tmp_path):
    database, aside = cli.dir / "singlerun.db", cli.dir / "aside"
    with pytest.warns(RuntimeWarning, match="not a regular file"), singlerun.hold("x"):
        database.rename(aside)
        database.mkdir()
    database.rmdir()
    aside.rename(database)
    other = tmp_path / "other"
    with singlerun.hold("y", dir=other):
        result = cli.run("--dir", str(other), "history", "--json", "--", "x")
        assert json.loads(result.stdout)["runs"] == [], "it was no run of this state directory"
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
