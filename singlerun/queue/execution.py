"""One job's command: prepared, started, watched, its output kept."""

import os
from select import POLLHUP, POLLIN

from singlerun import hooks
from singlerun.errors import SinglerunError, StateDirError, said
from singlerun.options import Words
from singlerun.outcome import Outcome
from singlerun.output import segments
from singlerun.output.capture import Relay, reaped
from singlerun.paths import is_configured, lift, reason
from singlerun.process.child import Child
from singlerun.process.descriptors import poll
from singlerun.process.identity import Owner, here
from singlerun.process.search import find_program
from singlerun.render.line import say
from singlerun.render.text import shown
from singlerun.spec import RunSpec
from singlerun.store.run import FAILED, STOPPED, Ending
from singlerun.timings import BRIEF, SILENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from singlerun.lifecycle import Lifecycle
    from singlerun.paths import StateDir
    from singlerun.process.signals import Signals
    from singlerun.store.queue import Context, Job
    from singlerun.store.run import Run

    class Announcer(Protocol):
        """What can name the next job of the queue before it is claimed."""

        def announce(self) -> None: ...

        def retract(self) -> None: ...


def spec_of(name: bytes, options: dict[str, object], state: "StateDir") -> RunSpec:
    """Return the policy of a queue's jobs that have these options."""
    values = Words().values | options | {"name": (name,), "dir": state.path}
    if is_configured():
        from singlerun import config  # noqa: PLC0415 - most have none

        values["tables"] = config.load(state.path).of_events(name)
    return RunSpec(["singlerun"], values)


class Executor:
    """Performs the jobs of one queue.

    Attributes:
        spec, env: the policy and the environment of the latest job.
        beside: its hook of the start, if that is to be waited for.
        left_lock_behind: whether something that the latest job started still has the lock.
        was_signalled: whether a signal has asked us to end.
    """

    def __init__(self, life: "Lifecycle", signals: "Signals", announcer: "Announcer") -> None:
        assert life.state is not None
        self._life, self._state = life, life.state
        self._signals, self._announcer = signals, announcer
        self._null = lift(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        self._prepared: Context | None = None
        self._relays: set[int] = set()
        self._found: dict[str, str | None] = {}
        self._was_brief = False
        self._output = -1
        self.spec = life.spec
        self.env: dict[bytes, bytes] = {}
        self.beside: hooks.Beside | None = None
        self.left_lock_behind = self.was_signalled = False

    def perform(self, job: "Job") -> Ending:
        """Run a job's command; return how it ended, which is not recorded yet."""
        assert job.run is not None
        assert job.context is not None
        try:
            self._prepare(job.context)
        except OSError as error:
            return Ending(Outcome(126), FAILED, f"{shown(job.context.cwd)}: {reason(error)}")
        pipes: list[int] = []
        self.beside = None
        try:
            command, output, heirs = self._start(job, pipes)
            self._output = output
        except Exception as error:  # noqa: BLE001 - a job that was claimed gets its end
            for pipe in pipes:
                os.close(pipe)
            status = error.exit_status if isinstance(error, SinglerunError) else 125
            return Ending(Outcome(status), FAILED, shown(said(error)))
        outcome = self._life.watch(
            command, lambda: self._await(command, output, job.run), lambda: self._output
        )
        self.left_lock_behind = not poll({heirs: 0}, 0)
        for pipe in (heirs, self._output):
            if pipe >= 0:
                os.close(pipe)
        if command.asked_to_end:
            self.was_signalled = True
        stopped = command.asked_to_end and outcome.exit_status != 0
        return Ending(outcome, STOPPED if stopped else None)

    def call_hooks(self, run: "Run", status: int) -> None:
        """Run the hooks of the end for the latest job, which has ended."""
        if self.beside is not None and self.beside.finish(self._signals):
            self.was_signalled = True
        if hooks.call(self.spec, run, status, self._signals, self._hook_environment()):
            self.was_signalled = True

    def _begin_hook(self) -> None:
        beside = hooks.begin(self.spec, self._life.run, self._signals, self._hook_environment())
        self._relays.add(beside.pid)
        if self.spec.end_hooks:
            self.beside = beside
        else:  # the next job need not wait for it
            beside.forget()

    def _hook_environment(self) -> dict[bytes, bytes]:
        return self.env | {b"SINGLERUN_DIR": self._state.path}

    def leave_directory(self) -> None:
        """Leave a job's directory, which may be on something that is to be unmounted."""
        os.chdir("/")
        self._prepared = None

    def _prepare(self, context: "Context") -> None:
        """Become what a context asks for: directory (else OSError), file mode mask, PATH."""
        os.chdir(context.cwd)
        if context is self._prepared:
            return
        os.umask(context.umask)
        self.env = dict(entry.split(b"=", 1) for entry in context.env)
        # A command is looked for in the PATH of the process that starts it.
        os.environb[b"PATH"] = self.env.get(b"PATH", b"/usr/bin:/bin")
        self.spec = spec_of(self._life.spec.names[0], context.options, self._state)
        self._prepared = context
        self._found.clear()

    def _start(self, job: "Job", pipes: list[int]) -> tuple[Child, int, int]:
        """Start a job's command; the lock is its own then.

        Return the command, the pipe with its output, and one that ends with the last process that
        has the lock. ``pipes`` are those that are to be closed if this raises.
        """
        life = self._life
        marks = life.marks()
        life.note()
        env = self.env | marks.environ() | {b"SINGLERUN_JOB_ID": b"%d" % (job.id or 0)}
        for _ in range(2):
            pipes += map(lift, os.pipe2(os.O_CLOEXEC))
        output, writing, heirs, inherited = pipes
        argv = [os.fsdecode(word) for word in job.argv]
        command = Child(
            argv, env, [*life.locks.fds, inherited], self._signals, marks=marks,
            kill_after=self.spec.kill_after, stop_signal=self.spec.signal,
            adopt=self.spec.timeout is not None, strangers=self._relays,
            redirected={0: self._null, 1: writing, 2: writing},
            path=self._find(argv[0]),
        )  # fmt: skip
        life.bind(Owner(here(), command.pid, command.started))
        os.close(writing)
        os.close(inherited)
        return command, output, heirs

    def _find(self, command: str) -> str | None:
        """Find a command once for all jobs: ten directories of PATH are ten calls to execve(2)."""
        path = self._found.get(command)
        if path is None or not os.access(path, os.X_OK):
            path = self._found[command] = find_program(command)
        return path

    def _await(self, command: Child, output: int, run: "Run | None") -> Outcome:
        """Wait for a command's end, and until its output is kept."""
        assert run is not None
        self._life.note(run.command)
        if self.spec.tells_start(lost=self._life.lost):
            self._life.harmless("cannot notify", lambda: self._tell_start(run))
        if "start" in self.spec.hooks:
            self._life.harmless("a hook could not be run", self._begin_hook)
        relay = self._watch(command, output, run)
        outcome = command.wait(self.spec.timeout)
        if relay is None:
            relay = self._last_relay(output, run)
        if relay is not None:
            ending = outcome.timed_out or command.asked_to_end
            patience = self.spec.kill_after if ending else None
            if relay.end(self._signals, failed=True, patience=patience):
                self.was_signalled = True
        return outcome

    def _tell_start(self, run: "Run") -> None:
        """Notify that a job has started, and that former runs were found dead."""
        if run.command is not None:  # a watch finds the process in the record
            self._life.recorder.name(run, run.command)
        from singlerun.notify import teller  # noqa: PLC0415 - rare

        teller.run_started(self._life, self.spec, self._relays)

    def _watch(self, command: Child, output: int, run: "Run") -> Relay | None:
        """Record the process of a command that goes on, and keep its output; None if it ended."""
        pidfd = os.pidfd_open(command.pid)
        try:
            if self._was_brief:  # then this one may be, too
                self._announcer.announce()
            came = poll({pidfd: POLLIN}, BRIEF)
            self._was_brief = bool(came)
            if not came:
                self._announcer.retract()
                assert run.command is not None
                self._life.recorder.name(run, run.command)
                came = poll({pidfd: POLLIN, output: POLLIN}, SILENT)
        finally:
            os.close(pidfd)
        if pidfd in came and not came.get(output, 0) & POLLIN:
            return None
        return self._relay(output, run)

    def _last_relay(self, output: int, run: "Run") -> Relay | None:
        """Keep what a command wrote in its last moment, and what it left behind may write."""
        came = poll({output: POLLIN}, 0).get(output, 0)
        return None if came & POLLHUP and not came & POLLIN else self._relay(output, run)

    def _relay(self, output: int, run: "Run") -> Relay:
        writer = None
        try:
            writer = segments.Writer(self._state, run.id or 0)
        except (StateDirError, OSError) as error:
            say(f"the output of run {run.id} is not kept: {segments.why_not(error)}")
        # In place, because a command knows the set.
        self._relays -= {pid for pid in self._relays if reaped(pid)}
        os.set_blocking(output, False)
        try:
            relay = Relay(writer, source=output)
        finally:
            if writer is not None:
                writer.close()
        self._output = -1
        if relay.pid is not None:
            self._relays.add(relay.pid)
        return relay
