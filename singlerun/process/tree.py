"""All that a command has started: its process group, its descendants, and who carries its marks.

None of the three is enough. A child may leave the group (setsid); whose parent has ended is
nobody's descendant any more; a program may clean its environment. What was seen is remembered.
"""

import os
import signal
import time

from singlerun.process import procfs
from singlerun.process.signals import ENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class ProcessTree:
    """The processes of one run.

    Attributes:
        leader: the command's PID; not waited for yet, so that neither it nor its group's number can
            have been given to a stranger.
    """

    def __init__(
        self,
        leader: int,
        *,
        run_id: int | None,
        token: int,
        owns_group: bool,
        adopted: bool,
        strangers: "Iterable[int]" = (),
    ) -> None:
        """Name a family by its leader, its marks, whether it has a group of its own, and whether
        its orphans become our children; ``strangers`` are children of ours that are none of it.
        """
        self.leader = leader
        self._adopted = adopted
        self._marks = (run_id, token)
        self._owns_group = owns_group
        self._known: set[int] = {leader}
        self._strangers = frozenset(strangers)

    def live(self) -> list[int]:
        """Give the PIDs of those that are alive."""
        self._known.update(procfs.marked(*self._marks))
        if self._owns_group:
            self._known.update(procfs.group(self.leader))
        ours = (os.getpid(),) if self._adopted else ()
        self._known.update(procfs.descendants((*self._known, *ours)))
        self._known -= self._strangers
        return [pid for pid in self._known if procfs.is_live(pid)]

    def send(self, number: int) -> None:
        """Send a signal to all of them; one that asks to end continues who was stopped, too."""
        # Before the signal ends a parent, and its children are nobody's; the leader also where
        # /proc can't be read.
        live = {self.leader, *self.live()}
        if self._owns_group:
            _kill(-self.leader, number)  # all at once, so none can slip through by forking
        for pid in live:
            if not (self._owns_group and _group_of(pid) == self.leader):
                _kill(pid, number)
            if number in ENDING:
                _kill(pid, signal.SIGCONT)

    def end(self, deadline: float) -> None:
        """Wait for the end of all until the deadline (time.monotonic), then kill the rest."""
        while left := self._others():
            if not procfs.await_end(left, max(0, deadline - time.monotonic())):
                while left := self._others():  # until none is left that forks
                    self.send(signal.SIGKILL)
                    if not procfs.await_end(left, 1):
                        return  # in a system call that can't be interrupted, or not ours to kill
                return

    def _others(self) -> list[int]:
        return [pid for pid in self.live() if pid != self.leader]


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
