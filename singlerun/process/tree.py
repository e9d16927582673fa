"""The process tree of a command: its process group, its descendants, and what bears its marks.

None of the three is enough: a child may leave the group (setsid), lose its parent, or clean its
environment. What was seen is remembered, with its start time. Where /proc cannot be used, the tree
is the command and its group.
"""

import os

from singlerun.process import termination
from singlerun.process.identity import start_time
from singlerun.process.procfs import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Collection, Iterable

    from singlerun.process.marks import Marks
else:
    import _signal


class ProcessTree:
    """The processes of one run."""

    def __init__(
        self, leader: int, marks: "Marks", *,
        owns_group: bool, adopted: bool, strangers: "Iterable[int]" = (),
    ) -> None:  # fmt: skip
        """``leader`` is the command's PID; not reaped yet, so that neither it nor its group's
        number can belong to a stranger. ``owns_group``: it leads a process group; ``adopted``: its
        orphans become our children, as are the ``strangers``, which are not of the tree, nor is
        what they have started.
        """
        self._leader, self._marks = leader, marks
        self._owns_group, self._adopted = owns_group, adopted
        self._strangers = frozenset(strangers)
        self._known: dict[int, int] = {}  # start times by PID

    def live(self) -> list[int]:
        """Return the PIDs of the live processes; nothing where /proc cannot be used."""
        snapshot = Snapshot()
        live = {pid: int(fields[19]) for pid, fields in snapshot.live().items()}
        found = {pid for pid, started in self._known.items() if live.get(pid) == started}
        found.add(self._leader)
        found.update(snapshot.marked(self._marks.run_id, self._marks.token))
        if self._owns_group:
            found.update(snapshot.group(self._leader))
        ours = (os.getpid(),) if self._adopted else ()
        found.update(snapshot.descendants((*found, *ours)))
        found -= self._strangers.union(snapshot.descendants(self._strangers))
        self._known = {pid: live[pid] for pid in found if pid in live}
        return list(self._known)

    def send(self, number: int) -> None:
        """Send a signal that asks to end, or SIGKILL, to all of them; continue what is stopped."""
        numbers = (number,) if number == _signal.SIGKILL else (number, _signal.SIGCONT)
        # Looked for first: the signal may end a parent, whose children are orphans then.
        others = self._others()
        for each in numbers:
            try:
                # A group gets it all at once, so that none can slip through by forking.
                os.kill(-self._leader if self._owns_group else self._leader, each)
            except (ProcessLookupError, PermissionError):
                pass
        if self._owns_group:
            others = [pid for pid in others if _group_of(pid) != self._leader]
        try:
            termination.send_each(others, numbers, self._confirm)
        except OSError:  # it became another user; or no descriptors are left, and SIGKILL follows
            pass

    def await_others(self, seconds: float) -> bool:
        """Sleep until all but the command have ended, or so long; return whether they have."""
        return termination.await_none(self._others, seconds)

    def _others(self) -> list[int]:
        return [pid for pid in self.live() if pid != self._leader]

    def _confirm(self, pids: "Collection[int]") -> list[int]:
        return [pid for pid in pids if start_time(pid) == self._known.get(pid)]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
