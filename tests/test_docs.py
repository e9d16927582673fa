"""What is written about singlerun says what its code does: no more and no less."""

import fcntl
import importlib.metadata
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from conftest import BINARY, eventually, need

import singlerun
from singlerun import commands, duration, errors, hooks, options, paths, spec
from singlerun.commands import add, ps
from singlerun.outcome import Outcome
from singlerun.ownership import reaper
from singlerun.process import signals
from singlerun.queue import add as queue_add
from singlerun.queue import wakeup
from singlerun.store import base, queue, sqlite, sqlite_queue

ROOT = Path(__file__).resolve().parent.parent
MAN = ROOT / "man"
COMPLETIONS = ROOT / "completions"
SHELLS = ("bash", "zsh", "fish")
PREFIX = ""
"""Stands for the prefix form where the others are named like their subcommand."""
FORMS = (PREFIX, *options.SUBCOMMANDS)
WHEN = {"on-failure", "on-success", "always"}
"""The words that --restart takes."""


# -- the options, as the code has them -------------------------------------------------------


def _of_click(command):
    """Give a command's options: spellings to metavar, None for a flag."""
    context = click.Context(command, info_name="x", **command.context_settings)
    return {
        frozenset(option.opts): None if option.is_flag or option.is_eager else option.metavar
        for option in command.get_params(context)
        if isinstance(option, click.Option)
    }


def options_of(form):
    if form != PREFIX:
        return _of_click(commands.group.get_command(None, form))
    run = {frozenset(option.flags): option.metavar for option in options.RUN_OPTIONS}
    return run | _of_click(commands.group)


def spellings(form):
    return {flag for flags in options_of(form) for flag in flags}


EVERY_SPELLING = {flag for form in FORMS for flag in spellings(form)}


def test_run_is_the_prefix_form():
    assert spellings("run") == spellings(PREFIX) - {"--version"}
    assert {"-n", "--name", "--wait-for", "--help"} <= spellings("run"), "nothing is compared"


def test_words_of_restart():
    assert {options.read_restart(word) for word in WHEN} == WHEN
    with pytest.raises(errors.UsageError) as raised:
        options.read_restart("x")
    assert set(re.findall(r"on-\w+|always", str(raised.value))) == WHEN


# -- --help ----------------------------------------------------------------------------------


def help_of(form):
    arguments = [form, "--help"] if form else ["--help"]
    result = subprocess.run([BINARY, *arguments], capture_output=True, text=True, check=True)
    return {
        title: text.splitlines()
        for title, text in re.findall(r"^(\w+):\n((?:  .*\n|\n)*)", result.stdout, re.MULTILINE)
    }


@pytest.mark.parametrize("form", FORMS)
def test_help_lists_the_options(form):
    rows = [line for line in help_of(form)["Options"] if line.startswith("  -")]
    listed = {}
    for row in rows:
        *flags, last = re.match(r"  (-.*?)(?:  |$)", row)[1].split(", ")
        flag, _, metavar = last.partition(" ")
        listed[frozenset([*flags, flag])] = metavar or None
    assert listed == options_of(form)


def test_help_lists_the_subcommands():
    listed = [line.split()[0] for line in help_of(PREFIX)["Commands"] if line.strip()]
    assert tuple(listed[: len(options.SUBCOMMANDS)]) == options.SUBCOMMANDS


# -- command lines in the documents -----------------------------------------------------------


def unknown_options(line):
    """Give the options that a shell line gives to singlerun and that it doesn't have."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quotation that goes on in the next line
        words = line.split()
    unknown = []
    for at, word in enumerate(words):
        is_ours = not word.startswith("-") and re.split("[/=]", word)[-1] == "singlerun"
        if is_ours and "install" not in words[:at]:
            unknown += _unknown(words[at + 1 :], PREFIX)
    return unknown


def _unknown(words, form):
    known = {flag: metavar for flags, metavar in options_of(form).items() for flag in flags}
    unknown = []
    words = iter(words)
    for word in words:
        if word == "--" or set(word) & set("();<>|&#"):
            break
        if not word.startswith("-") or word == "-":
            if form == PREFIX and word in options.SUBCOMMANDS:
                return unknown + _unknown(words, word)
            if form in {PREFIX, "run"}:
                break  # the command: what follows is its own
            continue
        flag, joined, _ = word.partition("=")
        if not word.startswith("--"):
            letters = re.match("-[A-Za-z]*", word)[0][1:]
            valued = [letter for letter in letters if known.get(f"-{letter}") is not None]
            if valued:  # the rest of the word is its value, if there is one
                letters, joined, value = letters.partition(valued[0])
                joined = value or word[2 + len(letters) :]
                letters += valued[0]
            unknown += [f"-{letter}" for letter in letters if f"-{letter}" not in known]
            flag = f"-{letters[-1:]}"
        elif flag not in known:
            unknown.append(flag)
        if known.get(flag) is not None and not joined:
            next(words, None)
    return unknown


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("singlerun --wait-for 5m --name=x -qwn y -E3 rsync --archive", []),
        ("singlerun --wait-far 5m true", ["--wait-far"]),
        ("singlerun -qXw true", ["-X"]),
        ("singlerun -t 5m -qk1 --restart always --max-starts 3/1h -X true", ["-X"]),
        ("singlerun -n --nothing true --nothing", []),
        ("singlerun -nx --nothing true", ["--nothing"]),
        ("singlerun -- --nothing", []),
        ("singlerun --version", []),
        ("singlerun run --version", ["--version"]),
        ("singlerun ps x --wait", ["--wait"]),
        ("singlerun ps -a --json | jq --raw-output .", []),
        ("singlerun history --limit 5 --tree", ["--tree"]),
        ("singlerun run --skip true --nothing", []),
        ("singlerun run ps --nothing", []),
        ("*/5 * * * *  /usr/bin/singlerun --nothing true", ["--nothing"]),
        ("ExecStart=/usr/bin/singlerun --nothing true", ["--nothing"]),
        ("singlerun true && singlerun --nothing true", ["--nothing"]),
        ("singlerun --quiet sh -c 'it", []),
        ("pip install singlerun --pre", []),
    ],
)
def test_the_check_of_command_lines(line, unknown):
    assert unknown_options(line) == unknown


# -- README -----------------------------------------------------------------------------------


def code_in(markdown):
    """Give the lines of code blocks, and what stands in backticks."""
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", markdown, re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ *```.*?^ *```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return lines + re.findall(r"`([^`]+)`", text)


def test_code_is_found_in_markdown():
    markdown = "a `b --c` d\n```sh\ne \\\n  f\ng\n```\nh\n  ```\n  i\n  ```\n"
    assert [line.split() for line in code_in(markdown)] == [["e", "f"], ["g"], ["i"], ["b", "--c"]]


def test_readme_gives_singlerun_no_option_that_it_lacks():
    lines = code_in((ROOT / "README.md").read_text())
    assert {line: unknown for line in lines if (unknown := unknown_options(line))} == {}


def test_readme_programs_run(cli, tmp_path):
    text = (ROOT / "README.md").read_text()
    programs = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert programs
    for program in programs:
        result = subprocess.run(
            [sys.executable, "-P", "-W", "error", "-c", program],
            capture_output=True, text=True, check=False, env=cli.env, cwd=tmp_path,
        )  # fmt: skip
        assert (result.stderr, result.returncode) == ("", 0)
    assert {run["name"] for run in cli.history()} == {"import", "report", "echo"}


# -- the manual pages -------------------------------------------------------------------------


def page_of(form):
    return f"singlerun-{form}" if form else "singlerun"


def source(form):
    return (MAN / f"{page_of(form)}.1").read_text()


def section(form, title):
    """Give the lines of a section."""
    _, *sections = re.split(r"^\.Sh (.*)\n", source(form), flags=re.MULTILINE)
    found = dict(zip(sections[::2], sections[1::2], strict=True))
    return found[title].splitlines()


def items(form, title):
    return [line.removeprefix(".It ") for line in section(form, title) if line.startswith(".It ")]


def about(form, flag):
    """Give what a page says of an option."""
    texts = "\n".join(section(form, "OPTIONS")).split(".It ")
    (found,) = [text for text in texts if flag in flags_in(text.partition("\n")[0])]
    return found


def flags_in(text):
    return {f"-{name}" for name in re.findall(r"\bFl (-?[A-Za-z][\w-]*)", text)}


def literals(form):
    """Give the command lines of a page."""
    text = source(form)
    for escape, character in ((r"\-", "-"), (r"\(dq", '"'), (r"\(aq", "'"), (r"\(ti", "~")):
        text = text.replace(escape, character)
    text = text.replace(r"\e", "\\")
    blocks = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.DOTALL | re.MULTILINE)
    return "\n".join(blocks).splitlines() + re.findall(r"^\.(?:Dl|Ql) (.*)", text, re.MULTILINE)


def test_each_subcommand_has_a_page():
    assert {path.name for path in MAN.iterdir()} == {f"{page_of(form)}.1" for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_page_is_called_like_its_subcommand(form):
    assert f".Dt {page_of(form).upper()} 1\n" in source(form)
    assert ".Os singlerun\n" in source(form), "the footer names it"
    assert section(form, "NAME")[0] == f".Nm {page_of(form)}"
    assert section(form, "SYNOPSIS")[0].split()[1:] == (["singlerun", form] if form else [])


@pytest.mark.parametrize("form", FORMS)
def test_page_lists_the_options(form):
    listed = {}
    for item in items(form, "OPTIONS"):
        spelled = [re.fullmatch(r"Fl (\S+)(?: Ar (\S+))?", one) for one in item.split(" , ")]
        metavars = {one[2] for one in spelled}
        assert len(metavars) == 1, item
        listed[frozenset(f"-{one[1]}" for one in spelled)] = metavars.pop()
    assert listed == options_of(form)


@pytest.mark.parametrize("form", FORMS)
def test_synopsis_has_each_option_once(form):
    shown = flags_in("\n".join(section(form, "SYNOPSIS")))
    assert shown <= spellings(form)
    for flags in options_of(form):
        if "--help" not in flags:
            assert len(flags & shown) == 1, flags


@pytest.mark.parametrize("form", FORMS)
def test_page_names_no_option_that_there_is_not(form):
    assert flags_in(source(form)) <= EVERY_SPELLING
    assert [line for line in literals(form) if unknown_options(line)] == []


@pytest.mark.parametrize("form", FORMS)
def test_page_has_an_example(form):
    named = f"singlerun {form}" if form else "singlerun"
    text = "\n".join(section(form, "EXAMPLES")).replace(r"\-", "-")
    assert re.search(rf"\b{named} ", text)


def test_manual_lists_the_subcommands():
    listed = [item.split()[1].replace(r"\-", "-") for item in items(PREFIX, "SUBCOMMANDS")]
    assert tuple(listed) == options.SUBCOMMANDS
    for title in ("SUBCOMMANDS", "SEE ALSO"):
        text = "\n".join(section(PREFIX, title))
        linked = re.findall(r"^\.Xr singlerun-(\S+) 1", text, re.MULTILINE)
        assert tuple(linked) == options.SUBCOMMANDS, title


def test_manual_lists_the_reserved_words():
    pattern = r'^\.\\" reserved words\n(.*?)^\.Ed'
    (listed,) = re.findall(pattern, source(PREFIX), re.DOTALL | re.MULTILINE)
    assert tuple(re.split(r",\s+", listed.strip())) == options.RESERVED


def exit_statuses():
    """Give those that are singlerun's own."""
    plain = {option.dest: option.default for option in options.RUN_OPTIONS}
    kinds = [errors.SinglerunError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {
        spec.RunSpec(["x"], plain).conflict_status,
        Outcome(0, timed_out=True).exit_status,
        *(kind.exit_status for kind in kinds),
    }


def test_manual_lists_the_exit_statuses():
    assert exit_statuses() >= {75, 124, 125, 126, 127}
    listed = items(PREFIX, "EXIT STATUS")
    assert set(listed) == {"128+n", *map(str, exit_statuses())}
    assert len(set(listed)) == len(listed)
    listed.remove("128+n")
    own = f"{', '.join(listed[:-1])} or {listed[-1]}"
    assert f"A command may exit with {own} itself." in section(PREFIX, "EXIT STATUS")
    named = re.findall(r"\d{2,}", "\n".join(section("run", "EXIT STATUS")))
    assert set(named) == {"128", *map(str, exit_statuses())}


def test_manual_lists_the_exit_statuses_of_is_running(cli):
    seen = {
        cli.run(*arguments, env=cli.env | more).returncode
        for arguments, more in [
            (["-n", "x", BINARY, "is-running", "x"], {}),
            (["is-running", "x"], {}),
            (["is-running", "--nothing"], {}),
            (["is-running", "x"], {"SINGLERUN_DIR": __file__}),
        ]
    }
    assert set(items("is-running", "EXIT STATUS")) == {str(status) for status in seen}


def test_manual_lists_the_exit_statuses_of_stop(cli):
    cli.hold("-n", "x")
    seen = {
        cli.run("stop", *arguments, env=cli.env | more).returncode
        for arguments, more in [
            (["x"], {}),
            (["x"], {}),
            ([], {}),
            (["x"], {"SINGLERUN_DIR": __file__}),
        ]
    }
    assert seen == {0, 1, 2, 125}
    assert set(items("stop", "EXIT STATUS")) == {str(status) for status in seen}


def test_manual_lists_the_exit_statuses_of_wait(cli):
    with cli.hold("-n", "x"):
        too_early = cli.run("wait", "x", "-t", "0").returncode
    seen = {too_early, cli.run("wait").returncode, cli.run("wait", "nobody").returncode}
    assert set(items("wait", "EXIT STATUS")) == {str(status) for status in seen}


def test_manual_lists_the_exit_statuses_of_those_that_steer_a_queue(cli):
    assert cli.run("pause", "x").returncode == 0
    cli.run("add", "-n", "x", "true")
    seen = {
        form: {
            cli.run(form, *arguments, env=cli.env | more).returncode
            for arguments, more in [
                (good, {}),
                (bad, {}),
                (["--nothing"], {}),
                (good, {"SINGLERUN_DIR": __file__}),
            ]
        }
        for form, good, bad in [
            ("move", ["1", "--first"], ["99", "--first"]),
            ("cancel", ["1"], ["1"]),
            ("retry", ["1"], ["1"]),
            ("add", ["-n", "x", "true"], ["-n", "x", "--limit", "0", "true"]),
            ("resume", ["x"], ["x"]),
        ]
    }
    for form, statuses in seen.items():
        assert set(items(form, "EXIT STATUS")) == {str(status) for status in statuses}, form
    assert seen["add"] == {0, 2, 75, 125}
    assert all(statuses == {0, 1, 2, 125} for form, statuses in seen.items() if form != "add")


def test_manual_lists_the_exit_statuses_of_worker(cli):
    with cli.start("worker", "-n", "x", "--stay") as staying:
        fifo = cli.dir / "workers" / "x"
        eventually(lambda: fifo.exists() and is_locked(fifo), "the worker")
        seen = {cli.run("worker", "-n", "x").returncode}
        staying.terminate()
    seen |= {staying.returncode, cli.run("worker").returncode}
    seen.add(cli.run("worker", "-n", "x", env=cli.env | {"SINGLERUN_DIR": __file__}).returncode)
    assert seen == {0, 2, 75, 125}
    assert set(items("worker", "EXIT STATUS")) == {str(status) for status in seen}


def is_locked(path):
    with path.open("rb+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def variables_of_hooks(cli):
    """Give those that hooks find, of all kinds of ends."""
    tell = "env -0 >> told"
    quietly = {"cwd": cli.dir, "capture_output": True}
    with cli.hold("-n", "x"):
        cli.run("-n", "x", "--on-conflict", tell, "true", **quietly)
    cli.run("-n", "x", "--on-finish", tell, "true", **quietly)
    cli.run("-n", "x", "--on-failure", tell, "sh", "-c", "kill -9 $$", **quietly)
    told = (cli.dir / "told").read_text()
    return set(re.findall(r"(?:^|\0)(SINGLERUN_\w+)=", told))


def test_documents_list_the_variables_of_hooks(cli):
    told = variables_of_hooks(cli)
    text = "\n".join(section(PREFIX, "HOOKS"))
    assert set(re.findall(r"^\.It Ev (SINGLERUN_\w+)", text, re.MULTILINE)) == told
    readme = (ROOT / "README.md").read_text()
    assert set(re.findall(r"^\| `(SINGLERUN_\w+)`", readme, re.MULTILINE)) == told


def test_documents_name_the_time_of_hooks():
    text = " ".join(section(PREFIX, "HOOKS"))
    assert f"longer than {hooks.LONGEST:.0f} seconds" in text
    assert f"{hooks.GRACE:.0f} seconds later" in text
    assert f"{hooks.LONGEST:.0f} seconds at most" in (ROOT / "README.md").read_text()


def test_manual_lists_the_variables():
    code = "".join(path.read_text() for path in Path(singlerun.__file__).parent.rglob("*.py"))
    text = "\n".join(section(PREFIX, "ENVIRONMENT"))
    assert set(re.findall(r"^\.It Ev (SINGLERUN_\w+)", text, re.MULTILINE)) == set(
        re.findall(r"SINGLERUN_[A-Z_]+", code)
    )


def test_manual_names_the_files(cli):
    named = [item.removeprefix("Pa ").replace(r"\(ti", "~") for item in items(PREFIX, "FILES")]
    assert named[:2] == [paths.SYSTEM_DIR.decode(), f"~/{paths.HOME_DIR.decode()}"]
    cli.run("-n", "x", "-w", "--log", "echo", "x")
    cli.run("add", "-n", "x", "true")
    assert cli.run("wait", "2").returncode == 0
    file, log = sqlite.FILE.decode(), wakeup.LOG.decode()
    assert {file, f"{file}.lock", "locks/", "lines/", "workers/", log} <= set(named)
    text = "\n".join(section(PREFIX, "FILES"))
    more = set(re.findall(r"^\.Pa (\S+)", text, re.MULTILINE))
    there = {path.name for path in cli.dir.iterdir()}
    assert {"locks", "workers", "logs", file, log} <= there
    assert there <= {name.removesuffix("ID/").removesuffix("/") for name in named} | more
    assert f"From {wakeup.LOG_BYTES >> 20} MiB on" in text
    assert f"{log}.old" in more


def test_manual_names_the_signals():
    text = "\n".join(section(PREFIX, "SIGNALS"))
    passed_on = {signal.Signals(number).name for number in (*signals.ENDING, *signals.TELLING)}
    named = set(re.findall(r"\bDv (SIG\w+)", text))
    assert named - {"SIGKILL"} == passed_on
    assert f"{spec.KILL_AFTER:.0f} seconds later" in text
    assert f"{reaper.GRACE:.0f} seconds later" in "\n".join(section("reap", "OPTIONS"))
    assert f"The default is {spec.KILL_AFTER:.0f} seconds." in about("stop", "--kill-after")


@pytest.mark.parametrize("form", [PREFIX, "run"])
def test_manual_names_the_defaults_of_the_run_options(form):
    assert f"The default is {spec.KILL_AFTER:.0f} seconds." in about(form, "--kill-after")
    assert f"The default is {spec.RETRY_DELAY:.0f} second." in about(form, "--retry-delay")


def test_manual_names_the_longest_delay():
    assert duration.parse("1d") == spec.LONGEST_DELAY
    assert "never more than a day" in about(PREFIX, "--retry-delay").replace("\n", " ")


@pytest.mark.parametrize("form", [PREFIX, "run"])
def test_manual_lists_when_to_restart(form):
    assert set(re.findall(r"\.Cm (\S+)", about(form, "--restart"))) == WHEN


def test_manual_writes_values_as_they_are_read():
    *good, bad = re.findall(r"\.Ql (\S+)", about(PREFIX, "--wait-for"))
    assert len(good) > 3
    assert all(duration.parse(text) for text in good)
    with pytest.raises(errors.UsageError):
        duration.parse(bad)
    (rate,) = re.findall(r"\.Ql (\S+)", about(PREFIX, "--max-starts"))
    assert options.read_rate(rate)


def default_of(form, name):
    command = commands.group.get_command(None, form)
    (default,) = [option.default for option in command.params if option.name == name]
    return default


def test_manual_names_the_default_limits():
    assert f"latest {ps.LATEST} runs" in "\n".join(section("ps", "OPTIONS"))
    assert f"first {ps.LATEST} jobs" in "\n".join(section("ps", "DESCRIPTION"))
    for form in ("history", "queue"):
        assert f"The default is {default_of(form, 'limit')}." in about(form, "--limit")


def test_manual_names_the_defaults_of_a_job():
    assert f"The default is {spec.RETRY_DELAY:.0f} second." in about("add", "--retry-delay")
    assert f"The default is {spec.KILL_AFTER:.0f} seconds." in about("add", "--kill-after")
    assert "never more than a day" in about("add", "--retry-delay")
    assert duration.parse("1d") == sqlite_queue.LONGEST_DELAY
    priority = about("add", "--priority").replace(r"\-", "-")
    assert f"from {-add.HIGHEST} to {add.HIGHEST}" in priority
    assert f"The default is {default_of('add', 'priority')}." in priority


def test_manual_lists_what_a_job_keeps():
    pattern = r'^\.\\" kept variables\n(.*?)^\.Ed'
    (listed,) = re.findall(pattern, source(PREFIX), re.DOTALL | re.MULTILINE)
    assert tuple(re.split(r",\s+", listed.strip())) == queue_add.KEPT


def test_manual_lists_what_goes_with_a_queue():
    text = about(PREFIX, "--queue")
    takes, excludes = text.split("It cannot be combined with")
    as_flags = {option.dest: set(option.flags) for option in options.RUN_OPTIONS}
    taken = flags_in(takes) - {"--queue", "--log"}
    wanted = {"retries", "retry_delay", *spec.OF_A_QUEUED_JOB}
    assert [len(taken & as_flags[dest]) for dest in wanted] == [1] * len(taken)
    excluded = flags_in(excludes) - {"--name"}
    assert [len(excluded & as_flags[dest]) for dest in spec.SENSELESS_IN_QUEUE] == [1] * len(
        excluded
    )


def test_manual_lists_the_states():
    listed = items("ps", "DESCRIPTION") + items("history", "DESCRIPTION")
    assert sorted(listed) == sorted([*base.STATES, reaper.ORPHAN, reaper.ZOMBIE])
    assert tuple(items("queue", "DESCRIPTION")) == queue.JOB_STATES


def test_manual_lists_the_keys_of_json(cli):
    cli.run("-n", "x", "true")
    listed = [key for item in items("ps", "JSON") for key in re.findall(r"[a-z_]+", item[3:])]
    assert sorted(listed) == sorted(cli.last())
    document = json.loads(cli.run("is-running", "x", "--json").stdout)
    more = re.findall(r"^\.Va (\w+)", "\n".join(section("is-running", "OPTIONS")), re.MULTILINE)
    assert {"schema", "runs", *more} == set(document)


def test_manual_lists_the_keys_of_jobs(cli):
    cli.run("pause", "x")
    cli.run("add", "-n", "x", "true")
    document = json.loads(cli.run("queue", "--json").stdout)
    assert set(document) == {"schema", "jobs"}
    (shown,) = document["jobs"]
    listed = [key for item in items("queue", "JSON") for key in re.findall(r"[a-z_]+", item[3:])]
    assert sorted(listed) == sorted(shown)
    assert set(json.loads(cli.run("ps", "--json").stdout)) == {"schema", "runs", "jobs"}


def test_manual_lists_the_keys_by_which_jobs_are_added(cli):
    listed = [key for item in items("add", "JSON") for key in re.findall(r"[a-z_]+", item[3:])]
    cli.run("pause", "x")
    cli.run("add", "-n", "x", "true")
    values = {
        "command": ["true"], "priority": 3, "after": 1, "retries": 2, "delay": "5m",
        "retry_delay": 300, "label": "y",
    }  # fmt: skip
    assert set(listed) == set(values)
    result = cli.run("add", "-n", "x", "--stdin", "--json", input=json.dumps(values))
    assert (result.stdout, result.stderr) == ("2\n", "")
    (added,) = [
        one for one in json.loads(cli.run("queue", "--json").stdout)["jobs"] if one["label"]
    ]
    for key, value in {**values, "after_id": 1}.items():
        assert added.get(key, value) == value
    assert added["starts_at"] > added["added_at"]
    refused = cli.run("add", "-n", "x", "--stdin", "--json", input='{"command": "x", "no": 1}')
    assert refused.returncode == 125


@pytest.mark.parametrize("form", FORMS)
def test_page_is_clean(form):
    need("mandoc")
    result = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", f"{page_of(form)}.1"],
        capture_output=True, text=True, check=False, cwd=MAN,
    )  # fmt: skip
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


# -- the completions --------------------------------------------------------------------------

BASH = r"""
source "$1"
shift
for line; do
    COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=()
    rest=$line
    while [[ $rest =~ ^\ *([=:]+|[^\ =:]+) ]]; do  # as bash splits a line
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

# A pseudo-terminal with an interactive shell in it, which completes as soon as its prompt stands.
# compadd(1) is what offers words; before it does, it is asked for them.
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
    """Give what a shell offers at the ends of lines that begin with singlerun."""
    need(shell)
    for name in ("bin", "config", "work"):
        (directory / name).mkdir(exist_ok=True)
    # A completion must not run singlerun; there must be one, else fish completes nothing.
    stand_in = directory / "bin" / "singlerun"
    stand_in.write_text(f"#!/bin/sh\n: > {directory}/was-run\n")
    stand_in.chmod(0o755)
    env = {
        "PATH": f"{stand_in.parent}:{os.environ['PATH']}",
        "HOME": str(directory),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "XDG_DATA_HOME": str(directory / "config"),
        "ZDOTDIR": str(directory / "config"),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
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
    assert set(options.SUBCOMMANDS) <= offered["singlerun "]


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
    """Behind a value come more options; behind what is none, but the command, come its own."""
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


# -- what is installed ------------------------------------------------------------------------


def test_pages_and_completions_are_installed():
    installed = {
        str(file).partition("/share/")[2]
        for file in importlib.metadata.files("singlerun")
        if "/share/" in str(file)
    }
    assert installed == {
        *(f"man/man1/{path.name}" for path in MAN.iterdir()),
        "bash-completion/completions/singlerun",
        "zsh/site-functions/_singlerun",
        "fish/vendor_completions.d/singlerun.fish",
    }
    share = Path(sys.prefix) / "share"
    assert [name for name in installed if not (share / name).is_file()] == []
