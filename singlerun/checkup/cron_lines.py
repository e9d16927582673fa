"""Checks crontabs: lines that overlap, locks of flock(1), and what cron reads otherwise."""

import os
import pwd
import re
import sys

from singlerun.checkup import crontabs, flock, shell, task
from singlerun.checkup.experience import Record
from singlerun.duration import brief
from singlerun.errors import RecordError
from singlerun.finding import NOTE, PROBLEM, Answer, counted
from singlerun.process.search import find_program
from singlerun.render.text import command, quoted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from singlerun.checkup.case import Case
    from singlerun.checkup.crontab import Line
    from singlerun.checkup.crontabs import Source
    from singlerun.checkup.task import Task
    from singlerun.finding import Finding

_SECOND = 10**9
_BUILT_IN = {
    ".", ":", "eval", "exit", "export", "read", "set", "source", "trap", "type", "ulimit", "umask",
    "unset", "wait",
}  # fmt: skip


def check(case: "Case") -> Answer:
    """Check all crontabs that this user may read."""
    return check_sources(crontabs.all_readable(), case)


def check_sources(sources: "Sequence[Source]", case: "Case") -> Answer:
    """Check these crontabs."""
    tasks = [each for source in sources for each in task.of_source(source)]
    guarded = sum(each.kind == task.SINGLERUN for each in tasks)
    lines = sum(len(source.found.lines) for source in sources)
    answer = Answer(
        f"{counted(lines, 'line')} in {counted(len(sources), 'crontab')}, {guarded} with singlerun"
    )
    for source in sources:
        _check_source(source, answer)
    try:
        record = Record(case.store())
    except RecordError:  # without it there is still much to see
        record = Record(None)
    for each in tasks:
        _check_programs(each, answer)
        if each.kind == task.FLOCK:
            _check_flock(each, answer)
        elif each.state_path() == case.path:
            _check_length(each, record, answer)
    _check_twins(tasks, answer)
    answer.findings.sort(key=_place)
    return answer


def _place(finding: "Finding") -> tuple[str, int]:
    file, _, number = finding.where.rpartition(":")
    return (file, int(number)) if number.isdigit() else (finding.where, 0)


# -- what cron reads -------------------------------------------------------------------------------


def _check_source(source: "Source", answer: Answer) -> None:
    if source.trouble:
        remedy = "give it to root, writable by root alone, under a name of letters, digits and -"
        if "cannot be read" in source.trouble or "does not show" in source.trouble:
            remedy = "look at it as its owner"
        answer.add(PROBLEM, source.file, source.trouble, remedy)
    for number, flaw in source.found.flaws:
        what = f"cron cannot read this line: {flaw}; it may ignore the whole file"
        answer.add(PROBLEM, f"{source.file}:{number}", what, "mend it", source.edit)
    for line in source.found.lines:
        user = line.user or source.owner or ""
        try:
            pwd.getpwnam(user)
        except (KeyError, ValueError):
            what = f"there is no user {user}, as whom it is to run: cron ignores it"
            answer.add(PROBLEM, line.where, what, "write a user before the command", source.edit)
        _check_percent(line, source, answer)


def _check_percent(line: "Line", source: "Source", answer: Answer) -> None:
    if line.input is None:
        return
    try:
        shell.commands(line.command, {})
        is_cut = line.command.endswith("+")  # as in: date +%F
    except shell.UnreadableError:
        is_cut = True
    kept = line.command.replace("%", "\\%")[-40:]
    what = f"cron ends the command at the first %, after: {kept}"
    if not is_cut:
        what += "; the rest is its standard input"
    remedy = "nothing, if it is meant so"
    if is_cut:
        remedy = f"for a percent sign, edit it ({source.edit}) and write"
    written = re.sub(r"(?<!\\)%", r"\\%", line.text) if is_cut else ""
    answer.add(PROBLEM if is_cut else NOTE, line.where, what, remedy, written)


def _check_programs(each: "Task", answer: Answer) -> None:
    if each.trouble:
        what = f"the options of singlerun are refused: {each.trouble}"
        answer.add(PROBLEM, each.line.where, what, "mend it", each.source.edit)
    if each.kind != task.SINGLERUN:
        return
    at = f"PATH is {each.path}"
    if each.words[0].literal and each.find(each.program) is None:
        what = f"cron does not find {each.program}: {at}"
        remedy = f"edit it ({each.source.edit}) and write its path"
        answer.add(PROBLEM, each.line.where, what, remedy, this_copy())
    program = each.argv[0] if each.argv else ""
    if program and "/" not in program and not each.find(program):
        what = f"the command {program} is not found there: {at}"
        if program in _BUILT_IN:
            what = f"{program} is a command of the shell, which singlerun cannot run"
        remedy = f"edit it ({each.source.edit}) and write the path of a program"
        answer.add(PROBLEM, each.line.where, what, remedy, find_program(program) or "")


def this_copy() -> str:
    """Return the path of the program singlerun that is running."""
    beside = os.path.join(sys.prefix, "bin", "singlerun")
    found = find_program("singlerun")
    if found is not None and os.path.isabs(found):
        return found
    return beside if os.path.exists(beside) else "singlerun"


def _singlerun_for(each: "Task") -> str:
    """Return how a line names singlerun so that cron finds it."""
    return "singlerun" if each.find("singlerun") else this_copy()


# -- locks and lengths -----------------------------------------------------------------------------


def _check_flock(each: "Task", answer: Answer) -> None:
    what = "it is guarded by flock, which neither names the holder nor keeps a record"
    words = [word.text for word in each.words]
    written = None
    if all(word.literal for word in each.words):
        written = flock.as_singlerun(words, _singlerun_for(each))
    if written is None:
        remedy = "singlerun takes the same lock with --lock-file PATH, or with --lock-fd N"
        answer.add(NOTE, each.line.where, what, remedy)
        return
    remedy = f"to have both with the same lock, edit it ({each.source.edit}) and write"
    answer.add(NOTE, each.line.where, what, remedy, written.replace("%", "\\%"))


def _check_length(each: "Task", record: Record, answer: Answer) -> None:
    """Compare how long a command takes with the time between two starts."""
    if each.kind == task.OTHER:
        return
    known, interval = record.of(each), each.line.schedule.shortest()
    if known is None:
        return
    argv = each.argv or []
    took = f"usually takes {brief(known.usual_ns / _SECOND)}"
    if known.longest_ns > known.usual_ns:
        took += f", and took up to {brief(known.longest_ns / _SECOND)}"
    every = "" if interval is None else f"it starts every {brief(interval)}"
    where, edit = each.line.where, each.source.edit
    if each.kind == task.PLAIN:
        words = [_singlerun_for(each), "--skip", *_named(known.names, argv), *argv]
        written = " ".join(map(quoted, words)).replace("%", "\\%")
        if interval is not None and known.longest_ns > interval * _SECOND:
            what = f"{every} and {took}: without a lock, two of it run at once"
            answer.add(PROBLEM, where, what, f"edit it ({edit}) and write", written)
        else:
            names = command(tuple(sorted(known.names)[:3]))
            what = f"the same command runs with singlerun as {names}, but this line is not guarded"
            answer.add(
                NOTE,
                where,
                what,
                f"for it never to run beside that, edit it ({edit}) and write",
                written,
            )
    elif interval is not None and known.usual_ns > interval * _SECOND:
        _add_too_often(each, f"{every} and {took}", answer)


def _add_too_often(each: "Task", what: str, answer: Answer) -> None:
    if each.has("slots", "shared", "replace"):
        return
    if each.has("wait", "queue") and not each.has("coalesce"):
        what += ": more and more of it wait or are queued"
        answer.add(PROBLEM, each.line.where, what, "start it less often, or with --coalesce",
                   each.source.edit)  # fmt: skip
    else:
        what += ": every other start is refused or skipped"
        answer.add(NOTE, each.line.where, what, "start it less often", each.source.edit)


def _named(names: set[bytes], argv: "Sequence[str]") -> list[str]:
    """Return the option that gives the name under which a command ran, if it was not derived."""
    given = sorted(name for name in names if not _is_derived(name, argv))
    return ["-n", os.fsdecode(given[0])] if given else []


def _is_derived(name: bytes, argv: "Sequence[str]") -> bool:
    program = os.path.basename(os.fsencode(argv[0])) if argv else b""
    return re.fullmatch(re.escape(program) + rb"-[0-9a-f]{12}", name) is not None


# -- one name for two ------------------------------------------------------------------------------


def _check_twins(tasks: "Sequence[Task]", answer: Answer) -> None:
    groups: dict[tuple[bytes, bytes], list[Task]] = {}
    for each in tasks:
        if each.kind == task.SINGLERUN and each.identity() and not each.values.get("shared"):
            for name in each.values.get("name") or ():
                groups.setdefault((each.state_path(), name), []).append(each)
    for (_, name), group in groups.items():
        first, *others = group
        for other in others:
            if other.identity() != first.identity():
                _compare(name, first, other, answer)
                break


def _compare(name: bytes, first: "Task", other: "Task", answer: Answer) -> None:
    what = f"it has the name {shown(name)} of {first.line.where}, which runs another command"
    remedy = f"edit it ({other.source.edit}) and give it a name of its own"
    if first.line.schedule.meets(other.line.schedule) and not (first.waits() or other.waits()):
        what += ", and they start at the same minute: one of them is refused or skipped"
        answer.add(PROBLEM, other.line.where, what, f"{remedy}; or let one --wait")
        return
    programs = {os.path.basename((each.argv or [""])[0]) for each in (first, other)}
    if len(programs) > 1:
        answer.add(NOTE, other.line.where, f"{what}: they never run at once",
                   f"nothing, if it is meant so; else {remedy}")  # fmt: skip
