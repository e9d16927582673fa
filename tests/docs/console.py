"""Replays the console sessions of a document, so that the output it shows is the program's own.

    python tests/docs/console.py README.md

writes the document anew, with the output of the singlerun of this environment. test_readme.py
compares it with what the document shows, apart from times and process IDs.

Each session has a state directory of its own, and is typed into one shell, whose standard output is
a terminal. What stands in a comment
``<!-- before: COMMAND -->`` right above a session is run first and not shown.
"""

import getpass
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time
import tty
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import BINARY, PATIENCE, Cli, eventually

SESSION = re.compile(
    r"(?:^<!-- before: (?P<before>.*?) -->\n\n)?^```console\n(?P<shown>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
GATE = "gate"
AT_THE_GATE = f"#!/bin/sh\nread line < {GATE}\n"
SCRIPTS = {
    "backup.sh": AT_THE_GATE,
    "import.sh": AT_THE_GATE + 'echo "$1: 1204 rows"\n',
    "report.sh": "#!/bin/sh\n",
    "sync.sh": AT_THE_GATE + "exit 3\n",
}
"""What the sessions run: most of it waits at the gate, which is opened for ``singlerun wait``."""
HOME = "/home/ann/.config/singlerun"
"""What is shown instead of the session's directory."""
END = "-- end of the output --"
WIDTH = 160
"""Columns of the terminal."""


class Session:
    """A shell in a directory of its own.

    ``pace`` is how long one takes to type a command, in seconds.
    """

    def __init__(self, directory: Path, pace: float = 0) -> None:
        for name, text in SCRIPTS.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        os.mkfifo(directory / GATE)
        self._gate = os.open(directory / GATE, os.O_RDWR | os.O_NONBLOCK)
        self._pace = pace
        self._cli = Cli(directory)
        self._cli.env |= {"PATH": f"{BINARY.parent}:{os.environ['PATH']}", "TERM": "dumb"}
        self._cli.env |= {"COLUMNS": str(WIDTH), "LINES": "50"}  # Rich asks no dumb terminal
        self._errors = directory / "errors"
        ours, terminal = pty.openpty()
        tty.setraw(terminal)
        self._shell = subprocess.Popen(
            ["sh"], cwd=directory, env=self._cli.env, text=True,
            stdin=subprocess.PIPE, stdout=terminal, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(terminal)
        self._terminal = os.fdopen(ours)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._shell.stdin.close()
        self._cli.kill_detached()
        self._shell.wait()
        self._terminal.close()
        os.close(self._gate)

    def type(self, command: str) -> str:
        """Run a command, and return its output once all that it set off has been done."""
        time.sleep(self._pace)
        opening = threading.Timer(self._pace, os.write, [self._gate, b"\n" * 100])
        is_wait = command.startswith("singlerun wait")
        if is_wait:
            opening.start()
        open_runs = len(self._runs())
        # A waiter on a terminal draws a status line: only standard output is one.
        ask = f"status=$?; cat {self._errors}; echo '{END}'; (exit $status)"
        print(f"{{ {command}\n}} 2> {self._errors}\n{ask}", file=self._shell.stdin, flush=True)
        output = self._output()
        if is_wait:
            opening.join()
            os.read(self._gate, 1000)
        if command.endswith("&"):
            eventually(lambda: self._have_begun(open_runs + 1), command)
        if command.startswith("kill"):
            eventually(lambda: any(run["state"] == "orphan" for run in self._runs()), command)
        eventually(self._is_settled, command)
        return output

    def _output(self) -> str:
        """Return what was written until END, or until what hangs has been killed."""
        killing = threading.Timer(PATIENCE, self._cli.kill_detached)
        killing.start()
        lines = []
        while (line := self._terminal.readline()) not in {f"{END}\n", ""}:
            lines.append(line)
        killing.cancel()
        return "".join(lines)

    def _runs(self):
        return self._cli.json("ps")

    def _have_begun(self, count: int) -> bool:
        runs = self._runs()
        return len(runs) == count and all(run["place"] or run["pid"] for run in runs)

    def _is_settled(self) -> bool:
        jobs = json.loads(self._cli.run("queue", "--json").stdout)["jobs"]
        running = {job["name"] for job in jobs if job["state"] == "running" and job["pid"]}
        return {job["name"] for job in jobs if job["state"] in {"queued", "running"}} <= running


def replayed(before: str | None, shown: str, pace: float = 0) -> str:
    """Return a session as it would be shown now."""
    commands = re.findall(r"^\$ (.*)", shown, re.MULTILINE)
    with tempfile.TemporaryDirectory() as directory, Session(Path(directory), pace) as session:
        if before:
            session.type(before)
        text = "".join(f"$ {command}\n{session.type(command)}" for command in commands)
        return text.replace(directory, HOME)


def comparable(text: str) -> str:
    """Return a session without what differs from one replay to the next."""
    for pattern, word in (
        (r"\b\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d\b", "STAMP"),
        (r"\b\d+:\d\d:\d\d\b", "CLOCK"),
        (r"\b\d+(\.\d+)?(ms|s|m|h)\b", "TIME"),
        (r"; starts in ~TIME", ""),  # while it is not over its usual time
        (r"\b\d{3,}\b", "NUMBER"),
        (rf"\b{re.escape(getpass.getuser())}\b", "USER"),
        (r"\broot\b", "USER"),
        (r" +", " "),
    ):
        text = re.sub(pattern, word, text)
    return text


def main() -> None:
    for name in sys.argv[1:]:
        document = Path(name)

        def renewed(found):
            before = f"<!-- before: {found['before']} -->\n\n" if found["before"] else ""
            return f"{before}```console\n{replayed(found['before'], found['shown'], 0.7)}```"

        document.write_text(SESSION.sub(renewed, document.read_text()))


if __name__ == "__main__":
    main()
