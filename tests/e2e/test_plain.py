"""What scripts read: tables in a pipe, and --format. No name, state or command shifts a column."""

import subprocess

import pytest

NAMES = [
    b"plain", b"two words", b"a\tb", b"a\nb", b"-", b"n" * 300, "名前".encode(), b"\xff",
    b"\x1b[31m",
]  # fmt: skip


def cells(text):
    return [line.split("\t") for line in text.splitlines()]


def test_a_table_in_a_pipe_has_as_many_cells_in_each_row(cli):
    for name in NAMES:
        cli.run("-n", name, "echo", "a b\tc\nd", "")
    cli.run("pause", "q")
    cli.run("add", "-n", "q", "--label", "two\twords", "true", "x\ty")
    for form in ("history", "ps", "queue"):
        header, *rows = cells(cli.run(form).stdout)
        assert header[:3] == ["ID", "NAME", "STATE"]
        assert rows
        assert {len(row) for row in rows} == {len(header)}
        assert all(cell for row in rows for cell in row), "no cell is empty"
    table = cells(cli.run("history").stdout)[1:]
    assert [row[1] for row in reversed(table)] == [
        "plain", "two words", r"a\tb", r"a\nb", "-", "n" * 300, "名前", r"\xff", r"\x1b[31m",
    ]  # fmt: skip


def test_a_shell_reads_a_waiter_with_its_place_as_one_cell(cli):
    cli.run("pause", "my jobs")
    cli.run("add", "-n", "my jobs", "true")
    script = "ps | while IFS='\t' read -r id name state rest; do echo \"$id|$name|$state\"; done"
    told = subprocess.run(
        ["sh", "-c", f"{cli.binary} {script}"], env=cli.env, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert told.stdout == "ID|NAME|STATE\n-|my jobs|paused\n1|my jobs|paused #1\n"


def test_format_prints_fields_of_the_json(cli):
    cli.run("-n", "a b", "sh", "-c", "exit 3")
    with cli.hold("-n", "x", "-n", "y z"):
        shown = cells(
            cli.run("history", "--format", "id,name,names,state,exit_code,command").stdout
        )
    assert [row[:5] for row in shown] == [
        ["2", "x", "x 'y z'", "running", "-"],
        ["1", "a b", "'a b'", "failed", "3"],
    ]
    assert shown[1][5] == "sh -c 'exit 3'"
    assert cli.run("ps", "--format", "id").stdout == "", (
        "no header, and nothing if there is nothing"
    )


def test_format_prints_jobs_too(cli):
    cli.run("pause", "x")
    cli.run("add", "-n", "x", "--label", "a\tb", "true")
    for form in ("ps", "queue"):
        shown = (
            cli.run(form, "--format", "id, state,place,label,token").stdout
            if form == "ps"
            else (cli.run(form, "--format", "id, state,place,label,run_id").stdout)
        )
        pause = "-\tpaused\t-\t-\t-\n" if form == "ps" else ""
        assert shown == pause + "1\tpaused\t1\ta\\tb\t-\n"


@pytest.mark.parametrize("form", ["history", "ps", "queue"])
def test_a_field_that_there_is_not_names_those_that_there_are(cli, form):
    result = cli.run(form, "--format", "id,nix")
    assert (result.returncode, result.stdout) == (2, "")
    assert "there is no field 'nix'; there are: id, name, " in result.stderr
    for bad in ("", ",", "id,"):
        assert cli.run(form, "--format", bad).returncode == 2
    assert "cannot be combined" in cli.run(form, "--format", "id", "--json").stderr
