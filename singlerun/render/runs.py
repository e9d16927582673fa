"""What is open: runs that hold or wait for a lock, paused names, and pending jobs."""

import time

from singlerun.duration import brief
from singlerun.render import expected
from singlerun.render.jobs import state as state_of_job
from singlerun.render.refusal import user_name
from singlerun.render.result import Result
from singlerun.render.style import encodable, is_terminal
from singlerun.render.text import command, names, shown
from singlerun.store.queue import PAUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from singlerun.ownership.outlook import Seen
    from singlerun.store.queue import Job
    from singlerun.store.run import Pause


class OpenRuns(Result):
    """Runs that hold or wait for a lock, or were left behind; paused names; the next jobs.

    ``starts_ns`` are the expected starts of the jobs, by their ids; ``more`` is how many jobs there
    are beside those; ``names`` are those that were asked for.
    """

    columns: "Sequence[str]" = (
        "ID", "NAME", "STATE", "JOB", "PID", "USER", "TIME", "REASON", "COMMAND",
    )  # fmt: skip
    spare = ("JOB", "USER", "PID", "COMMAND", "TIME", "REASON")

    def __init__(
        self, runs: "Sequence[Seen]", jobs: "Sequence[Job]" = (), pauses: "Sequence[Pause]" = (),
        *, starts_ns: "Mapping[int | None, int] | None" = None, more: int = 0, tree: bool = False,
        names: "Sequence[bytes]" = (), errors: "Iterable[str]" = (),
    ) -> None:  # fmt: skip
        super().__init__(errors=errors)
        self._runs, self._jobs, self._pauses = runs, jobs, pauses
        self._starts_ns, self._more, self._tree = starts_ns or {}, more, tree
        whose = "".join(f" {shown(name)}" for name in names)
        self.empty = "Nothing is running, waiting, queued or paused"
        self.empty += f" under{whose.replace(' ', ', ')[1:]}." if whose else "."
        self.empty += f" What ran before: singlerun history{whose if len(names) == 1 else ''}"
        if is_terminal() and not jobs and all(seen.run.job_id is None for seen in runs):
            self.columns = tuple(name for name in self.columns if name != "JOB")

    def rows(self) -> list[tuple[str, ...]]:
        found = as_tree(self._runs) if self._tree else [(seen, "") for seen in self._runs]
        pauses = {pause.name: pause for pause in self._pauses}
        cells = [
            *(_run_row(*each) for each in found),
            *map(_pause_row, self._pauses),
            *(
                _job_row(job, self._starts_ns.get(job.id), pauses.get(job.name))
                for job in self._jobs
            ),
        ]
        return [tuple(row[column] for column in self.columns) for row in cells]

    def left_out(self) -> "Iterable[str]":
        if self._more:
            yield f"{self._more} more jobs are pending; to see them: singlerun queue"

    def document(self) -> dict[str, object]:
        from singlerun.render import json  # noqa: PLC0415

        return {
            "runs": list(map(json.open_run_keys, self._runs)),
            "jobs": [
                json.job_keys(job)
                | {"expected_start_at": json.time_of(self._starts_ns.get(job.id))}
                for job in self._jobs
            ],
            "paused": list(map(json.pause_keys, self._pauses)),
            "truncated": self._more > 0,
        }

    def known_fields(self) -> "Iterable[str]":
        from singlerun.render import json  # noqa: PLC0415

        fields = [*json.fields_of_open_runs(), *json.fields_of_jobs(), *json.start_keys(None)]
        return dict.fromkeys([*fields, *json.fields_of_pauses()])

    def records(self) -> "list[dict[str, object]]":
        document = self.document()
        pauses = [{"state": PAUSED, **pause} for pause in document["paused"]]  # type: ignore[attr-defined]
        return [*document["runs"], *pauses, *document["jobs"]]  # type: ignore[misc]


def _run_row(seen: "Seen", lines: str) -> dict[str, str]:
    run = seen.run
    return {
        "ID": str(run.id), "JOB": "-" if run.job_id is None else str(run.job_id),
        "NAME": lines + names(run.names),
        "STATE": f"{seen.state} #{seen.place}" if seen.place else seen.state,
        "PID": str(seen.pids[0]) if seen.pids else "-", "USER": shown(user_name(run.uid)),
        "TIME": expected.took(seen), "REASON": expected.why(seen), "COMMAND": command(run.argv),
    }  # fmt: skip


def _pause_row(pause: "Pause") -> dict[str, str]:
    return {
        "ID": "-", "JOB": "-", "NAME": shown(pause.name), "STATE": PAUSED, "PID": "-",
        "USER": shown(user_name(pause.uid)),
        "TIME": brief((time.time_ns() - pause.since_ns) / 1e9),
        "REASON": f"by {shown(user_name(pause.uid))}{expected.until(pause)}", "COMMAND": "-",
    }  # fmt: skip


def _job_row(job: "Job", starts_ns: int | None, pause: "Pause | None") -> dict[str, str]:
    reasons = (
        expected.why_job(job, pause),
        expected.start_of(job, starts_ns),
        shown(job.label or ""),
    )
    return {
        "ID": str(job.id), "JOB": str(job.id), "NAME": shown(job.name),
        "STATE": state_of_job(job), "PID": "-", "USER": shown(user_name(job.uid)),
        "TIME": brief((time.time_ns() - job.added_ns) / 1e9),
        "REASON": "; ".join(filter(None, reasons)), "COMMAND": command(job.argv),
    }  # fmt: skip


def as_tree(runs: "Sequence[Seen]") -> "list[tuple[Seen, str]]":
    """Return runs below those that started them, each with the lines that lead to it."""
    known = {seen.run.id for seen in runs}
    children: dict[int | None, list[Seen]] = {}
    for seen in runs:
        parent = seen.run.parent_id
        children.setdefault(parent if parent in known else None, []).append(seen)
    is_plain = encodable("└─") != "└─"
    branch, last, down = ("|- ", "`- ", "|  ") if is_plain else ("├─ ", "└─ ", "│  ")
    ordered = []
    stack = [(seen, "", "") for seen in reversed(children.get(None, []))]
    while stack:
        seen, lines, below = stack.pop()
        ordered.append((seen, lines))
        born = children.get(seen.run.id, [])
        stack += [
            (child, below + (branch if at else last), below + (down if at else "   "))
            for at, child in enumerate(reversed(born))
        ]
    return ordered
