"""An event in words: the title and the text of a mail, a chat message, a push notification.

Made from the event's JSON, as it stands in the spool, and safe to show.
"""

from singlerun.duration import brief
from singlerun.render.text import quoted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GOOD = {"start", "success", "recovery", "queue-empty", "test"}
"""Events that ask for nothing to be done."""


def is_good(event: "dict[str, Any]") -> bool:
    """Return whether an event asks for nothing to be done."""
    kind = event["event"]
    return kind in GOOD or (kind == "change" and event.get("exit_status") == 0)


def title(event: "dict[str, Any]") -> str:
    """Return one line: what has happened to what, and where."""
    name, host = _text(event, "name"), _text(event, "host")
    count, usual, how = event.get("count"), _seconds(event, "usual_s"), ended(event)
    run = event.get("run") or {}
    took = _seconds(run, "elapsed_s")
    said = {
        "start": f"{name} has started",
        "success": f"{name} has succeeded" + (f" after {took}" if took else ""),
        "failure": f"{name} has failed: {how}",
        "recovery": f"{name} succeeds again",
        "change": f"{name} fails now: {how}"
        if event.get("exit_status")
        else f"{name} succeeds now",
        "refused": f"{name} was refused {count} times in a row",
        "overlong": f"{name} still runs" + (f"; usually it takes {usual}" if usual else ""),
        "overdue": f"{name} is overdue",
        "lost": f"{name} was lost: it died without recording an exit status",
        "queue-empty": f"the queue {name} is empty",
        "test": f"a test of the notifications of {name}",
    }.get(event["event"], f"{name}: {shown(str(event['event']))}")
    return f"{said} ({host})"


def ended(event: "dict[str, Any]") -> str:
    """Return how a run ended that did not succeed."""
    run = event.get("run") or {}
    if run.get("state") in {"timed-out", "lost"}:
        return {"timed-out": "timed out", "lost": "lost"}[run["state"]]
    if isinstance(run.get("signal"), int):
        return f"killed by signal {run['signal']}"
    return f"exit status {event.get('exit_status')}"


def text(event: "dict[str, Any]", output: str | None) -> str:
    """Return the lines below the title: what is known of the run, and the end of its output."""
    if event["event"] == "test":
        return "Nothing has happened: this message shows that it can be told.\n"
    run = event.get("run") or {}
    command = run.get("command")
    rows = [
        ("Command", " ".join(quoted(shown(str(word))) for word in command or ())),
        ("Run", run.get("id")), ("Job", event.get("job_id")), ("User", run.get("user")),
        ("Directory", run.get("cwd")), ("Started", run.get("started_at")),
        ("Ended", run.get("ended_at")), ("Took", _seconds(run, "elapsed_s")),
        ("Usually", _seconds(event, "usual_s")), ("Exit status", event.get("exit_status")),
        ("Reason", run.get("detail") or event.get("detail")), ("Host", event.get("host")),
    ]  # fmt: skip
    lines = [f"{key + ':':13}{shown(str(value))}" for key, value in rows if value not in {None, ""}]
    if output:
        lines += ["", "The end of the output:", "", *map(shown, output.splitlines())]
    if run.get("id") is not None:
        hint = f"singlerun logs {run['id']}" if output else "singlerun history"
        lines += [
            "",
            f"To see more: {hint} {'' if output else quoted(_text(event, 'name'))}".rstrip(),
        ]
    return "\n".join(lines) + "\n"


def _text(event: "dict[str, Any]", key: str) -> str:
    return shown(str(event.get(key, "?")))


def _seconds(values: "dict[str, Any]", key: str) -> str:
    value = values.get(key)
    return brief(value) if isinstance(value, (int, float)) else ""
