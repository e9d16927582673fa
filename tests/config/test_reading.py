"""Each mistake is named with file, line, key and what was probably meant; the rest holds."""

import pytest

from singlerun import commands
from singlerun.config import schema
from singlerun.config.reading import Reading, dotted, parse_key
from singlerun.errors import UsageError


def problems(text):
    reading = Reading([])
    reading.read_text(b"f", text if isinstance(text, bytes) else text.encode())
    return [(line, key, what) for _, line, key, what in reading.problems]


@pytest.mark.parametrize(
    ("text", "line", "key", "what"),
    [
        ("\n[defaults]\ntimout = 1", 3, "defaults.timout", "did you mean: timeout"),
        ("[defaults]\nwait_for = 1", 2, "defaults.wait_for", "did you mean: wait-for"),
        ("[defaults]\nfrobnicate = 1", 2, "defaults.frobnicate", "man singlerun-config"),
        ("[job.x]\ntimeout = 1", 1, "job", "did you mean: jobs"),
        ("timeout = 1", 1, "timeout", "write [defaults] above it"),
        ("[defaults]\ntimeout = 'x'", 2, "defaults.timeout", "bad duration 'x': write 30"),
        ("[defaults]\nskip = 1", 2, "defaults.skip", "bad value 1: write true or false"),
        ("[defaults]\ntimeout = true", 2, "defaults.timeout", "bad value true: write a string"),
        ("[defaults]\ntimeout = [1]", 2, "defaults.timeout", "one value, not an array"),
        ("[defaults]\ntimeout = {a = 1}", 2, "defaults.timeout", "no table; write timeout ="),
        ("[defaults]\nenv = ['A', 1.5, []]", 2, "defaults.env", "bad value list"),
        ("defaults = 1", 1, "defaults", "it is a table; write [defaults]"),
        ("[jobs]\n'a b' = 1", 2, 'jobs."a b"', 'write [jobs."a b"] above its keys'),
        ("[jobs.'']\nskip = true", 1, 'jobs.""', "no name is like this"),
        ('[jobs."a\\u0000"]', 1, 'jobs."a\\u0000"', "no name is like this"),
        ("[defaults]\nname = 'x'", 2, "defaults.name", 'a table has the name: [jobs."NAME"]'),
        ("[defaults]\nlock-fd = 9", 2, "defaults.lock-fd", "cannot be set here: a descriptor"),
        ("[defaults]\nafter = 9", 2, "defaults.after", "an id belongs to one job"),
        ("[jobs.x]\ndir = '/x'", 2, "jobs.x.dir", "set it in [defaults]"),
        ("[jobs.x]\nstrict = true", 2, "jobs.x.strict", "set it in [defaults]"),
        ("[defaults]\ndir = 'x'", 2, "defaults.dir", "not an absolute path"),
        ("[defaults]\nlock-file = 'x'", 2, "defaults.lock-file", "not an absolute path"),
        ('[defaults]\non-failure = "a\\u0000b"', 2, "defaults.on-failure", "NUL character"),
        ("[defaults]\nslots = 1000", 2, "defaults.slots", "1 to 999"),
        ("[defaults]\nslots = 2\nshared = true", 3, "defaults.shared", "cannot be combined"),
        ("[defaults]\npriority = 9999999", 2, "defaults.priority", "bad priority"),
        ("[defaults]\noverlong = 0", 2, "defaults.overlong", "above 0"),
        ("[defaults]\ntimeout = nan", 2, "defaults.timeout", "bad duration 'nan'"),
        ("[defaults]\ntimeout = 1979-05-27", 2, "defaults.timeout", "a string or a number"),
        ("[defaults]\n[defaults]", 2, "", "it is not TOML: cannot declare ('defaults',) twice"),
        ("\n\na = ", 3, "", "it is not TOML: invalid value"),
        ("\n\na = '''\n\n", 4, "", "it is not TOML: expected \"'''\""),
        (b"\n\n# caf\xe9\n", 3, "", "it is not UTF-8; save it as UTF-8"),
        ("a = " + "[" * 100_000, 1, "", "nested too deeply"),
        ("a = " + "9" * 5000, 1, "", "it is not TOML"),
    ],
)  # fmt: skip
def test_mistake(text, line, key, what):
    ((found_line, found_key, sentence),) = problems(text)
    assert (found_line, found_key) == (line, key)
    assert what in sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\ufeff[defaults]\r\nskip = true\r\n",
        "defaults.skip = true\njobs.'x y'.timeout = 5\njobs.z = { retries = 2 }",
        "[defaults]\ntimeout = inf\nmax-starts = '3/1h'\nsignal = 'INT'\nretry-delay = 1.5",
        "[defaults]\nenv = 'A'\n[jobs.x]\nenv = ['A', 'B=c']\nwait-for = 0",
        "[jobs.x]\nskip = true\nwait-for = '1m'",
    ],
)
def test_no_mistake(text):
    assert problems(text) == []


def test_all_mistakes_are_found_and_the_rest_is_read():
    text = "[defaults]\nx = 1\nskip = true\ny = 2\n[jobs.a]\nz = 1\nretries = 2\n"
    assert [line for line, _, _ in problems(text)] == [2, 4, 6]
    reading = Reading([])
    reading.read_text(b"f", text.encode())
    assert [(entry.line, entry.value) for entry in reading.entries] == [(3, True), (7, 2)]


def test_each_option_of_a_queue_is_a_key_or_is_refused_with_a_reason():
    add = commands.group.get_command(None, "add")
    for param in add.params:
        flag = max(param.opts, key=len)
        if flag.startswith("--") and flag != "--dir":
            key = schema.JOB.find(flag.removeprefix("--"))
            assert key is not None, flag
            assert key.refused is None or len(key.refused) > 10


def test_each_key_explains_itself():
    for table in (*schema.ROOT.keys, schema.JOB):
        for key in table.keys:
            assert (key.help or key.refused or "")[-1:] not in {"", " "}, key.name


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("defaults.wait-for", ("defaults", "wait-for")),
        ('jobs."nightly *".timeout', ("jobs", "nightly *", "timeout")),
        ("jobs . 'a.b'", ("jobs", "a.b")),
        ('jobs."\\u00fc"', ("jobs", "ü")),
    ],
)
def test_dotted_keys(text, path):
    assert parse_key(text) == path
    assert parse_key(dotted(path)) == path


@pytest.mark.parametrize(
    "text", ["", ".", "a.", "a b", "jobs.nightly *.x", "a = 1\nb", "[x]", "a#"]
)
def test_what_is_no_key(text):
    with pytest.raises(UsageError, match="is no key: write one such as"):
        parse_key(text)
