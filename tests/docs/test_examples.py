"""What a reader copies from a rendered page or the README is what was meant, and it works."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import BINARY, PATIENCE, need
from documents import FORMS, MAN, PREFIX, README, blocks, inlines, page_of, parse

SCHEDULE = re.compile(r"(?:@\w+|(?:[\d*/,-]+ ){5}) *(?=\S)", re.MULTILINE)
"""What stands before the command in a line of a crontab(5)."""
NOTING = """#!/bin/sh
printf '%s\\0' "$@" >> "$NOTES"
printf '\\0\\0' >> "$NOTES"
[ "$1" = completion ] || echo 1
"""
"""A singlerun that only notes what it was called with, and prints an id as ``add`` does."""


def rendered(form, *renderer):
    result = subprocess.run(
        [*renderer, MAN / f"{page_of(form)}.1"], capture_output=True, text=True, check=True
    )
    text = re.sub(r"\x1b\[[\d;]*m", "", result.stdout)
    return re.sub(".\b", "", text)


def renderers():
    need("mandoc")
    yield from (["mandoc", "-T", "utf8"], ["mandoc", "-T", "ascii"])
    if shutil.which("groff"):  # what man(1) uses on most distributions
        yield from (["groff", "-mandoc", "-Tutf8"], ["groff", "-mandoc", "-Tascii"])


@pytest.mark.parametrize("form", FORMS)
def test_literal_blocks_are_rendered_as_they_are_meant(form):
    """A reader copies whole lines: no quote is lost or turned, no line is broken."""
    assert blocks(form)
    for renderer in renderers():
        lines = rendered(form, *renderer).splitlines()
        for block in blocks(form):
            size = len(block)
            starts = [at for at, line in enumerate(lines) if line.lstrip() == block[0].lstrip()]
            shown = [lines[at : at + size] for at in starts]
            indented = [[" " * 11 + line if line else "" for line in block]]
            narrower = [[line.removeprefix(" ") for line in indented[0]]]
            assert (indented[0] in shown) or (narrower[0] in shown), (renderer, block, shown)


@pytest.mark.parametrize("form", FORMS)
def test_inline_literals_are_rendered_as_they_are_meant(form):
    need("mandoc")
    text = " ".join(rendered(form, "mandoc", "-T", "utf8").split())
    for literal in inlines(form):
        assert f"\u2018{literal}\u2019" in text


def scripts_of(form):
    """Yield the examples of a page that a shell is to run."""
    for block in blocks(form):
        if not block[0].startswith("["):  # a unit of systemd
            yield SCHEDULE.sub("", "\n".join(block)).replace(r"\%", "%")


def scripts_of_readme():
    found = re.findall(
        r"^```(?:sh|crontab)\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE
    )
    return [SCHEDULE.sub("", text).replace(r"\%", "%") for text in found if "venv" not in text]


def calls(directory, script):
    """Run a script with a singlerun that does nothing, and return what that was called with."""
    stand_in = directory / "singlerun"
    if not stand_in.exists():
        stand_in.write_text(NOTING)
        stand_in.chmod(0o755)
        (directory / "a film.mov").touch()
    notes = directory / "notes"
    notes.write_bytes(b"")
    env = os.environ | {"PATH": f"{directory}:{os.environ['PATH']}", "NOTES": str(notes)}
    result = subprocess.run(
        ["bash", "-e", "-c", script], cwd=directory, env=env, capture_output=True, text=True,
        check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, ""), script
    return [call.split("\0") for call in notes.read_text().split("\0\0\0")[:-1]]


def test_crontab_lines_lose_their_schedule():
    for line in ("@reboot      x y", "*/5 * * * *  x y", "30 3 * * 1-5 x y", "x y"):
        assert SCHEDULE.sub("", line) == "x y"


@pytest.mark.parametrize("form", [*FORMS, "README"])
def test_examples_are_accepted(form, tmp_path):
    """Each command line is one that a shell and then singlerun itself can read."""
    scripts = scripts_of_readme() if form == "README" else list(scripts_of(form))
    for script in scripts:
        called = calls(tmp_path, script)
        assert len(called) >= 1, script
        for arguments in called:
            parse(arguments)
    assert scripts or form == "worker"


def test_the_mail_of_the_examples_is_sent(cli, tmp_path):
    (tmp_path / "mail").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > sent\n')
    (tmp_path / "sync.sh").write_text("#!/bin/sh\nexit 1\n")
    for name in ("mail", "sync.sh"):
        (tmp_path / name).chmod(0o755)
    env = cli.env | {"PATH": f"{tmp_path}:{BINARY.parent}:{os.environ['PATH']}"}
    scripts = [*scripts_of(PREFIX), *scripts_of_readme()]
    with_mail = [script for script in scripts if "mail -s" in script]
    assert len(with_mail) == 2
    for script in with_mail:
        subprocess.run(["sh", "-c", script], cwd=tmp_path, env=env, check=False)
        assert (tmp_path / "sent").read_text() == "-s\nsync failed\nroot\n"
        (tmp_path / "sent").unlink()
