"""Tables: Rich on a terminal, plain columns in a pipe."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STYLES = {
    "running": "green", "waiting": "yellow", "zombie": "red", "orphan": "magenta",
    "succeeded": "green", "failed": "red", "stopped": "yellow", "lost": "red",
    "refused": "yellow", "skipped": "dim",
}  # fmt: skip


def show(
    columns: "Sequence[str]",
    rows: "Sequence[Sequence[str]]",
    *,
    styled: str = "STATE",
    shrinking: "Sequence[str]" = ("NAME", "COMMAND"),
) -> None:
    """Print a table. On a terminal the ``shrinking`` columns give way until it fits.

    Cells must be safe to show (render/text.py).
    """
    if sys.stdout.isatty():
        _show_rich(columns, rows, styled, shrinking)
    else:
        _show_plain(columns, rows)


def _show_plain(columns: "Sequence[str]", rows: "Sequence[Sequence[str]]") -> None:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _show_rich(
    columns: "Sequence[str]",
    rows: "Sequence[Sequence[str]]",
    styled: str,
    shrinking: "Sequence[str]",
) -> None:
    from rich.console import Console  # noqa: PLC0415 - 45 ms that a pipe needn't pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        shrinks = column in shrinking
        table.add_column(
            column,
            no_wrap=True,
            overflow="ellipsis",
            min_width=None
            if shrinks
            else max(len(column), *(len(row[columns.index(column)]) for row in rows))
            if rows
            else len(column),
            ratio=None,
        )
    for row in rows:
        table.add_row(
            *(
                Text(cell, style=STYLES.get(cell, "") if column == styled else "")
                for column, cell in zip(columns, row, strict=True)
            )
        )
    Console(highlight=False).print(table)
