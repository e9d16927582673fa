"""Checks the configuration: each part of it that could not be read."""

import os

from singlerun import config
from singlerun.config import files
from singlerun.finding import PROBLEM, Answer, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case


def check(_case: "Case") -> Answer:
    """Find what is wrong in the files of the configuration."""
    problems = config.load(None).problems  # without a state directory, in which it would be kept
    there = counted(sum(map(_exists, files.main_files())), "file")
    answer = Answer(f"nothing is wrong in it, {there}" if there[0] != "0" else "there is none")
    for text in problems:
        where, _, what = text.partition(": ")
        answer.add(PROBLEM, where, what, "mend it; to see what holds", "singlerun config check")
    return answer


def _exists(main: bytes) -> bool:
    return any(map(os.path.exists, [main, *files.drop_ins(main)]))
