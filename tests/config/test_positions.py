"""The line of each key, in all the ways in which TOML writes one."""

import tomllib

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings

from singlerun.config.positions import lines

from .documents_of_toml import DOCUMENTS

TRICKY = r'''
# a = 1 [x]
[defaults] # [y]
"wait\u002dfor" = "]\"[" # "
'time out'.a.b = 1
text = """
not.a.key = 1
[not.a.table]
\""" """""
raw = \'\'\'
[no] = ' ''
\'\'\'
many = [ # comment ]
  "a", [ 'b', """
  c = 1
""" ],
  { inner = 1, "quo ted".x = { deep = 2 } },
]
date = 1979-05-27 07:32:00
empty = ""
float = 6.626e-34
last = { a = 1, b = [2,
3], c = "}" }

[jobs."nightly *"]
  log = true
[jobs . 'x y' . notify]
failure = []
[[array]]
one = 1
[[array]]
two = 2
'''.replace(r"\'", "'")
EXPECTED = {
    ("defaults",): 3, ("defaults", "wait-for"): 4, ("defaults", "time out"): 5,
    ("defaults", "time out", "a"): 5, ("defaults", "time out", "a", "b"): 5,
    ("defaults", "text"): 6, ("defaults", "raw"): 10, ("defaults", "many"): 13,
    ("defaults", "many", "inner"): 17, ("defaults", "many", "quo ted"): 17,
    ("defaults", "many", "quo ted", "x"): 17, ("defaults", "many", "quo ted", "x", "deep"): 17,
    ("defaults", "date"): 19, ("defaults", "empty"): 20, ("defaults", "float"): 21,
    ("defaults", "last"): 22, ("defaults", "last", "a"): 22, ("defaults", "last", "b"): 22,
    ("defaults", "last", "c"): 23,
    ("jobs",): 25, ("jobs", "nightly *"): 25, ("jobs", "nightly *", "log"): 26,
    ("jobs", "x y"): 27, ("jobs", "x y", "notify"): 27, ("jobs", "x y", "notify", "failure"): 28,
    ("array",): 29, ("array", "one"): 30, ("array", "two"): 32,
}  # fmt: skip


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_tricky_document(ending):
    text = TRICKY.replace("\n", ending)
    tomllib.loads(text)
    assert lines(text) == EXPECTED


def keys_of(value, path=()):
    """Return the paths of all keys in a document, those within arrays too."""
    if isinstance(value, dict):
        inner = [(key, path, each) for key, each in value.items()]
        return {(*path, key) for key, _, _ in inner}.union(
            *(keys_of(each, (*path, key)) for key, _, each in inner)
        )
    if isinstance(value, list):
        return set().union(*(keys_of(each, path) for each in value))
    return set()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENTS)
def test_each_key_of_any_document_has_a_line_on_which_it_stands(text):
    found = lines(text)
    assert set(found) == keys_of(tomllib.loads(text))
    shown = text.split("\n")
    for path, line in found.items():
        part = tomli_w.dumps({path[-1]: 0}).removesuffix(" = 0\n")
        assert part in shown[line - 1]
