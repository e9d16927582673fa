"""Chosen fields of runs and jobs, for scripts: ``--format id,name,state``."""

from singlerun.errors import UsageError
from singlerun.render.text import quoted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from singlerun.render.result import Result


class UnknownFieldError(Exception):
    """There is no field of this name."""


def read_fields(text: str) -> tuple[str, ...]:
    """Read the names of fields, separated by commas."""
    fields = tuple(field.strip() for field in text.split(","))
    if not all(fields):
        raise UsageError(f"bad format {text!r}: write fields such as id,name,state")
    return fields


def show(result: "Result", fields: "Sequence[str]") -> None:
    """Print a line for each run and job: the values of these fields, separated by tabs.

    Raises UnknownFieldError if there is no such field.
    """
    known = list(result.known_fields())
    for field in fields:
        if field not in known:
            raise UnknownFieldError(f"there is no field {field!r}; there are: {', '.join(known)}")
    for record in result.records():
        print("\t".join(value(record.get(field)) for field in fields))


def value(of: object) -> str:
    """Return a value of JSON as a cell: null as a dash, a list as words that a shell reads.

    Control characters are escaped, so that no cell has a tab or a newline in it.
    """
    if of is None or of == "":
        return "-"
    if isinstance(of, bool):
        return "true" if of else "false"
    if isinstance(of, list | tuple):
        return " ".join(quoted(shown(str(word))) for word in of) or "-"
    return shown(str(of))
