"""The sender: delivers what is in the spool, in order for each target, and ends.

Each try is a process of its own, which an alarm ends, so that whatever hangs (a server, a resolver,
a library) costs a bounded time, and delays no other target. What fails is tried again, later each
time; behind it wait the other events of that target alone. The sender goes on for a while after the
latest event, then leaves the rest in the spool; the next event starts another.

A try locks its file and removes it when it has delivered, so if the sender is killed meanwhile, the
next one does not send twice. A try that is killed itself between the two is repeated, as it must.
"""

import os
import signal
import sys
import time
from select import POLLIN

from singlerun.errors import said
from singlerun.notify import wakeup
from singlerun.notify.delivery import deliver
from singlerun.notify.failure import DeliveryError
from singlerun.notify.spool import Spool, described
from singlerun.notify.watch import Watch
from singlerun.paths import StateDir
from singlerun.process.descriptors import close_all_but, poll, try_lock
from singlerun.timings import (
    DELIVERY_RETRY,
    DELIVERY_TIMEOUT,
    GIVE_UP,
    LONGEST_DELIVERY_RETRY,
    LONGEST_SLEEP,
    REFUSED_TRIES,
    SENDER_LIFE,
    backoff,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

AT_ONCE = 8
"""Tries at the same time, each to another target."""
_SENT, _FAILED, _REFUSED, _TAKEN = 0, 1, 2, 3


class _Item:
    """An entry of the spool, its tries, and when the next one is due."""

    def __init__(self, entry: "dict[str, Any]", tried: tuple[int, int, str]) -> None:
        self.entry = entry
        self.tries, self.refused, self.error = tried
        self.due = 0.0

    @property
    def url(self) -> str:
        return str(self.entry["url"])

    def is_stale(self) -> bool:
        age = time.time() - float(self.entry.get("written", 0))
        return self.tries > 0 and (age > GIVE_UP or self.refused >= REFUSED_TRIES)

    def __str__(self) -> str:
        return described(self.entry)


class _Try:
    """The process of a try: its pidfd, what it delivers, and the pipe that says what went wrong."""

    def __init__(self, pid: int, name: str, item: _Item, pipe: int) -> None:
        self.pid, self.name, self.item, self.pipe = pid, name, item, pipe
        self.pidfd = os.pidfd_open(pid)


class Sender:
    """The sender of a state directory; it has the lock of the spool's FIFO."""

    def __init__(self, state: StateDir, fifo: int) -> None:
        self._state, self._fifo = state, fifo
        self._spool = Spool(state)
        self._watch = Watch(state, self._spool)
        self._items: dict[str, _Item] = {}
        self._tries: dict[int, _Try] = {}
        self._until = time.monotonic() + SENDER_LIFE

    def run(self) -> None:
        """Deliver until the spool is empty, or for so long."""
        self._spool.sweep()
        while True:
            if wakeup.clear(self._fifo):
                self._hurry()
            due = self._watch.look()
            if self._look():
                self._until = time.monotonic() + SENDER_LIFE
            self._begin_tries()
            if not self._tries and due is None and self._is_over():
                wakeup.unlock(self._fifo)
                left = self._spool.names() + self._spool.watches()
                if not (set(left) - set(self._items)) or not try_lock(self._fifo):
                    return
                continue
            self._sleep(due)
            self._end_tries()

    def _look(self) -> bool:
        """Read what is new in the spool, and drop what is no news any more; return whether so."""
        names = self._spool.names()
        for name in set(self._items) - set(names):
            if not any(each.name == name for each in self._tries.values()):
                del self._items[name]
        has_news = False
        for name in names:
            if name not in self._items:
                entry = self._spool.read(name)
                if entry is None:
                    self._log(f"dropped: {name} in the spool is damaged")
                    self._spool.remove(name)
                    continue
                self._items[name] = _Item(entry, self._spool.tries(name))
                has_news = True
        for name, item in list(self._items.items()):
            if item.is_stale() and not any(each.name == name for each in self._tries.values()):
                times = "1 try" if item.tries == 1 else f"{item.tries} tries"
                self._log(f"gave up: {item}, after {times}: {item.error}")
                self._spool.remove(name)
                del self._items[name]
        return has_news

    def _hurry(self) -> None:
        """Try all again now, and for a while from now."""
        self._until = time.monotonic() + SENDER_LIFE
        for item in self._items.values():
            item.due = 0.0

    def _heads(self) -> list[tuple[str, _Item]]:
        """Return what is next for each target that is not being tried."""
        busy = {each.item.url for each in self._tries.values()}
        heads: dict[str, tuple[str, _Item]] = {}
        for name in sorted(self._items):
            item = self._items[name]
            if item.url not in busy:
                heads.setdefault(item.url, (name, item))
        return list(heads.values())

    def _begin_tries(self) -> None:
        for name, item in self._heads():
            if len(self._tries) < AT_ONCE and item.due <= time.monotonic():
                try:
                    begun = self._begin(name, item)
                except OSError as error:  # too many processes, or open files
                    self._failed(name, item, _FAILED, said(error), None)
                else:
                    self._tries[begun.pidfd] = begun

    def _begin(self, name: str, item: _Item) -> _Try:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _try(self._spool, name, item.entry, writing, self._fifo)
        os.close(writing)
        return _Try(pid, name, item, reading)

    def _end_tries(self) -> None:
        for pidfd, each in list(self._tries.items()):
            if pidfd not in poll({pidfd: POLLIN}, 0):
                continue
            status = os.waitstatus_to_exitcode(os.waitpid(each.pid, 0)[1])
            told = os.read(each.pipe, 4096).decode("utf-8", "replace")
            os.close(each.pipe)
            os.close(pidfd)
            del self._tries[pidfd]
            after, _, reason = told.partition(" ")
            if status == _SENT:
                self._items.pop(each.name, None)
                self._log(f"told: {each.item}")
            elif status == _TAKEN:
                each.item.due = time.monotonic() + DELIVERY_RETRY
            else:
                if status == -signal.SIGALRM:
                    reason = f"no answer within {DELIVERY_TIMEOUT:.0f} s"
                reason = reason or f"the process of the try ended with status {status}"
                self._failed(each.name, each.item, status, reason, float(after or 0))

    def _failed(
        self, name: str, item: _Item, status: int, reason: str, after: float | None
    ) -> None:
        """Note that a try has failed, and when the next one is due."""
        item.tries += 1
        item.refused += status == _REFUSED
        item.error = reason
        delay = min(backoff(DELIVERY_RETRY, item.tries), LONGEST_DELIVERY_RETRY)
        delay = max(delay, after or 0.0)
        item.due = time.monotonic() + delay
        try:
            self._spool.note_tries(name, item.tries, item.refused, reason)
        except OSError:  # a full disk: it is told here only
            pass
        self._log(f"failed: {item}: {reason}; try {item.tries}, the next in {delay:g} s")

    def _is_over(self) -> bool:
        return not self._items or time.monotonic() > self._until

    def _sleep(self, due: float | None) -> None:
        """Sleep until a try ends, the next one is due, there is news, or a run is to be looked at.

        ``due`` is when a watched run is to be looked at, by the monotonic clock.
        """
        times = [item.due for _, item in self._heads()] if len(self._tries) < AT_ONCE else []
        times += [] if due is None else [due]
        soonest = min(times, default=float("inf"))
        seconds = min(max(soonest - time.monotonic(), 0), LONGEST_SLEEP)
        watched = [self._fifo, *self._tries, *self._watch.pidfds]
        poll(dict.fromkeys(watched, POLLIN), seconds)

    def _log(self, message: str) -> None:
        wakeup.log(self._state, message)


def _try(spool: Spool, name: str, entry: "dict[str, Any]", pipe: int, fifo: int) -> "NoReturn":
    """Be the process of a try."""
    status, told = _FAILED, ""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(round(DELIVERY_TIMEOUT))
        os.close(fifo)  # the sender's lock ends with the sender
        os.dup2(0, 2)  # what a library says may hold secrets, and the log must not
        claim = spool.claim(name)
        if claim is None:
            os._exit(_TAKEN)
        deliver(entry)
        spool.remove(name)
        status = _SENT
    except DeliveryError as error:
        status = _REFUSED if error.is_final else _FAILED
        told = f"{error.after or 0} {error.reason}"
    except BaseException as error:  # noqa: BLE001 - the parent goes on
        told = f"0 {type(error).__name__}"
    finally:
        try:
            os.write(pipe, told.encode(errors="replace")[:4096])
        finally:
            os._exit(status)


def main() -> "NoReturn":
    """Be the sender that ``wakeup.ensure`` starts: arguments are the FIFO and the directory."""
    fifo, path = int(sys.argv[1]), os.fsencode(sys.argv[2])
    close_all_but({0, 1, 2, fifo})  # what the starting process had open is none of our business
    os.set_inheritable(fifo, False)
    os.chdir("/")
    os.umask(0o77)
    state = StateDir(path, create=False)
    try:
        Sender(state, fifo).run()
        status = 0
    except Exception as error:  # noqa: BLE001 - no traceback
        wakeup.log(state, f"the sender ends: {said(error)}")
        status = 125
    os._exit(status)
