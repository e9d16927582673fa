"""Which claims on a lock file are dead, and which file systems need a lock file."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import demand_or_skip, need
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
    claims.write_note(claim.note)
    claim.start = start
    assert claims.fate(claim) == (UNKNOWN, [])


def test_from_another_time_namespace_no_claim_is_judged(claim):
    """Start times are shifted there."""
    need("unshare")
    script = "import os, sys; from singlerun.lock import claims;"
    script += "print([claims.fate(one)[0] for one in claims.read(os.fsencode(sys.argv[1]))])"
    inner = ["unshare", "--time", "--fork", "--boottime", "1000", sys.executable, "-c", script]
    result = subprocess.run(
        [*inner, os.fsdecode(claim.path)], capture_output=True, text=True, check=False
    )
    if "unshare" in result.stderr:
        demand_or_skip(f"no time namespaces: {result.stderr}")
    assert result.stdout == "['unknown']\n"


def test_the_same_process_in_another_namespace_is_alive(claim):
    """As older versions of filelock claim it: by the inner PID, without a namespace."""
    need("unshare")
    inner = ["unshare", "--pid", "--fork", "sh", "-c", "echo; exec sleep 60"]
    with subprocess.Popen(inner, stdout=subprocess.PIPE) as outer:
        outer.stdout.readline()
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        (child,) = map(int, children)
        claim.pid, ticks = 1, identity.start_time(child)
        claim.start = claim.start >> 64 << 64 | ticks
        assert claims.fate(claim) == (UNKNOWN, [])
        claim.start += 1
        assert claims.fate(claim) == (DEAD, []), "it began at another time"
        claim.start -= 1
        claim.pid = 2
        assert claims.fate(claim) == (DEAD, []), "it has another PID there"
        claim.pid = 1
        os.kill(child, 9)
    assert claims.fate(claim) == (DEAD, [])


def test_earlier_boot_is_dead_if_it_was_this_machine(claim):
    boot_before(claim)
    assert claims.fate(claim) == (UNKNOWN, []), "another machine may bear the same name"
    claims.write_note(claim.note)
    assert claims.fate(claim) == (DEAD, [])
    text = Path(os.fsdecode(claim.note)).read_text()
    machine = text.split()[1]
    for unknown in ("0" * 32, "-"):
        Path(os.fsdecode(claim.note)).write_text(text.replace(machine, unknown))
        assert claims.fate(claim) == (UNKNOWN, []), unknown
    claims.write_note(claim.note)
    claim.host = "another"
    assert claims.fate(claim) == (UNKNOWN, []), "it is of another host"


def test_note_names_what_lives(claim):
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


def test_note_that_is_no_file_proves_nothing_and_is_not_followed(claim, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    claims.write_note(os.fsencode(elsewhere))
    os.symlink(elsewhere, claim.note)
    assert claims.fate(claim) == (UNKNOWN, [])
    before = elsewhere.read_text()
    with pytest.raises(OSError, match="symbolic links"):
        claims.write_note(claim.note, (3, 7))
    assert elsewhere.read_text() == before
    os.unlink(claim.note)
    os.mkfifo(claim.note)
    assert claims.fate(claim) == (UNKNOWN, [])


def test_note_is_of_one_size(claim):
    """So it is overwritten in one piece."""
    claims.write_note(claim.note, (2**63, 2**63), (2**22, 2**63))
    long = os.stat(claim.note).st_size
    claims.write_note(claim.note, (3, 7), None)
    assert os.stat(claim.note).st_size == long
    assert claims._read_note(claim).pid == 0


@pytest.mark.parametrize("text", ["", "2 x 0 0 0 0\n", "1 x\n", "1 x y 0 0 0\n"])
def test_note_that_cannot_be_read_proves_nothing(claim, text):
    Path(os.fsdecode(claim.note)).write_text(text)
    assert claims.fate(claim) == (UNKNOWN, [])


def test_note_of_another_user_proves_nothing(claim):
    if os.geteuid() != 0:
        demand_or_skip("only root can give a file away")
    claims.write_note(claim.note)
    os.chown(claim.note, 12345, -1)
    assert claims.fate(claim) == (UNKNOWN, [])


def test_a_claim_is_broken_before_its_intent(claim, tmp_path):
    """The other way round a contender could see neither."""
    need("strace")
    script = "import os, sys; from singlerun.lock import claims;"
    script += "[claims.break_(one) for one in claims.read(os.fsencode(sys.argv[1]))]"
    command = ["strace", "-o", tmp_path / "trace", "-e", "trace=/^unlink", sys.executable, "-c"]
    subprocess.run([*command, script, os.fsdecode(claim.path)], check=True)
    broken = re.findall(r"(held|intent)-v1-\w*\.claim\"", (tmp_path / "trace").read_text())
    assert broken == ["held", "intent"]


def test_sweep_breaks_the_dead_alone(claim, tmp_path):
    path = claim.path
    assert [one.state for one in claims.sweep([path], dry_run=True)] == [DEAD]
    assert len(claims.read(path)) == 1
    assert [one.state for one in claims.sweep([path], dry_run=False)] == [claims.BROKEN]
    assert claims.read(path) == []
    with StrictSoftFileLock(os.fsdecode(path)):
        assert list(claims.sweep([path], dry_run=False)) == []
        (mine,) = claims.read(path)
        assert [one.pid for one in claims.with_token([path], mine.token[:8])] == [os.getpid()]
        other = "0" * 8 if mine.token[0] != "0" else "1" * 8
        assert claims.with_token([path], other) == []
    subprocess.run([sys.executable, "-c", HELD, os.fsdecode(path)], check=True)
    claims.write_note(claims.read(path)[0].note)
    Path(os.fsdecode(claims.read(path)[0].note)).write_text("2")
    assert [one.state for one in claims.sweep([path], dry_run=False)] == [UNKNOWN]
    assert len(claims.read(path)) == 1


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
    """A process that can't see the mount, in a chroot(2), must come to the same answer."""
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
