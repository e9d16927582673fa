"""What all tests share: the installed binary, run against a state directory of its own."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

BINARY = Path(sys.executable).parent / "singlerun"
PATIENCE = 120.0
"""Seconds after which what should have happened counts as not happening."""
CLOSING = f"""
exec {sys.executable} -c '
import os
os.closerange(3, 100)
print(os.getpid(), flush=True)
os.read(0, 1)
'
"""
"""A script for ``hold`` that closes what it inherited, as sudo and Python's subprocess do."""


def eventually(condition, what="it"):
    """Wait until a condition holds, where no event tells of it; give what it gave."""
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
        return self.json("history", "--limit", "100000", "--", *arguments)

    def last(self, *arguments):
        return self.history(*arguments)[0]

    def command_is_recorded(self, wrapper_pid):
        """Look into the run-log itself: hundreds of tests ask, and ``ps`` costs ten times more."""
        query = "SELECT 1 FROM runs WHERE ended_ns IS NULL AND command_pid AND wrapper_pid = ?"
        try:
            # Read-only, because closing the last other connection would write the log back.
            with closing(sqlite3.connect(f"file:{self.dir}/singlerun.db?mode=ro", uri=True)) as log:
                return log.execute(query, [wrapper_pid]).fetchone() is not None
        except sqlite3.OperationalError:  # not yet made, or this is its first moment
            return False

    def lock_path(self, name):
        return self.dir / "locks" / f"{name}.lock"

    def add(self, *arguments, **more):
        """Put jobs into a queue; give the id, or the ids if they come from standard input."""
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
        """Give the PIDs of those who work off the queue of a name, or of all."""
        tail = [os.fsencode(self.dir)] + ([] if name is None else [os.fsencode(name)])
        return [
            pid
            for pid, words in _command_lines()
            if b"singlerun.queue.worker" in b" ".join(words)
            and words[-2:][: len(tail)] == tail
            and is_alive(pid)
            and os.getsid(pid) == pid  # who keeps the output looks the same
        ]

    def kill_detached(self):
        """Kill who works off a queue, and what was started there: nobody else would."""
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
    """What a job waits for: it tells its PID, and goes on when the gate is opened.

    Attributes:
        command: what makes a job wait for it.
    """

    SCRIPT = 'echo $$ > "$1.new"; mv "$1.new" "$1.pid"; echo at the gate; exec cat "$1"'

    def __init__(self, path):
        self._path = path
        os.mkfifo(path)
        self.command = ["sh", "-c", self.SCRIPT, "sh", str(path)]

    def pid(self):
        """Wait for the job; give its PID."""
        file = Path(f"{self._path}.pid")
        eventually(file.exists, "the start of the job")
        return int(file.read_text())

    def has_been_reached(self):
        return Path(f"{self._path}.pid").exists()

    def open(self):
        """Let the job go on to its end."""

        def writer():
            try:
                return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:  # it doesn't read yet
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
    if (tool.dir / "workers").exists():
        tool.kill_detached()
    for process in tool.started:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def is_alive(pid):
    """Tell whether a process runs: there is one, and it isn't dead and only not waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    except ProcessLookupError:
        return False
    return state not in "ZX"


def signals_in(status):
    """Read the signal masks of a /proc/PID/status, as numbers by name.

    Without 32 and 33, which are glibc's own: its posix_spawn(3) ignores them in the child.
    """
    lines = (line.split() for line in status.splitlines())
    return {name: int(mask, 16) & ~(3 << 31) for name, mask in lines}


def blocked_on(path):
    """Count the waiters that sleep in flock(2) on a file."""
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        return 0
    lines = Path("/proc/locks").read_text().splitlines()
    return sum(" -> FLOCK" in line and f":{inode} " in line for line in lines)


def need(*programs):
    """Skip a test whose program is missing; in CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        demand_or_skip(f"not installed: {', '.join(missing)}")


def demand_or_skip(why):
    if os.environ.get("SINGLERUN_NO_SKIPS") == "1":
        pytest.fail(f"this must not be skipped here: {why}")
    pytest.skip(why)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte, which is easily full."""
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
    """A real file system whose kernel locks can't be trusted: FUSE, as sshfs and others use it."""
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


def pytest_sessionfinish(session):
    """Where nothing may be skipped, no skip goes unnoticed, however it was asked for."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and os.environ.get("SINGLERUN_NO_SKIPS") == "1":
        reporter.write_line("tests were skipped, and SINGLERUN_NO_SKIPS=1 forbids it", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
