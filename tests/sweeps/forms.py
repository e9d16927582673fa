"""The forms of singlerun that are swept.

A form says how its state directory is made, which run holds the name beforehand, what is run under
strace ("a"), and what is asked of the result beyond that which holds for all (trial.py).
"""

import os
import re
import select
import time
from pathlib import Path

from arena import BOUND, STATUS, main_thread_waits
from trial import FILES

from singlerun.paths import StateDir
from singlerun.queue import add
from singlerun.store.queue import Job


class Form:
    """The plain form, and what the others change of it."""

    name = "plain"
    options = ()
    lock = ()
    slots = 1
    gates = ("a",)
    tried = ("a",)
    runs_a = True
    files = None

    def template(self, arena):
        """Make the state directory that each trial begins with: one that has been in use."""
        arena.call("-n", "x", *self.lock, "--", *arena.command("t"))

    def prepare(self, trial):
        pass

    def words(self, trial):
        command = trial.arena.command("a", self.slots)
        return ["-n", "x", *self.lock, *self.options, "--", *command]

    def rival(self, trial):
        return ["-n", "x", *self.lock, "--", *trial.arena.command("r", self.slots)]

    def nudge(self, trial):
        """Do what lets the run go on, when it has come so far; called again and again."""

    def finish(self, trial):
        """Check what is special, when nothing of the run under test is left."""

    def after_reap(self, trial):
        pass


class First(Form):
    """The plain form where nothing is yet."""

    name = "first"

    def template(self, arena):
        pass


class Kept(Form):
    name = "log"
    options = ("--log",)

    def finish(self, trial):
        trial.settle("the relay goes on", lambda: not trial.arena.processes())


class Hooked(Form):
    name = "hooks"
    options = ("--on-start", "exit 0", "--on-finish", "exit 0")

    def finish(self, trial):
        trial.settle("a hook goes on", lambda: not trial.arena.processes())


class LockFile(Form):
    name = "lockfile"
    lock = ("--lock-type", "lockfile")
    files = re.compile(FILES.pattern + r"|locks/x\.soft(\.filelock(/claims)?)?")


class Held(Form):
    """A form that meets a holder."""

    gates = ("a", "h")

    def prepare(self, trial):
        arena = trial.arena
        trial.holder = arena.start(
            "-n", "x", *self.lock, *self.holder_options, "--", *arena.command("h", self.slots)
        )
        while not arena.count("begin", "h"):
            arena.listen(timeout=BOUND)
        trial.settle("the holder waits", lambda: main_thread_waits(trial.holder.pid))
        trial.released = False

    holder_options = ()

    def release(self, trial):
        if not trial.released:
            trial.released = True
            trial.arena.open("h")

    def finish(self, trial):
        self.release(trial)
        status = trial.holder.wait()
        trial.check(status == STATUS, f"the holder exits with {status}: {trial.holder.err}")


class Wait(Held):
    name = "wait"
    options = ("--wait",)

    def nudge(self, trial):
        late = time.monotonic() > trial.begun + 3  # it waits in another way
        if late or is_awaited(trial.arena.dir / "locks" / "x.lock"):
            self.release(trial)


class Slots(Held):
    name = "slots"
    slots = 2
    lock = options = holder_options = ("--slots", "2")
    options = ()

    def template(self, arena):
        arena.call("-n", "x", "--slots", "2", "--", *arena.command("t", 2))
        quick = [arena.start("-n", "x", "-w", *self.lock, "--", *arena.command("t", 2))]
        for each in quick:
            each.wait()


class Replace(Held):
    name = "replace"
    options = ("--replace", "--kill-after", "5")

    def finish(self, trial):
        self.release(trial)
        status = trial.holder.wait()
        trial.check(status in {STATUS, 143}, f"the holder exits with {status}: {trial.holder.err}")


class Stop(Held):
    name = "stop"
    gates = ("h",)
    runs_a = False
    tried = ()

    def words(self, trial):
        return ["stop", "x"]

    def finish(self, trial):
        if trial.status == 0:
            stopped = trial.holder.wait(5)
            trial.check(stopped == 143, f"stopped, but exits with {stopped}")
        elif not select_ended(trial.holder):
            again = trial.arena.call("stop", "x")
            trial.check(again.status in {0, 1}, f"stop again: {again.status} {again.err}")
        if not trial.killed:
            trial.check(trial.status == 0 or trial.err, f"{trial.status} without a word")
        status = trial.holder.wait()
        trial.check(status in {STATUS, 143}, f"the holder exits with {status}: {trial.holder.err}")
        rows = trial.arena.sql("SELECT state FROM runs WHERE wrapper_pid = ?", trial.holder.pid)
        expected = {143: "stopped", STATUS: "failed"}.get(status)
        trial.check(rows == [(expected,)], f"{status} is recorded as {rows}")


class Reap(Form):
    name = "reap"
    gates = tried = ()
    runs_a = False

    def template(self, arena):
        """Leave a zombie, and the ticket of a dead waiter."""
        super().template(arena)
        for party in "zw":
            arena.gate(party)
        zombie = arena.start("-n", "x", "--", *arena.command("z"))
        while not arena.count("begin", "z"):
            arena.listen()
        waiter = arena.start("-n", "x", "-w", "--", *arena.command("w"))
        while not is_awaited(arena.dir / "locks" / "x.lock"):
            time.sleep(0.002)
        os.kill(waiter.pid, 9)
        os.kill(zombie.pid, 9)
        waiter.wait(), zombie.wait()
        arena.kill_all()

    def words(self, trial):
        return ["reap"]

    def finish(self, trial):
        if not trial.killed:
            trial.check(trial.status == 0 or trial.err, f"{trial.status} without a word")


class Queued(Form):
    """A form that has jobs in the queue of its name."""

    gates = tried = ("1", "2")
    runs_a = False
    jobs = ()

    def after_reap(self, trial):
        arena = trial.arena
        trial.settle("the queue is not worked off", lambda: self.is_worked_off(arena))
        jobs = arena.sql("SELECT id, state, exit_code, detail FROM jobs ORDER BY id")
        for party in self.gates:
            begun, ended = arena.count("begin", party), arena.count("end", party)
            trial.check(begun <= 1 and begun == ended, f"job {party} began {begun} times")
        for number, state, exit_code, detail in jobs:
            begun = trial.arena.count("begin", str(number - jobs[0][0] + 1))
            fine = (state, exit_code) == ("failed", STATUS) and begun
            fine = fine or ((state, exit_code) == ("failed", 125) and detail and not begun)
            fine = fine or (state == "lost" and trial.killed)
            trial.check(fine, f"job {number} is {state} {exit_code} {detail}: {trial.err}")
        log = arena.dir / "workers.log"
        told = log.read_text(errors="replace") if log.exists() else ""
        trial.check("Traceback" not in told, f"workers.log: {told}")

    def is_worked_off(self, arena):
        left = arena.sql("SELECT 1 FROM jobs WHERE ended_ns IS NULL")
        return not left and not arena.processes()


class Add(Queued):
    name = "add"
    gates = tried = ("1",)

    def words(self, trial):
        return ["add", "-n", "x", "--", *trial.arena.command("1")]

    def rival(self, trial):
        return ["-n", "x", "--", *trial.arena.command("r")]

    def finish(self, trial):
        jobs = trial.arena.sql("SELECT id FROM jobs")
        if not trial.killed:
            trial.check(trial.status == 0 or trial.err, f"{trial.status} without a word")
            trial.check(trial.status != 0 or (jobs and trial.out.strip() == str(jobs[0][0])),
                        f"accepted {trial.out!r}, but there is {jobs}: {trial.err!r}")  # fmt: skip
        elif trial.out:
            trial.check(jobs, "an id was printed, and there is no job")

    def after_reap(self, trial):
        jobs = trial.arena.sql("SELECT id FROM jobs")
        super().after_reap(trial)
        trial.check(len(jobs) == trial.arena.count("begin", "1"),
                    f"{len(jobs)} jobs, begun: {trial.arena.news}")  # fmt: skip


class Worker(Queued):
    name = "worker"

    def template(self, arena):
        super().template(arena)

    def prepare(self, trial):
        add_without_worker(trial.arena, "1", "2")

    def words(self, trial):
        return ["worker", "-n", "x"]

    def finish(self, trial):
        if not trial.killed:
            trial.check(trial.status == 0 or trial.err, f"{trial.status} without a word")


def add_without_worker(arena, *parties):
    state = StateDir(os.fsencode(arena.dir))
    for party in parties:
        words = tuple(os.fsencode(word) for word in arena.command(party))
        add.enqueue(state, [Job(name=b"x", argv=words)], add.context_here())
    state.close()


def is_awaited(path):
    """Return whether a process sleeps in flock(2) on a file."""
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        return False
    lines = Path("/proc/locks").read_text().splitlines()
    return any(" -> FLOCK" in line and f":{inode} " in line for line in lines)


def select_ended(quick):
    return bool(select.select([quick._pidfd], [], [], 0)[0]) if quick.status is None else True


FORMS = {
    form.name: form
    for form in (
        First,
        Form,
        Wait,
        Slots,
        Replace,
        Kept,
        Hooked,
        LockFile,
        Add,
        Worker,
        Stop,
        Reap,
    )
}
