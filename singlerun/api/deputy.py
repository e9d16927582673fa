"""Waiting in line on behalf of a thread, which must stay free to give up.

Only flock(2) waits in the kernel and in turn, and a thread that sleeps in it can't be called back
without a signal. A library may neither take signals nor leave threads behind, so it sends a deputy:
a process that stands in line under the program's PID and hands the locks over.

    take    the deputy waits in line and takes the locks, as the command line does
    hand    it sends their descriptors through a socket: the locks belong to those (SCM_RIGHTS)
    thank   the program has them safe; the deputy closes its own and ends
    or not  the program gave up or died: the deputy frees the locks, deletes its ticket, and ends

So a lock that was handed over but never thanked for, because an exception came in between, is free
too. The program sees the deputy's end through a pidfd, and the deputy the program's through both
a pidfd and the socket: forked children may have copies of either end, so neither EOF is enough.
"""

import marshal
import os
import socket
import sys
import time
from select import POLLIN, POLLRDHUP

from singlerun import errors, lock
from singlerun.paths import StateDir, lift, reason
from singlerun.process import interpreter, procfs
from singlerun.process.descriptors import poll
from singlerun.timings import DEPUTY_GRACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import NoReturn

    from singlerun.spec import RunSpec

AT_ONCE = 250
"""Descriptors in one message; the kernel allows 253 (unix(7))."""
LONGEST_MESSAGE = 100_000
MORE = b"+"
THANKS = b"k"


def take(
    spec: "RunSpec", hold: lock.LockSet, state: StateDir | None, deadline: float | None
) -> bool:
    """Take a spec's locks in turn; return whether that was before the deadline (time.monotonic).

    Raises:
        SinglerunError: a lock can't be had at all, or the deputy died. Whatever is raised, nothing
            is left in line, and no lock is held.
    """
    try:
        return _take(spec, hold, state, deadline)
    except OSError as error:
        raise errors.SinglerunError(f"cannot wait in line: {reason(error)}") from error


def _take(
    spec: "RunSpec", hold: lock.LockSet, state: StateDir | None, deadline: float | None
) -> bool:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = None
    taken = False
    try:
        link = lift(theirs.detach())  # below 3 it would be lost among the standard streams
        try:
            process = _send(spec, state, link)
        finally:
            os.close(link)
        if _await(process.pid, ours, deadline):
            _receive(ours, hold)
            process.wait()  # it must not take the closed socket for our giving up
            taken = True
        return taken
    finally:
        if not taken:
            hold.free()
        ours.close()
        if process is not None and process.poll() is None:
            if not procfs.await_end([process.pid], DEPUTY_GRACE):
                process.kill()  # it was stopped
            process.wait()
        if not taken:
            # The deputy may have ended between making its ticket and knowing that it has one.
            try:
                hold.sweep()
            except errors.StateDirError:
                pass


def _send(spec: "RunSpec", state: StateDir | None, link: int) -> "subprocess.Popen[bytes]":
    import subprocess  # noqa: PLC0415 - the deputy itself doesn't need it

    numbers = os.getpid(), link, int(spec.shared), spec.slots or 0
    words: list[str | bytes] = [*interpreter.words(__name__), *map(str, numbers)]
    words += [state.path if state else b"", spec.lock_file or b"", *spec.names]
    # In a session of its own it isn't told of what the terminal tells the program.
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=[link], start_new_session=True, cwd="/",
    )  # fmt: skip


def _await(pid: int, link: socket.socket, deadline: float | None) -> bool:
    """Sleep until the deputy has sent something, or died; return False if that is too late."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:  # it died, and the program ignores SIGCHLD
        return True
    try:
        left = None if deadline is None else max(0, deadline - time.monotonic())
        return bool(poll({link.fileno(): POLLIN, pidfd: POLLIN}, left))
    finally:
        os.close(pidfd)


def _receive(link: socket.socket, hold: lock.LockSet) -> None:
    """Take over what the deputy hands over, and thank for it."""
    descriptors: list[int] = []
    lifted: list[int] = []
    try:
        created, hold.out_of_line = _receive_descriptors(link, descriptors)
        while descriptors:
            lifted.append(lift(descriptors.pop(0)))
        # From here on they are the locks' to close, and are closed once.
        adopted, lifted = lifted, []
        hold.adopt(adopted, created)
        link.send(THANKS)
    except OSError as error:
        raise errors.SinglerunError(f"cannot take over a lock: {reason(error)}") from error
    finally:
        for descriptor in descriptors + lifted:
            os.close(descriptor)


def _receive_descriptors(
    link: socket.socket, descriptors: list[int]
) -> tuple[list[bool], str | None]:
    """Receive the locks' descriptors; return which files were made, and why it was out of line."""
    expected = 1
    created: list[bool] = []
    out_of_line: str | None = None
    while len(descriptors) < expected:
        try:
            flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            message, sent, _, _ = socket.recv_fds(link, LONGEST_MESSAGE, AT_ONCE, flags)
        except (BlockingIOError, ConnectionError):
            message, sent = b"", []
        descriptors += sent
        if not message:
            raise errors.SinglerunError("the process that waited in line has died")
        if message != MORE:
            told = marshal.loads(message)  # noqa: S302 - our own child's
            if told["error"]:
                raise getattr(errors, told["error"])(*told["arguments"])
            expected, created, out_of_line = told["locks"]
        if not sent:
            raise errors.SinglerunError("too many open files for these locks; see: ulimit -n")
    return created, out_of_line


# -- the deputy itself ------------------------------------------------------------------------


def main() -> "NoReturn":
    """Be the deputy."""
    import _thread  # noqa: PLC0415 - in the deputy alone
    import signal  # noqa: PLC0415

    # The end of the program is what ends the deputy.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    program, descriptor, shared, slots = map(int, sys.argv[1:5])
    directory, lock_file, *names = map(os.fsencode, sys.argv[5:])
    link = socket.socket(fileno=descriptor)
    pidfd = os.pidfd_open(program)
    if os.getppid() != program:
        os._exit(1)
    try:
        state = StateDir(directory) if directory else None
        if lock_file or state is None:
            hold = lock.of_file(lock_file, state, shared=bool(shared), slots=slots or None)
        else:
            hold = lock.of_names(tuple(names), state, shared=bool(shared), slots=slots or None)
        _thread.start_new_thread(_watch, (link, pidfd, hold))
        hold.take(pid=program)
    except errors.SinglerunError as error:
        link.send(marshal.dumps({"error": type(error).__name__, "arguments": error.args}))
        os._exit(1)
    try:
        _hand(link, hold)
        if link.recv(1) == THANKS:
            os._exit(0)  # the program has the locks now
    except OSError:
        pass
    _give_up(hold)


def _hand(link: socket.socket, hold: lock.LockSet) -> None:
    created, fds = set(hold.created), hold.fds
    locks = len(fds), [path in created for path in hold.paths], hold.out_of_line
    message = marshal.dumps({"error": None, "locks": locks})
    for start in range(0, len(fds), AT_ONCE):
        socket.send_fds(link, [message], fds[start : start + AT_ONCE])
        message = MORE


def _watch(link: socket.socket, pidfd: int, hold: lock.LockSet) -> None:
    """Give up as soon as the program has: it closed the socket, or has died."""
    poll({link.fileno(): POLLRDHUP, pidfd: POLLIN})
    _give_up(hold)


def _give_up(hold: lock.LockSet) -> "NoReturn":
    try:
        hold.abandon()
    finally:
        os._exit(1)
