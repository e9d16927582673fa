"""What ran and what was refused, newest first: as a table, as JSON, and as JSON lines."""

import time

from singlerun.duration import UNITS, brief
from singlerun.render.reason import reason
from singlerun.render.refusal import clock
from singlerun.render.result import Result
from singlerun.render.text import command, names
from singlerun.store.run import LOST, REFUSED, SKIPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from singlerun.ownership.judge import Verdict
    from singlerun.store.history import Line
    from singlerun.store.run import Run

NOTICEABLE_NS = 1_000_000_000
"""A shorter wait is only the time that a start takes."""


class History(Result):
    """Runs, newest first; several refusals by one holder are one line.

    ``lines`` and ``runs`` belong together; ``is_cut`` tells whether there are more of them, and
    ``empty`` is what a terminal shows if there are none.
    """

    columns = ("ID", "NAME", "STATE", "BEGAN", "AGO", "TIME", "WAITED", "REASON", "COMMAND")
    spare = ("BEGAN", "WAITED", "COMMAND", "TIME")

    def __init__(
        self, lines: "Sequence[Line]", runs: "list[Verdict]", *, is_cut: bool = False,
        empty: str = "No runs are recorded.", errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._found, self._runs, self._is_cut, self.empty = lines, runs, is_cut, empty

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (str(seen.run.id), names(seen.run.names), _state(seen.state, line),
             clock(_begun(seen.run)), ago(_begun(seen.run)), elapsed(seen.run), waited(seen.run),
             _reason(seen.run, line), command(seen.run.argv))
            for line, seen in zip(self._found, self._runs, strict=True)
        ]  # fmt: skip

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {"runs": json.runs(self._runs), "truncated": self._is_cut}

    def known_fields(self) -> "Iterable[str]":
        from singlerun.render import json  # noqa: PLC0415

        return json.fields_of_runs()


class JsonLines(Result):
    """Runs as JSON, one a line, read as they are printed.

    ``pages`` yields them; ``is_cut`` is asked at the end whether there are more.
    """

    def __init__(
        self, pages: "Iterable[list[Verdict]]", is_cut: "Callable[[], bool]", *,
        errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._pages, self._is_cut = pages, is_cut

    def print(self) -> None:
        import json as to_json  # noqa: PLC0415

        from singlerun.render import json  # noqa: PLC0415

        for page in self._pages:
            for run in json.runs(page):
                print(to_json.dumps(run))
        if self._is_cut():
            print(to_json.dumps({"truncated": True}))


def ago(time_ns: int) -> str:
    """Return how long ago a time is, in one unit: ``3m ago``."""
    seconds = max(0.0, (time.time_ns() - time_ns) / 1e9)
    unit = next((unit for unit, size in UNITS.items() if seconds >= size), "s")
    return f"{int(seconds // UNITS[unit])}{unit} ago"


def elapsed(run: "Run") -> str:
    """Return how long a run took, or has taken so far; a dash if it never ran or that is lost."""
    if run.elapsed_ns is not None:
        return brief(run.elapsed_ns / 1e9)
    if run.started_ns is None or run.state == LOST:
        return "-"
    return brief(((run.ended_ns or time.time_ns()) - run.started_ns) / 1e9)


def waited(run: "Run") -> str:
    """Return how long a run waited before it started or was refused; a dash if it did not."""
    until = run.started_ns or run.ended_ns or time.time_ns()
    waited_ns = until - run.asked_ns
    return brief(waited_ns / 1e9) if waited_ns >= NOTICEABLE_NS else "-"


def _begun(run: "Run") -> int:
    return run.started_ns or run.asked_ns


def _state(state: str, line: "Line") -> str:
    return state if line.count == 1 else f"{state} {line.count}x"


def _reason(run: "Run", line: "Line") -> str:
    why = reason(run)
    if line.count > 1 and run.state in {REFUSED, SKIPPED}:
        why = f"{why}, first at {clock(line.first_ns)}".lstrip(", ")
    return why
