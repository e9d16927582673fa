"""What a subcommand returns, and the one function that shows it and returns the exit status.

A subcommand parses, calls, and returns a Result, or yields several while it goes on. Only ``show``
prints: errors and warnings to standard error, the rest as text or as JSON to standard output.
"""

import sys

from singlerun.paths import reason
from singlerun.render import table
from singlerun.render.line import say
from singlerun.render.style import encodable, is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SCHEMA = 1


class Result:
    """What a subcommand found or did. Subclasses render theirs as a table, lines, and JSON.

    ``errors`` are lines for standard error, ``status`` is the exit status.
    """

    columns: "Sequence[str]" = ()
    """The header of the table; empty if there is none."""
    spare: "Sequence[str]" = ()
    """The columns that a narrow terminal leaves out, the first one first."""
    empty = ""
    """What a terminal shows instead of a table without rows."""

    def __init__(self, *lines: str, errors: "Iterable[str]" = (), status: int = 0) -> None:
        self._lines, self.errors = lines, list(errors)
        self.status = status

    def rows(self) -> "list[tuple[str, ...]]":
        """Return the rows of the table, made safe to show."""
        return []

    def lines(self) -> "Iterable[str]":
        """Return the lines to print below the table, made safe to show."""
        return self._lines

    def heading(self) -> "Iterable[str]":
        """Return the lines that a terminal shows above the table, made safe to show."""
        return ()

    def left_out(self) -> "Iterable[str]":
        """Return what is not shown, a line each, for standard error."""
        return ()

    def document(self) -> dict[str, object]:
        """Return what ``--json`` prints, without the schema."""
        return {}

    def known_fields(self) -> "Iterable[str]":
        """Return the fields that ``--format`` takes: the keys of runs or jobs in JSON."""
        return ()

    def records(self) -> "list[dict[str, object]]":
        """Return the runs and jobs of which ``--format`` prints fields."""
        document = self.document()
        found = [document.get(kind, ()) for kind in ("runs", "jobs")]
        return [record for records in found for record in records]  # type: ignore[attr-defined]

    def print(self) -> None:
        """Print it for people."""
        terminal = is_terminal()
        if self.columns:
            rows = self.rows()
            for line in self.heading() if terminal else ():
                print(encodable(line))
            if rows or not terminal:
                table.show(self.columns, rows, self.spare)
            else:
                print(self.empty)
        for line in self.lines():
            print(line)


def show(
    results: "Result | Iterable[Result]", *, as_json: bool = False,
    fields: "Sequence[str] | None" = None,
) -> int:  # fmt: skip
    """Print results as they come; return the first exit status that is not 0.

    ``fields`` are those of each run and job to print, and nothing else. Raises UnknownFieldError
    if there is no such field.
    """
    status = 0
    for result in [results] if isinstance(results, Result) else results:
        for error in result.errors:
            say(error)
        try:
            _print(result, as_json=as_json, fields=fields)
        except BrokenPipeError:  # ps | head
            return 141
        except OSError as error:
            say(f"cannot write the output: {reason(error)}")
            return 125
        for line in () if as_json else result.left_out():  # JSON says it itself
            say(line)
        status = status or result.status
    return status


def _print(result: Result, *, as_json: bool, fields: "Sequence[str] | None") -> None:
    if fields is not None:
        from singlerun.render import plain  # noqa: PLC0415

        plain.show(result, fields)
    elif as_json:
        import json  # noqa: PLC0415

        print(json.dumps({"schema": SCHEMA, **result.document()}, indent=2))
    else:
        result.print()
    if sys.stdout is not None:
        sys.stdout.flush()
