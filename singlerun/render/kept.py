"""What output is kept, of which runs: newest first."""

from singlerun.render.history import ago
from singlerun.render.refusal import clock
from singlerun.render.result import Result
from singlerun.render.text import command, names
from singlerun.size import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from singlerun.output.kept import Kept
    from singlerun.ownership.judge import Verdict


class KeptOutput(Result):
    """Kept output, each with its run, or None if that is not in the run-log.

    ``is_cut`` tells whether there is more, ``empty`` is what a terminal shows if there is none.
    """

    columns = ("ID", "NAME", "STATE", "BEGAN", "WRITTEN", "SIZE", "COMPRESSED", "COMMAND")
    spare = ("COMMAND", "WRITTEN", "BEGAN", "COMPRESSED")

    def __init__(
        self, found: "Sequence[tuple[Kept, Verdict | None]]", *, is_cut: bool = False,
        empty: str = "", errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._found, self._is_cut, self.empty = found, is_cut, empty

    def rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for kept, seen in self._found:
            name, state, began, argv = "-", "-", "-", "-"
            if seen is not None:
                run, state = seen.run, seen.state
                name, argv = names(run.names), command(run.argv)
                began = clock(run.started_ns or run.asked_ns)
            is_compressed = "yes" if kept.is_compressed else "no"
            cells = (ago(kept.written_ns), brief(kept.size), is_compressed, argv)
            rows.append((str(kept.run_id), name, state, began, *cells))
        return rows

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        runs = []
        for kept, seen in self._found:
            (run,) = [dict.fromkeys(json.fields_of_runs())] if seen is None else json.runs([seen])
            runs.append(run | json.kept_keys(kept))
        return {"runs": runs, "truncated": self._is_cut}
