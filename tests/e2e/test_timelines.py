"""``singlerun timeline`` and ``stats``: what ran when, and how well, of real runs."""

import json
import os
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pexpect
import pytest
from conftest import BINARY, PATIENCE, demand_or_skip, eventually

HOUR = 3600 * 10**9


def shift(cli, hours, condition="1"):
    """Move runs into the past."""
    columns = ("asked_ns", "started_ns", "ended_ns")
    changes = ", ".join(f"{column} = {column} - {hours} * {HOUR}" for column in columns)
    cli.sql(f"UPDATE runs SET {changes} WHERE {condition}")


@pytest.fixture
def day(cli):
    """Runs of some names, of each kind."""
    cli.run("-n", "backup", "true")
    cli.run("-n", "sync", "sh", "-c", "exit 3")
    cli.run("-n", "<script>alert(1)</script>", "true", "</title><b>")
    cli.sql(f"UPDATE runs SET ended_ns = started_ns + {HOUR}, elapsed_ns = {HOUR}")
    shift(cli, 20)
    cli.run("-n", "sync", "true")
    cli.sql(f"UPDATE runs SET ended_ns = started_ns + {HOUR} WHERE names = X'{b'sync'.hex()}'")
    shift(cli, 5, "id = 4")
    cli.run("pause", "backup")
    cli.run("-n", "backup", "true")
    return cli


def test_a_timeline_in_a_pipe(day):
    result = day.run("timeline", env=day.env | {"COLUMNS": "100"})
    assert (result.returncode, result.stderr) == (0, "")
    axis, *rows, _, legend = result.stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["<script>alert(1)</script>", "backup", "sync"]
    assert rows[1].endswith("1 run, 1 refused") and rows[2].endswith("2 runs, 1 failed")
    assert "✗" in rows[2] and rows[2].index("✗") < rows[2].index("█")
    assert max(map(len, [axis, *rows, legend])) <= 100
    assert "\x1b" not in result.stdout


def test_a_timeline_of_a_name_and_a_period(day):
    (_, row, *_) = day.run("timeline", "sync", "--since", "6h").stdout.splitlines()
    assert row.startswith("sync  ") and row.endswith("1 run")
    result = day.run("timeline", "--since", "40h", "--until", "30h")
    assert result.stdout == "No runs in this period; to look further back: --since 7d\n"
    for period in (["--since", "1h", "--until", "2h"], ["--since", "x"]):
        assert day.run("timeline", *period).returncode == 2


def test_a_coloured_timeline_fits_the_terminal(day):
    env = day.env | {"TERM": "xterm", "LC_ALL": "C.UTF-8", "COLUMNS": ""}
    terminal = pexpect.spawn(
        str(BINARY), ["timeline"], env=env, timeout=PATIENCE, dimensions=(24, 60), encoding="utf-8"
    )
    terminal.expect(pexpect.EOF)
    assert "\x1b[31m✗" in terminal.before and "\x1b[32m█" in terminal.before
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.before)
    assert max(map(len, plain.splitlines())) == 60
    terminal.close()


def test_json_of_a_timeline_is_complete(day):
    document = json.loads(day.run("timeline", "--json", "--limit", "1").stdout)
    assert list(document) == ["schema", "since", "until", "runs", "pauses"]
    assert [run["id"] for run in document["runs"]] == [1, 2, 3, 4, 5]
    ((pause),) = document["pauses"]
    assert (pause["name"], pause["until"]) == ("backup", None)


def test_names_that_are_left_out_are_counted_on_standard_error(day):
    result = day.run("timeline", "--limit", "1")
    assert "singlerun: 1 of 3 names are shown" in result.stderr and "--limit 3" in result.stderr
    assert len(result.stdout.splitlines()) == 4


def test_files_are_written_and_standard_output_too(day, tmp_path):
    page, picture = tmp_path / "a page.html", tmp_path / "p.svg"
    result = day.run("timeline", "--html", page, "--svg", picture)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert page.read_text().startswith("<!doctype html>")
    assert picture.read_text().startswith("<svg ")
    assert day.run("timeline", "--svg", "-").stdout.startswith("<svg ")
    result = day.run("timeline", "--html", tmp_path / "none" / "x.html")
    assert (result.returncode, result.stdout) == (125, "")
    assert re.fullmatch(r"singlerun: \S+/none/x\.html: no such file or directory\n", result.stderr)


# -- in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """The path of a headless Chromium."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or demand_or_skip("not installed: Chromium")


def browse(browser, tmp_path, page, *arguments):
    """Open a page; return what the browser prints."""
    home = tmp_path / "browser"
    result = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}",
         "--enable-logging=stderr", *arguments, page.as_uri()],
        capture_output=True, text=True, check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
        env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert "CONSOLE" not in result.stderr, "an error in the page"
    return result.stdout


def pixels(path):
    """Return the width of a PNG of eight bits a channel, and its pixels row by row."""
    data, at, chunks = Path(path).read_bytes(), 8, b""
    width, height, depth, kind = (int.from_bytes(data[16:20]), int.from_bytes(data[20:24]),
                                  data[24], data[25])  # fmt: skip
    assert depth == 8 and kind in {2, 6}
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            chunks += data[at + 8 : at + 8 + size]
        at += size + 12
    raw, step = zlib.decompress(chunks), 4 if kind == 6 else 3
    stride, above, rows = width * step, bytearray(width * step), []
    for number in range(height):
        begin = number * (stride + 1)
        above = _unfiltered(raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride]), above, step)
        rows.append([tuple(above[x : x + 3]) for x in range(0, stride, step)])
    return rows


def _unfiltered(kind, row, above, step):
    for x in range(len(row)):
        left = row[x - step] if x >= step else 0
        corner = above[x - step] if x >= step else 0
        up = above[x]
        if kind == 4:
            guess = left + up - corner
            near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up),
                       (abs(guess - corner), 2, corner))  # fmt: skip
            row[x] = (row[x] + near[2]) & 255
        else:
            row[x] = (row[x] + (0, left, up, (left + up) // 2)[kind]) & 255
    return row


def test_a_browser_shows_the_page_and_runs_nothing_of_it(day, browser, tmp_path):
    page = tmp_path / "page.html"
    day.run("timeline", "--html", page)
    dom = browse(browser, tmp_path, page, "--dump-dom")
    assert dom.count('<section class="lane">') == 3
    assert "<script" not in dom and "<b>" not in dom
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in dom
    assert re.search(r'<rect class="failed"[^>]*><title>run 2: failed\nexit status 3', dom)
    assert re.search(r'<circle class="refused"[^>]*><title>run 5: refused', dom)


@pytest.mark.parametrize("size", ["390,800", "1200,800"])
def test_a_page_fits_a_telephone_and_a_desk(day, browser, tmp_path, size):
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    day.run("timeline", "--html", page)
    browse(browser, tmp_path, page, f"--screenshot={shot}", f"--window-size={size}")
    rows = eventually(lambda: shot.exists() and pixels(shot), "the picture")
    width = int(size.partition(",")[0])
    assert len(rows[0]) == width
    assert rows[2][2] == (255, 255, 255), "the light paper"
    red, green = (0xCF, 0x22, 0x2E), (0x2D, 0xA0, 0x5A)
    found = {
        colour: [x for row in rows for x, pixel in enumerate(row) if pixel == colour]
        for colour in (red, green)
    }
    # The failure of 20 hours ago lies in the first fifth of its lane, the success in the last part.
    left = 0 if width < 640 else 216
    assert left <= min(found[red]) < left + (width - left) * 0.3
    assert (width - left) * 0.7 + left < max(found[green]) < width


def test_a_page_is_dark_where_that_is_preferred(day, browser, tmp_path):
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    day.run("timeline", "--html", page)
    dark = "--blink-settings=preferredColorScheme=0"
    browse(browser, tmp_path, page, f"--screenshot={shot}", "--window-size=600,400", dark)
    assert eventually(lambda: shot.exists() and pixels(shot), "the picture")[2][2] == (20, 23, 27)


def test_a_browser_shows_the_picture(day, browser, tmp_path):
    picture, shot = tmp_path / "p.svg", tmp_path / "shot.png"
    day.run("timeline", "--svg", picture)
    browse(browser, tmp_path, picture, f"--screenshot={shot}", "--window-size=1000,200")
    rows = eventually(lambda: shot.exists() and pixels(shot), "the picture")
    colours = {pixel for row in rows for pixel in row}
    assert {(0xCF, 0x22, 0x2E), (0x2D, 0xA0, 0x5A)} <= colours


# -- stats ------------------------------------------------------------------------------------


def test_stats(day):
    header, *rows = [line.split("\t") for line in day.run("stats").stdout.splitlines()]
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert set(found) == {"<script>alert(1)</script>", "backup", "sync"}
    assert (found["sync"]["RUNS"], found["sync"]["OK"]) == ("2", "50.0%")
    assert (found["backup"]["P50"], found["backup"]["REFUSED"]) == ("1h", "1")
    (row,) = json.loads(day.run("stats", "sync", "--json").stdout)["stats"]
    assert (row["name"], row["failed"], row["longest_s"], row["longest_id"]) == ("sync", 1, 3600, 2)
    (row,) = json.loads(day.run("stats", "sync", "--since", "6h", "--json").stdout)["stats"]
    assert (row["runs"], row["success_rate"]) == (1, 1.0)


def test_stats_of_nothing_on_a_terminal_say_what_to_type(cli):
    cli.run("-n", "x", "true")
    terminal = pexpect.spawn(str(BINARY), ["stats", "y"], env=cli.env, timeout=PATIENCE)
    terminal.expect(r"No runs of y from .* to .*; to look further back: --since 365d\r\n")
    terminal.expect(pexpect.EOF)
    terminal.close()


def test_looking_makes_no_state_directory(cli):
    for form in ("why", "stats", "timeline"):
        assert cli.run(form, "x").returncode == 0
    assert not cli.dir.exists()
