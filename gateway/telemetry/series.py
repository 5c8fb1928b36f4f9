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


class Count:
    """One series of a counter."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


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
        self._counts: dict[Labels, Count] = {}

    def of(self, labels: Labels) -> Count:
        """Give the series with these values of the labels. It is shown from now on."""
        found = self._counts.get(labels)
        if found is None:
            found = self._counts[labels] = Count()
        return found

    def add(self, labels: Labels, count: int = 1) -> None:
        """Count, with these values of the labels."""
        self.of(labels).count += count

    def collect(self) -> Iterator[Metric]:
        """Give the metric."""
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for labels, each in self._counts.items():
            family.add_metric(labels, each.count)
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


class Spread:
    """One series of a histogram.

    Args:
        bounds: the upper bounds of its buckets, but for the last, which has none.
    """

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Take a measurement."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds


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
        self._spreads: dict[Labels, Spread] = {}

    def of(self, labels: Labels) -> Spread:
        """Give the series with these values of the labels.

        It is shown once it has a measurement.
        """
        found = self._spreads.get(labels)
        if found is None:
            found = self._spreads[labels] = Spread(self._bounds)
        return found

    def observe(self, labels: Labels, seconds: float) -> None:
        """Take a measurement, with these values of the labels."""
        self.of(labels).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Give the metric."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for labels, spread in self._spreads.items():
            if any(spread.counts):
                buckets = [*zip(self._names, accumulate(spread.counts), strict=True)]
                family.add_metric(labels, buckets, spread.sum)
        yield family


def _name(bound: float) -> str:
    """Give a bucket's label, as the library writes it."""
    name: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
    return name
