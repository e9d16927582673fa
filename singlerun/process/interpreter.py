"""Another Python interpreter, which runs a module of this very package.

The package may have been found through PYTHONPATH, a user's site directory, or a script's own
directory. The other interpreter is isolated from all of those, and learns where this one found the
package; it searches there last for anything else, so that no file in that directory shadows a
standard module.
"""

import os
import sys

from singlerun.errors import SinglerunError

_START = (
    "import sys; sys.path.insert(0, {0!r}); import singlerun; sys.path.append(sys.path.pop(0));"
    " from {1} import main; main()"
)
_MODULE = "--singlerun-module"
_bundle: list[str] = []
"""The command line of singlerun, if that is a program without an interpreter (PyInstaller)."""


def enter_bundle() -> None:
    """Begin as a program that was bundled: run the module that ``words`` asked for, if one."""
    # A file that unpacks itself must do so anew: what this process has unpacked goes with it.
    _bundle[:] = ["/usr/bin/env", "PYINSTALLER_RESET_ENVIRONMENT=1", sys.executable]
    if sys.argv[1:2] == [_MODULE]:
        import importlib  # noqa: PLC0415 - only here

        module = sys.argv[2]
        del sys.argv[1:3]
        importlib.import_module(module).main()
        sys.exit()


def words(module: str) -> list[str]:
    """Return the command line that calls ``main`` of a module; its arguments are to be appended.

    Raises SinglerunError if this program has no interpreter of its own, as some bundlers make them,
    and is not singlerun itself.
    """
    if _bundle:
        return [*_bundle, _MODULE, module]
    if not sys.executable or getattr(sys, "frozen", False):
        raise SinglerunError("this program has no Python interpreter to start: sys.executable")
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [sys.executable, "-I", "-S", "-c", _START.format(os.path.dirname(package), module)]


def environment(*kept: bytes) -> dict[bytes, bytes]:
    """Return our environment for a process that is no part of a run: of its variables, these."""
    return {
        key: value
        for key, value in os.environb.items()
        if key and (not key.startswith(b"SINGLERUN_") or key in kept)
    }
