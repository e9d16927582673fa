"""Tables: Rich on a terminal, plain columns in a pipe."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2
PADDED = 40
"""Width up to which cells are padded where there is no terminal to fit."""
SHRINK = ("NAME", "COMMAND")
STYLES = {
    "running": "green", "waiting": "yellow", "zombie": "red", "orphan": "magenta",
    "succeeded": "green", "failed": "red", "stopped": "yellow", "lost": "red", "timed-out": "red",
    "refused": "yellow", "skipped": "dim", "queued": "yellow", "delayed": "yellow",
    "paused": "cyan", "cancelled": "dim",
}  # fmt: skip


def show(columns: "Sequence[str]", rows: "Sequence[Sequence[str]]") -> None:
    """Print a table of safe text; on a terminal, cut the columns that SHRINK until it fits."""
    if sys.stdout is not None and sys.stdout.isatty():
        _show_rich(columns, rows)
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):  # nothing is cut, but one long cell must not push all others away
        cells = (cell.ljust(min(width, PADDED)) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _show_rich(columns: "Sequence[str]", rows: "Sequence[Sequence[str]]") -> None:
    from rich.console import Console  # noqa: PLC0415 - 45 ms that a pipe need not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    widths = _fit(columns, rows, console.width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, no_wrap=True, overflow="ellipsis", width=width)
    for row in rows:
        cells = [Text(cell) for cell in row]
        for column, cell in zip(columns, cells, strict=True):
            if column == "STATE":
                cell.style = STYLES.get(cell.plain.partition(" ")[0], "")
        table.add_row(*cells)
    # Columns that do not shrink are not cut either: a narrow terminal wraps instead.
    console.width = max(console.width, sum(widths) + GAP * len(widths))
    console.print(table)


def _fit(columns: "Sequence[str]", rows: "Sequence[Sequence[str]]", width: int) -> list[int]:
    """Return the widths; those that shrink share what the others leave, short ones first."""
    from rich.cells import cell_len  # noqa: PLC0415 - wide characters take two cells

    widths = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    left = width - GAP * (len(columns) - 1)
    left -= sum(size for name, size in zip(columns, widths, strict=True) if name not in SHRINK)
    giving = sorted((widths[columns.index(name)], columns.index(name)) for name in SHRINK)
    for others, (natural, position) in zip(range(len(giving), 0, -1), giving, strict=True):
        widths[position] = max(len(columns[position]), min(natural, left // others))
        left -= widths[position]
    return widths
