"""Running a command from Python: by the command line itself, in a process of its own.

What a command needs around it (signals blocked and passed on, a terminal's stops, the end of its
whole process tree) a process can do for one command only, and not beside a program's threads. So
``run`` starts the runner of the prefix form, with the same options. An exit status could be the
command's or ours, so the runner reports into an unnamed file (memfd_create(2)) what it knows, or
what it raised. The record has most of that too, but it may be broken, and must not decide whether
a command was refused.
"""

import marshal
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from singlerun import errors, options, runner
from singlerun.api import holding
from singlerun.api.hold import Text, seconds
from singlerun.options import RUN_OPTIONS
from singlerun.outcome import Outcome
from singlerun.paths import lift, state_path
from singlerun.process import interpreter
from singlerun.spec import RunSpec
from singlerun.store.run import STOPPED, TIMED_OUT, Run
from singlerun.timings import INTERRUPT_GRACE

Stream = int | IO[bytes] | IO[str] | None
Duration = float | str


class Ended(Outcome):
    """How a command ended, or that it was not started.

    Attributes:
        run_id: its id in the run-log, None if it isn't recorded.
        state: as ``singlerun history`` shows it: succeeded, failed, timed-out, stopped or skipped.
        stdout, stderr: what it wrote, if ``subprocess.PIPE`` was given for it.
    """

    __slots__ = ("_state", "run_id", "stderr", "stdout")

    def __init__(
        self, exit_code: int | None, signal: int | None = None, *,
        state: str, run_id: int | None = None, timed_out: bool = False, **measured: int,
    ) -> None:  # fmt: skip
        """``measured`` is as for Outcome."""
        super().__init__(exit_code, signal, timed_out=timed_out, **measured)
        self._state = state
        self.run_id = run_id
        self.stdout: bytes | None = None
        self.stderr: bytes | None = None

    @property
    def state(self) -> str:
        """The state of the run in the run-log."""
        return self._state

    def __repr__(self) -> str:
        return f"<Ended: {self.state}, exit status {self.exit_status}, run {self.run_id}>"


def run(
    argv: Sequence[Text], *, name: str | bytes | Iterable[str | bytes] = (),
    lock_file: Text | None = None, shared: bool = False, slots: int | None = None,
    wait: bool | float = False, skip: bool = False, coalesce: bool = False, replace: bool = False,
    min_interval: Duration | None = None, max_starts: str | None = None,
    timeout: Duration | None = None, kill_after: Duration | None = None,
    signal: int | str | None = None,
    retries: int | None = None, retry_delay: Duration | None = None, restart: str | None = None,
    jitter: Duration | None = None, linger: bool = False, require_record: bool = False,
    dir: Text | None = None,  # noqa: A002 - as the option is called
    stdin: Stream = None, stdout: Stream = None, stderr: Stream = None,
    cwd: Text | None = None, env: Mapping[str, str] | None = None,
) -> Ended:  # fmt: skip
    """Run a command so that only one instance of it runs; return how it ended.

    It is what ``singlerun OPTIONS -- COMMAND`` does, and the options mean the same: names are one
    or several, durations are seconds or text such as ``"1h30m"``, and ``wait`` is as for ``hold``.
    Streams, ``cwd`` and ``env`` are as for ``subprocess.run``. An exit status other than 0 raises
    nothing. With ``skip`` or ``coalesce`` the state of what was not started is ``skipped``.

    Inside a block of ``hold`` the command counts as a part of that. If an exception comes while the
    command runs, such as KeyboardInterrupt, the command is asked to end, killed after
    ``kill_after``, and the exception goes on when it has ended.

    Raises:
        HeldError: the name is held, or was started too recently.
        CommandNotFoundError, CommandNotExecutableError: the command can't be started.
        UsageError: the options contradict each other.
        SinglerunError: another of them, if the lock can't be had at all.
    """
    # long: its signature is the table of run options, for the reader and the type checker.
    if isinstance(argv, str | bytes):
        raise TypeError('a command is a list of words: ["ls", "-l"]')
    names = [name] if isinstance(name, str | bytes) else list(name)
    values = {
        "name": names, "lock_file": lock_file and os.path.abspath(lock_file),
        "shared": shared, "slots": slots,
        "wait": wait is True, "wait_for": None if isinstance(wait, bool) else wait, "skip": skip,
        "coalesce": coalesce, "replace": replace,
        "min_interval": min_interval, "max_starts": max_starts,
        "timeout": timeout, "kill_after": kill_after, "signal": signal,
        "retries": retries, "retry_delay": retry_delay, "restart": restart, "jitter": jitter,
        "linger": linger, "require_record": require_record,
        # As it is for hold(), whatever the command's environment.
        "dir": state_path(None if dir is None else options.read_path(os.fsdecode(dir))),
    }  # fmt: skip
    words = [word for option in RUN_OPTIONS for word in _words(option, values.get(option.dest))]
    outer = holding.around_us()
    if outer is not None:
        env = dict(os.environ if env is None else env) | outer.marks
    report = lift(os.memfd_create("singlerun"))  # a standard stream of the command is not to be it
    try:
        process = subprocess.Popen(
            [*interpreter.words(__name__), str(report), *words, "--", *argv],
            stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, pass_fds=[report],
        )  # fmt: skip
        with process:
            try:
                output = process.communicate()
            except BaseException as error:
                _end(process, error)
                raise
        ended = _read(os.pread(report, 1 << 20, 0), process.returncode)
    finally:
        os.close(report)
    ended.stdout, ended.stderr = output
    return ended


def _words(option: options.Option, value: object) -> list[str | bytes]:
    """Write an option's value as on the command line."""
    flag = option.flags[-1]
    if value is None or value is False or value == ():
        return []
    if option.metavar is None:
        return [flag]
    if option.many:
        assert isinstance(value, list)
        return [word for one in value for word in (flag, os.fsencode(one))]
    if isinstance(value, str | bytes):
        return [flag, value]
    if option.metavar == "DURATION" and isinstance(value, int | float):
        return [flag, f"{seconds(value):.9f}"]
    return [flag, str(value)]


def _end(process: "subprocess.Popen[bytes]", error: BaseException) -> None:
    """End the command by its runner, which takes care that all of it ends."""
    if isinstance(error, KeyboardInterrupt):  # the terminal has told the command too
        try:
            process.wait(INTERRUPT_GRACE)
        except subprocess.TimeoutExpired:
            pass
    process.terminate()
    process.wait()


def _read(report: bytes, returncode: int) -> Ended:
    if not report:
        if returncode == -2:  # it died as its command did, so that a shell's loop ends
            return Ended(None, 2, state=STOPPED)
        raise errors.SinglerunError(
            f"singlerun itself was ended (status {returncode}); its command may still run"
        )
    kind, values, more = marshal.loads(report)  # noqa: S302 - our own child's
    if kind is None:
        return Ended(**values)
    error: errors.SinglerunError = getattr(errors, kind)(*values)
    error.__dict__.update(more)
    raise error


# -- the runner's process ---------------------------------------------------------------------


def main() -> None:
    """Run a command and report into the file whose descriptor is the first argument."""
    report = int(sys.argv[1])
    os.set_inheritable(report, False)
    status = 125
    message: tuple[object, object, object]
    try:
        given = options.split(sys.argv[2:])
        assert given is not None
        spec = RunSpec(given.command, given.values)
        spec.quiet, spec.wait_hint = True, "wait=True"
        report_ = runner.run(spec)
        status = report_.exit_status
        if report_.held is not None:
            raise report_.held  # noqa: TRY301 - as the runner itself raises
        message = None, _values(report_.run, status), None
    except errors.SinglerunError as error:
        cut = [str(argument)[:10_000] for argument in error.args]
        message = type(error).__name__, cut, vars(error)
    except Exception as error:  # noqa: BLE001 - raised where it was asked for
        message = "SinglerunError", [f"{type(error).__name__}: {error}"], {}
    os.pwrite(report, marshal.dumps(message), 0)
    os._exit(status)


def _values(run: Run | None, status: int) -> dict[str, object]:
    if run is None:  # a signal came before anything had begun
        return {"exit_code": status, "state": STOPPED}
    values: dict[str, object] = {"state": run.state, "run_id": run.id}
    values["timed_out"] = run.state == TIMED_OUT
    if run.elapsed_ns is None:  # it was not started
        return values | {"exit_code": status}
    measured = ("exit_code", "signal", "elapsed_ns", "user_us", "system_us", "max_rss_kb")
    return values | {name: getattr(run, name) for name in measured}
