"""Finding the way: the bare command, slips of the fingers, help, and what completions ask for."""

import os
import shutil

import pexpect
import pytest
from conftest import BINARY, PATIENCE, need

from singlerun.options import SUBCOMMANDS


def test_alone_it_says_how_to_begin(cli):
    result = cli.run()
    assert (result.returncode, result.stdout) == (125, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Usage: singlerun")
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("  singlerun ") for line in lines) == 3
    assert "singlerun --help" in result.stderr
    assert not cli.dir.exists()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("histroy", "history"), ("pss", "ps"), ("list", "ps"), ("status", "ps"), ("kill", "stop"),
        ("qeue", "queue"), ("version", "--version"),
    ],
)  # fmt: skip
def test_a_slip_is_answered_with_the_subcommand_and_leaves_no_run(cli, tmp_path, word, meant):
    env = cli.env | {"PATH": str(tmp_path)}
    result = cli.run(word, "x", "--json", env=env)
    assert (result.returncode, result.stdout) == (127, "")
    message = f"{word}: command not found; did you mean: singlerun {meant}"
    assert result.stderr == f"singlerun: {message}\n"
    assert not cli.dir.exists()
    for options in (["--dir", str(cli.dir)], ["-q"], ["-v", "--no-config"]):
        assert cli.run(*options, word, env=env).stderr == result.stderr
    assert not cli.dir.exists()


def test_what_is_meant_as_a_command_is_one(cli, tmp_path):
    """A program, what says it is a command, and what comes near no subcommand."""
    program = tmp_path / "pss"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    env = cli.env | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert cli.run("pss", env=env).returncode == 3
    program.chmod(0o644)
    assert cli.run("pss", env=env).returncode == 126
    forms = (["--", "pss"], ["run", "pss"], ["-n", "x", "pss"], ["frobnicate"])
    for words in forms:
        result = cli.run(*words)
        assert result.returncode == 127
        assert "check its spelling and PATH" in result.stderr
    result = cli.run("pss", cwd=tmp_path)
    assert "try ./pss" in result.stderr
    assert len(cli.history()) == 2 + len(forms) + 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--wiat true", "no such option: --wiat; did you mean: --wait; see: singlerun --help"),
        ("--wa true", "no such option: --wa; did you mean: --wait or --wait-for"),
        ("ps --jsno", "no such option: --jsno; did you mean: --json; see: singlerun ps --help"),
        ("--frobnicate x", "no such option: --frobnicate; see: singlerun --help"),
        ("ps -x", "no such option: -x; see: singlerun ps --help"),
    ],
)
def test_the_nearest_option_is_named(cli, line, said):
    result = cli.run(*line.split())
    assert result.stderr.startswith(f"singlerun: {said}")
    assert result.stderr.count("\n") == 1


# -- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_help_in_a_pipe_is_that_of_the_subcommand(cli, subcommand):
    result = cli.run("help", subcommand)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == cli.run(subcommand, "--help").stdout


def test_help_of_the_whole(cli):
    whole = cli.run("--help").stdout
    assert cli.run("help").stdout == cli.run("help", "singlerun").stdout == whole


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_help_fits_a_window(cli, width, locale):
    """What is said of the subcommands begins in the same column in all groups."""
    env = cli.env | {"COLUMNS": str(width), "LC_ALL": locale}
    text = cli.run("help", env=env).stdout
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert text.isascii()
    first = {line[2:14].rstrip(): line for line in lines if line[14:15].isupper()}
    assert set(SUBCOMMANDS) <= first.keys()


def test_help_for_what_is_no_subcommand(cli):
    result = cli.run("help", "pss")
    assert result.returncode == 2
    message = "there is no subcommand pss; did you mean: singlerun help ps"
    assert result.stderr == f"singlerun: {message}\n"
    assert "to see all: singlerun help" in cli.run("help", "frobnicate\a").stderr
    assert "singlerun help logs" in cli.run("help", "tail").stderr


def on_terminal(cli, *words, **env):
    terminal = pexpect.spawn(
        str(BINARY), list(words), env=cli.env | env, encoding="utf-8", timeout=PATIENCE,
        dimensions=(40, 100),
    )  # fmt: skip
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus, terminal.before


@pytest.mark.parametrize(
    ("subcommand", "page"), [("move", "singlerun-move"), ("singlerun", "singlerun")]
)
def test_help_on_a_terminal_is_the_manual_page(cli, tmp_path, subcommand, page):
    """The page is found where this package was installed."""
    man = tmp_path / "man"
    man.write_text(
        "#!/bin/sh\nfor page; do :; done\n"
        '[ "$1" = -w ] && echo "$page" || echo "shown: $page"\n'
    )  # fmt: skip
    man.chmod(0o755)
    status, text = on_terminal(cli, "help", subcommand, PATH=str(tmp_path))
    assert status == 0
    shown = text.strip().removeprefix("shown: ")
    assert os.path.basename(shown) == f"{page}.1"
    assert os.path.isfile(shown)


@pytest.mark.parametrize("man", [None, "exit 16", "echo This system has been minimized."])
def test_help_on_a_terminal_works_without_man(cli, tmp_path, man):
    if man is not None:
        (tmp_path / "man").write_text(f"#!/bin/sh\n{man}\n")
        (tmp_path / "man").chmod(0o755)
    status, text = on_terminal(cli, "help", "move", PATH=str(tmp_path))
    assert status == 0
    assert text.startswith("Usage: singlerun move [OPTIONS] ID")


def test_help_shows_the_page_through_man(cli):
    need("man")
    _, text = on_terminal(cli, "help", "move", PAGER="cat", MANPAGER="cat", TERM="dumb")
    assert "SINGLERUN-MOVE(1)" in text


# -- completion ---------------------------------------------------------------------------------


def test_completion_prints_the_script(cli):
    for shell, mark in (("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")):
        result = cli.run("completion", shell)
        assert (result.returncode, result.stderr) == (0, "")
        assert mark in result.stdout
    for words in ([], ["tcsh"]):
        result = cli.run("completion", *words)
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
    assert "write bash, fish, zsh" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_can_be_evaluated(cli, shell):
    need(shell)
    begin = {"bash": "", "zsh": "autoload -Uz compinit; compinit -D -u; "}[shell]
    check = {"bash": "complete -p singlerun", "zsh": "print $_comps[singlerun]"}[shell]
    terminal = pexpect.spawn(
        shutil.which(shell),
        ["-c", f'{begin}eval "$({BINARY} completion {shell})"; {check}'],
        env=cli.env | {"ZDOTDIR": str(cli.dir)}, encoding="utf-8", timeout=PATIENCE,
    )  # fmt: skip
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (terminal.exitstatus, "_singlerun" in terminal.before) == (0, True)
    assert terminal.before.count("\n") == 1, terminal.before


def test_a_completion_asks_for_words(cli):
    cli.run("-n", "a\tb", "true")
    cli.run("-n", "c\u202ed", "true")
    cli.run("-n", "plain", "true")
    cli.run("-n", b"\xff", "true")
    cli.run("pause", "plain")
    result = cli.run("--complete", "names,paused", "", text=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == b"plain\tpaused\n"
    assert cli.run("--complete", "names", "x").stdout == ""


@pytest.mark.parametrize("words", [["names", ""], ["names"], [], ["nonsense", ""], ["", ""]])
def test_a_completion_that_cannot_be_answered_says_nothing(cli, words):
    result = cli.run("--complete", *words)
    assert (result.stdout, result.stderr) == ("", "")
    assert not cli.dir.exists(), "nothing is made"
    cli.run("true")
    assert cli.run("--complete", "nonsense", "").stderr == ""


def test_a_completion_whose_reader_has_gone_is_silent(cli):
    cli.run("true")
    reading, writing = os.pipe()
    os.close(reading)
    result = cli.run("--complete", "names", "", stdout=writing, stderr=-1, capture_output=False)
    os.close(writing)
    assert result.stderr == ""
