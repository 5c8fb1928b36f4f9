"""Series of our own show what Prometheus' own would, for the same observations."""

from hypothesis import given, strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from gateway.telemetry.series import Counts, Levels, Times

BOUNDS = (0.005, 0.01, 0.025, 0.1, 1.0, 2.5, 30.0)
labels = st.sampled_from(
    ["", "hk", "a b", 'quote"d', "back\\slash", "line\nend", "\xe9"]
)
seconds = st.one_of(
    st.sampled_from([*BOUNDS, 0.0, -1.0, 1e-9, 30.000001, float("inf")]),
    st.floats(allow_nan=False, min_value=-1e6, max_value=1e6),
)


def shown(*collectors):
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    return generate_latest(registry).decode()


def theirs(kind, *about, **how):
    disable_created_metrics()
    return kind(*about, registry=None, **how)


@given(st.lists(st.tuples(labels, labels, st.none() | st.integers(0, 1 << 53))))
def test_counts_are_a_counter(events):
    ours = Counts("exchanges", "Exchanges by\nhow they ended.", "caller code")
    other = theirs(
        Counter, "exchanges", "Exchanges by\nhow they ended.", ["caller", "code"]
    )
    for caller, code, count in events:
        if count is None:
            ours.add((caller, code))
            other.labels(caller, code).inc()
        else:
            ours.add((caller, code), count)
            other.labels(caller, code).inc(count)
    assert shown(ours) == shown(other)


@given(
    st.lists(st.tuples(labels, st.floats(allow_nan=False))), st.sets(labels, max_size=3)
)
def test_levels_are_a_gauge(events, kept):
    ours, other = (
        Levels("skew", "The skew."),
        theirs(Gauge, "skew", "The skew.", ["client"]),
    )
    for client, level in events:
        ours.set(client, level)
        other.labels(client).set(level)
    assert shown(ours) == shown(other)
    ours.keep(kept)
    for client in {client for client, _ in events} - kept:
        other.remove(client)
    assert shown(ours) == shown(other)


@given(st.lists(st.tuples(labels, labels, seconds)))
def test_times_are_a_histogram(events):
    ours = Times("seconds", "From request to answer.", "client route", BOUNDS)
    other = theirs(
        Histogram,
        *("seconds", "From request to answer.", ["client", "route"]),
        buckets=BOUNDS,
    )
    for client, route, each in events:
        ours.observe((client, route), each)
        other.labels(client, route).observe(each)
    assert shown(ours) == shown(other)


def test_a_series_is_shown_from_when_a_histogram_has_a_measurement():
    times = Times("c", "C.", "x", BOUNDS)
    spread = times.of(("y",))
    assert 'x="y"' not in shown(times)
    spread.observe(0.1)
    assert times.of(("y",)) is spread
    assert 'c_count{x="y"} 1.0' in shown(times)


def test_what_was_never_counted_has_its_name_and_no_series():
    ours = [Counts("a", "A.", "x"), Levels("b", "B."), Times("c", "C.", "x", BOUNDS)]
    other = [
        theirs(Counter, "a", "A.", ["x"]),
        theirs(Gauge, "b", "B.", ["client"]),
        theirs(Histogram, "c", "C.", ["x"], buckets=BOUNDS),
    ]
    assert shown(*ours) == shown(*other)
