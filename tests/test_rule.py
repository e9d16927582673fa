"""Rules of notification: WHEN:URL, on the command line and in the configuration."""

import pytest

from singlerun import event, rule
from singlerun.errors import UsageError


def parsed(text):
    return [(each.kind, each.number, each.target) for each in rule.parse(text)]


def test_rules():
    assert parsed("failure:ops") == [("failure", 0, "ops")]
    assert parsed("refused,overlong=1.5, queue-empty:mailto:a@b") == [
        ("refused", 3, "mailto:a@b"), ("overlong", 1.5, "mailto:a@b"),
        ("queue-empty", 0, "mailto:a@b"),
    ]  # fmt: skip
    assert parsed("refused=60:https://h:8443/x") == [("refused", 60, "https://h:8443/x")]
    assert set(rule.KINDS) == set(event.KINDS) - {"conflict"}


@pytest.mark.parametrize(
    "text",
    [
        "", "failure", "failure:", ":ops", "mailto:ops@example.org", "failur:ops", "failure=3:ops",
        "refused=0:ops", "refused=1.5:ops", "refused=:ops", "overlong=x:ops", "overlong=0.5:ops",
        "failure:two words", "failure:https://", "failure,,start:ops",
    ],
)  # fmt: skip
def test_what_is_no_rule(text):
    with pytest.raises(UsageError):
        rule.parse(text)


def test_the_configuration_adds_to_the_command_line():
    table = {
        "failure": ("ops", "mailto:a@b"), "queue_empty": "ops", "refused": ("ops",),
        "refused_after": 9, "overlong": ("ops",), "targets": {"ops": "https://h/x"},
    }  # fmt: skip
    found = rule.wanted(["failure,recovery:https://h/x"], table, overlong=1.5)
    assert [(each.kind, each.number, each.target) for each in found] == [
        ("failure", 0, "https://h/x"), ("recovery", 0, "https://h/x"),
        ("failure", 0, "mailto:a@b"), ("refused", 9, "ops"), ("overlong", 1.5, "ops"),
        ("queue-empty", 0, "ops"),
    ], "each once, whatever names its target"  # fmt: skip
    assert rule.address("ops", table) == "https://h/x"
    assert rule.address("other", table) is None
