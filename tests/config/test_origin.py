"""What ``config show`` hides, and how it tells a value of a name's own table from a farther one."""

import os

import pytest

from singlerun.commands import config as command
from singlerun.config import origin, schema
from singlerun.config.reading import Reading
from singlerun.config.schema import Key
from singlerun.config.settings import Settings


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://user:password@example.org/services/secret?x", "https://example.org/…"),
        ("mailto:ops@example.org", "mailto:ops@example.org"),
        ("tgram:123:secret", "tgram:…"),
        ("ops", "ops"),
        (["https://a/b", "ops"], ["https://a/…", "ops"]),
        (1234, "…"),
    ],
)
def test_secrets_are_hidden(value, shown):
    assert origin.hidden(value) == shown


@pytest.fixture
def notify(monkeypatch):
    """Keys as those of notifications: addresses, and a table of free names."""
    free = Key("NAME", read=str, secret=True)
    keys = (
        Key("failure", read=str, many=True, secret=True),
        Key("refused-after", read=int),
        Key("targets", others=free),
    )
    monkeypatch.setattr(schema.NOTIFY, "keys", keys)


@pytest.mark.usefixtures("notify")
def test_tables_within_tables():
    reading = Reading([])
    reading.read_text(
        b"f",
        b"""[notify]
failure = "https://a/secret"
refused-after = 5
[notify.targets]
"an-address" = "https://b/secret"
[jobs.x.notify]
failure = ["https://c/secret", "https://d/secret"]
targets.more = "https://e/secret"
[jobs.y]
timeout = 1
""",
    )
    settings = Settings(reading.data())
    assert reading.problems == []
    assert settings.notify(b"y") == {
        "failure": ("https://a/secret",),
        "refused_after": 5,
        "targets": {"an-address": "https://b/secret"},
    }
    assert settings.notify(b"x") == {
        "failure": ("https://c/secret", "https://d/secret"),
        "refused_after": 5,
        "targets": {"an-address": "https://b/secret", "more": "https://e/secret"},
    }
    assert settings.options(b"x") == {}
    assert settings.table("notify") == settings.notify(b"y")
    shown = {
        each.key: (each.value, each.table, each.line)
        for each in origin.holding(reading, settings, b"x")
    }
    assert shown == {
        "notify.failure": (["https://c/…", "https://d/…"], "jobs.x.notify", 7),
        "notify.refused-after": (5, "notify", 3),
        "notify.targets.an-address": ("https://b/…", "notify.targets", 5),
        "notify.targets.more": ("https://e/…", "jobs.x.notify.targets", 8),
    }


@pytest.mark.usefixtures("notify")
def test_address_in_a_file_that_others_can_read(files):
    main = os.fsencode(files.user / "config.toml")
    assert command._set(main, "notify.failure", "https://a/secret").errors == []
    drop_in = files.user / "conf.d" / "90-set.toml"
    drop_in.chmod(0o644)
    (warning,) = command._set(main, "notify.failure", "https://b/secret").errors
    assert warning == f"others can read {drop_in}; if it is secret: chmod go-r {drop_in}"
    assert drop_in.stat().st_mode & 0o777 == 0o644, "whose mode it is has been decided"
    assert command._set(main, "notify.refused-after", "3").errors == []
