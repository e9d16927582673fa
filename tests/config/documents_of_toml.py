"""Configurations for Hypothesis: random, hostile, and nearly right ones."""

import tomli_w
from hypothesis import strategies as st

from singlerun.config import schema
from singlerun.options import RUN_OPTIONS

VALUES = st.recursive(
    st.one_of(
        st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.times(),
        st.sampled_from(["5m", "1h", "3/1h", "3", "on-failure", "always", "auto", "/tmp/x", "x", "",
                         "TERM", "0", "\0", "/\0", "é", "1e999", "nan", "-1", "A=b"]),
        st.sampled_from([0, 1, 2, 5, 10**30, -1, 1.5]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=4,
)  # fmt: skip
KNOWN = [key.name for key in schema.JOB.keys]
NAMES = st.one_of(
    st.sampled_from(["backup", "b*", "*", "?", "[a-c]x", "[", "", "a b", "é", "\0", "backup.sh-*"]),
    st.text(max_size=8),
)
KEYS = st.one_of(
    st.sampled_from(KNOWN), st.sampled_from(["timout", "Wait", "wait_for", "lock", "notify", "x"]),
    st.text(max_size=8),
)  # fmt: skip
RIGHT = {
    "wait-for": "5m", "timeout": 5, "slots": 3, "max-starts": "3/1h", "restart": "always",
    "retries": 2, "signal": "INT", "lock-type": "flock", "lock-file": "/tmp/lock",
    "min-interval": "1h", "jitter": "1s", "dir": "/tmp/state", "conflict-exit-code": 3,
    "retry-delay": 1.5, "kill-after": "9s", "priority": -3, "delay": "1m", "limit": 9, "label": "é",
    "env": ["A", "B=c"], "expect": "26h", "overlong": 2.5, "max-queued": 3, "max-refused": 2,
}  # fmt: skip
"""A value that can be read, of each key that takes one; the others are flags or texts."""


def right(name):
    """Return values that a key takes."""
    if name in RIGHT:
        return st.just(RIGHT[name])
    key = schema.JOB.find(name)
    return st.booleans() if key.read is None else st.sampled_from(["true", "exit 1"])


RIGHT_NAMES = [key.name for key in schema.JOB.keys if key.refused is None and not key.is_table]
RIGHT_TABLES = st.lists(st.sampled_from(RIGHT_NAMES), max_size=5, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: right(name) for name in names})
)
"""Tables of keys whose values can be read; they may contradict each other."""
RIGHT_DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "defaults": RIGHT_TABLES,
        "jobs": st.dictionaries(st.sampled_from(["backup", "b*", "back*", "*"]), RIGHT_TABLES),
    },
).map(tomli_w.dumps)

TABLES = st.one_of(st.dictionaries(KEYS, VALUES, max_size=4), RIGHT_TABLES, VALUES)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "defaults": TABLES,
        "jobs": st.one_of(st.dictionaries(NAMES, TABLES, max_size=3), VALUES),
        "notify": TABLES,
        "retention": TABLES,
        "job": TABLES,
        "timeout": VALUES,
    },
).map(tomli_w.dumps)


@st.composite
def mangled(draw):
    """Valid TOML of which a part is lost, doubled, or replaced by something hostile."""
    text = draw(DOCUMENTS)
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, min(len(text), begin + 9)))
    pieces = st.sampled_from(
        ["", "\n", "[", "]", "[[", "{", "}", "=", '"', "'", '"""', "'''", "#", ".", ",", "\\", "\r",
         "\\u0000", "\\ud800", "\x00", "\x7f", "[defaults]\n", "x = 1\n", "[" * 2000, "{a=" * 999,
         "9" * 5000, "a." * 999 + "b = 1\n", "1979-05-27T07:32:00Z", "\ufeff", "\u202e"]
    )  # fmt: skip
    return text[:begin] + draw(st.one_of(pieces, st.just(text[begin:end] * 2))) + text[end:]


FILES = st.one_of(
    DOCUMENTS.map(str.encode),
    mangled().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
)
"""What may be in a file."""

COMMAND_LINES = st.fixed_dictionaries(
    {},
    optional={
        option.dest: st.booleans() if option.metavar is None else right(option.flags[-1][2:])
        for option in RUN_OPTIONS
        if option.flags[-1][2:] in RIGHT_NAMES and option.dest != "lock_file"
    },
)
