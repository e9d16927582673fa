"""Events: what they say, and that nothing changes them."""

import json

import pytest

from singlerun.event import KINDS, Event, of_end
from singlerun.process.identity import this_process
from singlerun.render.json import fields_of_runs
from singlerun.store.run import REFUSED, SKIPPED, Ending, Outcome, Run


def a_run(*argv, names=(b"x",), job_id=None):
    run = Run(
        names=names, argv=argv or (b"true",), wrapper=this_process(), uid=0, asked_ns=10**18,
        job_id=job_id,
    )  # fmt: skip
    run.apply(run.starts(None, None))
    return run


def ended(exit_code):
    run = a_run()
    run.apply(run.ends(Ending(Outcome(exit_code))))
    return run


@pytest.mark.parametrize("attribute", Event.__slots__)
def test_it_cannot_be_changed(attribute):
    event = Event("start", b"x")
    with pytest.raises(AttributeError, match="cannot be changed"):
        setattr(event, attribute, "other")
    with pytest.raises(AttributeError, match="cannot be changed"):
        delattr(event, attribute)


def test_a_kind_is_one_of_those_there_are():
    with pytest.raises(ValueError, match="strat"):
        Event("strat", b"x")
    assert [Event(kind, b"x").kind for kind in KINDS] == list(KINDS)


def test_json_has_the_run_as_json_elsewhere():
    event = Event("start", b"x", run=a_run(b"frob", b"a b", job_id=7), at_ns=10**18 + 5_000)
    document = event.as_json()
    assert list(document) == [
        "schema", "event", "at", "host", "name", "run", "job_id", "exit_status", "count", "usual_s",
    ]  # fmt: skip
    assert list(document["run"]) == fields_of_runs()
    assert document["at"] == "2001-09-09T01:46:40.000005Z"
    assert (document["job_id"], document["exit_status"]) == (7, None)
    assert document["run"]["command"] == ["frob", "a b"]
    assert document["host"] == this_process().place.host
    said = json.loads(event.as_text())
    assert said["run"].pop("elapsed_s") >= document["run"].pop("elapsed_s"), "it runs still"
    assert said == document


def test_an_event_may_be_about_no_run():
    event = Event("refused", b"\xff", count=3, usual_ns=1_500_000_000, host="db1")
    document = json.loads(event.as_text())
    assert (document["run"], document["count"], document["usual_s"]) == (None, 3, 1.5)
    assert (document["name"], document["host"]) == ("\udcff", "db1")


def test_kind_of_an_end():
    assert of_end(ended(0), 0).kind == "success"
    failed = of_end(ended(3), 3)
    assert (failed.kind, failed.exit_status, failed.at_ns) == ("failure", 3, failed.run.ended_ns)
    for state in (REFUSED, SKIPPED):
        run = a_run()
        run.apply(run.is_refused(state, "held"))
        assert of_end(run, 0).kind == "conflict"


@pytest.mark.parametrize(
    "word", [b"x" * 200_000, b"\xff" * 200_000, '"\N{SNOWMAN}'.encode() * 9_999]
)
@pytest.mark.parametrize("times", [1, 1_000])
def test_text_that_is_too_long_is_shortened_and_says_so(word, times):
    run = a_run(*[word[: 400_000 // times]] * times, names=(b"n" * 50_000, b"m"))
    text = Event("start", b"n" * 50_000, run=run).as_text(100_000)
    assert len(text) <= 100_000
    document = json.loads(text)
    assert document["shortened"] is True
    assert document["event"] == "start"
    assert document["run"]["started_at"] is not None
