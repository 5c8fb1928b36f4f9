"""Counters, gauges and histograms for what happens with each exchange.

Prometheus' own take a lock for each number, which threads would need and a loop does
not: they cost four times as much (docs/benchmarks.md). These are dictionaries by the
values of their labels, and become the library's metrics when they are read.
"""

from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels: TypeAlias = tuple[str, ...]


class Counts(Collector):
    """A counter.

    Args:
        name: of the metric, without `_total`.
        text: what it counts.
        labels: their names, parted by spaces.
    """

    def __init__(self, name: str, text: str, labels: str) -> None:
        self._about = name, text
        self._labels = labels.split()
        self._counts: dict[Labels, int] = {}

    def add(self, labels: Labels, count: int = 1) -> None:
        """Count, with these values of the labels."""
        self._counts[labels] = self._counts.get(labels, 0) + count

    def collect(self) -> Iterator[Metric]:
        """Give the metric."""
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family


class Levels(Collector):
    """A gauge with one value for each client.

    Args:
        name: of the metric.
        text: what it shows.
    """

    def __init__(self, name: str, text: str) -> None:
        self._about = name, text
        self._levels: dict[str, float] = {}

    def set(self, client: str, level: float) -> None:
        """Take the present value."""
        self._levels[client] = level

    def keep(self, clients: Container[str]) -> None:
        """Forget all but these clients."""
        self._levels = {
            client: level for client, level in self._levels.items() if client in clients
        }

    def collect(self) -> Iterator[Metric]:
        """Give the metric."""
        family = GaugeMetricFamily(*self._about, labels=["client"])
        for client, level in self._levels.items():
            family.add_metric([client], level)
        yield family


class Times(Collector):
    """A histogram of seconds.

    Args:
        name: of the metric.
        text: what it measures.
        labels: their names, parted by spaces.
        bounds: the upper bounds of its buckets, but for the last, which has none.
    """

    def __init__(
        self, name: str, text: str, labels: str, bounds: Sequence[float]
    ) -> None:
        self._about = name, text
        self._labels = labels.split()
        self._bounds: Final = tuple(bounds)
        self._names = [_name(each) for each in (*bounds, float("inf"))]
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, labels: Labels, seconds: float) -> None:
        """Take a measurement, with these values of the labels."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * len(self._names)
            self._sums[labels] = 0.0
        counts[bisect_left(self._bounds, seconds)] += 1
        self._sums[labels] += seconds

    def collect(self) -> Iterator[Metric]:
        """Give the metric."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for labels, counts in self._counts.items():
            buckets = [*zip(self._names, accumulate(counts), strict=True)]
            family.add_metric(labels, buckets, self._sums[labels])
        yield family


def _name(bound: float) -> str:
    """Give a bucket's label, as the library writes it."""
    name: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
    return name
