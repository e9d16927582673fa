"""The manual pages have the form they should have, and name what there is: no more and no less."""

import re
import subprocess

import pytest
from conftest import need
from documents import (
    FORMS,
    MAN,
    PREFIX,
    flags_in,
    items,
    literals,
    options_of,
    page_of,
    section,
    source,
    spellings,
    unknown_options,
)

from singlerun import options

EVERY_SPELLING = {flag for form in FORMS for flag in spellings(form)}


def test_each_subcommand_has_a_page():
    assert {path.name for path in MAN.iterdir()} == {f"{page_of(form)}.1" for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_page_is_called_like_its_subcommand(form):
    assert f".Dt {page_of(form).upper()} 1\n" in source(form)
    assert ".Os singlerun\n" in source(form), "the footer names it"
    assert section(form, "NAME")[0] == f".Nm {page_of(form)}"
    assert section(form, "SYNOPSIS")[0].split()[1:] == (["singlerun", form] if form else [])


@pytest.mark.parametrize("form", FORMS)
def test_page_lists_the_options(form):
    listed = {}
    for item in items(form, "OPTIONS"):
        spelled = [re.fullmatch(r"Fl (\S+)(?: Ar (\S+))?", one) for one in item.split(" , ")]
        metavars = {one[2] for one in spelled}
        assert len(metavars) == 1, item
        listed[frozenset(f"-{one[1]}" for one in spelled)] = metavars.pop()
    assert listed == options_of(form)


@pytest.mark.parametrize("form", FORMS)
def test_synopsis_has_each_option_once(form):
    shown = flags_in("\n".join(section(form, "SYNOPSIS")))
    assert shown <= spellings(form)
    for flags in options_of(form):
        if "--help" not in flags:
            assert len(flags & shown) == 1, flags


@pytest.mark.parametrize("form", FORMS)
def test_page_names_no_option_that_there_is_not(form):
    assert flags_in(source(form)) <= EVERY_SPELLING
    assert [line for line in literals(form) if unknown_options(line)] == []


@pytest.mark.parametrize("form", FORMS)
def test_page_has_an_example(form):
    named = f"singlerun {form}" if form else "singlerun"
    text = "\n".join(section(form, "EXAMPLES")).replace(r"\-", "-")
    assert re.search(rf"\b{named} ", text)


def test_manual_lists_the_subcommands():
    listed = [item.split()[1].replace(r"\-", "-") for item in items(PREFIX, "SUBCOMMANDS")]
    assert tuple(listed) == options.SUBCOMMANDS
    for title in ("SUBCOMMANDS", "SEE ALSO"):
        text = "\n".join(section(PREFIX, title))
        linked = re.findall(r"^\.Xr singlerun-(\S+) 1", text, re.MULTILINE)
        assert tuple(linked) == options.SUBCOMMANDS, title


def test_manual_lists_the_reserved_words():
    pattern = r'^\.\\" reserved words\n(.*?)^\.Ed'
    (listed,) = re.findall(pattern, source(PREFIX), re.DOTALL | re.MULTILINE)
    assert tuple(re.split(r",\s+", listed.strip())) == options.RESERVED


@pytest.mark.parametrize("form", FORMS)
def test_page_is_clean(form):
    need("mandoc")
    result = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", f"{page_of(form)}.1"],
        capture_output=True, text=True, check=False, cwd=MAN,
    )  # fmt: skip
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)
