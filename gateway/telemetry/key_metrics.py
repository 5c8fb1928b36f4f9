"""Metrics of each key version, worked out whenever they are read."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class KeyFigures(NamedTuple):
    """What is counted of one key version.

    Attributes:
        section: whose it is: `partner` or `platform`.
        left: how long it may still sign; None where it does not, or that is unknown.
    """

    client: str
    section: str
    version: str
    uses: int = 0
    last: datetime | None = None
    left: timedelta | None = None

    def and_of(
        self, uses: int, last: datetime | None, left: timedelta | None
    ) -> "KeyFigures":
        """Add another key of the same version."""
        latest = max((each for each in (self.last, last) if each), default=None)
        return self._replace(
            uses=self.uses + uses,
            last=latest,
            left=self.left if left is None else left,
        )


class KeyMetrics(Collector):
    """Gives the figures of the keys that are in use at the moment.

    A key that has left its ring leaves the metrics: a gauge would keep it for ever.

    Attributes:
        read: gives those figures.
    """

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[KeyFigures]] = list

    def collect(self) -> Iterator[Metric]:
        """Give each metric with its series."""
        days = GaugeMetricFamily(
            "gateway_key_days_left",
            "Days until the cryptoperiod of a key that signs ends; negative after it.",
            labels=["client", "key_version"],
        )
        labels = ["client", "section", "key_version"]
        uses = CounterMetricFamily(
            "gateway_key_uses", "What a key version did.", labels=labels
        )
        last = GaugeMetricFamily(
            "gateway_key_last_used_timestamp_seconds",
            "When a key version was used last; none before its first use.",
            labels=labels,
        )
        for each in self.read():
            names = [each.client, each.section, each.version]
            uses.add_metric(names, each.uses)
            if each.last is not None:
                last.add_metric(names, each.last.timestamp())
            if each.left is not None:
                days.add_metric(
                    [each.client, each.version], each.left / timedelta(days=1)
                )
        yield from (days, uses, last)
