"""Ends of blocks that could not be recorded when they came: recorded with the next block.

As long as the program lives, such a block counts as running.
"""

from singlerun.store.run import Ending, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.paths import StateDir
    from singlerun.recorder import Recorder

    End = tuple[bytes, Run, Ending]

_ends: "list[End]" = []
"""Of which state directory, which run, and how it ended."""


def end(directory: bytes, run: Run, ending: Ending, recorder: "Recorder") -> None:
    """Record an end, or owe it."""
    done = None
    try:
        done = recorder.attempt(lambda store: store.finish_run(run, ending), None)
    finally:
        if done is None:
            _ends.append((directory, run, ending))


def record(state: "StateDir", recorder: "Recorder") -> None:
    """Record the ends that are owed to a state directory."""
    for owed in [owed for owed in _ends if owed[0] == state.path]:
        try:
            _ends.remove(owed)
        except ValueError:  # another thread does it
            continue
        end(*owed, recorder)
