"""What the script ``singlerun`` hands over: it begins in sh, and goes on in an isolated Python.

A shell changes the environment: dash drops what is not named like a variable of its own, such as
the functions that bash exports, and all of them set PWD, IFS and others. So the script leaves a
copy of itself behind, whose ``/proc/PID/environ`` still is what the caller gave.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import NoReturn
else:
    import _signal

VARIABLE = b"SINGLERUN_LAUNCH"
"""The PID of the copy, and a descriptor: its closing ends the copy. Without a PID, the environment
can be read from the descriptor itself. Empty if there is neither."""

_BY_PYTHON = {_signal.SIGPIPE, _signal.SIGXFSZ}
"""Python ignores these for itself."""
given: dict[bytes, bytes] = {}
"""The caller's environment, if it was handed over."""
_before: "set[_signal.Signals]" = set()
"""Those of them that the caller ignored."""


def main() -> "NoReturn":
    """Run the command line of the script; ends the process."""
    _take_over()
    if sys.flags.no_site:
        sys.meta_path.append(_Rest(sys.path[-1]))
    from singlerun.cli import main  # noqa: PLC0415 - with the caller's environment

    main()


def ignored_by_python() -> "set[_signal.Signals]":
    """Return the signals that Python ignores for itself, and that would stay so in a command."""
    return _BY_PYTHON - _before


def _take_over() -> None:
    """Restore what the script and Python have changed."""
    pid, _, descriptor = os.environb.pop(VARIABLE, b"").partition(b":")
    try:
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(b"singlerun")  # by which pgrep and killall know it
        if pid:
            _inherit(os.fsdecode(pid))
        elif descriptor:
            _restore(_read(int(descriptor)))
    except OSError:
        pass  # what the shell made of it is nearly the same
    finally:
        if descriptor:
            os.close(int(descriptor))
    if pid:
        try:
            os.waitpid(int(pid), 0)
        except ChildProcessError:  # SIGCHLD is ignored
            pass


def _inherit(pid: str) -> None:
    """Take over what a copy of the shell still has of the caller's."""
    entries = _read(f"/proc/{pid}/environ")
    status = dict(line.partition(b":")[::2] for line in _read(f"/proc/{pid}/status").splitlines())
    if b"Z" in status[b"State"]:
        return  # killed, as when the whole group is
    _restore(entries)
    mask = int(status[b"SigIgn"], 16)
    _before.update(number for number in _BY_PYTHON if mask >> number - 1 & 1)


def _read(file: "int | str") -> bytes:
    with open(file, "rb", buffering=0, closefd=isinstance(file, str)) as stream:
        return stream.readall()


def _restore(entries: bytes) -> None:
    """Make the environment of this process that of these entries."""
    for entry in entries.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name and equals:
            given.setdefault(name, value)
    for name in os.environb.keys() - given.keys():
        del os.environb[name]
    for name, value in given.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


class _Rest:
    """Finds what is neither in the standard library nor beside the package.

    Dependencies may be in another directory, such as that of the system. Only then is ``site``
    imported, which costs milliseconds.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    def find_spec(
        self, name: str, path: "Sequence[str] | None", target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if path is not None or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        import site  # noqa: PLC0415
        from importlib.machinery import PathFinder  # noqa: PLC0415

        site.main()
        site.addsitedir(self._root)
        return PathFinder.find_spec(name, path, target)
