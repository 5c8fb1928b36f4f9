"""The metrics of several workers as those of one gateway.

Counters and histograms are summed, and never fall: what a worker counted that is gone
stays, as far as it told. A gauge is a level, which is summed, or a state; of states the
one counts that somebody has to act on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

Labels: TypeAlias = tuple[tuple[str, str], ...]
Sample: TypeAlias = tuple[str, Labels]
"""A name, as exposed, and the values of its labels."""

_SUMMED: Final = frozenset({"counter", "histogram"})


def _greatest_size(values: Iterable[float]) -> float:
    """Give the value that is farthest from nought, on whichever side."""
    return max(values, key=abs)


GAUGES: Final[dict[str, Callable[[Iterable[float]], float]]] = {
    "gateway_in_flight": sum,
    "gateway_waiting": sum,
    "gateway_buffered_bytes": sum,
    "gateway_connections": sum,
    "gateway_keyring_generation": min,  # the oldest still signs
    "gateway_keyring_info": max,  # each that is in use somewhere
    "gateway_key_days_left": min,
    "gateway_key_last_used_timestamp_seconds": max,
    "gateway_breaker_state": max,  # the worst
    "gateway_certificate_not_after_timestamp_seconds": min,
    "gateway_canary_share": max,  # it still signs somewhere
    "gateway_canary_halted": max,  # somebody has seen it fail
    "gateway_clock_skew_seconds": _greatest_size,
    "gateway_clock_date_skew_seconds": _greatest_size,
    "gateway_unverified_answers_in_a_row": max,  # the worst, or the whole
    "gateway_build_info": max,
    "process_resident_memory_bytes": sum,
    "process_virtual_memory_bytes": sum,
    "process_start_time_seconds": min,
    "process_open_fds": max,  # whoever is nearest to its own bound
    "process_max_fds": min,
}
"""What becomes of each gauge."""

OF_ALL: Final = frozenset(
    {
        "gateway_unverified_answers_in_a_row",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
    }
)
"""Gauges that the supervisor has as well, and not for nothing."""

_OF_RINGS: Final = frozenset({"gateway_key_uses"})
"""Counters of keys, which leave with their key."""


class Family(NamedTuple):
    """A metric with all its series."""

    name: str
    kind: str
    text: str
    series: dict[Sample, float]


Snapshot: TypeAlias = Sequence[Family]
"""All metrics of one process, at one moment."""


Told: TypeAlias = list[list[Any]]
"""A snapshot as JSON holds it: name, kind, text, and of each sample its name, labels
and value. It is made once a second and seldom read."""


def told(registry: CollectorRegistry) -> Told:
    """Give every metric of a registry as it is now."""
    return [
        [
            *(metric.name, metric.type, metric.documentation),
            [[each.name, each.labels, each.value] for each in metric.samples],
        ]
        for metric in registry.collect()
    ]


def read(told: Told) -> Snapshot:
    """Read what was told."""
    return [
        Family(
            *(str(name), str(kind), str(text)),
            {
                (str(sample), tuple(sorted(labels.items()))): float(value)
                for sample, labels, value in samples
            },
        )
        for name, kind, text, samples in told
    ]


def counted(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Give what was counted in all of them together, and no gauge."""
    return [family for family in _together(snapshots) if family.kind in _SUMMED]


def combined(living: Sequence[Snapshot], gone: Snapshot) -> Snapshot:
    """Give the metrics of one gateway.

    Args:
        living: those of each process that lives.
        gone: what those counted that do not; see `counted`.
    """
    present = {sample for each in living for family in each for sample in family.series}
    past = [
        family._replace(series=_only(family.series, present))
        if living and family.name in _OF_RINGS
        else family
        for family in gone
    ]
    return _together([*living, past])


def _only(series: dict[Sample, float], present: set[Sample]) -> dict[Sample, float]:
    return {sample: value for sample, value in series.items() if sample in present}


def _together(snapshots: Iterable[Snapshot]) -> Snapshot:
    found: dict[str, Family] = {}
    values: dict[str, dict[Sample, list[float]]] = {}
    for family in (family for each in snapshots for family in each):
        found.setdefault(family.name, family)
        series = values.setdefault(family.name, {})
        for sample, value in family.series.items():
            series.setdefault(sample, []).append(value)
    return [
        family._replace(
            series={
                sample: _rule(family)(each) for sample, each in values[name].items()
            }
        )
        for name, family in found.items()
    ]


def _rule(family: Family) -> Callable[[Iterable[float]], float]:
    return sum if family.kind in _SUMMED else GAUGES.get(family.name, max)


class _Shown(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Give each metric with its series."""
        for family in self._snapshot:
            metric = Metric(family.name, family.text, family.kind)
            for (name, labels), value in family.series.items():
                metric.add_sample(name, dict(labels), value)
            yield metric


def exposed(snapshot: Snapshot) -> bytes:
    """Give metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Shown(snapshot))
    return generate_latest(registry)


def gauge(name: str, text: str, values: Iterable[tuple[Labels, float]]) -> Family:
    """Make a gauge."""
    return Family(name, "gauge", text, {(name, each): v for each, v in values})


def counter(name: str, text: str, values: Iterable[tuple[Labels, float]]) -> Family:
    """Make a counter; its name is without `_total`."""
    series = {(f"{name}_total", each): value for each, value in values}
    return Family(name, "counter", text, series)


def values_of(snapshot: Snapshot, name: str) -> Iterator[tuple[Labels, float]]:
    """Give the series of one metric."""
    for family in snapshot:
        if family.name == name:
            for (_, labels), value in family.series.items():
                yield labels, value
