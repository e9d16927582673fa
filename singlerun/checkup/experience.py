"""How long commands took, by what the record has of their latest runs."""

import os

from singlerun.process.search import find_program
from singlerun.spec import derived_name
from singlerun.store.run import SUCCEEDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.task import Task
    from singlerun.store.run import Run
    from singlerun.store.sqlite_queue import SqliteQueue

LOOKED_AT = 5000
"""The latest runs, of all names."""
SAMPLE = 20
"""The latest runs of a command that count."""


class Experience:
    """What is known of one command.

    Attributes:
        usual_ns, longest_ns: the median and the longest of its latest successful runs.
        names: the names under which it ran.
    """

    def __init__(self, lengths: list[int], names: set[bytes]) -> None:
        self.usual_ns = sorted(lengths)[len(lengths) // 2]
        self.longest_ns = max(lengths)
        self.names = names


class Record:
    """The latest runs, by their command."""

    def __init__(self, store: "SqliteQueue | None") -> None:
        self._store = store
        self._lengths: dict[tuple[str, ...], list[int]] = {}
        self._names: dict[tuple[str, ...], set[bytes]] = {}
        self.known_names: set[bytes] = set()
        for run in [] if store is None else store.runs(limit=LOOKED_AT):
            self.known_names.update(run.names)
            identity = identity_of(run)
            if run.state == SUCCEEDED and run.elapsed_ns is not None:
                self._lengths.setdefault(identity, []).append(run.elapsed_ns)
                self._names.setdefault(identity, set()).update(run.names)

    def of(self, task: "Task") -> Experience | None:
        """Return what is known of a task's command; None if it has not succeeded lately."""
        identity = task.identity()
        if identity is None or self._store is None:
            return None
        if lengths := self._lengths.get(identity, [])[:SAMPLE]:
            return Experience(lengths, self._names[identity])
        name = derived_name(list(identity))
        usual = self._store.usual_ns(name, tuple(map(os.fsencode, identity)))
        return None if usual is None else Experience([usual], {name})


def identity_of(run: "Run") -> tuple[str, ...]:
    """Return the command of a run with the path of its program, as far as that is known."""
    words = [os.fsdecode(word) for word in run.argv]
    program = words[0] if words else ""
    if "/" in program:
        program = os.path.normpath(os.path.join(os.fsdecode(run.cwd or b"/"), program))
    else:
        program = find_program(program) or program
    return (program, *words[1:])
