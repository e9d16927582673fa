"""What the manual says of doctor is what its checks do."""

import json
import re

from documents import items, section

from singlerun.checkup import checks, queues, space
from singlerun.timings import CHECK_PATIENCE


def text(title):
    return " ".join(" ".join(section("doctor", title)).split())


def test_manual_lists_the_checks():
    listed = re.findall(
        r"^\.It Cm (\S+)", "\n".join(section("doctor", "DESCRIPTION")), re.MULTILINE
    )
    assert listed == list(checks.CHECKS)


def test_manual_names_the_limits():
    said = text("DESCRIPTION")
    assert f"within {CHECK_PATIENCE:g} seconds" in said
    assert f"at least {space.LEAST_BYTES // 2**20} MB and {space.LEAST_FILES} files" in said
    assert queues.LONG_PAUSE_NS == 7 * 86_400 * 10**9
    assert "more than a week" in said
    assert queues.FRESH == 86_400
    assert "complained within a day" in said


def test_manual_lists_the_keys(cli):
    document = json.loads(cli.run("doctor", "--json").stdout)
    listed = re.findall(r"Va (\w+)", " ".join(items("doctor", "JSON")))
    assert set(listed) | {"schema"} == set(document)
    more = re.findall(r"^\.Va (\w+)", "\n".join(section("doctor", "JSON")), re.MULTILINE)
    assert {"check", "level", "where", "what", "remedy", "command"} <= set(more)
    assert {key for each in document["checks"] for key in each} <= {*more}
