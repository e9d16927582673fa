"""Why a run ended so, in one phrase that needs no other column."""

import os

import pytest

from singlerun.outcome import Outcome
from singlerun.process.identity import this_process
from singlerun.render.reason import reason
from singlerun.store import run as states
from singlerun.store.run import Run


def ended(state, detail=None, outcome=None, *, started=True, name=b"x"):
    run = Run(names=(name,), argv=(b"true",), wrapper=this_process(), uid=os.getuid(), asked_ns=1)
    run.state, run.detail, run.outcome, run.ended_ns = state, detail, outcome, 9
    run.started_ns = 2 if started else None
    return run


HELD = "held by PID 12 (rsync -a src/ dst/), user root, since 14:00:00 (3m), usually takes 5m"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (ended("succeeded", outcome=Outcome(0)), ""),
        (ended("failed", outcome=Outcome(3)), "exit status 3"),
        (ended("failed", outcome=Outcome(None, 9)), "killed by SIGKILL"),
        (ended("failed", outcome=Outcome(None, 40)), "killed by signal 40"),
        (ended("failed", "x: not found", Outcome(127)), "x: not found"),
        (ended("failed", "ValueError", Outcome(1)), "ValueError"),
        (
            ended("timed-out", None, Outcome(None, 15, elapsed_ns=2 * 10**9, timed_out=True)),
            "timed out after 2.0s",
        ),
        (ended("stopped", outcome=Outcome(None, 15)), "stopped by SIGTERM"),
        (ended("stopped", outcome=Outcome(143)), "exit status 143"),
        (ended("stopped", "replaced by run 3, PID 4, user x", Outcome(None, 15)),
         "replaced by run 3, PID 4, user x"),
        (ended("stopped", "stopped before it started", Outcome(None, 2), started=False),
         "stopped before it started, by SIGINT"),
        (ended("stopped", "died while it waited", started=False), "died while it waited"),
        (ended("lost", "died without recording an exit status"),
         "died without recording an exit status"),
        (ended("lost"), "died without recording an exit status"),
        (ended("refused", HELD), "held by PID 12 (rsync -a src/ dst/)"),
        (ended("skipped", HELD), "held by PID 12 (rsync -a src/ dst/)"),
        (ended("refused", "held by PID 12 (x, user y), user root"), "held by PID 12 (x, user y)"),
        (ended("refused", "held by 3 runs, the oldest PID 12 (x), user y, since 14:00:00 (3m)"),
         "held by 3 runs, the oldest PID 12 (x)"),
        (ended("refused", "held by run 7 on far, user root, since 14:00:00 (3m)"),
         "held by run 7 on far"),
        (ended("refused", "held by a process that is not visible from here"),
         "held by a process that is not visible from here"),
        (ended("refused", "held by PID 3 on far, which cannot be checked from here (if it is"
               " dead: singlerun reap --break-lock 123)"), "held by PID 3 on far"),
        (ended("refused", "paused by root until 2026-11-25 14:00"), "paused by root"),
        (ended("refused", "paused by root"), "paused by root"),
        (ended("refused", "x is paused until 14:00:00 by user root; to resume: singlerun resume x"),
         "paused by root"),
        (ended("refused", "a by user b is paused by user c; to resume: singlerun resume a by user"
               " b", name=b"a by user b"), "paused by c"),
        (ended("refused", "too soon: 3 starts in 1d"), "too soon: 3 starts in 1d"),
        (ended("skipped", "another run waited already"), "another run waited already"),
    ],
)  # fmt: skip
def test_a_reason_is_one_phrase(run, expected):
    assert reason(run) == expected


def test_an_open_run_that_was_signalled_says_so():
    run = ended("running", "stopped with singlerun stop, user root")
    run.ended_ns = None
    assert reason(run) == "being stopped with singlerun stop, user root"
    run.detail = None
    assert reason(run) == ""


@pytest.mark.parametrize("state", states.STATES)
def test_a_reason_is_safe_to_show_whatever_was_recorded(state):
    assert "\x1b" not in reason(ended(state, "held by \x1b[31m, user \x1b"))
    reason(ended(state))
