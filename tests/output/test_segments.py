"""What is kept of a command's output: the bound, the cut, and what a crash leaves."""

import os
import stat
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singlerun.errors import StateDirError
from singlerun.output import buffer, segments
from singlerun.paths import StateDir

BOUND = (buffer.FIRST + buffer.LAST) * buffer.SEGMENT


@pytest.fixture
def state(tmp_path):
    return StateDir(os.fsencode(tmp_path / "state"))


def joined(reader):
    """Read all: the bytes of each stream, and where how many are missing."""
    streams, gaps, at = {1: bytearray(), 2: bytearray()}, [], 0
    for stream, data, missing in reader.read():
        if missing:
            gaps.append((at, missing))
        streams[stream] += data
        at += missing + len(data)
    return streams, gaps


def add(keeper, *parts):
    """Append parts to a buffer, or to a writer."""
    for stream, data in parts:
        (keeper.buffer if isinstance(keeper, segments.Writer) else keeper).append(stream, data)
        if isinstance(keeper, segments.Writer):
            keeper.flush()
            assert keeper.is_flushed()


def numbered(count):
    """Return bytes of which each eight say where they are."""
    return b"".join(b"%07d\n" % number for number in range(count // 8))


def directory_of(state, run_id):
    return state.path + b"/" + segments.path_of(run_id)


def stored(state, run_id):
    path = directory_of(state, run_id)
    return sum(os.stat(os.path.join(path, name)).st_size for name in os.listdir(path))


def test_what_is_written_is_read(state):
    writer = segments.Writer(state, 1)
    for stream, data in ((1, b"a\0"), (2, b"\xff"), (1, b"b\n"), (1, b"")):
        add(writer, (stream, data))
    writer.close()
    assert joined(segments.reader(state, 1)) == ({1: b"a\0b\n", 2: b"\xff"}, [])


def test_order_of_the_streams_stays(state):
    writer = segments.Writer(state, 1)
    parts = [(1 + number % 2, b"%d" % number) for number in range(100)]
    for stream, data in parts:
        add(writer, (stream, data))
    read = [(stream, bytes(data)) for stream, data, _ in segments.reader(state, 1).read()]
    assert read == parts


def test_nothing_is_kept_of_another_run(state):
    segments.Writer(state, 1).close()
    assert segments.reader(state, 2) is None
    assert joined(segments.reader(state, 1)) == ({1: b"", 2: b""}, []), "it wrote nothing"


@pytest.mark.stress
@pytest.mark.parametrize("chunk", [1000, 8 * buffer.SEGMENT + 16])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_cut_is_marked_to_the_byte(state, where, chunk):
    keeper = segments.Writer(state, 1) if where == "disk" else buffer.Buffer()
    data = numbered(30 * buffer.SEGMENT)
    for start in range(0, len(data), chunk):
        add(keeper, (1, data[start : start + chunk]))
    streams, [(at, missing)] = joined(segments.reader(state, 1) if where == "disk" else keeper)
    assert streams[1] == data[:at] + data[at + missing :]
    assert at > 0.9 * buffer.SEGMENT, "the beginning is there"
    assert len(data) - at - missing > 0.9 * (buffer.LAST - 1) * buffer.SEGMENT, "and the end"
    if where == "disk":
        assert stored(state, 1) <= BOUND


def test_what_just_fits_is_not_cut(state):
    writer = segments.Writer(state, 1)
    data = numbered(BOUND - 24 * (buffer.FIRST + buffer.LAST))
    add(writer, (1, data))
    assert joined(segments.reader(state, 1)) == ({1: data, 2: b""}, [])
    add(writer, (1, b"x" * 100))
    assert joined(segments.reader(state, 1))[1] != []


def test_the_bound_counts_what_short_writes_cost(state, monkeypatch):
    monkeypatch.setattr(buffer, "SEGMENT", 1000)
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)  # else their times take different room
    writer, memory = segments.Writer(state, 1), buffer.Buffer()
    for number in range(5000):
        add(writer, (1 + number % 2, b"x"))
        add(memory, (1 + number % 2, b"x"))
    assert stored(state, 1) <= (buffer.FIRST + buffer.LAST) * 1000
    assert joined(segments.reader(state, 1)) == joined(memory)
    assert sum(missing for _, missing in joined(memory)[1]) > 0


A_WRITE = st.tuples(st.sampled_from([1, 2]), st.integers(0, 150), st.booleans())
"""The stream, how many bytes, and whether they are flushed at once."""


@pytest.mark.parametrize("where", ["disk", "memory"])
@settings(max_examples=100, deadline=None)
@given(st.one_of(st.lists(A_WRITE), st.lists(A_WRITE, min_size=10)))
def test_what_is_kept_is_the_output_with_one_cut(tmp_path_factory, where, writes):
    """Held against the output itself, byte by byte, and however rarely it reaches the disk."""
    written, parts = [], []
    for stream, size, flushed in writes:
        data = bytes((len(written) + number) % 251 for number in range(size))
        written += [(stream, byte) for byte in data]
        parts.append((stream, data, flushed))
    state = StateDir(os.fsencode(tmp_path_factory.mktemp("kept") / "state"))
    usual, buffer.SEGMENT = buffer.SEGMENT, 64
    try:
        kind = segments.Writer(state, 1) if where == "disk" else buffer.Buffer()
        for stream, data, flushed in parts:
            (kind.buffer if where == "disk" else kind).append(stream, data)
            if flushed and where == "disk":
                kind.flush()
        if where == "disk":
            kind.flush()
            kind.close()
        reader = segments.reader(state, 1) if where == "disk" else kind
        read, cuts = [], []
        for stream, data, missing in reader.read():
            if missing:
                cuts.append((len(read), missing))
            read += [(stream, byte) for byte in data]
        for fd in [reader._directory, reader._fd] if where == "disk" else []:
            if fd >= 0:
                os.close(fd)
    finally:
        buffer.SEGMENT = usual
        state.close()
    least = 3  # bytes that go into one of these segments, each with a header and a time of its own
    if len(written) <= least * (buffer.FIRST + buffer.LAST):
        assert cuts == []
    at, missing = cuts[0] if cuts else (len(written), 0)
    assert len(cuts) <= 1
    assert read == written[:at] + written[at + missing :]
    if cuts:
        assert at >= least * buffer.FIRST, "the beginning is there"
        assert len(read) - at > least * (buffer.LAST - 1), "and the end"


@pytest.mark.parametrize("left", range(1, 33))
def test_torn_frame_costs_only_itself(state, left, monkeypatch):
    monkeypatch.setattr(buffer, "GRAIN_NS", 10**20)
    writer = segments.Writer(state, 1)
    add(writer, (1, b"whole\n"))
    add(writer, (2, b"torn"))
    writer.close()
    file = os.path.join(directory_of(state, 1), b"0" * 18)
    assert os.stat(file).st_size == 33
    os.truncate(file, left)
    streams, _ = joined(segments.reader(state, 1))
    assert streams == {1: b"whole\n"[: max(0, left - 18)], 2: b"torn"[: max(0, left - 29)]}


@pytest.mark.parametrize(
    "garbage", [bytes(4096), b"\xff" * 100, b"\x01\xff\xff\xff\xff", b"\x03\xff\xff\xff\xff1234567"]
)
def test_garbage_ends_what_can_be_read(state, garbage):
    writer = segments.Writer(state, 1)
    add(writer, (1, b"whole\n"))
    writer.close()
    with open(os.path.join(directory_of(state, 1), b"0" * 18), "ab") as file:
        file.write(garbage)
    assert joined(segments.reader(state, 1))[0][1] == b"whole\n"


def test_reader_follows_over_segments_and_finds_gaps(state, monkeypatch):
    monkeypatch.setattr(buffer, "SEGMENT", 100)
    writer = segments.Writer(state, 1)
    reader = segments.reader(state, 1)
    assert list(reader.read()) == []
    data = numbered(8 * 5000)
    read, missing_in_all = b"", 0
    for start in range(0, len(data), 24):
        add(writer, (1, data[start : start + 24]))
        if start % 5 == 0 and not 10_000 < start < 20_000:
            for _, part, missing in reader.read():
                missing_in_all += missing
                assert bytes(part) == data[(at := len(read) + missing_in_all) : at + len(part)]
                read += bytes(part)
    for _, part, missing in reader.read():
        missing_in_all += missing
        read += bytes(part)
    assert len(read) + missing_in_all == len(data)
    assert 0 < missing_in_all < 10_000
    assert read.endswith(data[-1000:]), "nothing is read twice"


def test_a_frame_that_is_being_written_is_given_in_pieces(state):
    writer = segments.Writer(state, 1)
    reader = segments.reader(state, 1)
    add(writer, (1, b"first"))
    file = os.path.join(directory_of(state, 1), b"0" * 18)
    with open(file, "ab", buffering=0) as more:
        for byte in b"\x02\0\0\0\4ab":
            more.write(bytes([byte]))
            pieces = [(stream, bytes(data)) for stream, data, _ in reader.read()]
    assert pieces == [(2, b"b")]


def test_reader_knows_when_it_is_over(state):
    writer = segments.Writer(state, 1)
    reader = segments.reader(state, 1)
    assert not reader.is_over()
    writer.end()
    assert reader.is_over(), "what is left behind may write on"
    add(writer, (1, b"later"))
    assert joined(reader)[0][1] == b"later"
    other = segments.Writer(state, 2)
    reader = segments.reader(state, 2)
    assert not reader.is_over()
    other.close()
    assert reader.is_over(), "no process is left that could write"


def test_files_and_directories_are_private(state):
    before = os.umask(0)
    try:
        writer = segments.Writer(state, 1)
        add(writer, (1, b"x"))
        writer.end()
    finally:
        os.umask(before)
    modes = {}
    for path, _, files in os.walk(os.path.join(state.path, b"logs")):
        modes |= {name: stat.S_IMODE(os.stat(os.path.join(path, name)).st_mode) for name in files}
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert modes == {b"0" * 18: 0o600, b"ended": 0o600}
    os.umask(0o777)
    try:
        writer = segments.Writer(state, 2)
        add(writer, (1, b"x"))
    finally:
        os.umask(before)
    segment = os.stat(os.path.join(directory_of(state, 2), b"0" * 18))
    assert stat.S_IMODE(segment.st_mode) == 0o600


def test_output_of_a_lost_run_log_gives_way(state):
    """A new run-log begins again with number 1."""
    writer = segments.Writer(state, 1)
    add(writer, (1, b"old"))
    with pytest.raises(BlockingIOError):
        segments.Writer(state, 1)
    writer.close()
    writer = segments.Writer(state, 1)
    add(writer, (1, b"new"))
    assert joined(segments.reader(state, 1)) == ({1: b"new", 2: b""}, [])
    assert os.listdir(os.path.join(state.path, b"logs")) == [b"1"]


@pytest.mark.parametrize("planted", ["logs", "logs/1"])
def test_planted_links_are_refused(state, tmp_path, planted):
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    path = os.path.join(state.path, os.fsencode(planted))
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.symlink(victim, path)
    with pytest.raises(StateDirError):
        segments.Writer(state, 1)
    with pytest.raises(StateDirError):
        segments.reader(state, 1)
    assert list(victim.iterdir()) == []


def test_planted_segment_is_not_written_through(state, tmp_path):
    victim = tmp_path / "victim"
    writer = segments.Writer(state, 1)
    os.symlink(victim, os.path.join(directory_of(state, 1), b"0" * 18))
    with pytest.raises(FileExistsError):
        add(writer, (1, b"x"))
    assert not victim.exists()
    with pytest.raises(StateDirError, match="symbolic"):
        list(segments.reader(state, 1).read())
