"""Which file systems can be trusted with a kernel lock.

Where several kernels reach one file, flock(2) is at best a lease. A server that hears nothing from
a client for a while gives its lock to the next, though the command goes on: NFSv4 after 90 seconds,
Ceph after its session's timeout. At worst the lock is local and other hosts never see it:
FUSE without an flock of its own, 9p and virtiofs in most set-ups, SMB before Linux 5.5, NFS with
the option local_lock.

So only file systems known to be local are trusted: all with a block device (whose device number has
a major part), and of those without one the few that are listed here. An unknown one counts as
remote, since a lock file is safe there too, and a kernel lock may be none.
"""

import os
import sys

from singlerun.errors import LockFileError
from singlerun.paths import reason

LOCAL = {
    "aufs": 0x61756673, "bcachefs": 0xCA451A4E, "btrfs": 0x9123683E, "devtmpfs": 0x01021994,
    "ecryptfs": 0xF15F, "overlay": 0x794C7630, "ramfs": 0x858458F6, "rootfs": 0x858458F6,
    "tmpfs": 0x01021994, "ubifs": 0x24051905, "zfs": 0x2FC12FC1,
}  # fmt: skip
"""File systems without a device that are local, with their numbers in statfs(2)."""


def distrusted(path: bytes) -> str | None:
    """Return the type of a file's file system if its kernel locks can't be trusted, else None.

    If the file is missing, its directory counts. If that is missing too, None is returned: opening
    the file will show what is wrong. Raises LockFileError if the path can't be looked at.
    """
    flags = os.O_PATH | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            descriptor = os.open(os.path.dirname(path) or b"/", flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        advice = "name a file that you may read or create"
        raise LockFileError(os.fsdecode(path), reason(error), advice) from error
    try:
        if os.major(os.fstat(descriptor).st_dev):
            return None
        kind = _type_of_open(descriptor)
        if kind is None:  # no /proc, or a mount outside of a chroot(2)
            number = _number_of(descriptor)
            return None if number in LOCAL.values() else f"number {number:#x}"
        return None if kind in LOCAL else kind
    finally:
        os.close(descriptor)


def type_at(path: bytes) -> str | None:
    """Return the type of a file's file system; None if it can't be told. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return _type_of_open(descriptor)
    finally:
        os.close(descriptor)


def _type_of_open(descriptor: int) -> str | None:
    try:
        mount_id = _mount_of(descriptor)
        with open("/proc/self/mountinfo", "rb", buffering=0) as file:
            return type_of(mount_id, file.read())
    except OSError:
        return None


def _mount_of(descriptor: int) -> bytes:
    """Return the id of the mount through which a file was opened (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb", buffering=0) as file:
        for line in file.read().splitlines():
            if line.startswith(b"mnt_id:"):
                return line.split()[1]
    return b""


def type_of(mount_id: bytes, mountinfo: bytes) -> str | None:
    """Return a mount's file system type from /proc/PID/mountinfo; None if it isn't listed."""
    for line in mountinfo.splitlines():
        # ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS
        mount, _, system = line.partition(b" - ")
        if mount.split(b" ", 1)[0] == mount_id and system:
            return os.fsdecode(system.split()[0])
    return None


def _number_of(descriptor: int) -> int:
    """Return a file system's number in statfs(2)."""
    import ctypes  # noqa: PLC0415 - 5 ms, and hardly ever needed

    answer = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None, use_errno=True).fstatfs(descriptor, answer):
        return 0
    # f_type is the first field and a long, save on s390x, where it is an int.
    size = 4 if os.uname().machine == "s390x" else ctypes.sizeof(ctypes.c_long)
    return int.from_bytes(answer.raw[:size], sys.byteorder) & 0xFFFFFFFF
