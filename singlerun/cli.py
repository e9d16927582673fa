"""The plain form, without Click: what most runs are, at little more than the price of Python.

Whatever options.split can't settle goes to Click, and so do the subcommands. ``--complete``, with
which the completions of the shells ask what there is, is answered here, too.
"""

import os
import sys

from singlerun import options
from singlerun.errors import CommandNotFoundError, SinglerunError
from singlerun.paths import is_configured
from singlerun.process.search import find_program
from singlerun.render.line import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_OF_NO_RUN = {"dir", "quiet", "verbose", "no_config"}
"""Options that say nothing of how a command is to be run, so that a subcommand may follow."""

INTRODUCTION = b"""\
Usage: singlerun [OPTIONS] [--] COMMAND [ARG]...

Run COMMAND unless another instance of it is running.

  singlerun ./backup.sh         run it unless it is running
  singlerun -w -n db ./load.sh  wait until "db" is free
  singlerun ps                  show what runs and waits

All options and subcommands: singlerun --help
About one of them:           singlerun help ps
"""


def main() -> "NoReturn":
    """Run the command line; ends the process."""
    if getattr(sys, "frozen", False):
        from singlerun.process import interpreter  # noqa: PLC0415 - only in a bundle

        interpreter.enter_bundle()
    try:
        status = _dispatch(sys.argv[1:])
    except SinglerunError as error:
        status = _report(str(error), error.exit_status)
    except OSError as error:
        where = error.filename
        what = f"{os.fsdecode(where)}: " if isinstance(where, (str, bytes)) else ""
        status = _report(f"{what}{(error.strerror or str(error)).lower()}", 125)
    except ImportError as error:
        what = f"cannot load a part of this program: {error}"
        status = _report(f"{what}; if this stays so, install it again", 125)
    except MemoryError:
        status = _report("out of memory", 125)
    except Exception as error:
        if os.environ.get("SINGLERUN_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        status = _report(f"internal error: {what}; SINGLERUN_DEBUG=1 shows where", 125)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        pass
    # Skips what Python does at its end, 1 ms, and SQLite's closing (store/database.py).
    os._exit(status)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        return _introduce()
    if arguments[0] == "--complete":
        from singlerun import completion  # noqa: PLC0415

        return completion.main(arguments[1:])
    words = options.split(arguments)
    if words is not None and (words.command or words.values["lock_fd"]):
        first = words.command[0] if words.command else ""
        if words.dashes or not (first in options.SUBCOMMANDS or first in options.RESERVED):
            if not words.dashes and not words.given - _OF_NO_RUN:
                _check_spelling(first)
            return _run(words.command, words.values)
    from singlerun import commands  # noqa: PLC0415 - imports Click

    return commands.main(arguments)


def _run(command: list[str], values: "dict[str, Any]") -> int:
    if is_configured() and not values["no_config"]:
        from singlerun import config  # noqa: PLC0415 - most have none

        values, warning = config.apply(values, command)
        if warning is not None:
            say(warning)
    from singlerun.runner import run  # noqa: PLC0415
    from singlerun.spec import RunSpec  # noqa: PLC0415 - Click's way doesn't need them here

    return run(RunSpec(command, values)).exit_status


def _check_spelling(word: str) -> None:
    """Raise CommandNotFoundError if a first word is no program, but nearly a subcommand.

    A slip of the fingers is no run, and leaves none in the run-log.
    """
    if "/" in word or find_program(word, executable=False) is not None or os.path.exists(word):
        return
    from singlerun import suggestion  # noqa: PLC0415 - only when nothing of that name is there

    if (meant := suggestion.subcommand(word)) is not None:
        raise CommandNotFoundError(word, f"did you mean: singlerun {meant}")


def _introduce() -> int:
    """Print the few lines that answer an empty command line: a usage error, so not as output."""
    os.write(2, INTRODUCTION)
    return 125


def _report(message: str, status: int) -> int:
    say(message)
    return status
