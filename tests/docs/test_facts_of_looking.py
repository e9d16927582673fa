"""What the manual says of why, stats and timeline is what the code has, or what a run prints."""

import json
import re

from documents import about, default_of, items, section

from singlerun import diagnosis
from singlerun.commands import stats as stats_command
from singlerun.render import picture, stats
from singlerun.store import periods


def text(form, title):
    return " ".join(section(form, title))


def test_manual_names_the_limits_of_why():
    said = text("why", "DESCRIPTION")
    assert f"latest {diagnosis.RECENT} runs" in said
    assert f"last {diagnosis.LATELY_DAYS} days" in said
    assert f"latest {periods.DEEPEST} runs" in said


def test_manual_lists_the_keys_of_why(cli):
    cli.run("pause", "x")
    document = json.loads(cli.run("why", "x", "--json").stdout)
    listed = re.findall(r"Va (\w+)", " ".join(items("why", "JSON")))
    assert {"schema", *listed} == set(document)
    more = re.findall(r"^\.Va (\w+)", "\n".join(section("why", "JSON")), re.MULTILINE)
    assert set(more) == {*document["reasons"][0], "reason", "count"}


def test_manual_lists_the_columns_and_limits_of_stats():
    listed = [name for item in items("stats", "DESCRIPTION") for name in item.split(" , ")]
    assert ("NAME", *listed) == stats.Stats.columns
    assert f"latest {stats.BARS} runs" in text("stats", "DESCRIPTION")
    assert f"The default is {stats_command.DEFAULT_DAYS} days" in about("stats", "--since")


def test_manual_names_the_limits_of_timeline():
    assert f"The default is {default_of('timeline', 'limit')}." in about("timeline", "--limit")
    assert f"latest {picture.MOST_ROWS} runs" in " ".join(about("timeline", "--html").split("\n"))


def test_manual_names_the_keys_of_stats_and_timeline(cli):
    cli.run("-n", "x", "true")
    for form in ("stats", "timeline"):
        document = json.loads(cli.run(form, "--json").stdout)
        named = re.findall(r"^\.Va (\w+)", about(form, "--json"), re.MULTILINE)
        assert {"schema", *named} == set(document), form
