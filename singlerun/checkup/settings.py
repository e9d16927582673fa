"""Checks the configuration: each part of it that could not be read."""

import importlib

from singlerun.finding import PROBLEM, Answer, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case


def check(case: "Case") -> Answer:
    """Find what is wrong in the files of the configuration."""
    try:
        config = importlib.import_module("singlerun.config")
    except ModuleNotFoundError:
        return Answer("there is none")
    problems: tuple[str, ...] = config.load(case.path).problems
    answer = Answer("nothing is wrong in it" if not problems else counted(len(problems), "flaw"))
    for text in problems:
        where, colon, what = text.partition(": ")
        if not colon:
            where, what = "configuration", text
        answer.add(PROBLEM, where, what, "mend it", "singlerun config edit")
    return answer
