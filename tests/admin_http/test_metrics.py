"""Can Prometheus read what a node serves, in both formats, and does every figure belong to a metric that is listed?"""

import re
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from aegis_replication.admin_http.metrics import OPEN_METRICS, TEXT, metrics_page
from aegis_replication.histogram import Histogram
from aegis_replication.observability.metrics import METRICS, Figure, Metric


def figures() -> Iterator[Figure]:
    """One of every metric; label values that must be escaped."""
    for metric in METRICS:
        value: float | Histogram = 7
        if metric.kind == "histogram":
            value = Histogram((0.1, 1.0))
            for seconds in (0.05, 0.1, 0.5, 3.0):
                value.observe(seconds)
        yield Figure(metric.name, value, tuple(f'{label} "\\\n' for label in metric.labels))


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", TEXT, parse_text),
        ("text/plain;version=1.0.0\r\nX: y", TEXT, parse_text),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", OPEN_METRICS, parse_open_metrics),
        ("application/openmetrics-text;version=nonsense", OPEN_METRICS, parse_open_metrics),
    ],
)
def test_every_metric_is_read_as_what_it_is(accept: str, content_type: str, parse) -> None:
    answer = metrics_page([figures])(accept)

    families = {family.name: family for family in parse(answer.body.decode())}
    assert (answer.status, answer.content_type) == (200, content_type)
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.about
        assert parse is parse_text or family.unit == metric.unit
        samples = {(each.name, each.labels.get("le")): each for each in family.samples}
        if metric.kind == "histogram":
            buckets = {le: sample.value for (_, le), sample in samples.items() if le}
            assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 4}
            assert samples[f"{metric.name}_sum", None].value == pytest.approx(3.65)
            assert samples[f"{metric.name}_count", None].value == 4
        else:
            assert samples[metric.name, None].value == 7
            assert samples[metric.name, None].labels == {label: f'{label} "\\\n' for label in metric.labels}


def test_the_process_itself_is_shown() -> None:
    served = metrics_page([])("").body.decode()

    assert "process_resident_memory_bytes" in served
    assert "aegis_" not in served


def test_a_figure_that_is_no_metric_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="figures of no metric: aegis_nonsense"):
        metrics_page([lambda: [Figure("aegis_nonsense", 1)]])("")


def test_nothing_is_kept_between_two_scrapes() -> None:
    """Each is what the sources say then: there is no copy of a counter that could fall behind."""
    now = [Figure("aegis_raft_term", 1, ("1",))]
    page = metrics_page([lambda: now])

    first = page("").body.decode()
    now[:] = [Figure("aegis_raft_term", 2, ("2",))]
    second = page("").body.decode()

    assert 'aegis_raft_term{group="1"} 1.0' in first
    assert 'aegis_raft_term{group="2"} 2.0' in second
    assert 'group="1"' not in second


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_after_what_it_is(metric: Metric) -> None:
    assert re.fullmatch(r"aegis_[a-z][a-z0-9_]*[a-z]", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.kind != "histogram" or metric.unit == "seconds"
    assert not re.search(r"_(ms|kb|mb|percent|count|sum|bucket)$", metric.name), "base units, and no reserved endings"
    assert not {"key", "client", "value", "address"} & set(metric.labels), "such labels have no bound"


def test_names_are_used_once() -> None:
    names = [metric.name for metric in METRICS]

    assert len(names) == len(set(names))
