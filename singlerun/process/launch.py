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
else:
    import _signal

_VARIABLE = b"_singlerun_launch"
"""The PID of the copy, and a descriptor: its closing ends the copy. Without a PID, the environment
can be read from the descriptor itself. Empty if there is neither."""

_BY_PYTHON = {_signal.SIGPIPE, _signal.SIGXFSZ}
"""Python ignores these for itself."""
given: dict[bytes, bytes] = {}
"""The caller's environment, if it was handed over."""
_left: list[int] = []
"""The PID of the copy of the shell, until it is reaped."""
_before: "set[_signal.Signals]" = set()
"""Those of them that the caller ignored."""


def ignored_by_python() -> "set[_signal.Signals]":
    """Return the signals that Python ignores for itself, and that would stay so in a command."""
    return _BY_PYTHON - _before


def reap() -> None:
    """Reap the copy of the shell, which has ended: it is no part of the command's tree."""
    while _left:
        try:
            os.waitpid(_left.pop(), 0)
        except ChildProcessError:  # SIGCHLD is ignored
            pass


def take_over(packages: str) -> None:
    """Restore what the script and Python have changed; this package is among these others."""
    if sys.flags.no_site:
        sys.meta_path.append(_Rest(packages))
    pid, _, descriptor = os.environb.pop(_VARIABLE, b"").partition(b":")
    try:
        if pid:
            _left.append(int(pid))
            _inherit(int(pid))
        elif descriptor:
            _restore(_read(f"/proc/self/fd/{int(descriptor)}"))
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(b"singlerun")  # by which pgrep and killall know it
    except OSError:
        pass  # what the shell made of it is nearly the same
    finally:
        if descriptor:
            os.close(int(descriptor))


def _inherit(pid: int) -> None:
    """Take over what a copy of the shell still has of the caller's."""
    entries = _read(f"/proc/{pid}/environ")
    status = _read(f"/proc/{pid}/status")
    if b"\nState:\tZ" in status:
        return  # killed, as when the whole group is
    _restore(entries)
    ignored = int(status[status.index(b"\nSigIgn:") + 8 :].split(None, 1)[0], 16)
    _before.update(number for number in _BY_PYTHON if ignored >> number - 1 & 1)


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(file, 65536)
        while more := len(content) >= 65536 and os.read(file, 1 << 22):
            content += more
        return content
    finally:
        os.close(file)


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
