"""What is written about singlerun, and what the code says of the same: shared by these tests."""

import re
import shlex
import subprocess
from pathlib import Path

import click
from conftest import BINARY

from singlerun import commands, options, spec

ROOT = Path(__file__).resolve().parents[2]
MAN = ROOT / "man"
COMPLETIONS = ROOT / "completions"
README = ROOT / "README.md"
PREFIX = ""
"""Stands for the prefix form; the other forms are named like their subcommand."""
FORMS = (PREFIX, *options.SUBCOMMANDS)
WHEN = {"on-failure", "on-success", "always"}
"""The values of --restart."""


# -- the options in the code ------------------------------------------------------------------


def _of_click(command):
    """Return a command's options: spellings to metavar, None for a flag."""
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


def default_of(form, name):
    command = commands.group.get_command(None, form)
    (default,) = [option.default for option in command.params if option.name == name]
    return default


def help_text(form):
    arguments = [form, "--help"] if form else ["--help"]
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, check=True).stdout


# -- command lines ----------------------------------------------------------------------------


def parse(arguments):
    """Parse the arguments of singlerun with its own parsers.

    Raises:
        click.UsageError, singlerun.errors.UsageError: they are rejected.
    """
    words = options.split(arguments)
    assert words is not None, arguments
    first = words.command[0] if words.command else ""
    if first in options.SUBCOMMANDS and not words.dashes:
        commands.group.get_command(None, first).make_context(
            f"singlerun {first}", arguments[arguments.index(first) + 1 :]
        )
    else:
        assert first not in options.RESERVED
        spec.RunSpec(words.command, words.values)


def unknown_options(line):
    """Return the options in a shell line that singlerun does not have."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a quotation that continues on the next line
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


def code_in(markdown):
    """Return the lines of code blocks, and what stands in backticks."""
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", markdown, re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ *```.*?^ *```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return lines + re.findall(r"`([^`]+)`", text)


# -- manual pages -----------------------------------------------------------------------------


def page_of(form):
    return f"singlerun-{form}" if form else "singlerun"


def source(form):
    return (MAN / f"{page_of(form)}.1").read_text()


def section(form, title):
    """Return the lines of a section."""
    _, *sections = re.split(r"^\.Sh (.*)\n", source(form), flags=re.MULTILINE)
    found = dict(zip(sections[::2], sections[1::2], strict=True))
    return found[title].splitlines()


def items(form, title):
    return [line.removeprefix(".It ") for line in section(form, title) if line.startswith(".It ")]


def about(form, flag):
    """Return what a page says about an option."""
    texts = "\n".join(section(form, "OPTIONS")).split(".It ")
    (found,) = [text for text in texts if flag in flags_in(text.partition("\n")[0])]
    return found


def flags_in(text):
    return {f"-{name}" for name in re.findall(r"\bFl (-?[A-Za-z][\w-]*)", text)}


def meant(text):
    """Return what a reader is to see of a text with the escapes of mdoc(7)."""
    for escape, character in (
        (r"\-", "-"), (r"\(dq", '"'), (r"\(aq", "'"), (r"\(ti", "~"), (r"\(ga", "`"), (r"\e", "\\"),
    ):  # fmt: skip
        text = text.replace(escape, character)
    assert not re.search(r"\\\(|\\f|\\&", text), text
    return text


def blocks(form):
    """Return the literal blocks of a page as they are meant, each a list of lines."""
    displays = r"^\.Bd -literal.*?\n(.*?)^\.Ed|^\.D[l1] (.*)"
    found = re.findall(displays, source(form), re.DOTALL | re.MULTILINE)
    return [meant(block or line).splitlines() for block, line in found]


def inlines(form):
    """Return the literals within the text of a page as they are meant."""
    found = re.findall(r"^\.Ql (.*?)(?: [.,)])*$", source(form), re.MULTILINE)
    return [meant(text) for text in found]


def literals(form):
    """Return the command lines of a page."""
    joined = "\n".join(line for block in blocks(form) for line in block).replace("\\\n", " ")
    return joined.splitlines() + inlines(form)
