"""Shared fixtures: the installed binary, run against a state directory of its own."""

import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from singlerun.paths import StateDir
from singlerun.store.sqlite import SqliteStore

os.environ["SINGLERUN_CONFIG"] = ""  # tests read no configuration that this machine may have
BINARY = Path(sys.executable).parent / "singlerun"
PATIENCE = 120.0
"""Seconds after which a test gives up waiting; no test passes or fails by how long it takes."""
CLOSING = f"""
exec {sys.executable} -c '
import os
os.closerange(3, 100)
print(os.getpid(), flush=True)
os.read(0, 1)
'
"""
"""A script for ``hold`` that closes inherited descriptors, as sudo and Python's subprocess do."""


def eventually(condition, what="it"):
    """Wait until a condition holds, where no event announces it; return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.005)
    return value


class Holding:
    """A singlerun whose command runs until it is released."""

    def __init__(self, cli, arguments, script="echo $$; exec cat", **more):
        self.wrapper = cli.start(
            *arguments, "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more
        )
        self.pid = int(self.wrapper.stdout.readline())
        eventually(lambda: cli.command_is_recorded(self.wrapper.pid), "the record of the command")

    def release(self):
        self.wrapper.stdin.close()
        return self.wrapper.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if not self.wrapper.stdin.closed:
            self.wrapper.stdin.close()
        self.wrapper.stdout.close()
        self.wrapper.wait(PATIENCE)


class Cli:
    """The installed binary with a state directory of its own."""

    def __init__(self, directory):
        self.binary = BINARY
        self.dir = directory / "state"
        self.env = {
            key: value for key, value in os.environ.items() if not key.startswith("SINGLERUN_")
        }
        self.env["SINGLERUN_DIR"] = str(self.dir)
        self.env["SINGLERUN_CONFIG"] = ""
        self.started = []

    def start(self, *arguments, **more):
        more.setdefault("env", self.env)
        process = subprocess.Popen([str(BINARY), *arguments], **more)
        self.started.append(process)
        return process

    def run(self, *arguments, **more):
        more = {"env": self.env, "capture_output": True, "text": True, "timeout": PATIENCE} | more
        if "input" not in more:
            more.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([str(BINARY), *arguments], check=False, **more)

    def hold(self, *options, **more):
        return Holding(self, options, **more)

    def json(self, *arguments):
        result = self.run(arguments[0], "--json", *arguments[1:])
        assert result.returncode == 0, result.stderr
        document = json.loads(result.stdout)
        assert document["schema"] == 1
        return document["runs"]

    def history(self, *arguments):
        dashes = ["--"] if arguments and arguments[0].startswith("-") else []
        return self.json("history", "--limit", "100000", *dashes, *arguments)

    def last(self, *arguments):
        return self.history(*arguments)[0]

    def command_is_recorded(self, wrapper_pid):
        """Query the run-log itself: hundreds of tests ask, and ``ps`` costs ten times more."""
        query = "SELECT 1 FROM runs WHERE ended_ns IS NULL AND command_pid AND wrapper_pid = ?"
        try:
            # Read-only, because closing the last other connection would write the log back.
            with closing(sqlite3.connect(f"file:{self.dir}/singlerun.db?mode=ro", uri=True)) as log:
                return log.execute(query, [wrapper_pid]).fetchone() is not None
        except sqlite3.OperationalError:  # not yet made, or this is its first moment
            return False

    def sql(self, statement):
        """Run a statement on the run-log; return its rows."""
        with closing(sqlite3.connect(self.dir / "singlerun.db")) as log, log:
            return log.execute(statement).fetchall()

    def lock_path(self, name):
        return self.dir / "locks" / f"{name}.lock"

    def add(self, *arguments, **more):
        """Add jobs to a queue; return the ID, or the IDs if they come from standard input."""
        result = self.run("add", *arguments, **more)
        assert (result.returncode, result.stderr) == (0, "")
        ids = [int(line) for line in result.stdout.split()]
        return ids if "--stdin" in arguments else ids[0]

    def queue(self, *arguments):
        result = self.run("queue", "--json", *arguments)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["jobs"]

    def job(self, number):
        return next(job for job in self.queue("--all") if job["id"] == number)

    def workers(self, name=None):
        """Return the PIDs of the background workers of a name, or of all names."""
        tail = [os.fsencode(self.dir)] + ([] if name is None else [os.fsencode(name)])
        return [
            pid
            for pid, words in _command_lines()
            if b"singlerun.queue.worker" in b" ".join(words)
            and words[-2:][: len(tail)] == tail
            and is_alive(pid)
            and os.getsid(pid) == pid  # the relay of a job has the same command line
        ]

    def kill_detached(self):
        """Kill background workers and their jobs, which no longer belong to this process."""
        marks = os.fsencode(self.dir), b"SINGLERUN_DIR=" + os.fsencode(self.dir)
        while pids := [
            pid
            for pid, words in _command_lines()
            if pid != os.getpid()
            and is_alive(pid)
            and {*words, *_entries(pid, "environ")} & {*marks}
        ]:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def _entries(pid, file):
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def _command_lines():
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [(pid, _entries(pid, "cmdline")) for pid in pids]


class Gate:
    """Holds a job until it is opened.

    Attributes:
        command: the job's command; it records its PID and waits at the gate.
    """

    SCRIPT = 'echo $$ > "$1.new"; mv "$1.new" "$1.pid"; echo at the gate; exec cat "$1"'

    def __init__(self, path):
        self._path = path
        os.mkfifo(path)
        self.command = ["sh", "-c", self.SCRIPT, "sh", str(path)]

    def pid(self):
        """Wait for the job to arrive; return its PID."""
        file = Path(f"{self._path}.pid")
        eventually(file.exists, "the start of the job")
        return int(file.read_text())

    def has_been_reached(self):
        return Path(f"{self._path}.pid").exists()

    def open(self):
        """Let the job finish."""

        def writer():
            try:
                return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # the job does not read yet
                    raise
                return None

        os.close(eventually(writer, "the job's wait"))


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def cli(tmp_path):
    tool = Cli(tmp_path)
    yield tool
    if (tool.dir / "workers").exists() or (tool.dir / "notify").exists():
        tool.kill_detached()
    for process in tool.started:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def state(tmp_path):
    directory = StateDir(os.fsencode(tmp_path / "state"))
    yield directory
    directory.close()


@pytest.fixture
def kind():
    """Return the class of ``store``; a module may have another."""
    return SqliteStore


@pytest.fixture
def again(state, kind):
    """Return a function that opens the store once more."""
    stores = []

    def open_again():
        stores.append(kind(state))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(again):
    return again()


def is_alive(pid):
    """Return whether a process runs: it exists, and is not just waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    except ProcessLookupError:
        return False
    return state not in "ZX"


def signals_in(status):
    """Return the signal masks of a /proc/PID/status, as numbers by name.

    Without 32 and 33, which are glibc's own: its posix_spawn(3) ignores them in the child.
    """
    lines = (line.split() for line in status.splitlines())
    return {name: int(mask, 16) & ~(3 << 31) for name, mask in lines}


def blocked_on(path):
    """Return how many processes sleep in flock(2) on a file."""
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        return 0
    lines = Path("/proc/locks").read_text().splitlines()
    return sum(" -> FLOCK" in line and f":{inode} " in line for line in lines)


def is_idle(pid, seconds=1.5):
    """Return whether no thread of a process has run for so long, to the nanosecond."""

    def used():
        paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
        return {path.parent.name: path.read_text().split()[0] for path in paths}

    before = used()
    time.sleep(seconds)
    return used() == before


class Stopped:
    """A singlerun that is stopped right after its nth use of a system call, until it may go on."""

    def __init__(self, cli, call, nth, *arguments, **more):
        need("strace")
        trace = cli.dir.parent / f"trace-{len(cli.started)}"
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGSTOP:when={nth}"]
        self.tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", trace, *inject, cli.binary, *arguments],
            env=cli.env, **more,
        )  # fmt: skip
        cli.started.append(self.tracer)
        stop = re.compile(r"^(\d+) +--- stopped by SIGSTOP", re.MULTILINE)
        stopped = eventually(
            lambda: trace.exists() and stop.search(trace.read_text()), f"the {call} number {nth}"
        )
        self.pid = int(stopped[1])

    def go_on(self):
        os.kill(self.pid, signal.SIGCONT)


def need(*programs):
    """Skip the test if a program is missing; in CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        demand_or_skip(f"not installed: {', '.join(missing)}")


def demand_or_skip(why):
    if os.environ.get("SINGLERUN_NO_SKIPS") == "1":
        pytest.fail(f"this must not be skipped here: {why}")
    pytest.skip(why)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte, which fills up easily."""
    if os.geteuid() != 0:
        demand_or_skip("only root can mount a file system")
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", path]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        demand_or_skip(f"no file system can be mounted: {mounted.stderr}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def remote_disk(tmp_path):
    """A real file system whose kernel locks cannot be trusted: FUSE, as used by sshfs."""
    need("bindfs")
    if os.geteuid() != 0:
        demand_or_skip("only root can mount a file system here")
    source, path = tmp_path / "source", tmp_path / "remote"
    source.mkdir(mode=0o700)
    path.mkdir()
    mounted = subprocess.run(["bindfs", source, path], capture_output=True, text=True, check=False)
    if mounted.returncode:
        demand_or_skip(f"FUSE cannot be used: {mounted.stderr}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(disk):
    with open(disk / "filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def pytest_xdist_auto_num_workers():
    """Three workers for two processors: much of a test is waiting."""
    return (os.cpu_count() or 2) * 3 // 2


def pytest_sessionfinish(session):
    """Fail where SINGLERUN_NO_SKIPS forbids skips, whichever way a test was skipped."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and os.environ.get("SINGLERUN_NO_SKIPS") == "1":
        reporter.write_line("tests were skipped, and SINGLERUN_NO_SKIPS=1 forbids it", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
