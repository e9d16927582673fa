"""The start of a program: its environment, and why it cannot be started."""

import os
import sys

from singlerun.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    CommandNotStartedError,
)
from singlerun.process import launch
from singlerun.process.search import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from singlerun.process.signals import Signals
else:
    import _signal


def environment() -> dict[bytes, bytes]:
    """Return the environment that this process was started with.

    In the C locale, as under cron, Python sets LC_CTYPE for itself (PEP 538); the command must not
    see that.
    """
    launch.reap()
    if launch.given:
        return launch.given.copy()
    given = dict(os.environb)
    given.pop(b"", None)  # an entry "=x" cannot be handed on
    if given.get(b"LC_CTYPE", b"").upper().endswith(b"UTF-8"):
        try:
            with open("/proc/self/environ", "rb", buffering=0) as file:
                started_with = file.read().split(b"\0")
        except OSError:
            return given
        before = [entry[9:] for entry in started_with if entry.startswith(b"LC_CTYPE=")]
        if before:
            given[b"LC_CTYPE"] = before[0]
        else:
            del given[b"LC_CTYPE"]
    return given


def become(
    argv: "list[str]", env: "Mapping[bytes, bytes]", inherited: "Iterable[int]", signals: "Signals"
) -> None:
    """Replace this process with the command, which keeps these descriptors; raise as spawn does."""
    for fd in inherited:
        os.set_inheritable(fd, True)
    for fd in _closed_streams():
        try:
            os.set_inheritable(fd, False)
        except OSError:
            pass
    for number in launch.ignored_by_python():
        _signal.signal(number, _signal.SIG_DFL)
    signals.restore()
    _start(argv, lambda path, words: os.execvpe(path, words, env))


def spawn(
    argv: "list[str]", env: "Mapping[bytes, bytes]", inherited: "Iterable[int]",
    signals: "Signals", *, redirected: "Mapping[int, int] | None" = None, path: str | None = None,
) -> int:  # fmt: skip
    """Start a program that inherits these descriptors; return its PID.

    ``redirected`` maps descriptors of the program to ours; ``path`` is where it was found, if that
    is known. Raises CommandNotFoundError, or CommandNotExecutableError.
    """
    # dup2 onto itself clears close-on-exec in the child alone (posix_spawn_file_actions_adddup2).
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in inherited]
    if redirected:
        actions += [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in redirected.items()]
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _closed_streams()]
    group: dict[str, Any] = {} if signals.terminal else {"setpgroup": 0}
    return _start(
        argv,
        lambda path, words: os.posix_spawnp(
            path, words, env,
            file_actions=actions, setsigmask=signals.inherited,
            setsigdef=launch.ignored_by_python(), **group,
        ),
        path,
    )  # fmt: skip


def _closed_streams() -> list[int]:
    # SQLite puts /dev/null where standard streams were closed; the command gets them closed.
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return [fd for fd, stream in enumerate(streams) if stream is None]


def _start(
    argv: "list[str]", start: "Callable[[str, list[str]], int]", path: str | None = None
) -> int:
    """Make the call that starts a program; if it can't be started, raise the reason."""
    if not argv[0]:
        raise CommandNotFoundError("''", "name a command")
    try:
        try:
            return start(path or argv[0], argv)
        except OSError as error:
            import errno  # noqa: PLC0415 - only when it failed

            if error.errno != errno.ENOEXEC:
                raise
            # A script without "#!": execvp(3) hands it to sh, posix_spawnp(3) does not.
            return start("/bin/sh", ["/bin/sh", find_program(argv[0]) or argv[0], *argv[1:]])
    except OSError as error:
        raise _start_error(argv, error) from None


def _start_error(
    argv: "list[str]", error: OSError
) -> CommandNotFoundError | CommandNotExecutableError | CommandNotStartedError:
    import errno  # noqa: PLC0415

    command = argv[0]
    path = find_program(command)
    is_name = "/" not in command and command not in {".", ".."}
    if path is None and (is_name or error.errno in {errno.ENOENT, errno.ENOTDIR}):
        # EACCES may also come from a directory in PATH that cannot be searched.
        if find_program(command, executable=False) is None:
            return CommandNotFoundError(command, _hint(command))
    elif error.errno == errno.ENOENT:
        hint = f"look for a wrong path or a CR at its end: head -1 {path} | cat -A"
        return CommandNotExecutableError(
            command, "the interpreter in its first line is missing", hint
        )
    if error.errno in {errno.EAGAIN, errno.ENOMEM}:
        hint = "see ulimit -u and free(1)"
        return CommandNotStartedError(command, (error.strerror or str(error)).lower(), hint)
    if error.errno == errno.E2BIG:
        return CommandNotExecutableError(
            command, "its arguments and environment are too long", "pass them through a file"
        )
    if os.path.isdir(command):
        return CommandNotExecutableError(command, "it is a directory", "name a program in it")
    if error.errno == errno.EACCES:
        return CommandNotExecutableError(
            command, "permission denied", f"if it is a program: chmod +x {command}"
        )
    return CommandNotExecutableError(
        command, (error.strerror or str(error)).lower(), "see execve(2)"
    )


def _hint(command: str) -> str:
    if os.path.isfile(command) and "/" not in command:
        return f"try ./{command}"
    if set(command) & set(" |&;<>$"):
        return "for a shell's syntax: sh -c '...'"
    return "check its spelling and PATH"
