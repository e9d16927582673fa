"""The crontabs of this machine, as far as this user may read them."""

import os
import pwd
import re
import stat
import subprocess

from singlerun.checkup import crontab
from singlerun.checkup.case import user_of
from singlerun.errors import said

SYSTEM = "/etc/crontab"
DROP_INS = "/etc/cron.d"
SPOOLS = ("/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/cron")
"""Where Debian, SUSE and Red Hat keep the crontabs of users."""
MOST_FILES = 1000
PATIENCE = 5.0
"""Seconds that ``crontab -l`` may take."""
_HEADER_LINES = 3
_DEBIAN = "/etc/debian_version"
_LEFT_BY_PACKAGES = re.compile(r".*\.(?:dpkg-\w+|rpm\w+|ucf-\w+)|.*~|#.*|\..*")


class Source:
    """A crontab and where it is.

    Attributes:
        file: its path, or what stands for it.
        owner: the user as whom its lines run, None if each line names one.
        edit: what to type to edit it.
        text: None if it cannot be read.
        trouble: why cron ignores it, or why it cannot be read; else empty.
    """

    def __init__(self, file: str, owner: str | None, edit: str) -> None:
        self.file, self.owner, self.edit = file, owner, edit
        self.text: str | None = None
        self.trouble = ""
        self.found = crontab.Crontab()

    def parse(self) -> None:
        """Read its lines."""
        self.found = crontab.parse(self.text or "", self.file, has_users=self.owner is None)


def all_readable() -> list[Source]:
    """Return the crontabs of the system, and this user's, or all users' for root."""
    found = [_of_system(SYSTEM)] if os.path.lexists(SYSTEM) else []
    found += [_of_system(os.path.join(DROP_INS, name)) for name in _names(DROP_INS)]
    found = [source for source in found if not _is_left_by_package(source)]
    found += _of_users() if os.geteuid() == 0 else _own()
    for source in found:
        source.parse()
    return found


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))[:MOST_FILES]
    except OSError:
        return []


def _is_left_by_package(source: Source) -> bool:
    return _LEFT_BY_PACKAGES.fullmatch(os.path.basename(source.file)) is not None


def _of_system(path: str) -> Source:
    source = Source(path, None, f"editor {path}")
    _read(source)
    if source.text is None:
        return source
    entry = os.stat(path)
    name = os.path.basename(path)
    if entry.st_uid != 0:
        source.trouble = f"cron ignores it, because it belongs to user {user_of(entry.st_uid)}"
    elif entry.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        source.trouble = "cron ignores it, because others may write to it"
    elif os.path.exists(_DEBIAN) and path != SYSTEM and not re.fullmatch(r"[\w-]+", name):
        source.trouble = "Debian's cron ignores it, because of the dot in its name"
    return source


def _of_users() -> list[Source]:
    found = []
    for spool in SPOOLS:
        for name in _names(spool):
            try:
                pwd.getpwnam(name)
            except KeyError:  # a temporary file, or a user that is gone
                continue
            source = Source(os.path.join(spool, name), name, f"crontab -u {name} -e")
            _read(source)
            if source.text is not None:
                source.file, source.text = _named(name), _without_header(source.text)
                found.append(source)
    return found


def _named(user: str) -> str:
    return f"crontab of {user}"


def _without_header(text: str) -> str:
    """Return a crontab as its editor shows it: without the comments of Debian's crontab(1)."""
    lines = text.split("\n")
    for _ in range(_HEADER_LINES if lines[0].startswith("# DO NOT EDIT") else 0):
        if lines and lines[0].startswith("# "):
            del lines[0]
    return "\n".join(lines)


def _own() -> list[Source]:
    """Return this user's crontab: the spool cannot be read but by crontab(1)."""
    me = user_of(os.geteuid())
    source = Source(_named(me), me, "crontab -e")
    try:
        done = subprocess.run(
            ["crontab", "-l"], capture_output=True, check=False, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        source.trouble = f"crontab -l does not show it: {said(error)}"
        return [source]
    if done.returncode == 0:
        source.text = os.fsdecode(done.stdout[: crontab.MOST_BYTES])
    elif not any(words in done.stderr for words in (b"no crontab", b"not allowed")):
        why = os.fsdecode(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else ""
        source.trouble = f"crontab -l does not show it: {why or f'exit {done.returncode}'}"
    return [source]


def _read(source: Source) -> None:
    """Read a file, whatever it is: neither a FIFO nor a directory holds us up."""
    try:
        descriptor = os.open(source.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return
    except OSError as error:
        if not os.path.lexists(source.file):  # removed just now
            return
        source.trouble = f"it cannot be read: {said(error)}"
        return
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            source.text = os.fsdecode(os.read(descriptor, crontab.MOST_BYTES))
    except OSError as error:
        source.trouble = f"it cannot be read: {said(error)}"
    finally:
        os.close(descriptor)
