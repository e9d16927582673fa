"""A scratch state directory, the commands that run in it, and an independent witness of them.

A command takes a flock(2) of its own on a file of its own, so an overlap is seen whatever singlerun
believes. It says "begin NAME" and "end NAME" on a FIFO, and in between waits at its gate.

Other runs than the one under test are forks of this process, which has the package loaded: they
take the way of the command line from its door on, and cost a tenth of a new interpreter.
"""

import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import singlerun.commands
import singlerun.queue.worker
import singlerun.runner  # noqa: F401 - loaded before the forks
from singlerun import cli

BINARY = Path(sys.executable).parent / "singlerun"
BOUND = 70.0
"""Seconds after which something counts as hanging: more than any patience of singlerun itself."""
STATUS = 7
"""What every command exits with."""
WITNESS = """
exec 9>>"$1/witness.1"
if ! flock -n 9; then
    if [ "$3" != 2 ] || ! { exec 9>>"$1/witness.2"; flock -n 9; }; then
        echo "overlap $2" >"$1/news"
    fi
fi
echo "begin $2" >"$1/news"
if [ -p "$1/gate.$2" ]; then read -r line <"$1/gate.$2"; fi
echo "end $2" >"$1/news"
exit 7
"""


class HangError(Exception):
    """Something did not happen in time."""


class Quick:
    """A run of the command line in a fork of this process."""

    def __init__(self, arena, arguments, output):
        self.arguments = arguments
        self._output = output
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                for stream, path in enumerate((os.devnull, f"{output}.out", f"{output}.err")):
                    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                    os.dup2(file, stream)
                    os.close(file)
                os.closerange(3, 256)
                os.environ |= {"SINGLERUN_CONFIG": "", "SINGLERUN_DIR": str(arena.dir)}
                sys.argv = ["singlerun", *map(str, arguments)]
                cli.main()
            finally:
                os._exit(99)
        self._pidfd = os.pidfd_open(self.pid)
        self.status = None

    def wait(self, bound=BOUND):
        """Return its exit status."""
        if self.status is None:
            if not select.select([self._pidfd], [], [], bound)[0]:
                raise HangError(f"{' '.join(map(str, self.arguments))} goes on and on")
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._pidfd)
        return self.status

    @property
    def out(self):
        return Path(f"{self._output}.out").read_text()

    @property
    def err(self):
        return Path(f"{self._output}.err").read_text()


class Arena:
    """A state directory for one injection.

    Attributes:
        dir: the state directory.
        news: what commands have said, as ("begin", "a") and the like.
    """

    def __init__(self, template=None, within=None):
        self.place = Path(tempfile.mkdtemp(prefix="sweep-", dir=within or scratch()))
        self.dir = self.place / "state"
        if template is not None:
            shutil.copytree(template, self.dir)
        self.news = []
        os.mkfifo(self.place / "news")
        self._news = os.open(self.place / "news", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._gates = {}
        self._counter = 0
        self.quicks = []

    def close(self):
        """Kill what is left, and delete all."""
        self.kill_all()
        for quick in self.quicks:
            quick.wait()
        for descriptor in (self._news, *self._gates.values()):
            os.close(descriptor)
        shutil.rmtree(self.place)

    # -- commands --------------------------------------------------------------------------------

    def gate(self, party):
        """Make the gate of a command that is to wait."""
        path = self.place / f"gate.{party}"
        if party not in self._gates:
            os.mkfifo(path)
            self._gates[party] = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def open(self, party):
        """Let one command of this name pass its gate, now or when it comes there."""
        os.write(self._gates[party], b"\n")

    def command(self, party, slots=1):
        """Return the words of a command."""
        return ["sh", "-c", WITNESS, "sh", str(self.place), party, str(slots)]

    def start(self, *arguments):
        self._counter += 1
        quick = Quick(self, arguments, self.place / f"quick{self._counter}")
        self.quicks.append(quick)
        return quick

    def call(self, *arguments):
        quick = self.start(*arguments)
        quick.wait()
        return quick

    def trace(self, words, trace, extra):
        """Start a real process under strace; return it, and a descriptor that ends with it.

        It ends when the process and all that inherit from it have ended, but not the relays and
        background workers, which close what they inherit.
        """
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        with open(self.place / "a.out", "wb") as out, open(self.place / "a.err", "wb") as err:
            process = subprocess.Popen(
                ["strace", "-qq", "-o", trace, *extra, str(BINARY), *words],
                env=environment() | {"SINGLERUN_CONFIG": "", "SINGLERUN_DIR": str(self.dir)},
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                pass_fds=[writing], start_new_session=True,
            )  # fmt: skip
        os.close(writing)
        return process, reading

    # -- what is to be seen ----------------------------------------------------------------------

    def listen(self, *others, timeout=0.05):
        """Return which of these descriptors are ready; add to ``news`` what was said."""
        ready = select.select([self._news, *others], [], [], timeout)[0]
        said = []
        if self._news in ready:
            said = [
                tuple(line.split()) for line in os.read(self._news, 65536).decode().splitlines()
            ]
            self.news += said
        return set(ready) - {self._news}, said

    def count(self, what, party=None):
        return sum(w == what and party in {None, p} for w, p in self.news)

    def sql(self, statement, *values):
        if not (self.dir / "singlerun.db").exists():
            return []
        with closing(sqlite3.connect(self.dir / "singlerun.db", timeout=20)) as log:
            return log.execute(statement, values).fetchall()

    def rows(self, party):
        """Return state and exit status of the runs that were started for a command."""
        rows = self.sql("SELECT argv, state, exit_code FROM runs WHERE started_ns ORDER BY id")
        return [row[1:] for row in rows if row[0].split(b"\0")[-2:-1] == [party.encode()]]

    def listing(self):
        """Return the names of all files, with # for numbers."""
        found = set()
        for path in self.dir.rglob("*"):
            name = re.sub(r"[0-9a-f]{32}|[0-9]+", "#", str(path.relative_to(self.dir)))
            found.add(re.sub(r"%%#-", "%%#-", name))
        return found

    def processes(self):
        """Return the PIDs of live processes whose command line or environment names this place."""
        mark, found = os.fsencode(self.place), []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                if mark in words or mark in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
            except OSError:
                pass
        return found

    def kill_all(self):
        for quick in self.quicks:
            if quick.status is None:
                os.kill(quick.pid, signal.SIGKILL)
        while pids := self.processes():
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.002)


def scratch():
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def environment():
    """Return the environment of a run under test: with bytecode, else reading sources is swept."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("SINGLERUN_")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def main_thread_waits(pid):
    """Return whether a process sleeps in a system call, and not for strace."""
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
    except OSError:
        return True
    return words[0] in {"7", "61", "73", "128", "202", "247", "271"}
