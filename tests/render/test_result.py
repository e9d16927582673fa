"""One function shows what subcommands return; nothing else prints."""

import ast
import json
import os
from pathlib import Path

import pytest

import singlerun
from singlerun.render.output import Chunk
from singlerun.render.progress import MANY, counted
from singlerun.render.result import Result, show

ROOT = Path(singlerun.__file__).parent
PRINTING = {"print", "echo", "secho", "say", "write", "writelines"}


class Table(Result):
    columns = ("NAME", "STATE")
    empty = "Nothing."

    def __init__(self, *rows, **more):
        super().__init__("below", **more)
        self._rows = rows

    def rows(self):
        return list(self._rows)

    def document(self):
        return {"rows": len(self._rows)}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", ""))


def test_subcommands_print_nothing():
    files = list((ROOT / "commands").glob("*.py"))
    assert len(files) > 10
    assert {path.name: set(calls(path)) & PRINTING for path in files} == {
        path.name: set() for path in files
    }


def test_only_the_renderers_print():
    printing = {path for path in ROOT.rglob("*.py") if {"print", "echo", "secho"} & {*calls(path)}}
    assert {path.parent.name for path in printing} == {"render"}


def test_a_table_lines_and_errors(capfd):
    assert show(Table(("x", "running"), errors=["a warning"])) == 0
    assert capfd.readouterr() == (
        "NAME\tSTATE\nx\trunning\nbelow\n", "singlerun: a warning\n",
    )  # fmt: skip


def test_json_is_one_document_and_errors_stay_apart(capfd):
    assert show(Table(("x", "y"), errors=["a warning"], status=3), as_json=True) == 3
    out, err = capfd.readouterr()
    assert json.loads(out) == {"schema": 1, "rows": 1}
    assert err == "singlerun: a warning\n"


def test_results_are_shown_as_they_come_and_the_first_failure_counts(capfd):
    def results():
        yield Result("one")
        assert capfd.readouterr().out == "one\n"
        yield Result(errors=["two"], status=1)
        yield Result("three", status=2)

    assert show(results()) == 1
    assert capfd.readouterr() == ("three\n", "singlerun: two\n")


def test_an_empty_table_is_a_sentence_on_a_terminal_only(capfd, monkeypatch):
    assert show(Table()) == 0
    assert capfd.readouterr().out == "NAME\tSTATE\nbelow\n"
    monkeypatch.setattr("singlerun.render.result.is_terminal", lambda: True)
    assert show(Table()) == 0
    assert capfd.readouterr().out == "Nothing.\nbelow\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BrokenPipeError(), 141, ""),
        (OSError(28, "No space left on device"), 125,
         "singlerun: cannot write the output: no space left on device\n"),
    ],
)  # fmt: skip
def test_output_that_cannot_be_written(capfd, error, status, said):
    class Failing(Result):
        def print(self):
            raise type(error)(*error.args)  # anew: one that is kept keeps its frames

    done = []

    def results():
        try:
            yield Failing()
        finally:
            done.append(True)

    assert show(results()) == status
    assert capfd.readouterr().err == said
    assert done, "what is owed after the first word is done all the same"


def test_chunks_go_to_their_streams_byte_for_byte(capfdbinary):
    chunks = [Chunk(1, b"\xffout"), Chunk(2, b"err\n"), Chunk(), Chunk(1, b"\n", gap="a gap")]
    assert show(chunks) == 0
    assert capfdbinary.readouterr() == (b"\xffout\n", b"err\nsinglerun: a gap\n")


def test_a_chunk_without_data_finds_that_no_reader_is_left(monkeypatch):
    reader, writer = os.pipe()
    kept = os.dup(1)
    os.dup2(writer, 1)
    os.close(writer)
    try:
        assert show(Chunk()) == 0
        os.close(reader)
        assert show(Chunk()) == 141
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@pytest.mark.parametrize("count", [0, 1, MANY - 1, MANY, MANY + 1, MANY + 2001])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_job_is_lost_while_they_are_counted(monkeypatch, count, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    assert list(counted(iter(range(count)))) == list(range(count))
