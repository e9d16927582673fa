"""On a terminal: a real one, tmux, with a real interactive shell in it."""

import fcntl
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pexpect
import pytest
from conftest import PATIENCE, blocked_on, eventually, is_alive, need


class Terminal:
    """A tmux window with bash in it."""

    def __init__(self, cli, directory, width=80):
        self._tmux = ["tmux", "-S", str(directory / "tmux")]
        env = cli.env | {"PS1": "$ ", "TERM": "xterm", "HISTFILE": ""}
        # bash's own prompt setting would win over the environment's.
        shell = f"exec env PATH={cli.binary.parent}:$PATH bash --norc --noprofile"
        size = ["-x", str(width), "-y", "24"]
        new = [*self._tmux, "-f", "/dev/null", "new-session", "-d", *size, shell]
        subprocess.run(new, env=env, check=True, cwd=directory)
        self.type("PS1='ready> '; clear\n")
        self.expect(r"^ready>$")

    def type(self, text):
        for line in re.split("(\n)", text):
            if line == "\n":
                subprocess.run([*self._tmux, "send-keys", "Enter"], check=True)
            elif line:
                subprocess.run([*self._tmux, "send-keys", "-l", line], check=True)

    def key(self, name):
        subprocess.run([*self._tmux, "send-keys", name], check=True)

    def screen(self, *options):
        shown = subprocess.run(
            [*self._tmux, "capture-pane", "-p", *options],
            check=True,
            capture_output=True,
            text=True,
        )
        return shown.stdout.rstrip("\n")

    def expect(self, pattern):
        def seen():
            return re.search(pattern, self.screen(), re.MULTILINE)

        try:
            return eventually(seen, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen was:\n{self.screen()}") from None

    def close(self):
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal(cli, tmp_path):
    need("tmux", "bash")
    window = Terminal(cli, tmp_path)
    yield window
    window.close()


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def await_resumption(pid):
    """Wait until fg has continued a process: only then are the terminal's modes set for it."""

    def resumed():
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"

    eventually(resumed, "the resumption")


def test_stop_continue_and_interrupt_with_kept_output(cli, terminal):
    """The relay is in the same process group, and must outlive it all."""
    script = "trap 'echo bye; exit 3' INT; i=0; while :; do echo $((i += 1)); sleep 0.05; done"
    terminal.type(f'singlerun -n x --log sh -c "{script}"\n'.replace("$", "\\$"))
    terminal.expect("^3$")
    terminal.key("C-z")
    terminal.expect("Stopped")
    terminal.type("clear; fg\n")
    terminal.expect(r"^singlerun -n x (?s:.*)^\d+\n\d+$")  # fg says what it continues
    terminal.key("C-c")
    terminal.expect("bye$")
    terminal.expect(r"^ready>$")
    terminal.type("clear; singlerun logs x | tail -n 1; echo status $?\n")
    terminal.expect(r"^bye\nstatus 0$")
    assert (cli.last("x")["state"], cli.last("x")["exit_code"]) == ("stopped", 3)


def test_interrupt_ends_the_command_and_gives_130(cli, terminal):
    terminal.type("singlerun -n x sleep 60; echo status $?\n")
    eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    terminal.key("C-c")
    # bash gives up the whole line after a command that died of SIGINT, as it does without us.
    terminal.expect(r"\^C\n+ready>$")
    terminal.type("echo status $?\n")
    terminal.expect("^status 130$")
    assert cli.last("x")["state"] == "stopped"
    assert cli.last("x")["signal"] == 2


def test_interrupt_ends_a_loop_around_us(cli, terminal):
    terminal.type("for i in 1 2 3; do singlerun -n x sleep 60; done\n")
    eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    terminal.key("C-c")
    terminal.expect(r"\^C\n+ready>$")
    assert len(cli.history("x")) == 1


def test_interrupt_that_the_command_handles_is_its_own(cli, terminal):
    script = "trap 'echo caught; exit 7' INT; echo go; while :; do sleep 0.05; done"
    terminal.type(f'singlerun -n x sh -c "{script}"; echo status $?\n')
    terminal.expect("^go$")
    terminal.key("C-c")
    terminal.expect("caught\nstatus 7$")


def test_interrupt_is_delivered_once(cli, terminal, tmp_path):
    script = tmp_path / "count.py"
    script.write_text(
        "import signal, time\n"
        "count = 0\n"
        "def caught(*_):\n"
        "    global count\n"
        "    count += 1\n"
        "    print('caught', count, flush=True)\n"
        "signal.signal(signal.SIGINT, caught)\n"
        "print('go', flush=True)\n"
        "while not count: time.sleep(0.01)\n"
        "time.sleep(0.3); input(); print('in all', count)\n"
    )
    terminal.type(f"singlerun -n x {sys.executable} {script}\n")
    terminal.expect("^go$")
    terminal.key("C-c")
    terminal.expect("caught 1$")
    terminal.type("\n")
    terminal.expect("^in all 1$")


def test_stop_and_continue(cli, terminal):
    terminal.type("singlerun -n x cat\n")
    (run,) = eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    for round_ in range(5):
        terminal.key("C-z")
        terminal.expect(r"Stopped +singlerun -n x cat\n+ready>$")
        terminal.type("clear; fg\n")
        await_resumption(run["pid"])
        terminal.type(f"hello {round_}\n")
        terminal.expect(f"^hello {round_}\nhello {round_}$")
    terminal.key("C-d")
    terminal.expect(r"^ready>$")
    assert cli.last("x")["state"] == "succeeded"


def test_a_command_that_stops_itself_gives_the_prompt_back(cli, terminal):
    """vi and less stop themselves alone; the shell must see it."""
    terminal.type("singlerun -n x sh -c 'kill -TSTP $$; echo went on'\n")
    terminal.expect(r"Stopped")
    terminal.type("clear; fg\n")
    terminal.expect("^went on$")


def test_background_job_that_reads_the_terminal_stops(cli, terminal):
    terminal.type("set -b; singlerun -n x cat &\n")
    terminal.expect(r"Stopped.* +singlerun -n x cat")
    # It did not stop with the run-log locked: this would take ten seconds and fail.
    (run,) = cli.json("ps")
    assert run["state"] == "running"
    (pid,) = children(run["wrapper_pid"])
    terminal.type("clear; fg\n")
    await_resumption(pid)
    terminal.type("word\n")
    terminal.expect("^word\nword$")
    terminal.key("C-d")
    terminal.expect("^ready>$")


def test_waiter_can_be_stopped_and_continued(cli, terminal):
    with cli.hold("-n", "x"):
        terminal.type("singlerun -n x -w echo went on\n")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        terminal.key("C-z")
        terminal.expect("Stopped +singlerun -n x -w")
        terminal.type("clear; fg\n")
        terminal.expect("^singlerun -n x -w")
    terminal.expect("^went on$")


def test_interrupt_leaves_the_line(cli, terminal):
    with cli.hold("-n", "x"):
        terminal.type("singlerun -n x -w echo no; echo status $?\n")
        eventually(lambda: blocked_on(cli.lock_path("x")), "the waiting")
        terminal.key("C-c")
        terminal.expect("status 130$")
        assert cli.last("x")["state"] == "stopped"


@pytest.fixture(params=["", "--timeout 1h "], ids=["plain", "timeout"])
def prefix(request):
    return f"singlerun -n x {request.param}"


def test_editor(terminal, tmp_path, prefix):
    need("vi")
    terminal.type(f"{prefix}vi -u NONE text\n")
    terminal.expect(r"^~$")
    terminal.type("ihello")
    terminal.expect("^hello")
    terminal.key("Escape")
    terminal.key("C-z")
    terminal.expect(r"Stopped")
    terminal.type("fg\n")
    terminal.expect(r"^~$")
    terminal.type(":wq\n")
    eventually((tmp_path / "text").exists, "the file")
    terminal.expect("ready>$")
    assert (tmp_path / "text").read_text() == "hello\n"


def test_pager_behind_a_pipe_and_under_us(terminal, prefix):
    need("less")
    terminal.type(f"seq 100 | {prefix}less\n")
    terminal.expect(r"^23\n:$")
    terminal.type("G")
    terminal.expect(r"^100\n\(END\)$")
    terminal.type("q")
    terminal.expect("ready>$")
    terminal.type("clear\n")
    terminal.type(f"{prefix}seq 100 | less\n")
    terminal.expect(r"^23\n:$")
    terminal.type("q")
    terminal.expect("ready>$")


def test_top(terminal, prefix):
    need("top")
    terminal.type(f"{prefix}top -d 60\n")
    terminal.expect(r"^top - ")
    terminal.type("t")  # it reads each key by itself: this one draws bars
    terminal.expect(r"^%Cpu\(s\):.*\[.*\]")
    terminal.key("C-z")
    terminal.expect(r"Stopped")
    terminal.type("clear; fg\n")
    terminal.expect(r"^top - ")
    terminal.type("q")
    terminal.expect(r"ready>$")
    terminal.type("clear; echo status $?; stty -a | tr ' ;' '\\n\\n' | grep -x -e echo -e icanon\n")
    terminal.expect(r"^status 0\nicanon\necho$")


def test_password_prompt(cli, terminal, tmp_path, prefix):
    """It reads the terminal itself, not its standard input, and what is typed isn't shown."""
    script = tmp_path / "ask.py"
    script.write_text(
        "import getpass, sys; given = getpass.getpass()\n"
        "print('ok' if given == 'tr0ub4dor' else given, sys.stdin.read())\n"
    )
    terminal.type(f"echo input | {prefix}{sys.executable} {script}\n")
    terminal.expect(r"^Password:")
    terminal.type("tr0ub4dor\n")
    terminal.expect(r"^ok input$")
    assert "tr0ub4dor" not in terminal.screen()
    terminal.type("clear\n")
    terminal.type(f"{prefix}bash -c 'read -s -p Again: word; echo; echo got $word'\n")
    terminal.expect(r"^Again:$")
    terminal.type("s3cret\n")
    terminal.expect(r"^got s3cret$")
    assert terminal.screen().count("s3cret") == 1
    terminal.type(f"clear; {prefix}{sys.executable} {script}; stty -a | grep -o -w -e -echo\n")
    terminal.expect(r"^Password:")
    terminal.key("C-c")
    terminal.expect(r"ready>$")
    assert not re.search(r"^-echo$", terminal.screen(), re.MULTILINE), (
        "it shows what is typed again"
    )
    assert cli.last("x")["signal"] == 2 or cli.last("x")["exit_code"] == 1


def test_termination_reaches_the_group_on_a_terminal_too(cli, terminal):
    terminal.type("singlerun -n x sh -c 'sleep 61 & sleep 62'; echo status $?\n")
    (run,) = eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")

    def kin():
        listed = subprocess.run(
            ["pgrep", "-g", str(os.getpgid(run["pid"])), "-x", "sleep"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [int(word) for word in listed.stdout.split()]

    pids = eventually(lambda: kin() if len(kin()) == 2 else None, "both sleeps")
    os.kill(run["wrapper_pid"], 15)
    terminal.expect("^status 143$")
    for pid in pids:
        assert not is_alive(pid)


def test_hangup_ends_the_command(cli, terminal):
    terminal.type("singlerun -n x sleep 60\n")
    (run,) = eventually(lambda: [run for run in cli.json("ps") if run["pid"]], "the start")
    terminal.close()
    eventually(lambda: not is_alive(run["pid"]), "the end of the command")
    eventually(lambda: not is_alive(run["wrapper_pid"]), "the end of the wrapper")
    assert cli.last("x")["state"] == "stopped"


LONG = "a-rather-long-name-" * 4


def printed(cli, width, *arguments, **env):
    """Return what the program itself writes to a terminal, which tmux would show wrapped."""
    without = {key: cli.env[key] for key in cli.env.keys() - {"COLUMNS", "LINES", "NO_COLOR"}}
    terminal = pexpect.spawn(
        str(cli.binary), [*arguments], env=without | {"TERM": "xterm"} | env,
        dimensions=(24, width), encoding="utf-8", timeout=PATIENCE,
    )  # fmt: skip
    text = terminal.read()
    terminal.close()
    return text


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("look", [["ps"], ["ps", "-a"], ["history"], ["is-running", LONG]])
def test_tables_fit_the_terminal(cli, look, width):
    with cli.hold("-n", LONG):
        lines = re.sub(r"\x1b\[[0-9;]*m", "", printed(cli, width, *look)).split("\r\n")
    assert sum("running" in line for line in lines) == 1
    assert "…" in "".join(lines)
    assert {line for line in lines if len(line) > width} == set()


def test_tables_are_coloured_unless_unwanted(cli):
    with cli.hold("-n", "x"):
        assert "\x1b[32mrunning" in printed(cli, 80, "ps"), "running is green"
        assert "\x1b[32m" not in printed(cli, 80, "ps", NO_COLOR="1")


def test_a_waiter_shows_a_live_line_and_leaves_no_trace(cli, terminal):
    cli.run("-n", "x", "sleep", "0.1")
    with cli.hold("-n", "x") as holding:
        terminal.type("singlerun -w -n x echo done\n")
        seen = terminal.expect(r"^waiting for x \(#1 in line\), .*: held by PID (\d+)")
        assert int(seen[1]) == holding.pid
        holding.release()
        terminal.expect(r"^done$")
    assert "waiting for" not in terminal.screen()


def test_the_live_line_tells_when_it_will_be_free(cli, terminal):
    cli.run("-n", "x", "cat")
    cli.sql("UPDATE runs SET elapsed_ns = 3600000000000, argv = CAST('sh' AS BLOB)")
    with cli.hold("-n", "x"):
        terminal.type("singlerun -w -n x true\n")
        terminal.expect(r"^waiting for x \(#1 in line\), free in about 59m ")
        terminal.key("C-c")
        terminal.type("echo $?\n")
        terminal.expect(r"^130$")
        assert cli.last("x")["state"] == "stopped"
        assert list((cli.dir / "lines" / "x").iterdir()) == []


def test_a_terminal_that_was_stopped_does_not_stop_a_waiter(cli):
    """After Ctrl-S a write to the terminal sleeps until Ctrl-Q, maybe with the lock taken."""
    master, slave = pty.openpty()
    try:
        with cli.hold("-n", "x") as holding:
            waiter = cli.start(
                "-w", "-n", "x", "true",
                stdin=slave, stdout=subprocess.DEVNULL, stderr=slave, start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            )  # fmt: skip
            assert os.read(master, 100).lstrip(b"\r\x1b[2K").startswith(b"waiting for x")
            termios.tcflow(slave, termios.TCOOFF)
            holding.release()
            assert waiter.wait(PATIENCE) == 0
    finally:
        os.close(slave)
        os.close(master)
