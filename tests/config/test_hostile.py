"""Whatever is in a configuration: no traceback, and each mistake has its file and line."""

import marshal
import os

import pytest
from hypothesis import HealthCheck, given, settings

from singlerun import config
from singlerun.config.reading import Reading
from singlerun.config.settings import Settings, remembered
from singlerun.errors import LockFileError, UsageError
from singlerun.options import RUN_OPTIONS, Words
from singlerun.options import check as check_options
from singlerun.spec import RunSpec

from .documents_of_toml import COMMAND_LINES, FILES, RIGHT_DOCUMENTS

FILE = b"/etc/singlerun/config.toml"
MANY = int(os.environ.get("SINGLERUN_STRESS", "1000"))
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def read(*contents):
    reading = Reading([])
    for number, content in enumerate(contents):
        reading.read_text(FILE + b"%d" % number, content)
    return reading


def check(content):
    reading = read(content)
    lines = content.replace(b"\r\n", b"\n").count(b"\n") + 1
    for file, line, _, what in reading.problems:
        assert file == FILE + b"0"
        assert 1 <= line <= lines, (line, lines)
        assert what.strip() == what != ""
        assert "Error" not in what
    for entry in reading.entries:
        assert 1 <= entry.line <= lines
    data = marshal.loads(marshal.dumps(reading.data()))
    found = Settings(data)
    for sentence in found.problems:
        assert sentence.startswith(os.fsdecode(FILE) + "0:")
    for name in (b"backup", b"b", b"\xff", b""):
        found.watch(name)
        found.notify(name)
        found.queue_options(name)
        try:
            values = Words().values | found.options(name)
        except LockFileError:
            continue
        RunSpec(["true"], values)  # what is left goes together
    remembered(data)


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(FILES)
def test_any_file_is_read_or_blamed(content):
    check(content)


@pytest.mark.stress
@settings(max_examples=MANY, deadline=None, suppress_health_check=SLOW)
@given(FILES)
def test_many_files_are_read_or_blamed(content):
    check(content)


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(RIGHT_DOCUMENTS, RIGHT_DOCUMENTS, COMMAND_LINES)
def test_what_is_configured_goes_with_every_command_line(first, second, typed):
    """A command line that is right alone stays right, and keeps what it says."""
    options = {option.dest: option for option in RUN_OPTIONS}
    values = Words().values
    for dest, value in typed.items():
        option = options[dest]
        values[dest] = value if option.metavar is None else option.read(str(value))
    try:
        check_options(values)
    except UsageError:
        return
    reading = read(first.encode(), second.encode())
    found = Settings(reading.data())
    configured = found.options(b"backup")
    given_here = {dest: values[dest] for dest in typed if values[dest] is not False}
    config.overlay(configured, given_here)
    RunSpec(["true"], values | configured)
    assert given_here.items() <= configured.items()
