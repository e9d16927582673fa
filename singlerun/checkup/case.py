"""What is examined: a state directory, and what is read of it without changing it."""

import os
import pwd

from singlerun.errors import RecordError, StateDirError
from singlerun.paths import StateDir
from singlerun.store.database import FILE
from singlerun.store.readonly import ReadOnlyDatabase
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.timings import CHECK_PATIENCE


class Case:
    """A state directory and the user that examines it.

    Attributes:
        path: the state directory's absolute path, which need not exist.
        uid: the user.
    """

    def __init__(self, path: bytes) -> None:
        self.path = os.path.abspath(path)
        self.uid = os.geteuid()

    @property
    def shown(self) -> str:
        """The path, for a person."""
        return os.fsdecode(self.path)

    def state(self) -> StateDir | None:
        """Open the state directory; None if it is not there. StateDirError: it is not trusted."""
        try:
            return StateDir(self.path, create=False)
        except FileNotFoundError:
            return None

    def store(self) -> SqliteQueue | None:
        """Return the record, to be read for a few seconds; None if it was not begun yet.

        Raises RecordError if its directory is not trusted.
        """
        self.trust()
        return record_in(self.path)

    def trust(self) -> None:
        """Raise RecordError unless only this user may change what is in the directory."""
        try:
            state = self.state()
        except StateDirError as error:
            raise RecordError(self.shown, *error.args[1:]) from None
        if state is not None:
            state.close()


def record_in(directory: bytes) -> SqliteQueue | None:
    """Return the record in a directory, to be read for a few seconds; None if there is none."""
    if not os.path.lexists(os.path.join(directory, FILE)):
        return None
    return SqliteQueue(ReadOnlyDatabase(directory, CHECK_PATIENCE / 2))


def user_of(uid: int) -> str:
    """Return a user's name, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
