"""--watch on a terminal: it fits the window, and leaves the terminal as it was."""

import os
import re
import signal

import pexpect
import pytest
from conftest import BINARY, PATIENCE
from rich.cells import cell_len

ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l\x1b[?7l", b"\x1b[?7h\x1b[?25h\x1b[?1049l"


def watch(cli, *arguments, size=(24, 80)):
    env = cli.env | {"TERM": "xterm", "LC_ALL": "C.UTF-8"}
    return pexpect.spawn(
        str(BINARY), [*arguments, "--watch"], env=env, timeout=PATIENCE, dimensions=size
    )


def frames(shown):
    """Return the frames in what was written, each a list of lines without escape sequences."""
    found = shown.split(b"\x1b[H")[1:]
    return [plain(frame).split("\r\n") for frame in found]


def plain(data):
    """Return what was written without escape sequences, as before the terminal's own CR."""
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", data.decode()).replace("\r\r\n", "\r\n")


def ended(terminal):
    """Read to the end; return all of it and how it ended."""
    rest = terminal.read()
    terminal.close()
    return rest, terminal.exitstatus, terminal.signalstatus


def test_it_shows_what_changes_until_ctrl_c(cli):
    cli.add("-n", "x", "--delay", "1h", "true")
    terminal = watch(cli, "queue")
    terminal.expect_exact(ENTER)
    terminal.expect("delayed")
    cli.run("cancel", str(cli.queue()[0]["id"]))
    cli.add("-n", "y", "--delay", "1h", "--label", "newcomer", "true")
    terminal.expect("newcomer")
    terminal.sendintr()
    rest, status, _ = ended(terminal)
    assert status == 130
    assert rest.endswith(LEAVE + b"\r\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_restores_the_terminal(cli, number):
    terminal = watch(cli, "ps")
    terminal.expect("Nothing is running")
    os.kill(terminal.pid, number)
    rest, _, by = ended(terminal)
    assert by == number
    assert rest.endswith(LEAVE)


def test_what_does_not_fit_is_counted_and_the_header_stays(cli):
    cli.run("pause", "x")
    cli.add("-n", "x", "--stdin", input="true\n" * 30)
    terminal = watch(cli, "ps", size=(8, 60))
    terminal.expect(r"and (\d+) more rows")
    assert int(terminal.match[1]) == 21 - 5, "a pause and 20 jobs; a header and two lines below"
    terminal.expect("10 more jobs are pending")
    terminal.setwinsize(12, 60)
    terminal.expect(r"and 12 more rows")
    terminal.sendintr()
    for lines in frames(ended(terminal)[0]):
        assert len(lines) <= 12


def test_every_frame_fits_the_window(cli):
    with cli.hold("-n", "n" * 120), cli.hold("-n", "名前🚀" * 9):
        for width in (20, 33, 60, 80, 200):
            terminal = watch(cli, "ps", size=(3, width))
            terminal.expect_exact(ENTER)
            terminal.expect_exact(b"\x1b[H")
            terminal.expect_exact(b"\x1b[H")
            shown = plain(terminal.before)
            terminal.sendintr()
            assert ended(terminal)[1] == 130
            lines = shown.split("\r\n")
            assert lines[0].startswith("ID")
            assert len(lines) <= 3
            assert max(map(cell_len, lines)) <= width
            if width >= 33:
                assert "running" in lines[1]


def test_ctrl_z_gives_the_terminal_back_meanwhile(cli):
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "-m"],
        env=cli.env | {"TERM": "xterm", "PS1": "ready> "}, timeout=PATIENCE,
    )  # fmt: skip
    shell.expect("ready> ")
    shell.sendline(f"{BINARY} ps --watch")
    shell.expect("Nothing is running")
    shell.send("\x1a")
    shell.expect_exact(LEAVE)
    shell.expect("Stopped")
    shell.expect("ready> ")
    shell.sendline("fg")
    shell.expect_exact(ENTER)
    shell.expect("Nothing is running")
    shell.sendintr()
    shell.expect_exact(LEAVE)
    shell.expect("ready> ")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()


def test_in_a_pipe_it_repeats_the_table(cli):
    watching = cli.start("ps", "--watch", stdout=-1)
    header = watching.stdout.readline()
    assert header.startswith(b"ID\tNAME")
    assert watching.stdout.readline() == header
    watching.stdout.close()
    assert watching.wait(PATIENCE) == 141


def test_a_store_that_fails_ends_it_with_the_terminal_restored(cli):
    cli.run("-n", "x", "true")
    terminal = watch(cli, "ps")
    terminal.expect("Nothing is running")
    os.chmod(cli.dir, 0o777)
    database = cli.dir / "singlerun.db"
    database.unlink()
    database.symlink_to("/nowhere")
    rest, status, _ = ended(terminal)
    assert status == 125
    assert LEAVE in rest
    assert b"singlerun: cannot use the run-log" in rest.partition(LEAVE)[2]
