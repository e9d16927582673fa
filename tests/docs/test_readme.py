"""The README shows what singlerun prints, and programs and command lines that work."""

import re
import subprocess
import sys

import pytest
from console import SESSION, comparable, replayed
from documents import README, ROOT, code_in, unknown_options


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("singlerun --wait-for 5m --name=x -qwn y -E3 rsync --archive", []),
        ("singlerun --wait-far 5m true", ["--wait-far"]),
        ("singlerun -qXw true", ["-X"]),
        ("singlerun -t 5m -qk1 --restart always --max-starts 3/1h -X true", ["-X"]),
        ("singlerun -n --nothing true --nothing", []),
        ("singlerun -nx --nothing true", ["--nothing"]),
        ("singlerun -- --nothing", []),
        ("singlerun --version", []),
        ("singlerun run --version", ["--version"]),
        ("singlerun ps x --wait", ["--wait"]),
        ("singlerun ps -a --json | jq --raw-output .", []),
        ("singlerun history --limit 5 --tree", ["--tree"]),
        ("singlerun run --skip true --nothing", []),
        ("singlerun run ps --nothing", []),
        ("*/5 * * * *  /usr/bin/singlerun --nothing true", ["--nothing"]),
        ("ExecStart=/usr/bin/singlerun --nothing true", ["--nothing"]),
        ("singlerun true && singlerun --nothing true", ["--nothing"]),
        ("singlerun --quiet sh -c 'it", []),
        ("pip install singlerun --pre", []),
    ],
)
def test_the_check_of_command_lines(line, unknown):
    assert unknown_options(line) == unknown


def test_code_is_found_in_markdown():
    markdown = "a `b --c` d\n```sh\ne \\\n  f\ng\n```\nh\n  ```\n  i\n  ```\n"
    assert [line.split() for line in code_in(markdown)] == [["e", "f"], ["g"], ["i"], ["b", "--c"]]


def test_readme_gives_singlerun_no_option_that_it_lacks():
    lines = code_in(README.read_text())
    assert {line: unknown for line in lines if (unknown := unknown_options(line))} == {}


SESSIONS = {found["shown"]: found["before"] for found in SESSION.finditer(README.read_text())}


@pytest.mark.parametrize("shown", SESSIONS, ids=lambda shown: shown.partition("\n")[0])
def test_readme_shows_what_is_printed(shown):
    """Once this fails, write the output anew: ``python tests/docs/console.py README.md``."""
    assert comparable(replayed(SESSIONS[shown], shown)) == comparable(shown)


def test_readme_has_sessions():
    assert len(SESSIONS) >= 4
    assert all(shown.count("\n$ ") >= 3 for shown in SESSIONS)


def test_readme_links_to_what_there_is():
    text = README.read_text()
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors
        else:
            assert (ROOT / link).exists(), link


def test_readme_programs_run(cli, tmp_path):
    text = README.read_text()
    programs = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert programs
    for program in programs:
        result = subprocess.run(
            [sys.executable, "-P", "-W", "error", "-c", program],
            capture_output=True, text=True, check=False, env=cli.env, cwd=tmp_path,
        )  # fmt: skip
        assert (result.stderr, result.returncode) == ("", 0)
    assert {run["name"] for run in cli.history()} == {"import", "report", "echo"}
