"""Keeps the record's troubles away from the job.

A store that fails is a warning, once, and the run goes on without a record; with
``--require-record`` it is an error before anything has started.
"""

from singlerun.errors import RecordError, StateDirError
from singlerun.render.line import say
from singlerun.store.sqlite import SqliteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from singlerun.paths import StateDir

    Result = TypeVar("Result")
    Default = TypeVar("Default")


class Recorder:
    """A store that may be missing.

    Attributes:
        required: whether a failure is an error.
    """

    __slots__ = ("_store", "required")

    def __init__(self, *, required: bool) -> None:
        self.required = required
        self._store: SqliteStore | None = None

    def open(self, state: "StateDir | None") -> None:
        """Begin to keep a record in this state directory, if there is one."""
        if state is not None:
            self._store = SqliteStore(state)

    def attempt(
        self, verb: "Callable[[SqliteStore], Result]", otherwise: "Default"
    ) -> "Result | Default":
        """Ask the store for something; ``otherwise`` if it can't tell.

        Raises:
            RecordError: it failed, and a record is required.
        """
        if self._store is None:
            return otherwise
        store = self._store
        try:
            return verb(store)
        except RecordError as error:
            self.failed(error)
            return otherwise
        finally:
            for notice in store.notices:
                say(notice)
            store.notices.clear()

    def failed(self, error: RecordError | StateDirError) -> None:
        """Warn that there will be no record.

        Raises:
            RecordError, StateDirError: this one, if a record is required.
        """
        self._store = None
        if self.required:
            raise error
        say(f"{error}; this run goes on without a record")
