"""The live line keeps the place and the holder, whatever the names are."""

import pytest
from rich.cells import cell_len

from singlerun.render.waiting import fit

BY = "PID 12345 (/usr/bin/python3 /srv/app/manage.py import --all), user root, since 14:00:00 (2m)"
FREE = ", free in about 59m 58s"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("what", ["x", "n" * 120, "名" * 60, "🔒" * 60, "a + " * 30 + "b"])
@pytest.mark.parametrize("free", ["", FREE])
def test_place_and_holder_stay(width, what, free):
    line = fit(what, " (#12 in line)", free, BY, width)
    assert cell_len(line) <= width
    assert "waiting for " + what[:1] in line
    assert " (#12 in line)" in line
    assert ": held by PID 12345" in line


def test_names_that_fit_are_whole_and_so_is_all_the_rest():
    line = fit("sync", " (#1 in line)", FREE, BY, 200)
    assert line == f"waiting for sync (#1 in line){FREE}: held by {BY}"
    assert fit("sync", " (#1 in line)", FREE, BY, 80).startswith(
        f"waiting for sync (#1 in line){FREE}: held by PID 12345"
    )


def test_the_time_goes_before_the_names():
    name = "nightly-import-of-customers"
    line = fit(name, " (#1 in line)", FREE, BY, 79)
    assert line.startswith(f"waiting for {name} (#1 in line): held by PID 12345")
