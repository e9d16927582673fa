"""Keeps the record's troubles away from the job.

A store that fails is a warning, once, and the run goes on without a record; with
``--require-record`` it is an error before anything has started.
"""

import time

from singlerun.errors import RecordError, StateDirError
from singlerun.render.line import say
from singlerun.store.base import RUNNING, WAITING, PausedError
from singlerun.store.sqlite import SqliteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from singlerun.outcome import Outcome
    from singlerun.paths import StateDir
    from singlerun.store.base import Run

    Result = TypeVar("Result")
    Default = TypeVar("Default")


class Recorder:
    """A store that may be missing.

    Attributes:
        required: whether a failure is an error.
        tell: what to call with what the user must be told.
    """

    __slots__ = ("_opened", "_state", "_store", "required", "tell")

    def __init__(self, *, required: bool, tell: "Callable[[str], object]" = say) -> None:
        self.required = required
        self.tell = tell
        self._store: SqliteStore | None = None
        self._opened: SqliteStore | None = None
        self._state: StateDir | None = None

    def open(self, state: "StateDir | None") -> None:
        """Begin to keep a record in this state directory, if there is one."""
        self._state = state
        if state is not None:
            self._store = self._opened = SqliteStore(state)

    def use(self, store: SqliteStore) -> None:
        """Keep the record in this store, which is open already."""
        self._store = store

    def another(self) -> SqliteStore | None:
        """Give a store of its own to another thread, None if there is none; connections stay."""
        return None if self._store is None or self._state is None else SqliteStore(self._state)

    def close(self) -> None:
        """Let go of the store: for who lives on, and may fork."""
        if self._opened is not None:
            try:
                self._opened.close()
            except RecordError as error:
                self.tell(str(error))
            self._store = self._opened = None

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
                self.tell(notice)
            store.notices.clear()

    def start(self, run: "Run", parent: tuple[int, int] | None, *, heed_pause: bool = True) -> None:
        """Record that a run starts.

        Raises:
            PausedError: its name is paused, and ``heed_pause`` is true.
        """
        run.state = RUNNING
        run.started_ns = time.time_ns()
        try:
            self.attempt(lambda store: store.start_run(run, parent, heed_pause=heed_pause), None)
        except PausedError:
            run.state = WAITING
            run.started_ns = None
            raise

    def refuse(self, run: "Run", state: str) -> None:
        """Record that a run was not started."""
        run.state = state
        run.ended_ns = time.time_ns()
        self.attempt(lambda store: store.refuse_run(run, state), None)

    def finish(self, run: "Run", outcome: "Outcome", state: str) -> bool:
        """Record how a run ended; tell whether jobs wait in the queue of its name."""
        run.finish(outcome, state)  # also where there is no store
        return self.attempt(lambda store: store.finish_run(run, outcome, state), otherwise=False)

    def failed(self, error: RecordError | StateDirError) -> None:
        """Warn that there will be no record.

        Raises:
            RecordError, StateDirError: this one, if a record is required.
        """
        self._store = None
        if self.required:
            raise error
        self.tell(f"{error}; this run goes on without a record")
