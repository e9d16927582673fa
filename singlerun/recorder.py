"""A store that may fail, and must not trouble the command when it does.

Its failure is a warning, once, and the run goes on without a record; with ``--require-record`` it
is an error before anything has started.
"""

import time

from singlerun.errors import RecordError, StateDirError
from singlerun.render.line import say
from singlerun.store.sqlite import SqliteStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from singlerun.paths import StateDir
    from singlerun.process.identity import Owner
    from singlerun.process.marks import Marks
    from singlerun.store.run import Ending, Run

    Result = TypeVar("Result")
    Default = TypeVar("Default")


class Recorder:
    """A store that may be missing. Where it is, runs change all the same.

    If ``required``, a failure is an error, RecordError, of each verb; else the user is told by
    ``tell``.
    """

    def __init__(self, *, required: bool, tell: "Callable[[str], object]" = say) -> None:
        self.required, self.tell = required, tell
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
        """Return a store for another thread, None if there is none: connections stay in theirs."""
        return None if self._store is None or self._state is None else SqliteStore(self._state)

    def close(self) -> None:
        """Let go of the store, in a program that lives on and may fork."""
        if self._opened is not None:
            try:
                self._opened.close()
            except RecordError as error:
                self.tell(str(error))
            self._store = self._opened = None

    def attempt(
        self, verb: "Callable[[SqliteStore], Result]", otherwise: "Default"
    ) -> "Result | Default":
        """Use the store; return ``otherwise`` if it fails."""
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

    def wait(self, run: "Run") -> None:
        """Record that a run waits."""
        self.attempt(lambda store: store.wait_run(run), None)

    def start(self, run: "Run", parent: "Marks | None", *, heed_pause: bool = True) -> None:
        """Record that a run starts; raise PausedError if ``heed_pause``, and its name is paused."""
        self.attempt(lambda store: store.start_run(run, parent, heed_pause=heed_pause), None)
        if run.started_ns is None:
            # Its marks need a token that stays the same, and is no other's (store/sqlite.py).
            run.apply(run.starts(time.time_ns() // 1000, None))

    def name(self, run: "Run", command: "Owner") -> None:
        """Record the process of a run's command."""
        run.apply(run.is_named(command))
        self.attempt(lambda store: store.name_command(run, command), None)

    def hand_over(self, run: "Run", keeper: "Owner", fd: int) -> None:
        """Record that another process keeps the lock of a run, through its descriptor."""
        self.attempt(lambda store: store.hand_over(run, keeper, fd), None)

    def finish(self, run: "Run", ending: "Ending") -> bool:
        """Record how a run ended; return whether jobs wait in the queue of its name."""
        have_jobs = self.attempt(lambda store: store.finish_run(run, ending), otherwise=False)
        if run.ended_ns is None:
            run.apply(run.ends(ending))
        return have_jobs

    def refuse(
        self, run: "Run", state: str, detail: str, *, conflict_id: int | None = None,
        signal: int | None = None,
    ) -> None:  # fmt: skip
        """Record that a run was not started."""
        more = {"conflict_id": conflict_id, "signal": signal}
        self.attempt(lambda store: store.refuse_run(run, state, detail, **more), None)
        if run.ended_ns is None:
            run.apply(run.is_refused(state, detail, **more))

    def failed(self, error: RecordError | StateDirError) -> None:
        """Warn that there will be no record; raise the error if one is required."""
        self._store = None
        if self.required:
            raise error
        self.tell(f"{error}; this run goes on without a record")
