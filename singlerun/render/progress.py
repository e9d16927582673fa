"""A count on the terminal while many jobs are read."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    Item = TypeVar("Item")

MANY = 10_000
"""Jobs above which a person wants to see progress."""


def counted(jobs: "Iterator[Item]") -> "Iterator[Item]":
    """Yield the jobs; if there are more than MANY, show on a terminal how many were read."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield from jobs
        return
    for count, job in enumerate(jobs, 1):
        yield job
        if count == MANY:
            break
    else:
        return
    from rich.console import Console  # noqa: PLC0415 - only for people
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("reading jobs"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None, completed=MANY)
        for count, job in enumerate(jobs, MANY + 1):
            yield job
            if count % 1000 == 0:
                progress.update(task, completed=count)
