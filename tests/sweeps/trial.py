"""One run with one fault, and what must be true afterwards, whatever the fault."""

import os
import re
import time
from pathlib import Path

from arena import BOUND, STATUS, HangError, main_thread_waits
from faults import KILL

FILES = re.compile(
    r"singlerun\.db(-wal|-shm|\.lock)?|workers\.log|pruned|(workers|lines)(/x)?|logs(/#(/#|/ended)?)?"
    r"|locks(/(%%#-)?x\.lock)?"
)
"""What may be there when nothing runs, with # for numbers."""

OF_HASHLIB = re.compile(
    r"ERROR:root:code for hash \w+ was not found\.\nTraceback.*?\nValueError: [^\n]*\n", re.DOTALL
)
"""What Python logs of itself if it cannot load one of its hashes."""
PRIVATE = re.compile(r"\.(private|probe)-v")
"""Files of filelock, which the next to take the lock deletes when they are two seconds old."""


class Trial:
    """One run of a form with one fault.

    Attributes:
        wrong: what was found to be wrong, a line each.
    """

    def __init__(self, form, arena, trace, options=(), fault=None):
        self.form = form
        self.arena = arena
        self.fault = fault
        self.killed = fault is not None and fault.kind == KILL
        self.trace = trace
        self.options = options
        self.wrong = []
        self.holder = None
        self.status = None
        self.pid = None

    def run(self):
        """Play it; return what is wrong."""
        try:
            self._play()
        except HangError as error:
            self.wrong.append(f"hangs: {error}; {self.arena.news}; {self.err}")
            self.wrong += map(seen_of, self.arena.processes())
        return self.wrong

    def check(self, is_true, what):
        if not is_true:
            self.wrong.append(what)

    @property
    def err(self):
        return OF_HASHLIB.sub("", (self.arena.place / "a.err").read_text(errors="replace"))

    @property
    def out(self):
        return (self.arena.place / "a.out").read_text(errors="replace")

    @property
    def warned(self):
        return "without a record" in self.err

    def _play(self):
        arena, form = self.arena, self.form
        for party in form.gates:
            arena.gate(party)
        form.prepare(self)
        self.begun = time.monotonic()
        process, life = arena.trace(form.words(self), self.trace, self.options)
        try:
            self._accompany(process, life)
        except HangError as error:
            raise HangError(f"{error}: {list(map(seen_of, self.arena.processes()))}") from None
        finally:
            os.close(life)
            if process.poll() is None:
                process.kill()
            self.status = process.wait()
        self._check_exit()
        form.finish(self)
        self._check_reap()
        self._check_next()

    # -- while it runs ---------------------------------------------------------------------------

    def _accompany(self, process, life):
        """Let all commands begin, be tried against, and end, until nothing of the run is left."""
        arena, over = self.arena, False
        deadline = self.begun + BOUND
        while not over:
            if time.monotonic() > deadline:
                raise HangError(f"{' '.join(map(str, self.form.words(self)))}")
            self.pid = child_of(process.pid)
            ready, said = arena.listen(life)
            for what, party in said:
                if what == "begin":
                    self._begun(party)
            over = life in ready
            self.form.nudge(self)

    def _begun(self, party):
        """Try to start another beside a command that runs; then let it end."""
        if party not in self.form.tried:
            return
        until = time.monotonic() + 0.05
        while self.pid and not main_thread_waits(self.pid) and time.monotonic() < until:
            time.sleep(0.001)
        rival = self.arena.start(*self.form.rival(self))
        self.check(
            rival.wait() == 75, f"beside {party} a rival exits with {rival.status}: {rival.err}"
        )
        self.arena.open(party)

    def settle(self, what, condition):
        """Wait for a condition, and hear what is said meanwhile."""
        deadline = time.monotonic() + BOUND
        while True:
            is_met = condition()
            _, said = self.arena.listen(timeout=0 if is_met else 0.01)
            for word, party in said:
                if word == "begin":
                    self._begun(party)
            if is_met:
                return
            if time.monotonic() > deadline:
                raise HangError(what)

    # -- afterwards ------------------------------------------------------------------------------

    def _check_exit(self):
        arena = self.arena
        self.check("Traceback" not in self.err, f"a traceback: {self.err}")
        self.check("internal error" not in self.err, f"an internal error: {self.err}")
        strangers = [line for line in self.err.splitlines() if not line.startswith("singlerun: ")]
        self.check(not strangers, f"not a message: {strangers}")
        self.check(self.err.count("\n") <= 3, f"many messages: {self.err}")
        if self.killed:
            return
        self.check(self.status >= 0, f"died of signal {-self.status}")
        if self.form.runs_a:
            begun = arena.count("begin", "a")
            self.check(
                self.status == STATUS if begun else self.status in {75, 125} and self.err,
                f"begun {begun} times, exit status {self.status}: {self.err!r}",
            )

    def _check_reap(self):
        arena = self.arena
        reaped = arena.call("reap")
        self.check(reaped.status == 0, f"reap exits with {reaped.status}: {reaped.err}")
        self.form.after_reap(self)
        self.check("overlap" not in [what for what, _ in arena.news], f"OVERLAP: {arena.news}")
        left = arena.sql("SELECT id, state, argv FROM runs WHERE ended_ns IS NULL")
        self.check(not left, f"left open: {left}")
        if self.form.runs_a and arena.count("begin", "a"):
            rows = arena.rows("a")
            self.check(rows or self.warned, f"a start without a row: {self.err!r}")
            if rows and not self.killed and not self.warned:
                self.check(rows[-1] == ("failed", STATUS), f"recorded as {rows[-1]}: {self.err!r}")
        if any(map(PRIVATE.search, arena.listing())):
            time.sleep(2.1)
            arena.call("-n", "x", *self.form.lock, "--", *arena.command("p"))
        spare = [name for name in arena.listing() if not (self.form.files or FILES).fullmatch(name)]
        self.check(not spare, f"files are left: {sorted(spare)} {self.err}")

    def _check_next(self):
        arena = self.arena
        following = arena.call("-n", "x", *self.form.lock, "--", *arena.command("n"))
        self.check(
            (following.status, following.err) == (STATUS, ""),
            f"the next run exits with {following.status}: {following.err}",
        )
        arena.listen(timeout=0)
        self.check("overlap" not in [what for what, _ in arena.news], f"OVERLAP: {arena.news}")


def seen_of(pid):
    """Say what a process is doing."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[-200:]
        calls = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/syscall")]
    except OSError as error:
        return str(error)
    return f"  {pid} {words} {calls}"


def child_of(tracer):
    try:
        words = Path(f"/proc/{tracer}/task/{tracer}/children").read_text().split()
    except OSError:
        return None
    return int(words[0]) if words else None
