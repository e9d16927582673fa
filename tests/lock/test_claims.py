"""Who is dead among the claims on a lock file, and which file systems need one."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import demand_or_skip
from filelock import StrictSoftFileLock

from singlerun.lock import claims, filesystem
from singlerun.lock.flock import ChosenFile
from singlerun.lock.lockfile import LockFile
from singlerun.process import identity
from singlerun.process.identity import ALIVE, DEAD, UNKNOWN

HELD = """
import os, sys
from filelock import StrictSoftFileLock
lock = StrictSoftFileLock(sys.argv[1])
lock.acquire()
os._exit(0)
"""


@pytest.fixture
def claim(tmp_path):
    """The claim of a process that has died."""
    path = tmp_path / "file"
    subprocess.run([sys.executable, "-c", HELD, path], check=True)
    [found] = claims.read(os.fsencode(path))
    return found


def boot_before(claim):
    """Make it a claim from before this machine was booted."""
    claim.start = ((claim.start >> 64) ^ 1) << 64 | (claim.start % 2**64)


def test_own_claim_is_alive(tmp_path):
    with StrictSoftFileLock(tmp_path / "file"):
        [mine] = claims.read(os.fsencode(tmp_path / "file"))
        assert claims.fate(mine) == (ALIVE, [os.getpid()])
        assert mine.held
        assert len(mine.names) == 2


def test_gone_process_is_dead(claim):
    assert claims.fate(claim) == (DEAD, [])


def test_another_process_with_the_same_pid_is_not_its_owner(claim):
    claim.pid = os.getpid()
    assert claims.fate(claim) == (DEAD, [])


def test_zombie_is_dead(tmp_path):
    path = os.fsencode(tmp_path / "file")
    child = subprocess.Popen([sys.executable, "-c", HELD, path])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    [found] = claims.read(path)
    assert claims.fate(found) == (DEAD, [])
    child.wait()


@pytest.mark.parametrize("host", ["another", "another?pidns-f0000001"])
def test_other_hosts_are_not_judged(claim, host):
    claim.host = host
    assert claims.fate(claim) == (UNKNOWN, [])


def test_other_namespaces_are_not_judged(claim):
    claim.host += "?pidns-f0000001"
    assert claims.fate(claim) == (UNKNOWN, [])


@pytest.mark.parametrize("start", [None, 12345], ids=["no start", "no boot"])
def test_owner_without_a_proof_of_start_is_not_judged(claim, start):
    claim.start = start
    assert claims.fate(claim) == (UNKNOWN, [])


def test_earlier_boot_is_dead_if_it_was_this_machine(claim):
    boot_before(claim)
    assert claims.fate(claim) == (UNKNOWN, []), "another machine may bear the same name"
    claims.write_note(claim.note)
    assert claims.fate(claim) == (DEAD, [])
    text = Path(os.fsdecode(claim.note)).read_text()
    machine = text.split()[1]
    Path(os.fsdecode(claim.note)).write_text(text.replace(machine, "0" * 32))
    assert claims.fate(claim) == (UNKNOWN, [])


def test_note_tells_of_what_lives(claim):
    claims.write_note(claim.note, (None, 7))
    assert claims.fate(claim) == (DEAD, [])
    claims.write_note(claim.note, (None, 7), (os.getpid(), identity.start_time("self")))
    assert claims.fate(claim) == (ALIVE, [os.getpid()])
    claims.write_note(claim.note, (None, 7), (os.getpid(), 1))
    assert claims.fate(claim) == (DEAD, [])
    claims.write_note(claim.note, (3, 7))
    with subprocess.Popen(
        ["sleep", "60"], env={"SINGLERUN_RUN_ID": "3", "SINGLERUN_TOKEN": "7"}
    ) as child:
        assert claims.fate(claim) == (ALIVE, [child.pid])
        child.kill()


@pytest.mark.parametrize("text", ["", "2 x 0 0 0 0\n", "1 x\n", "1 x y 0 0 0\n"])
def test_note_that_cannot_be_read_proves_nothing(claim, text):
    Path(os.fsdecode(claim.note)).write_text(text)
    assert claims.fate(claim) == (UNKNOWN, [])


def test_note_of_somebody_else_proves_nothing(claim):
    if os.geteuid() != 0:
        demand_or_skip("only root can give a file away")
    claims.write_note(claim.note)
    os.chown(claim.note, 12345, -1)
    assert claims.fate(claim) == (UNKNOWN, [])


def test_broken_claim_leaves_nothing_and_hits_no_other(claim):
    claims.write_note(claim.note)
    claims.break_(claim)
    with StrictSoftFileLock(os.fsdecode(claim.path)):
        claims.break_(claim)
        assert len(claims.read(claim.path)) == 1
    assert claims.read(claim.path) == []
    assert not os.path.exists(claim.note)


def test_abandoned_lock_file_is_never_taken_again(tmp_path):
    path = os.fsencode(tmp_path / "file")
    lock = LockFile(path, ChosenFile(path, shared=False), both=False)
    with StrictSoftFileLock(tmp_path / "file"):
        waiting = threading.Thread(target=lock.take)
        waiting.start()
        lock.abandon()
        waiting.join()
    assert not lock.try_take()
    lock.take()
    assert claims.read(path) == []


# -- file systems ----------------------------------------------------------------------------

MOUNTINFO = rb"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
41 27 0:52 / /home rw,relatime shared:31 - nfs4 server:/home rw,vers=4.2,hard,proto=tcp
42 27 0:53 / /mnt/a\040b rw,relatime shared:32 master:1 - cifs //server/share rw,vers=3.1.1
43 27 0:54 / /srv rw,nosuid,nodev,relatime - fuse.sshfs host:/srv rw,user_id=0,group_id=0
44 27 0:55 / /host rw,relatime - 9p hostshare rw,access=client,trans=virtio
45 27 0:56 /@home /data rw,relatime shared:3 - btrfs /dev/sdb rw,subvol=/@home
46 41 0:52 /me /home/me rw,relatime - nfs4 server:/home rw,vers=4.2
""".strip()


def test_the_type_of_a_mount_is_read_by_its_id():
    types = {number: filesystem.type_of(b"%d" % number, MOUNTINFO) for number in range(40, 48)}
    assert types == {
        40: None, 41: "nfs4", 42: "cifs", 43: "fuse.sshfs", 44: "9p", 45: "btrfs", 46: "nfs4",
        47: None,
    }  # fmt: skip
    assert {kind for kind in types.values() if kind in filesystem.LOCAL} == {"btrfs"}


def test_what_is_local_here_is_trusted(tmp_path):
    assert filesystem.distrusted(os.fsencode(tmp_path / "missing")) is None
    assert filesystem.distrusted(b"/dev/shm/missing") is None
    assert filesystem.distrusted(b"/no/such/directory") is None


def test_what_has_no_device_and_is_not_known_is_not_trusted():
    assert filesystem.distrusted(b"/proc/version") == "proc"


def test_file_systems_are_known_by_their_number_too():
    """Who can't see the mount, in a chroot(2), must come to the same answer."""
    descriptor = os.open("/dev/shm", os.O_PATH)
    assert filesystem._number_of(descriptor) == filesystem.LOCAL["tmpfs"]
    os.close(descriptor)


def test_fuse_is_not_trusted(remote_disk):
    assert filesystem.distrusted(os.fsencode(remote_disk)).startswith("fuse")
    assert filesystem.distrusted(os.fsencode(remote_disk / "missing")).startswith("fuse")


def test_a_chroot_does_not_change_the_answer(remote_disk, small_disk):
    script = (
        "import ctypes, os, sys; from singlerun.lock import filesystem; "
        "os.chroot(sys.argv[1]); print(filesystem.distrusted(b'/deep'))"
    )
    for disk, answer in [(small_disk, "None"), (remote_disk, "number 0x65735546")]:
        (disk / "inner" / "deep").mkdir(parents=True)
        command = [sys.executable, "-c", script, disk / "inner"]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout.strip() == answer
