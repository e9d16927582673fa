"""What is told of a change: that a success is overdue, and that one has come, each once."""

import pytest

from singlerun import alarm, config, notify
from singlerun.store.sqlite_queue import SqliteQueue
from singlerun.survey import Surveyor

EXPECT = 3600.0


@pytest.fixture
def kind():
    return SqliteQueue


@pytest.fixture
def told(monkeypatch):
    """Return a list of what is told: the kind of each event, and its name."""
    events = []
    monkeypatch.setattr(notify, "tell", lambda _settings, event, _state: events.append(event))
    return events


@pytest.fixture
def check(state, store):
    """Return a function that finds these words wrong with names, and tells of changes."""
    settings = config.load(None)

    def check(**words):
        names = [name.encode() for name in words]
        survey = Surveyor(state, store, settings, {"expect": EXPECT}).of(names)
        found = list(zip(survey.watched, words.values(), strict=True))
        return alarm.changed(state, store, settings, found)

    return check


def kinds(told):
    return [(event.kind, event.name) for event in told]


def test_what_is_overdue_is_told_once_and_so_is_the_recovery(check, told):
    assert check(x="overdue") == {b"x"}
    assert check(x="overdue") == set()
    assert kinds(told) == [("overdue", b"x")]
    assert check(x="") == {b"x"}
    assert check(x="") == set()
    assert kinds(told) == [("overdue", b"x"), ("recovery", b"x")]
    assert check(x="overdue") == {b"x"}
    assert kinds(told)[2:] == [("overdue", b"x")]


def test_other_changes_are_no_event(check, told):
    assert check(x="failed") == {b"x"}
    assert check(x="failed,paused") == {b"x"}
    assert check(x="") == {b"x"}
    assert told == []
    assert check(x="overdue,paused") == {b"x"}
    assert check(x="failed,overdue") == {b"x"}, "a change"
    assert kinds(told) == [("overdue", b"x")], "but it is overdue as before"


def test_each_name_by_itself(check, told):
    check(x="overdue", y="")
    check(x="", y="overdue")
    assert kinds(told) == [("overdue", b"x"), ("recovery", b"x"), ("overdue", b"y")]


def test_what_could_not_be_told_is_told_by_the_next_check(check, told, monkeypatch):
    def fail(settings, event, state):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(notify, "tell", fail)
        with pytest.raises(KeyboardInterrupt):
            check(x="overdue")
    assert check(x="overdue") == {b"x"}
    assert kinds(told) == [("overdue", b"x")]
