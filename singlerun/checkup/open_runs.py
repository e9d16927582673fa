"""Checks the open runs: orphans hold their names, zombies are only not closed yet."""

from collections import Counter

from singlerun.finding import NOTE, PROBLEM, Answer, counted
from singlerun.ownership import judge
from singlerun.render.text import names, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case

MOST = 5
"""Runs of a kind that are told one by one."""


def check(case: "Case") -> Answer:
    """Find the open runs whose wrapper is dead."""
    store = case.store()
    verdicts = [] if store is None else judge.look_at(store, store.open_runs())
    open_ = [verdict for verdict in verdicts if judge.is_open(verdict.run)]
    answer = Answer("no run is open")
    if open_:
        answer.summary = f"{counted(len(open_), 'open run')}, without an orphan or a zombie"
    told: Counter[str] = Counter()
    for verdict in verdicts:
        told[verdict.state] += 1
        if told[verdict.state] > MOST:
            continue
        run = verdict.run
        where, name = f"run {run.id}", names(run.names)
        if verdict.state == judge.ORPHAN:
            pids = ", ".join(map(str, verdict.pids))
            what = f"an orphan: its singlerun is dead, and PID {pids} still holds {name}"
            typed = f"singlerun reap --kill-orphans {quoted(name)}"
            answer.add(PROBLEM, where, what, "wait for its end, or end it", typed)
        elif verdict.state == judge.ZOMBIE:
            what = f"a zombie: nothing of it is left, and {name} is free, but it is not closed yet"
            answer.add(NOTE, where, what, "close it", f"singlerun reap {quoted(name)}")
    more = sum(max(0, told[state] - MOST) for state in (judge.ORPHAN, judge.ZOMBIE))
    if more:
        answer.add(NOTE, "runs", f"{more} more like these", "close them", "singlerun reap")
    return answer
