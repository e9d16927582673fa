"""Tables: fitted to the width of a terminal, columns separated by tabs elsewhere."""

import sys

from singlerun.render.style import STYLES, cells, encodable, fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

GAP = 2
LEAST = {"NAME": 12, "REASON": 20, "COMMAND": 10}
"""Columns whose cells may be cut, and the width below which a spare column is left out instead."""
FAVOURED = "REASON"
"""The column that is cut last: it says what to do."""


class Alarming(str):
    """A cell that a terminal shows in red."""

    __slots__ = ()
    style = "red"


def show(
    columns: "Sequence[str]", rows: "Sequence[Sequence[str]]", spare: "Sequence[str]" = ()
) -> None:
    """Print a table of safe text; on a terminal, cut it to the width (see ``fitted``).

    Elsewhere nothing is cut: a header, then a line a row, the cells separated by tabs. No cell has
    a tab or a newline in it, and an empty one is a dash.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 - 45 ms that a pipe need not pay

        console = Console(highlight=False)
        for line in fitted(columns, rows, console.width, spare):
            console.print(line, soft_wrap=True)
        return
    for row in (columns, *rows):
        print("\t".join(cell or "-" for cell in row))


def fitted(
    columns: "Sequence[str]", rows: "Sequence[Sequence[str]]", width: int,
    spare: "Sequence[str]" = (),
) -> "list[Text]":  # fmt: skip
    """Return the lines of a table, header first, that fit a width.

    First the columns that are ``spare`` are left out, in this order, while those of LEAST would be
    narrower than that, and the header ends with an ellipsis; then the cells of LEAST are cut.
    """
    from rich.text import Text  # noqa: PLC0415

    table = [[encodable(cell or "-") for cell in row] for row in (columns, *rows)]
    kept = _kept(columns, table, width, spare)
    names = [columns[index] for index in kept]
    table = [[row[index] for index in kept] for row in table]
    widths = _widths(names, table, width)
    if len(kept) < len(columns) and widths[-1] < len(names[-1]) + GAP:
        widths = _widths(names, table, width - GAP)  # room for the ellipsis of the header
    lines = []
    for number, row in enumerate(table):
        line = Text(style="" if number else "bold")
        for name, cell, size in zip(names, row, widths, strict=True):
            style = getattr(cell, "style", "")
            if number and name == "STATE":
                style = STYLES.get(cell.partition(" ")[0], "")
            line.append(fit(cell, size), style)
            line.append(" " * GAP)
        line.rstrip()
        lines.append(line)
    if len(kept) < len(columns):
        lines[0].truncate(max(0, width - GAP))
        lines[0].append(" " + encodable("…"))
    return lines


def _kept(
    columns: "Sequence[str]", table: "list[list[str]]", width: int, spare: "Sequence[str]"
) -> list[int]:
    """Return the indices of the columns that are not left out."""
    natural = zip(columns, _natural(table), strict=True)
    least = [min(size, LEAST.get(name, size)) for name, size in natural]
    kept = list(range(len(columns)))
    for name in spare:
        if sum(least[index] + GAP for index in kept) - GAP <= width:
            break
        kept = [index for index in kept if columns[index] != name]
    return kept


def _widths(columns: "Sequence[str]", table: "list[list[str]]", width: int) -> list[int]:
    """Return the widths; the columns of LEAST share what the others leave, short ones first.

    FAVOURED is served before, as far as it leaves the others their least.
    """
    widths = _natural(table)
    left = width - GAP * (len(columns) - 1)
    left -= sum(size for name, size in zip(columns, widths, strict=True) if name not in LEAST)
    if FAVOURED in columns:
        at = columns.index(FAVOURED)
        others = sum(
            min(size, LEAST[name])
            for name, size in zip(columns, widths, strict=True)
            if name in LEAST and name != FAVOURED
        )
        widths[at] = max(len(FAVOURED), min(widths[at], left - others))
        left -= widths[at]
    giving = sorted(
        (widths[at], at) for at, name in enumerate(columns) if name in LEAST and name != FAVOURED
    )
    for others, (natural, at) in zip(range(len(giving), 0, -1), giving, strict=True):
        widths[at] = max(len(columns[at]), min(natural, left // others))
        left -= widths[at]
    return widths


def _natural(table: "list[list[str]]") -> list[int]:
    return [max(map(cells, column)) for column in zip(*table, strict=True)]


def cut(line: str, width: int) -> str:
    """Return a line that is no wider than a terminal."""
    return fit(encodable(line), width).rstrip()
