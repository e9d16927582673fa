"""Prefix any command with ``singlerun``, and only one instance of it runs at a time.

The same from Python, in the same lock domain: ``hold`` keeps a name around a block or a function,
``run`` runs a command. Both raise what is in ``singlerun.errors``. To import this costs nothing:
each is loaded when it is first asked for.
"""

__version__ = "0.1.0"

__all__ = [
    "CommandNotExecutableError",
    "CommandNotFoundError",
    "Ended",
    "Guard",
    "HeldError",
    "Holding",
    "LockFileError",
    "RecordError",
    "SinglerunError",
    "StateDirError",
    "UsageError",
    "hold",
    "run",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.api.hold import Guard, hold
    from singlerun.api.holding import Holding
    from singlerun.api.run import Ended, run
    from singlerun.errors import (
        CommandNotExecutableError,
        CommandNotFoundError,
        HeldError,
        LockFileError,
        RecordError,
        SinglerunError,
        StateDirError,
        UsageError,
    )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'singlerun' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - the command line doesn't come here

    rooms = {
        "hold": "api.hold",
        "Guard": "api.hold",
        "Holding": "api.holding",
        "run": "api.run",
        "Ended": "api.run",
    }
    value = getattr(import_module(f"singlerun.{rooms.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
