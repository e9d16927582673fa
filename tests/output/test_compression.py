"""Compressed segments: whole at any moment, and readable as far as they are not damaged."""

import os
import random
import shutil
import signal
import zlib
from functools import partial

import pytest

from singlerun.errors import DamagedOutputError
from singlerun.output import buffer, compression, segments

SEGMENTS = 4
TOO_LONG = zlib.compress(bytes(3_000_000))


@pytest.fixture
def kept(state, monkeypatch):
    """Output of a run in some segments, as a path and what it consists of."""
    monkeypatch.setattr(buffer, "SEGMENT", 20_000)
    writer = segments.Writer(state, 1)
    words = random.Random(1)
    data = b"".join(b"line %d: %d\n" % (at, words.getrandbits(40)) for at in range(3000))
    data = data[: (SEGMENTS - 1) * 20_000 + 10_000]
    writer.buffer.append(1, data)
    writer.flush()
    writer.end()
    writer.close()
    return os.path.join(state.path, segments.path_of(1)), data


def compress(path):
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        compression.compress(directory)
    finally:
        os.close(directory)


def read(state, run_id=1):
    return b"".join(bytes(data) for _, data, _ in segments.reader(state, run_id).read())


def files(path):
    return sorted(name for name in os.listdir(path) if name != b"ended")


def test_compressed_it_is_smaller_and_reads_the_same(state, kept):
    path, data = kept
    before = {name: os.stat(os.path.join(path, name)).st_mtime_ns for name in files(path)}
    reader = segments.reader(state, 1)
    compress(path)
    assert files(path) == [name + b".z" for name in before]
    sizes = [os.stat(os.path.join(path, name)).st_size for name in files(path)]
    assert sum(sizes) < 0.7 * len(data)
    assert read(state) == data
    assert b"".join(bytes(part) for _, part, _ in reader.read()) == data
    for name, at in before.items():
        assert os.stat(os.path.join(path, name + b".z")).st_mtime_ns == at, "when it was written"
        assert os.stat(os.path.join(path, name + b".z")).st_mode & 0o777 == 0o600
    compress(path)
    assert read(state) == data


def test_what_was_open_is_read_to_its_end(state, kept):
    path, data = kept
    reader = segments.reader(state, 1)
    parts = reader.read()
    begun = bytes(next(parts)[1])
    compress(path)
    assert begun + b"".join(bytes(part) for _, part, _ in parts) == data


def test_it_can_be_read_at_each_step(state, kept, monkeypatch):
    path, data = kept
    steps = []

    def stepping(name):
        call = getattr(os, name)

        def step(*arguments, **more):
            steps.append(name)
            assert read(state) == data
            result = call(*arguments, **more)
            assert read(state) == data
            return result

        monkeypatch.setattr(compression.os, name, step)

    for name in ("rename", "unlink", "fsync", "utime"):
        stepping(name)
    compress(path)
    assert steps == ["utime", "fsync", "rename", "unlink"] * SEGMENTS


def test_killed_at_each_step_it_leaves_the_old_or_the_new(state, kept):
    path, data = kept
    step = 1
    while True:
        step += 1
        copy = os.path.join(state.path, segments.path_of(step))
        shutil.copytree(path, copy)
        pid = os.fork()
        if pid == 0:
            _die_at(step - 1)
            compress(copy)
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            break
        assert read(state, step) == data, step
        compress(copy)  # what the killed one left is in the way of none
        assert read(state, step) == data
    assert step > 8 * SEGMENTS
    assert all(name.endswith(b".z") for name in files(copy))


def _die_at(step):
    """Kill this process at its nth call that changes a file."""
    left = [step]
    for name in ("open", "write", "utime", "fsync", "rename", "unlink", "close"):
        setattr(compression.os, name, partial(_counted, left, getattr(os, name)))


def _counted(left, call, *arguments, **more):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*arguments, **more)


@pytest.mark.parametrize("error", ["write", "rename", "fsync"])
def test_a_full_disk_leaves_it_as_it_was(state, kept, monkeypatch, error):
    path, data = kept
    before = files(path)

    def fail(*_arguments, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compression.os, error, fail)
    with pytest.raises(OSError, match="No space"):
        compress(path)
    assert files(path) == before
    assert read(state) == data


def test_what_would_not_shrink_stays(state):
    writer = segments.Writer(state, 1)
    data = os.urandom(50_000)
    writer.buffer.append(1, data)
    writer.flush()
    assert writer.is_compressible()
    writer.compress()
    assert files(os.path.join(state.path, segments.path_of(1))) == [b"0" * 18]
    assert read(state) == data


def test_a_short_output_is_not_worth_it(state):
    writer = segments.Writer(state, 1)
    writer.buffer.append(1, b"x" * 4000)
    assert not writer.is_compressible()


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "prolonged"])
def test_of_a_damaged_one_what_can_be_read_is_read(state, kept, how):
    path, data = kept
    compress(path)
    victim = os.path.join(path, files(path)[1])
    with open(victim, "rb") as file:
        whole = file.read()
    choose = random.Random(how)
    for _ in range(40 if how in {"flipped", "cut"} else 1):
        at = choose.randrange(len(whole))
        flipped = bytes([whole[at] ^ (1 << choose.randrange(8))])
        damaged = {
            "flipped": whole[:at] + flipped + whole[at + 1 :],
            "cut": whole[:at],
            "emptied": b"",
            "prolonged": TOO_LONG,
        }[how]
        with open(victim, "wb") as file:
            file.write(damaged)
        parts = segments.reader(state, 1).read()
        got, missing = [], 0
        with pytest.raises(DamagedOutputError, match="damaged") as raised:
            for _, part, gap in parts:
                got.append(bytes(part))
                missing += gap
        assert os.fsdecode(victim) in str(raised.value)
        assert "\n" not in str(raised.value)
        text = b"".join(got)
        first = int(files(path)[1].removesuffix(b".z"))
        last = int(files(path)[2].removesuffix(b".z"))
        assert text.startswith(data[:first])
        assert text.endswith(data[last:])
        if how == "cut":
            assert len(text) + missing == len(data), "the gap is told to the byte"
            assert text[first:].startswith(
                data[first : first + len(text) - first - len(data[last:])]
            )


def test_most_of_a_damaged_one_is_read():
    text = b"".join(b"%d\n" % (number * 7919) for number in range(100_000))
    damaged = bytearray(zlib.compress(text, 1))
    at = len(damaged) * 9 // 10
    damaged[at : at + 4] = b"\xff" * 4
    found, is_whole = compression.expand(bytes(damaged), len(text))
    assert not is_whole
    assert found[: len(text) * 8 // 10] == text[: len(text) * 8 // 10]


def test_a_planted_link_is_not_followed(state, kept, tmp_path):
    path, _ = kept
    victim = tmp_path / "victim"
    victim.write_bytes(b"x" * 10_000)
    os.symlink(victim, os.path.join(path, b"." + files(path)[0]))
    with pytest.raises(OSError, match="symbolic links"):
        compress(path)
    assert victim.read_bytes() == b"x" * 10_000
