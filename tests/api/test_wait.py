"""``hold(wait=…)``: programs that wait stand in one line with commands."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CLOSING, PATIENCE, eventually, is_alive

import singlerun
from api.conftest import HOLD, WAIT, in_line, is_free, tickets
from singlerun.process import interpreter, procfs


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


def test_a_waiting_program_is_not_overtaken(cli, program, tmp_path):
    with cli.hold("-n", "x") as command:
        waiter = program(WAIT.format(wait=True, number=1))
        in_line(cli, 1)
        (deputy,) = procfs.Snapshot().descendants([waiter.pid])
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
        second = program(WAIT.format(wait=True, number=2))
        assert [first.line(), first.line()] == ["True True", "childless"]
        in_line(cli, 1)
        (waiting,) = [run for run in cli.json("ps") if run["state"] == "waiting"]
        assert waiting["wrapper_pid"] == second.pid
        assert len(tickets(cli)) == 1
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
        (deputy,) = procfs.Snapshot().descendants([first.pid])
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
    """The child inherits a copy of every descriptor that the waiting thread has opened."""
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
            eventually(lambda: tickets(cli) == [], "the removal of its ticket")
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
        assert procfs.Snapshot().descendants([waiter.pid]) == []
        assert cli.last("x")["state"] == "stopped"
        command.release()
        assert is_free(cli)
        waiter.end()


def test_ctrl_c_that_a_program_survives_does_not_cost_its_place(cli, program):
    """The terminal signals the whole group, but the program alone decides."""
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


@pytest.mark.stress
def test_waiting_for_many_names_at_once(cli, program, tmp_path):
    """These are more descriptors than one message over a socket can carry."""
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
    """Its slot is free in the kernel, but concurrent threads must not all be admitted."""
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
        assert counting.end() in (["2"], ["3"]), "the orphan and two more at most"


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
    "command", [("stop", "-k", "20", "x"), ("-n", "x", "--replace", "-k", "20", "true")]
)
def test_a_program_that_leaves_the_block_on_sigterm_lives_on(cli, program, command):
    """SIGTERM is sent once: a second one would hit the code after the block."""
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
    """It lies in a directory of its own, and the program runs without site-packages."""
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


def test_program_without_an_interpreter_can_not_wait(cli, monkeypatch):
    with cli.hold("-n", "x"):
        monkeypatch.setattr(sys, "executable", "")
        with pytest.raises(singlerun.SinglerunError, match="no Python interpreter"):
            with singlerun.hold("x", wait=True):
                pass
    assert is_free(cli)


def test_want_of_descriptors_is_an_error_of_the_package_and_costs_none(cli, program):
    """However many are left: for the socket, for the deputy's start, for its pidfd, or for all."""
    with cli.hold("-n", "x"):
        waiter = program("""
        import resource, warnings
        warnings.simplefilter("ignore")
        def attempt():
            try:
                with singlerun.hold("x", wait=0.01):
                    return "got in"
            except singlerun.SinglerunError as error:
                return str(error)
        attempt()  # all is imported
        before = os.listdir("/proc/self/fd")
        limit = len(before) + 100
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        for left in range(20):
            fillers = []
            try:
                while True:
                    fillers.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            for _ in range(left):
                os.close(fillers.pop())
            said = attempt()
            for filler in fillers:
                os.close(filler)
            assert os.listdir("/proc/self/fd") == before, left
            print(said.replace(" ", "_"), flush=True)
        """)
        said = waiter.end()
    assert any(line.startswith("cannot_wait_in_line:_too_many_open_files") for line in said)
    assert "is_held" in said[-1] or "still_held" in said[-1]
    assert not any("got_in" in line for line in said)


def a_deputy(cli, program):
    """Start a deputy that waits for x; return it and the program's end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        numbers = program, theirs.fileno(), 0, 0
        deputy = subprocess.Popen(
            [*interpreter.words("singlerun.api.deputy"), *map(str, numbers), cli.dir, "", "x"],
            pass_fds=[theirs.fileno()],
        )
    cli.started.append(deputy)
    return deputy, ours


def test_a_deputy_whose_program_has_died_takes_no_other_process_for_it(cli):
    """The PID of the program may have been taken over before the deputy looked for it."""
    cli.run("-n", "x", "true")
    deputy, ours = a_deputy(cli, os.getppid())
    with ours:
        assert ours.recv(1000) == b"", "it hands over no lock"
    assert deputy.wait(PATIENCE) == 1


def test_a_deputy_gives_up_as_soon_as_the_socket_is_closed(cli):
    with cli.hold("-n", "x"):
        deputy, ours = a_deputy(cli, os.getpid())
        with ours:
            in_line(cli, 1)
        assert deputy.wait(PATIENCE) == 1
        assert tickets(cli) == []


def test_a_lock_for_which_no_thanks_come_is_freed(cli):
    """The program has got its descriptor, and has given up all the same."""
    cli.run("-n", "x", "true")
    deputy, ours = a_deputy(cli, os.getpid())
    with ours:
        _, received, _, _ = socket.recv_fds(ours, 1000, 10)
        assert len(received) == 1
    assert deputy.wait(PATIENCE) == 1
    assert is_free(cli), "although this process still has it open"
    os.close(received[0])


def test_a_deputy_that_was_stopped_is_killed_and_its_ticket_deleted(cli, program):
    with cli.hold("-n", "x"):
        waiter = program("""
        try:
            with singlerun.hold("x", wait=True):
                print("got in")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """)
        in_line(cli, 1)
        (deputy,) = Path(f"/proc/{waiter.pid}/task/{waiter.pid}/children").read_text().split()
        os.kill(int(deputy), signal.SIGSTOP)
        os.kill(waiter.pid, signal.SIGINT)
        assert waiter.end() == ["interrupted"]
        assert not is_alive(int(deputy))
        assert tickets(cli) == []
