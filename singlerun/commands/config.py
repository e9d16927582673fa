"""``singlerun config``: look at the configuration, and change it."""

import os
import stat
import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from singlerun import config
from singlerun.commands import common
from singlerun.config import dropin, editor, files, origin, template
from singlerun.config.reading import Reading, parse_key
from singlerun.config.schema import Key
from singlerun.errors import UsageError
from singlerun.options import read_name
from singlerun.paths import SYSTEM_CONFIG
from singlerun.render import config as render
from singlerun.render.result import Result
from singlerun.render.text import quoted, shown
from singlerun.spec import derived_name
from singlerun.suggestion import nearest

ACTIONS = ("path", "show", "get", "set", "unset", "check", "edit", "init")


def _read_action(text: str) -> str:
    if text not in ACTIONS:
        near = nearest(text, ACTIONS)
        hint = f"did you mean: {' or '.join(near)}" if near else f"write {', '.join(ACTIONS)}"
        raise UsageError(f"there is no action {text!r}; {hint}")
    return text


class _Command(common.Command):
    """Takes ``show -- COMMAND [ARG]...`` for the name that the prefix form derives."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before, words = self._split(args)
        if words and "show" in before[:2] and not words[0].startswith("-"):
            args = [*before, "--", os.fsdecode(derived_name(words))]
        return super().parse_args(ctx, args)


@common.subcommand(
    "Look at the configuration, and change it.",
    example='singlerun config set jobs."nightly *".timeout 2h',
    cls=_Command,
)
@click.option("--system", is_flag=True, help="Write to /etc/singlerun, for all users.")
@common.json_option
@click.argument("action", type=common.Read("ACTION", _read_action), metavar="ACTION")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[ARG]...")
def command(
    ctx: click.Context,  # noqa: ARG001 - every subcommand gets it
    action: str,
    words: tuple[str, ...],
    *,
    system: bool,
) -> Result | Iterable[Result]:
    r"""Look at the configuration, and change it.

    \b
    path                 which files are read
    show [NAME]          what is set, or holds for NAME, and where it is written
    get KEY              the value of a key such as defaults.timeout
    set KEY VALUE...     set a key, in a file of its own: conf.d/90-set.toml
    unset KEY            take it out of that file again
    check [FILE]...      what is wrong, with file and line; exits with 1 if anything is
    edit                 edit the file; what is wrong is not kept
    init                 write a file to begin with
    """
    least, most = _WORDS[action]
    if not least <= len(words) <= most:
        takes = " ".join(["config", action, *_ARGUMENTS[action]])
        raise click.UsageError(f"write: singlerun {takes}")
    if system and action in _LOOKING:
        raise click.UsageError(f"--system does not go with {action}")
    function: Callable[..., Result | Iterable[Result]] = _FUNCTIONS[action]
    try:
        return function(*words) if action in _LOOKING else function(_main(system=system), *words)
    except UsageError as error:
        raise click.UsageError(str(error.args[0])) from None


def _main(*, system: bool) -> bytes:
    """Return the path of the file that is to be written, or has the drop-in beside it."""
    mains = files.main_files()
    if not mains:
        raise click.UsageError("SINGLERUN_CONFIG is empty, so there is no configuration")
    if system and files.is_chosen():
        raise click.UsageError("--system does not go with SINGLERUN_CONFIG")
    main = os.path.join(SYSTEM_CONFIG, files.FILE) if system else mains[-1]
    if not system and files.is_of_system(main):
        raise click.UsageError("this user has no home in the password database; use --system")
    return main


# -- looking ----------------------------------------------------------------------------------


def _path() -> Result:
    mains = files.main_files()
    reading = Reading(mains)
    blamed = {file for file, *_ in reading.problems}
    paths = dict.fromkeys([*mains, *reading.files, *blamed])
    states = []
    for path in paths:
        state = render.READ if path in reading.files else render.REFUSED
        is_there = os.path.lexists(path)
        states.append((path, state if is_there else render.MISSING))
    return render.Files(states)


def _show(name: str | None = None) -> Result:
    reading = Reading(files.main_files())
    settings = config.load_here()
    if name is None:
        return render.Settings(origin.everything(reading), settings.problems)
    return render.Settings(origin.holding(reading, settings, read_name(name)), settings.problems)


def _get(text: str) -> Result:
    path = parse_key(text)
    key = dropin.key_at(path)
    found = [entry for entry in Reading(files.main_files()).entries if entry.path == path]
    if not found:
        what = "is a table; to see what is in it: singlerun config show"
        return Result(errors=[f"{text} {what if key.is_table else 'is not set'}"], status=1)
    value = found[-1].written
    return Result(*map(_plain, value if isinstance(value, list) else [value]))


def _plain(value: object) -> str:
    return shown(value) if isinstance(value, str) else render.written(value)


def _check(*paths: str) -> Result:
    reading = Reading([] if paths else files.main_files())
    for path in paths:
        try:
            with open(path, "rb") as file:
                reading.read_text(os.fsencode(path), file.read())
        except OSError as error:
            return Result(errors=[f"{path}: {(error.strerror or '').lower()}"], status=1)
        reading.files.append(os.fsencode(path))
    if not reading.files:
        fine = "there is no configuration; to begin: singlerun config init"
    else:
        fine = f"{_counted(len(reading.files), 'file')}, no mistakes"
    return render.Problems(reading.problems, fine)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# -- changing ---------------------------------------------------------------------------------


def _set(main: bytes, text: str, *values: str) -> Result:
    path, key = _key(text)
    winners = dropin.set_value(main, path, dropin.typed(key, values))
    warnings = [
        f"{text} is set in {os.fsdecode(each.file)}:{each.line}, too, and that one wins"
        for each in winners[-1:]
    ]
    ours = dropin.path_beside(main)
    if key.secret and os.stat(ours).st_mode & (stat.S_IRGRP | stat.S_IROTH):
        shown_path = os.fsdecode(ours)
        warnings.append(f"others can read {shown_path}; if it is secret: chmod go-r {shown_path}")
    return Result(errors=warnings)


def _key(text: str) -> tuple[tuple[str, ...], Key]:
    path = parse_key(text)
    key = dropin.key_at(path)
    if key.is_table:
        raise UsageError(f"{text} is a table; name a key in it")
    return path, key


def _unset(main: bytes, text: str) -> Result:
    path = parse_key(text)
    if dropin.unset(main, path):
        return Result()
    places = [each for each in Reading(files.main_files()).entries if each.path == path]
    message = f"{text} is not set"
    if places:
        where = f"{os.fsdecode(places[-1].file)}:{places[-1].line}"
        message = f"{text} is set in {where}, which is not changed by this; edit that file"
    return Result(errors=[message], status=1)


def _edit(main: bytes) -> Iterable[Result]:
    copy = editor.Copy(main)
    while True:
        was_content = copy.edit()
        if not copy.is_changed():
            copy.drop()
            failed = "" if was_content else "the editor failed: "
            yield Result(errors=[f"{failed}nothing is changed"], status=int(not was_content))
            return
        problems = copy.problems()
        if was_content and not problems:
            copy.keep()
            return
        yield Result(errors=[config.said(problem) for problem in problems])
        if not _asks_again():
            what = "this is not kept" if was_content else "the editor failed"
            yield Result(errors=[f"{what}; your copy is {copy.name}"], status=1)
            return


def _asks_again() -> bool:
    is_terminal = sys.stdin is not None and sys.stdin.isatty()
    return is_terminal and click.confirm("Edit it again?", default=True, err=True)


def _init(main: bytes) -> Result:
    path = os.fsdecode(main)
    with dropin.locked(main):
        try:
            dropin.replace(main, template.text().encode(), new=True)
        except FileExistsError:
            hint = "to change it: singlerun config edit"
            return Result(errors=[f"{path} exists already; {hint}"], status=1)
    return Result(f"{quoted(shown(path))}")


_FUNCTIONS: dict[str, Any] = {
    "path": _path, "show": _show, "get": _get, "set": _set, "unset": _unset, "check": _check,
    "edit": _edit, "init": _init,
}  # fmt: skip
_LOOKING = {"path", "show", "get", "check"}
_MANY = 10**6
_WORDS = {
    "path": (0, 0), "show": (0, 1), "get": (1, 1), "set": (2, _MANY), "unset": (1, 1),
    "check": (0, _MANY), "edit": (0, 0), "init": (0, 0),
}  # fmt: skip
"""The fewest and the most arguments."""
_ARGUMENTS = {
    "path": (), "show": ("[NAME]",), "get": ("KEY",), "set": ("KEY", "VALUE..."),
    "unset": ("KEY",), "check": ("[FILE]...",), "edit": (), "init": (),
}  # fmt: skip
