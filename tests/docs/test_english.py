"""The documents and help texts name things by one term each, and name who does what."""

import re

import pytest
from documents import COMPLETIONS, FORMS, MAN, ROOT, help_text

DOCUMENTS = [*ROOT.glob("*.md"), *MAN.iterdir(), *COMPLETIONS.iterdir()]
AVOIDED = re.compile(
    r"\b(some|any)body\b|\bwhoever\b|\bhis\b|\bwho (adds|waits|drains)\b|\bgive what\b"
    r"|\bso long\b|\btell whether\b|\bdrainer\b|\bbegin anew\b|\bpumps?\b|\bkicks?\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_use_the_terms_of_the_field(path):
    assert [found[0] for found in AVOIDED.finditer(path.read_text())] == []


@pytest.mark.parametrize("form", FORMS)
def test_help_uses_the_terms_of_the_field(form):
    assert [found[0] for found in AVOIDED.finditer(help_text(form))] == []
