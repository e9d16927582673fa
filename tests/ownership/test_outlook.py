"""What is expected of runs and jobs, by how long the same took before."""

import time

import pytest

from singlerun.ownership.judge import ORPHAN, ZOMBIE, Verdict
from singlerun.ownership.outlook import Outlook, is_overlong
from singlerun.process.identity import this_process
from singlerun.store.queue import Job
from singlerun.store.run import RUNNING, WAITING, Run

MINUTE = 60 * 10**9
NOW = 10**18


class Past:
    """The durations of a store."""

    def __init__(self, **minutes):
        self.reads = 0
        self.found = {name.encode(): [((b"c",), count * MINUTE)] for name, count in minutes.items()}

    def durations(self, name):
        self.reads += 1
        return self.found.get(name, [])


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: NOW)


def verdict(number, names, state=RUNNING, *, ran=0, **more):
    run = Run(
        names=tuple(name.encode() for name in names.split()), argv=(b"c",), wrapper=this_process(),
        uid=0, asked_ns=NOW - MINUTE, **more,
    )  # fmt: skip
    run.id, run.state = number, WAITING if state == WAITING else RUNNING
    run.started_ns = None if state == WAITING else NOW - ran * MINUTE
    return Verdict(run, state, [])


def starts(past, verdicts, places):
    found = Outlook(past).look(verdicts, places)
    return [
        None if seen.starts_ns is None else (seen.starts_ns - NOW) / MINUTE
        for seen in found
        if seen.state == WAITING
    ]


def test_waiters_start_one_after_the_other():
    runs = [verdict(1, "x", ran=2), verdict(2, "x", WAITING), verdict(3, "x", WAITING)]
    assert starts(Past(x=5), runs, {2: 1, 3: 2}) == [3, 8]
    assert starts(Past(x=5), runs, {2: 2, 3: 1}) == [8, 3], "in order of their places"
    assert starts(Past(), runs, {2: 1, 3: 2}) == [None, None]
    assert starts(Past(x=1), runs, {2: 1, 3: 2}) == [None, None], "the holder takes longer"


def test_a_waiter_for_several_names_starts_when_all_are_free():
    runs = [verdict(1, "x", ran=2), verdict(2, "y", ran=1), verdict(3, "x y", WAITING)]
    assert starts(Past(x=5, y=9), runs, {3: 1}) == [8]
    assert starts(Past(x=5), runs, {3: 1}) == [None], "it is not known when y is free"


def test_slots_are_taken_as_they_become_free():
    slots = {"slots": 2, "shared": True}
    runs = [verdict(1, "x", ran=4, **slots), verdict(2, "x", ran=1, **slots)]
    runs += [verdict(number, "x", WAITING, **slots) for number in (3, 4, 5)]
    assert starts(Past(x=5), runs, {3: 1, 4: 2, 5: 3}) == [1, 4, 6]
    assert [seen.taken for seen in Outlook(Past()).look(runs, {})] == [2, 2, None, None, None]


def test_readers_start_together():
    runs = [verdict(1, "x", ran=2)]
    runs += [verdict(number, "x", WAITING, shared=True) for number in (2, 3)]
    runs += [verdict(4, "x", WAITING)]
    assert starts(Past(x=5), runs, {2: 1, 3: 2, 4: 3}) == [3, 3, 8]


def test_lock_files_are_apart_from_names():
    runs = [
        verdict(1, "x", ran=2, lock_file=b"/x"), verdict(2, "x", WAITING, lock_file=b"/x"),
        verdict(3, "x", WAITING),
    ]  # fmt: skip
    assert starts(Past(x=5), runs, {2: 1, 3: 1}) == [3, 0]


def test_queued_jobs_start_in_turn():
    def job(number, name, place):
        found = Job(name=name, argv=(b"c",))
        found.id, found.place = number, place
        return found

    past = Past(x=5)
    outlook = Outlook(past)
    runs = outlook.look([verdict(1, "x", ran=2)], {})
    jobs = [
        job(7, b"x", 1),
        job(8, b"x", 2),
        job(9, b"x", None),
        job(10, b"y", 1),
        job(11, b"y", 2),
    ]
    found = outlook.starts_of(jobs, runs)
    assert {number: (start - NOW) / MINUTE for number, start in found.items()} == {
        7: 3,
        8: 8,
        10: 0,
    }
    assert past.reads == 2, "each name once"


def test_the_usual_duration_is_that_of_the_command_or_else_of_the_name():
    past = Past()
    past.found[b"x"] = [((b"a",), length) for length in (1, 9, 2)] + [((b"b",), 100)]
    outlook = Outlook(past)
    assert outlook.usual_ns(b"x", (b"a",)) == 2
    assert outlook.usual_ns(b"x", (b"b",)) == 100
    assert outlook.usual_ns(b"x", (b"other",)) == 9


def test_far_too_long():
    assert not is_overlong(None, MINUTE)
    assert not is_overlong(100 * MINUTE, None)
    assert not is_overlong(2 * MINUTE + 10 * 10**9, MINUTE)
    assert is_overlong(2 * MINUTE + 10 * 10**9 + 1, MINUTE)
    found = Outlook(Past(x=1)).look(
        [verdict(1, "x", ran=9), verdict(2, "x", ORPHAN, ran=9), verdict(3, "x", ZOMBIE, ran=9)], {}
    )
    assert [seen.is_overlong for seen in found] == [True, True, False]


def test_a_zombie_took_until_it_was_last_seen():
    (seen,) = Outlook(Past()).look([verdict(1, "x", ZOMBIE, ran=9)], {})
    assert seen.elapsed_ns is None
    seen.last_sign_ns = NOW - 3 * MINUTE
    assert seen.elapsed_ns == 6 * MINUTE
