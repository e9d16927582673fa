"""What is kept: the defaults, the configuration, the command line."""

import pytest

from singlerun.errors import ConfigError, UsageError
from singlerun.pruning import rules
from singlerun.size import brief, parse


def values(found):
    return found.age, found.count, found.bytes, found.idle


def test_defaults():
    assert values(rules.of({})) == (400 * 86_400, 10_000, 2**30, 30 * 86_400)


def test_the_command_line_wins():
    table = {"age": 5.0, "count": 7, "bytes": 9, "idle": 3.0}
    assert values(rules.of(table)) == (5.0, 7, 9, 3.0)
    assert values(rules.of(table, older_than=1.0, keep=2)) == (1.0, 2, 9, 1.0)
    assert values(rules.of(table, older_than=100.0)) == (100.0, 7, 9, 3.0)


def configured(tmp_path, monkeypatch, text):
    file = tmp_path / "config.toml"
    file.write_text(text)
    monkeypatch.setenv("SINGLERUN_CONFIG", str(file))
    return rules.configured(str(tmp_path / "state").encode())


def test_the_configuration(tmp_path, monkeypatch):
    text = '[retention]\nage = "90d"\ncount = 10\nbytes = "1.5M"\nidle = "1h"\n'
    table = configured(tmp_path, monkeypatch, text)
    assert values(rules.of(table)) == (90 * 86_400, 10, 3 * 2**19, 3600)


def test_nothing_is_forgotten_while_the_configuration_has_a_mistake(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="nothing is forgotten until that is mended"):
        configured(tmp_path, monkeypatch, '[retention]\nage = "1y"\n')


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1k", 1024), ("500K", 512_000), ("1.5M", 3 * 2**19), ("1G", 2**30),
     ("2T", 2**41), ("10MiB", 10 * 2**20), ("7B", 7)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.2.3", ".", "1X", "1 G", "inf", "1e3", "K1"])
def test_no_sizes(text):
    with pytest.raises(UsageError, match="bad size"):
        parse(text)


def test_sizes_in_words():
    sizes = (0, 999, 1000, 1536, 10 * 1024, 2**20, 25 * 2**20, 2**30, 5 * 2**40, 5000 * 2**40)
    assert [brief(size) for size in sizes] == [
        "0 B", "999 B", "1.0 KiB", "1.5 KiB", "10 KiB", "1.0 MiB", "25 MiB", "1.0 GiB", "5.0 TiB",
        "5000 TiB",
    ]  # fmt: skip
