"""Checks the limits of this process, which its jobs inherit: files, processes, sizes."""

import os
import resource

from singlerun.finding import NOTE, PROBLEM, Answer
from singlerun.process import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from singlerun.checkup.case import Case

LEAST_FILES = 64
"""Open files: our descriptors start at ten, a database has three, and each lock and pipe one."""
LEAST_PROCESSES = 16
"""Still to be made: a wrapper, a relay, a worker, the command and what it starts."""
LEAST_SIZE = 256 * 1024 * 1024
"""Of a file: a run-log with a million runs has 175 MB."""
LEAST_MEMORY = 256 * 1024 * 1024
_CGROUP = "/sys/fs/cgroup"
_INFINITE = resource.RLIM_INFINITY


def check(_case: "Case") -> Answer:
    """Check the limits under which this very process runs."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
    answer = Answer(f"{_number(files)} open files, {_number(_processes())} processes")
    if files != _INFINITE and files < LEAST_FILES:
        what = f"only {files} open files are allowed: singlerun needs some {LEAST_FILES}"
        answer.add(PROBLEM, "ulimit -n", what, "allow more", "ulimit -n 1024")
    if size != _INFINITE and size < LEAST_SIZE:
        what = f"no file may exceed {size:,} bytes, neither the run-log nor kept output"
        answer.add(PROBLEM, "ulimit -f", what, "allow more", "ulimit -f unlimited")
    if memory != _INFINITE and memory < LEAST_MEMORY:
        what = f"only {memory:,} bytes of memory are allowed to each process"
        answer.add(PROBLEM, "ulimit -v", what, "allow more", "ulimit -v unlimited")
    if seconds != _INFINITE:
        what = f"the kernel kills each process after {seconds:,} s of processor time"
        answer.add(
            NOTE, "ulimit -t", what, "nothing, if it is meant so; else", "ulimit -t unlimited"
        )
    _check_processes(answer)
    _check_group(answer)
    return answer


def _processes() -> int:
    return resource.getrlimit(resource.RLIMIT_NPROC)[0]


def _check_processes(answer: Answer) -> None:
    limit = _processes()
    if limit == _INFINITE or os.geteuid() == 0:  # it does not bind root
        return
    count = sum(_threads(pid) for pid in procfs.pids() if procfs.user_of(pid) == os.geteuid())
    if limit - count < LEAST_PROCESSES:
        what = f"{count:,} of {limit:,} processes and threads are there: few can still be started"
        answer.add(PROBLEM, "ulimit -u", what, "allow more", "ulimit -u unlimited")


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _check_group(answer: Answer) -> None:
    """Check the limit of the control group (cgroup v2): that of a container or a service."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            group = file.read().strip().rpartition("::")[2]
        most = _read(f"{_CGROUP}{group}/pids.max")
        count = _read(f"{_CGROUP}{group}/pids.current")
    except (OSError, ValueError):
        return
    if most - count < LEAST_PROCESSES:
        what = (
            f"{count:,} of the {most:,} processes that are allowed to its control group are there"
        )
        answer.add(PROBLEM, group or "/", what, "allow more: TasksMax= in systemd.resource-control")


def _read(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def _number(limit: int) -> str:
    return "unlimited" if limit == _INFINITE else f"{limit:,}"
