"""ARCHITECTURE.md and SECURITY.md name files that there are, and tell of all of them."""

import re

import pytest
from documents import ROOT

PACKAGE = ROOT / "singlerun"


def named(document):
    """Return the paths in backticks, with the directories that say where they are."""
    text = (ROOT / document).read_text()
    words = {word.split()[0] for word in re.findall(r"`([^`]+)`", text)}
    return {
        word
        for word in words
        if re.fullmatch(r"[\w/]+\.py|[a-z]+/|(?:tests|[a-z]+)/[\w/.]+", word)
        and word not in {"workers/", "drainers/"}
    }


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "SECURITY.md"])
def test_named_files_exist(document):
    paths = named(document)
    assert len(paths) >= 6
    missing = {
        path
        for path in paths
        if not any((root / path).exists() for root in (ROOT, PACKAGE, ROOT / "tests"))
    }
    assert missing == set()


def test_every_part_of_the_package_is_described():
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## Where things are")[2]
    table = table.partition("\n## ")[0]
    parts = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    parts |= {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert {part for part in parts if f"`{part}`" not in table} == set()


def test_every_guarantee_has_a_place_and_a_test():
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## What is guaranteed")[2]
    rows = re.findall(r"^\| (\d+) \| \*\*.*?\*\*.* \| (.*) \| (.*) \|$", table, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 14))
    for _, holders, tests in rows:
        assert "`" in holders
        assert "`tests/" in tests
