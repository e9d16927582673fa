"""Keeps the record's troubles away from the job.

A store that fails is a warning, once, and the run goes on without a record; with
``--require-record`` it is an error before anything has started.
"""

from singlerun.errors import RecordError, StateDirError
from singlerun.render.line import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from singlerun.store.sqlite import SqliteStore

    Result = TypeVar("Result")
    Default = TypeVar("Default")


class Recorder:
    """A store that may be missing.

    Attributes:
        store: None as soon as it has failed.
        required: whether a failure is an error.
    """

    __slots__ = ("required", "store")

    def __init__(self, open_store: "Callable[[], SqliteStore]", *, required: bool) -> None:
        self.required = required
        self.store: SqliteStore | None = None
        try:
            self.store = open_store()
        except (RecordError, StateDirError) as error:
            self._failed(error)

    def attempt(
        self, verb: "Callable[[SqliteStore], Result]", otherwise: "Default"
    ) -> "Result | Default":
        """Ask the store for something; ``otherwise`` if it can't tell.

        Raises:
            RecordError: it failed, and a record is required.
        """
        if self.store is None:
            return otherwise
        try:
            return verb(self.store)
        except RecordError as error:
            self._failed(error)
            return otherwise
        finally:
            if self.store is not None:
                for notice in self.store.notices:
                    say(notice)
                self.store.notices.clear()

    def _failed(self, error: RecordError | StateDirError) -> None:
        self.store = None
        if self.required:
            raise error
        say(f"{error}; this run goes on without a record")
