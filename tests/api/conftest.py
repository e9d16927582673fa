"""Fixtures for the Python interface: programs that use it, in the state directory of ``cli``."""

import os
import subprocess
import sys
import textwrap

import pytest
from conftest import PATIENCE, eventually


@pytest.fixture(autouse=True)
def same_domain(cli, monkeypatch):
    for name in os.environ:
        if name.startswith("SINGLERUN_") and name != "SINGLERUN_NO_SKIPS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("SINGLERUN_CONFIG", "")
    monkeypatch.setenv("SINGLERUN_DIR", str(cli.dir))


class Program:
    """A Python program that reports on standard output and continues when standard input ends."""

    def __init__(self, cli, tmp_path, source, *options, before="", **more):
        source = textwrap.dedent(source)
        source = f"import os, sys, signal, threading, time\n{before}\nimport singlerun\n{source}"
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", source], env=cli.env, cwd=tmp_path, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
        )  # fmt: skip
        self.pid = self.process.pid
        cli.started.append(self.process)

    def line(self):
        return self.process.stdout.readline().strip()

    def end(self):
        """Let the program finish; return the words that it still prints."""
        out, err = self.process.communicate(timeout=PATIENCE)
        assert err == ""
        assert self.process.returncode == 0
        return out.split()


HOLD = """
with singlerun.hold({names}) as holding:
    print("held", flush=True)
    sys.stdin.read()
"""
WAIT = """
with singlerun.hold("x", wait={wait}):
    with open("witness", "a") as file:
        print({number}, file=file)
"""


@pytest.fixture
def program(cli, tmp_path):
    def start(source, *options, **more):
        return Program(cli, tmp_path, source, *options, **more)

    return start


@pytest.fixture
def holder(program):
    def start(names='"x"'):
        started = program(HOLD.format(names=names))
        assert started.line() == "held"
        return started

    return start


def tickets(cli, name="x"):
    try:
        return sorted(path.name for path in (cli.dir / "lines" / name).iterdir())
    except FileNotFoundError:
        return []


def in_line(cli, count, name="x"):
    eventually(lambda: len(tickets(cli, name)) >= count, "the ticket")


def is_free(cli, name="x"):
    return cli.run("-n", name, "true").returncode == 0
