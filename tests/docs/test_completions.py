"""The completions offer what there is, in each shell."""

import os
import shlex
import subprocess

import pytest
from conftest import BINARY, need
from documents import COMPLETIONS, FORMS, WHEN, options_of, spellings

from singlerun import options, rule

SHELLS = ("bash", "zsh", "fish")

BASH = r"""
source "$1"
shift
for line; do
    COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=()
    rest=$line
    word="(\\\\.|'[^']*'|[^\\\\' =:])+"
    while [[ $rest =~ ^\ *([=:]+|$word) ]]; do  # as bash splits a line
        COMP_WORDS+=("${BASH_REMATCH[1]}")
        rest=${rest:${#BASH_REMATCH}}
    done
    [[ -z $rest ]] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    "$(complete -p singlerun | sed 's/.*-F \([^ ]*\).*/\1/')"
    printf '%s\0' "> $line" "${COMPREPLY[@]}"
done
"""

FISH = r"""
set -p fish_complete_path $argv[1]
for line in $argv[2..-1]
    string join0 -- "> $line" (complete -C $line | string replace -r '\t.*' '')
end
true
"""

# A pseudo-terminal with an interactive shell, which completes as soon as it shows its prompt.
# compadd(1) offers the words; a function in its place notes them first.
ZSH = r"""
zmodload zsh/zpty
zpty worker "ZDOTDIR=${(q)ZDOTDIR} zsh -i"
while zpty -r worker output; do :; done
"""
ZSHRC = r"""
autoload -Uz compinit
compinit -D -u
compadd() {
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        local -a offered
        builtin compadd -O offered "$@"
        (( $#offered == 0 )) || printf '%s\0' "${(@Q)offered}" >> $OFFERED
    fi
    builtin compadd "$@"
}
offer() {
    _main_complete
    compstate[list]='' compstate[insert]=''
}
zle -C offer complete-word offer
zle-line-init() {
    local line
    for line in "${(@f)LINES_TO_COMPLETE}"; do
        printf '%s\0' "> $line" >> $OFFERED
        BUFFER=$line
        CURSOR=$#BUFFER
        zle offer
    done
    exit
}
zle -N zle-line-init
"""


def offers(shell, directory, *lines):
    """Return what a shell offers at the ends of lines that begin with singlerun."""
    need(shell)
    for name in ("bin", "config", "work"):
        (directory / name).mkdir(exist_ok=True)
    # A completion may ask, but must run nothing else. Without the program fish completes nothing.
    stand_in = directory / "bin" / "singlerun"
    stand_in.write_text(
        f'#!/bin/sh\n[ "$1" = --complete ] && exec {BINARY} "$@"\n: > {directory}/was-run\n'
    )
    stand_in.chmod(0o755)
    env = {
        "PATH": f"{stand_in.parent}:{os.environ['PATH']}",
        "HOME": str(directory),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "XDG_DATA_HOME": str(directory / "config"),
        "ZDOTDIR": str(directory / "config"),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "SINGLERUN_CONFIG": "",
        "SINGLERUN_DIR": str(directory / "state"),
    }
    if shell == "bash":
        words = ["bash", "--norc", "--noprofile", "-c", BASH, "bash"]
        words += [COMPLETIONS / "singlerun.bash", *lines]
    elif shell == "fish":
        words = ["fish", "-c", FISH, COMPLETIONS, *lines]
    else:
        words = ["zsh", "-f", "-c", ZSH]
        (directory / "config" / ".zshrc").write_text(ZSHRC)
        env |= {
            "FPATH": f"{COMPLETIONS}:{zsh_function_path()}",
            "LINES_TO_COMPLETE": "\n".join(lines),
            "OFFERED": str(directory / "offered"),
        }
        (directory / "offered").write_bytes(b"")
    result = subprocess.run(
        words, capture_output=True, encoding="utf-8", errors="replace", check=True, env=env,
        stdin=subprocess.DEVNULL, cwd=directory / "work", timeout=60,
    )  # fmt: skip
    assert result.stderr == ""
    assert not (directory / "was-run").exists()
    text = result.stdout
    if shell == "zsh":
        text = (directory / "offered").read_text("utf-8", "replace")
    offered = {}
    for word in text.split("\0")[:-1]:
        if word.startswith("> "):
            found = offered[word.removeprefix("> ")] = set()
        else:
            found.add(word.strip().removesuffix("/"))
    assert tuple(offered) == lines
    return offered


def zsh_function_path():
    show = ["zsh", "-f", "-c", "print -rn -- $FPATH"]
    return subprocess.run(show, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("shell", "file"),
    [("bash", "singlerun.bash"), ("zsh", "_singlerun"), ("fish", "singlerun.fish")],
)
def test_completion_has_no_syntax_error(shell, file):
    need(shell)
    subprocess.run([shell, "-n", COMPLETIONS / file], check=True)


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_exactly_the_options(shell, tmp_path):
    lines = {form: " ".join(["singlerun", *filter(None, [form]), "-"]) for form in FORMS}
    offered = offers(shell, tmp_path, *lines.values(), *(f"{line}-" for line in lines.values()))
    for form, line in lines.items():
        assert offered[line] | offered[f"{line}-"] == spellings(form), line


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_what_begins_so(shell, tmp_path):
    offered = offers(
        shell, tmp_path, "singlerun --wa", "singlerun is-", "singlerun p", "singlerun "
    )
    assert offered["singlerun --wa"] == {"--wait", "--wait-for"}
    assert "is-running" in offered["singlerun is-"]
    assert {"ps", "printf"} <= offered["singlerun p"], "subcommands and commands"
    assert offered["singlerun "] == set(options.SUBCOMMANDS), "nothing else until a letter is typed"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_subcommands_only_where_they_may_stand(shell, tmp_path):
    may = {
        "singlerun is-": True,
        "singlerun --dir x is-": True,
        "singlerun --dir=x is-": True,
        "singlerun -q is-": False,
        "singlerun -n x is-": False,
        "singlerun -- is-": False,
        "singlerun --dir x -- is-": False,
        "singlerun run is-": False,
        "singlerun add is-": False,
        "singlerun true is-": False,
        "singlerun ps is-": False,
    }
    offered = offers(shell, tmp_path, *may)
    assert {line: "is-running" in words for line, words in offered.items()} == may


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_which_options_take_a_value(shell, tmp_path):
    """After a value come more options of ours; after the command, its own."""
    valued = {
        f"singlerun {flag} true --requ": metavar is not None
        for flags, metavar in options_of("run").items()
        for flag in flags
        if "--help" not in flags
    }
    valued |= {
        "singlerun -qw true --requ": False,
        "singlerun -qwn true --requ": True,
        "singlerun -nx true --requ": False,
        "singlerun -E3 true --requ": False,
        "singlerun -E3 --requ": True,
        "singlerun -wt true --requ": True,
        "singlerun -t5m true --requ": False,
        "singlerun -qk1 true --requ": False,
        "singlerun run -qk 1 --requ": True,
        "singlerun --max-starts=3/1h --requ": True,
        "singlerun --name=x true --requ": False,
        "singlerun --name=x --requ": True,
        "singlerun -n a:b=c --requ": True,
        "singlerun -- true --requ": False,
        "singlerun run -E true --requ": True,
    }
    own = {
        f"singlerun add {flag} true --uniq": metavar is not None
        for flags, metavar in options_of("add").items()
        for flag in flags
        if "--help" not in flags
    }
    own |= {
        "singlerun add -qn true --uniq": True,
        "singlerun add -- true --uniq": False,
        "singlerun add -q0 --uniq": True,
    }
    offered = offers(shell, tmp_path, *valued, *own)
    assert {line: "--require-record" in offered[line] for line in valued} == valued
    assert {line: "--unique" in offered[line] for line in own} == own


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_when_to_restart(shell, tmp_path):
    wanted = {
        "singlerun --restart ": WHEN,
        "singlerun --restart=": WHEN,
        "singlerun run -q --restart on-": WHEN - {"always"},
        "singlerun --restart=on-f": {"on-failure"},
    }
    offered = offers(shell, tmp_path, *wanted)
    # Where a value is joined to its option, fish repeats that.
    assert {
        line: {word.rpartition("=")[2] for word in words} for line, words in offered.items()
    } == wanted


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_what_can_be_told(shell, tmp_path):
    wanted = {
        "singlerun --notify ": set(rule.KINDS),
        "singlerun --notify over": {"overlong", "overdue"},
        "singlerun add --notify que": {"queue-empty"},
        "singlerun notify ": {"test", "list", "flush"},
        "singlerun notify t": {"test"},
    }
    offered = offers(shell, tmp_path, *wanted)
    assert {line: {word.rstrip(":") for word in words} for line, words in offered.items()} == wanted


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_files_and_directories(shell, tmp_path):
    (tmp_path / "work" / "qu-directory").mkdir(parents=True)
    (tmp_path / "work" / "qu-file").write_bytes(b"")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "qu-command").write_bytes(b"")
    (tmp_path / "bin" / "qu-command").chmod(0o755)
    directory, both, nothing = {"qu-directory"}, {"qu-directory", "qu-file"}, set()
    wanted = {
        "singlerun --lock-file qu-": both,
        "singlerun --lock-file=qu-": both,
        "singlerun -q --dir qu-": directory,
        "singlerun --dir=qu-": directory,
        "singlerun ps --dir qu-": directory,
        "singlerun ps qu-": nothing,
        "singlerun -n qu-": nothing,
        "singlerun --name qu-": nothing,
        "singlerun --wait-for qu-": nothing,
        "singlerun -E qu-": nothing,
        "singlerun -t qu-": nothing,
        "singlerun --max-starts qu-": nothing,
        "singlerun --restart qu-": nothing,
        "singlerun stop qu-": nothing,
        "singlerun wait -t 5 qu-": nothing,
        "singlerun history --limit qu-": nothing,
        "singlerun cat qu-": both,
        "singlerun -- cat qu-": both,
        "singlerun run -q cat qu-": both,
        "singlerun add -n x cat qu-": both,
        "singlerun add --after qu-": nothing,
        "singlerun cancel qu-": nothing,
        "singlerun pause qu-": nothing,
        "singlerun worker -n qu-": nothing,
    }
    commands = (
        "singlerun qu-",
        "singlerun add qu-",
        "singlerun --on-success qu-",
        "singlerun -q --on-finish qu-",
    )
    offered = offers(shell, tmp_path, *commands, *wanted)
    for line in commands:
        assert "qu-command" in offered.pop(line), line
    # Where a value is joined to its option, fish repeats that.
    assert {
        line: {word.rpartition("=")[2] for word in words} for line, words in offered.items()
    } == wanted


NAMES = ("plain", "two words", "a:b", "$(touch was-run)", "it's", "grün", "-dash")


@pytest.fixture
def record(cli, tmp_path):
    """A record with names, jobs, labels and a pause."""
    for name in (*NAMES, "line\nfeed", "bell\a"):
        assert cli.run(f"--name={name}", "true").returncode == 0
    assert cli.run("pause", "queue:1").returncode == 0
    jobs = [cli.add("-n", "queue:1", "--label", label, "true") for label in ("red", "dark red")]
    ended = cli.add("-n", "queue:1", "true")
    assert cli.run("cancel", str(ended)).returncode == 0
    return {str(job) for job in jobs}, {str(ended)}


def unquoted(word):
    (word,) = shlex.split(word)
    return word.rpartition("--name=")[2]


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_what_the_record_knows(shell, cli, tmp_path, record):
    pending, ended = record
    names = {*NAMES, "queue:1"}
    with cli.hold("-n", "held", "-n", "too"):
        (running,) = cli.json("ps")
        wanted = {
            "singlerun -n ": {*names, "held", "too"},
            "singlerun run --name ": {*names, "held", "too"},
            "singlerun ps tw": {"two words"},
            "singlerun ps plain pl": {"plain"},
            "singlerun history pl": {"plain"},
            "singlerun history plain pl": set(),
            "singlerun queue ": {"queue:1"},
            "singlerun worker -n ": {"queue:1"},
            "singlerun resume ": {"queue:1"},
            "singlerun stop ": {"held", "too", str(running["id"])},
            "singlerun wait ": {"held", "too", str(running["id"]), *pending},
            "singlerun cancel ": pending,
            "singlerun retry ": ended,
            "singlerun add --after ": pending,
            "singlerun add --label ": {"red", "dark red"},
            "singlerun completion ": {"bash", "zsh", "fish"},
            "singlerun help is": {"is-running"},
            "singlerun config ": {"path", "show", "get", "set", "unset", "check", "edit", "init"},
            "singlerun config show pl": {"plain"},
            "singlerun config get defaults.wait": {"defaults.wait", "defaults.wait-for"},
            "singlerun config set jobs.x.time": {"jobs.x.timeout"},
            "singlerun config unset defaults.log ": set(),
            "singlerun is-running it": {"it's"},
            "singlerun is-running gr": {"grün"},
        }
        offered = offers(shell, tmp_path, *wanted)
    if shell == "bash":
        offered = {line: {unquoted(word) for word in words} for line, words in offered.items()}
    assert offered == wanted


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_offers_names_of_the_directory_that_is_given(shell, cli, tmp_path, record):
    cli.dir.rename(tmp_path / "my state")
    lines = (
        "singlerun --dir ~/my\\ state ps pl",
        "singlerun ps --dir ~/my\\ state pl",
        "singlerun ps --dir=../my\\ state pl",
        "singlerun --dir '../my state' -n pl",
    )
    assert offers(shell, tmp_path, *lines) == {line: {"plain"} for line in lines}
    assert offers(shell, tmp_path, "singlerun ps ") == {"singlerun ps ": set()}, "there is none"
