"""How does Prometheus read a node? All figures at the time of the scrape, in its text format or as OpenMetrics."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.registry import Collector

from aegis_replication.admin_http.answer import Answer, Page
from aegis_replication.histogram import Histogram
from aegis_replication.observability.metrics import METRICS, Figure, Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Source: TypeAlias = Callable[[], Iterable[Figure]]
"""Gives figures as they are now."""


def metrics_page(sources: Sequence[Source]) -> Page:
    """The page of all figures that `sources` give, and of what the system says of the process."""
    registry = CollectorRegistry()
    registry.register(_Figures(sources))
    ProcessCollector(registry=registry)

    def page(accept: str) -> Answer:
        if "application/openmetrics-text" in accept:
            return Answer(200, generate_open_metrics(registry), OPEN_METRICS)  # type: ignore[no-untyped-call]
        return Answer(200, generate_latest(registry), TEXT)

    return page


class _Figures(Collector):
    """Puts figures in families, in the order of METRICS. Nothing is kept between two scrapes."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Family]:
        found: dict[str, list[Figure]] = {}
        for source in self._sources:
            for figure in source():
                found.setdefault(figure.name, []).append(figure)
        for metric in METRICS:
            figures = found.pop(metric.name, None)
            if figures:
                yield _family(metric, figures)
        assert not found, f"figures of no metric: {', '.join(found)}"


def _family(metric: Metric, figures: Iterable[Figure]) -> Family:
    name, about, labels, unit = metric.name, metric.about, metric.labels, metric.unit
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, about, labels=labels, unit=unit)
        for figure in figures:
            value = figure.value
            assert isinstance(value, Histogram), f"{name}: {value!r} is no histogram"
            buckets = [("+Inf" if bound == inf else repr(bound), float(count)) for bound, count in value.cumulative()]
            histogram.add_metric(figure.labels, buckets, value.total)
        return histogram
    make = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
    family = make(name, about, labels=labels, unit=unit)
    for figure in figures:
        assert not isinstance(figure.value, Histogram), f"{name}: a histogram is no {metric.kind}"
        family.add_metric(figure.labels, float(figure.value))
    return family
