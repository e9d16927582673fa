"""Figures: percentiles, rates, sparklines, and the table in each width."""

import pytest

from singlerun.render import stats
from singlerun.render.stats import Stats, percentile, sparkline
from singlerun.store.periods import Figures
from singlerun.store.run import FAILED, REFUSED, RUNNING, SUCCEEDED

SECOND = 10**9
NOON = 1_790_000_000 * SECOND


def figures(state=SUCCEEDED, took=1.0, *, names=b"x", waited=0.0, number=1, rss=2048):
    asked, started = NOON, NOON + round(waited * SECOND)
    ran = state != REFUSED
    elapsed = round(took * SECOND) if ran and state != RUNNING else None
    ended = None if state == RUNNING else started + (elapsed or 0)
    return Figures(
        (number, names, state, asked, started if ran else None, ended, elapsed, 500_000, 250_000,
         rss)
    )  # fmt: skip


def table(*found, name=None):
    (row,) = Stats(found, NOON, NOON + 1, name).rows()
    return dict(zip(Stats.columns, row, strict=True))


@pytest.mark.parametrize(
    "numbers, percent, expected",
    [
        ([], 50, None),
        ([7], 50, 7),
        ([7], 95, 7),
        ([1, 2], 50, 1),
        ([1, 2, 3], 50, 2),
        (range(1, 101), 95, 95),
        (range(1, 102), 95, 96),
        (range(1, 21), 95, 19),
        (range(1, 20), 95, 19),
        (range(1, 11), 100, 10),
    ],
)
def test_a_percentile_is_what_so_many_did_not_exceed(numbers, percent, expected):
    assert percentile(numbers, percent) == expected


def test_a_row_has_the_figures_of_a_name():
    found = [figures(took=number, number=number, rss=number * 1024) for number in range(1, 20)]
    found += [figures(FAILED, took=30, number=77, waited=5), figures(REFUSED), figures(RUNNING)]
    row = table(*found)
    assert (row["RUNS"], row["OK"], row["REFUSED"]) == ("21", "95.0%", "1")
    assert (row["P50"], row["P95"], row["LONGEST"]) == ("10s", "19s", "30s")
    assert (row["WAITED"], row["CPU"], row["MEMORY"]) == ("0.0s", "15s", "19 MB")
    (keys,) = Stats(found, NOON, NOON + 1).document()["stats"]
    assert (keys["longest_id"], keys["running"], keys["failed"]) == (77, 1, 1)
    assert keys["waited_longest_s"] == 5.0


def test_not_all_is_well_while_one_has_failed():
    assert table(*[figures()] * 10_000)["OK"] == "100%"
    assert table(figures(FAILED), *[figures()] * 10_000)["OK"] == "99.9%"


def test_what_is_unknown_is_a_dash():
    row = table(figures(REFUSED))
    assert {row[column] for column in ("OK", "P50", "P95", "LONGEST", "CPU", "MEMORY")} == {"-"}
    assert row["DURATIONS"] == "-"


def test_a_run_under_several_names_counts_for_each():
    found = [figures(names=b"x\0y"), figures(names=b"y")]
    assert [row[:2] for row in Stats(found, NOON, NOON + 1).rows()] == [("x", "1"), ("y", "2")]
    assert [row[:2] for row in Stats(found, NOON, NOON + 1, b"y").rows()] == [("y", "2")]


@pytest.mark.parametrize("is_unicode, bars", [(True, "▁▅█"), (False, "_=#")])
def test_a_sparkline_has_a_bar_for_each_value(monkeypatch, is_unicode, bars):
    monkeypatch.setattr(stats.style, "is_unicode", lambda: is_unicode)
    assert sparkline([0, 50, 100]) == bars
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == bars[0] * 2


def test_only_the_latest_durations_are_drawn():
    assert len(table(*[figures()] * 100)["DURATIONS"]) == stats.BARS
