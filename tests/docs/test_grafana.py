"""The dashboard can be imported, and shows nothing but what ``singlerun metrics`` prints."""

import itertools
import json
import re

import pytest
from documents import ROOT, section
from prometheus_client.openmetrics.parser import text_string_to_metric_families

DASHBOARD = ROOT / "examples" / "grafana" / "singlerun.json"
METRIC = re.compile(r"\bsinglerun_\w+")
WITHOUT_NAME = {"names", "names_left_out", "record_size_bytes", "build_info"}
CONFIGURATION = """
[jobs.backup]
expect = "26h"
"""


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text())


@pytest.fixture
def printed(cli, tmp_path):
    """Return the metrics that are printed where there is something of everything, by sample."""
    file = tmp_path / "config.toml"
    file.write_text(CONFIGURATION)
    cli.env["SINGLERUN_CONFIG"] = str(file)
    cli.run("-n", "backup", "true")
    result = cli.run("metrics", "--openmetrics", text=False)
    assert result.returncode == 0, result.stderr
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(result.stdout.decode())
        for sample in family.samples
    }


def queries(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def test_every_metric_is_one_that_is_printed(dashboard, printed):
    shown = {metric for query in queries(dashboard) for metric in METRIC.findall(query)}
    assert len(shown) > 15
    assert shown <= printed.keys()


def test_nothing_that_is_printed_of_names_is_left_out(dashboard, printed):
    shown = {metric for query in queries(dashboard) for metric in METRIC.findall(query)}
    of_histograms = ("_created", "_count")
    assert {metric for metric in printed if not metric.endswith(of_histograms)} <= shown


def test_labels_are_those_that_are_printed(dashboard, printed):
    for query in queries(dashboard):
        for metric, selector in re.findall(r"\b(singlerun_\w+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)=~?\"", selector)) - {"instance"}
            assert used <= printed[metric], query
        for labels in re.findall(r"by \(([^)]*)\)", query):
            (metric,) = set(METRIC.findall(query))
            assert set(labels.split(", ")) <= printed[metric] | {"instance"}


def test_each_query_asks_for_the_names_that_are_chosen(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            for metric, selector in re.findall(r"\b(singlerun_\w+)\{([^}]*)\}", target["expr"]):
                assert 'instance=~"$instance"' in selector
                is_named = metric.removeprefix("singlerun_") not in WITHOUT_NAME
                assert ('name=~"$name"' in selector) is is_named


def test_it_can_be_imported(dashboard):
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["id"] is None, "Grafana gives one"
    kinds = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "instance": "query", "name": "query"}
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"]
        if panel["type"] != "row":
            sources = [panel["datasource"], *(each["datasource"] for each in panel["targets"])]
            assert {source["uid"] for source in sources} == {"${datasource}"}
            assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])


def test_no_panel_lies_on_another(dashboard):
    places = [
        {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        for place in (panel["gridPos"] for panel in dashboard["panels"])
    ]
    assert all(x < 24 for place in places for x, _ in place)
    assert not any(one & other for one, other in itertools.combinations(places, 2))


def test_the_manual_names_every_metric(printed):
    listed = set(re.findall(r"\bVa (\w+)", "\n".join(section("metrics", "DESCRIPTION"))))
    families = {
        re.sub(r"_(created|bucket|count|sum)$", "", name.removeprefix("singlerun_"))
        for name in printed
    }
    assert families - {"runs"} <= listed
