"""Which system calls a run makes, and how each of them can fail.

Errors are those that the call may return by its manual page. Left out are: errors of calls that
cannot fail on a valid argument; of brk(2), which glibc does not believe; of close(2) but on a file
of ours, since the injected failure leaves the descriptor open, and Linux does not; and what happens
before the first call on the state directory, when Python starts and our own code has done nothing.
Where a module is imported, only the open and the first read of its file are made to fail, and in a
walk of all processes only what is read of the first few.
"""

import re

ENOSPC, EIO, EMFILE = "ENOSPC", "EIO", "EMFILE"
ENOMEM, EAGAIN, EINTR = "ENOMEM", "EAGAIN", "EINTR"
KILL = "KILL"

_PATH = (EIO, ENOMEM)
_MAKES = (ENOSPC, EIO, ENOMEM)
ERRORS = {
    "access": _PATH, "chmod": _PATH, "clone": (EAGAIN, ENOMEM), "clone3": (EAGAIN, ENOMEM),
    "dup": (EMFILE,), "dup2": (EMFILE,), "dup3": (EMFILE,), "execve": (EIO, EMFILE, ENOMEM, EAGAIN),
    "faccessat2": _PATH, "fchmod": _PATH, "fchmodat": _PATH, "fchown": _PATH,
    "fdatasync": (ENOSPC, EIO, EINTR), "fork": (EAGAIN, ENOMEM), "fsync": (ENOSPC, EIO, EINTR),
    "ftruncate": (EIO, EINTR), "getcwd": (ENOMEM,), "getdents64": (EIO, ENOMEM),
    "getrandom": (EINTR,), "link": _MAKES, "linkat": _MAKES, "lstat": _PATH, "mkdir": _MAKES,
    "mkdirat": _MAKES, "mknodat": _MAKES, "mmap": (ENOMEM,), "mprotect": (ENOMEM,),
    "mremap": (ENOMEM,), "newfstatat": _PATH, "pidfd_open": (EMFILE, ENOMEM), "pipe2": (EMFILE,),
    "poll": (EINTR, ENOMEM), "ppoll": (EINTR, ENOMEM), "pread64": (EIO, EINTR),
    "pwrite64": (ENOSPC, EIO, EINTR), "read": (EIO, EINTR), "readlink": _PATH,
    "rename": _MAKES, "renameat": _MAKES, "rmdir": _PATH, "rt_sigtimedwait": (EINTR,),
    "stat": _PATH, "statfs": (EIO, ENOMEM, EINTR), "symlink": _MAKES, "unlink": _PATH,
    "unlinkat": _PATH, "utimensat": _PATH, "vfork": (EAGAIN, ENOMEM), "wait4": (EINTR,),
    "waitid": (EINTR,), "write": (ENOSPC, EIO, EINTR),
}  # fmt: skip
_IMPORTED = re.compile(r'[/"](?:lib/python3|site-packages|singlerun/[a-z_/]*\.?(?:py|__pycache__))')
_IMPORT_STEPS = {"openat", "read"}
_OF_PROCESS = re.compile(r'[<"](/proc/(?:\d+|self)/\w+)')
_PROCESSES = 3
_CALL = re.compile(r"^(\w+)\((.*)$")


class Call:
    """One system call of a reference trace.

    Attributes:
        name, nth: as strace counts it.
        text: its arguments and what it returned.
    """

    def __init__(self, name, nth, text):
        self.name = name
        self.nth = nth
        self.text = text

    def errors(self):
        """Return the errors that this call may have."""
        if self.name == "openat":
            return (EIO, EMFILE, ENOMEM, EINTR, *((ENOSPC,) if "O_CREAT" in self.text else ()))
        if self.name == "fcntl":
            if "F_DUPFD" in self.text:
                return (EMFILE,)
            return (EAGAIN,) if "F_SETLK" in self.text and "F_UNLCK" not in self.text else ()
        if self.name == "flock":
            return () if "LOCK_UN" in self.text else (EAGAIN, EINTR, "ENOLCK")
        if self.name == "close":
            return (EIO,) if "/state/" in self.text else ()
        if self.name in {"write", "read"} and "pipe:" in self.text:
            return (EINTR,)
        return ERRORS.get(self.name, ())


class Fault:
    """What happens at one call."""

    def __init__(self, call, kind):
        self.call = call
        self.kind = kind

    def __str__(self):
        return f"{self.call.name}:{self.call.nth}:{self.kind}"

    def came_to_pass(self, trace, status):
        """Return whether a trace and the exit status show that it happened, and where it may."""
        if self.kind == KILL:
            return status == -9
        hit = [line for line in trace.splitlines() if "(INJECTED)" in line]
        # The calls of a run in its own time are not always the same ones.
        return bool(hit) and (self.call.name != "close" or "/state/" in hit[0])

    def options(self):
        """Return what strace needs to know."""
        what = "signal=KILL" if self.kind == KILL else f"error={self.kind.rstrip('+')}"
        name, when = self.call.name, f"{self.call.nth}{'+' * self.kind.endswith('+')}"
        return ["-y", "-e", f"trace={name}", "-e", f"inject={name}:{what}:when={when}"]


def calls(trace, directory):
    """Return the calls of a trace from the first on the state directory on."""
    counts, found, begun, imported = {}, [], False, None
    processes = {}
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        name, text = match.groups()
        counts[name] = nth = counts.get(name, 0) + 1
        begun = begun or str(directory) in text
        if not begun or name == "exit_group":
            continue
        if _IMPORTED.search(text):
            path = re.search(r'[<"](/[^>"]*)[>"]', text)
            step = name, path and path[1]
            if name not in _IMPORT_STEPS or step == imported:
                continue
            imported = step
        if of_process := _OF_PROCESS.search(text):
            kind = name, re.sub(r"\d+", "#", of_process[1])
            processes[kind] = processes.get(kind, 0) + 1
            if processes[kind] > _PROCESSES:
                continue
        found.append(Call(name, nth, text))
    return found


def faults(found, kinds=None):
    """Return all faults of these calls; those that last (``ENOSPC+``) only on demand."""
    every = [Fault(call, kind) for call in found for kind in (KILL, *call.errors())]
    if kinds is None:
        return every
    lasting = [Fault(fault.call, f"{fault.kind}+") for fault in every if fault.kind != KILL]
    return [fault for fault in (*every, *lasting) if fault.kind in kinds]
