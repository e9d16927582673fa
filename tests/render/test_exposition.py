"""Metrics are text that Prometheus reads, whatever bytes names have."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from singlerun.render import exposition
from singlerun.render.exposition import COUNTER, GAUGE, HISTOGRAM, INFO, Family

NAMES = some.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"\0", b"0"))
PARSERS = pytest.mark.parametrize("parse", [prometheus, openmetrics])


def read(parse, *families):
    text = exposition.text(families, openmetrics=parse is openmetrics)
    assert text.endswith(b"# EOF\n") is (parse is openmetrics)
    return {family.name: family for family in parse(text.decode())}


@PARSERS
@settings(max_examples=300, deadline=None)
@given(names=some.lists(NAMES, unique=True, max_size=6))
@example(names=[b'a"b\\', b"a\\n", b"a\nb", b"\r", b"{}=,#", b"\xff", b"\\xff", b"\\xff (2)"])
@example(names=["\u2028\u0085\x1c\x0b grün".encode(), b"\xed\xa0\x80", b" # {a} "])
def test_any_name_is_read_back(parse, names):
    values = exposition.values_of(names)
    family = Family("x", GAUGE, "A number of each.")
    for number, name in enumerate(names):
        family.add(str(number), name=values[name])
    found = read(parse, family)
    samples = found["singlerun_x"].samples if names else []
    assert [(each.labels["name"], each.value) for each in samples] == [
        (values[name], number) for number, name in enumerate(names)
    ]
    assert len({*values.values()}) == len(names), "no two names are shown alike"
    for name in names:
        try:
            assert values[name] == name.decode()
        except UnicodeDecodeError:
            assert "\\x" in values[name]


@PARSERS
def test_counters_and_histograms_say_since_when(parse):
    counter = Family("runs", COUNTER, "Runs.", created_ns=1_790_000_000_123_456_789)
    histogram = Family("took_seconds", HISTOGRAM, "Times.", created_ns=10**9)
    for name in ("a", "b"):
        counter.add("7", name=name)
        histogram.add_histogram((1, 2.5), (3, 0, 2), "12.5", name=name)
    found = read(parse, counter, histogram)
    runs, took = found["singlerun_runs"], found["singlerun_took_seconds"]
    assert (runs.type, took.type) == ("counter", "histogram")
    by_name = {sample.name: sample.value for sample in runs.samples}
    assert by_name.pop("singlerun_runs_total") == 7
    buckets = [each for each in took.samples if each.labels["name"] == "b"]
    counted = [(each.labels["le"], each.value) for each in buckets if "le" in each.labels]
    assert counted == [("1.0", 3), ("2.5", 3), ("+Inf", 5)]
    sums = {each.name.rpartition("_")[2]: each.value for each in buckets if "le" not in each.labels}
    created = sums.pop("created", None)
    assert sums == {"sum": 12.5, "count": 5}
    if parse is openmetrics:
        assert by_name == {"singlerun_runs_created": 1_790_000_000.123456}
        assert created == 1
        assert took.unit == "seconds"
    else:
        assert by_name == {}
        assert created is None


@PARSERS
def test_information_and_what_has_no_sample(parse):
    info = Family("build", INFO, "The version.")
    info.add("1", version="1.2")
    found = read(parse, info, Family("nothing", GAUGE, "Nothing."))
    (family,) = found.values()
    (sample,) = family.samples
    assert sample.name == "singlerun_build_info"
    assert sample.labels == {"version": "1.2"}


def test_seconds_lose_nothing():
    assert exposition.seconds(1_790_000_000_123_456_789) == "1790000000.123456"
    assert exposition.seconds(0) == "0.000000"
    texts = [exposition.seconds(number * 10**6) for number in (1, 999, 1000, 1001)]
    assert [float(text) for text in texts] == [0.001, 0.999, 1, 1.001]
    assert all(float(a) < float(b) for a, b in itertools.pairwise(texts))
