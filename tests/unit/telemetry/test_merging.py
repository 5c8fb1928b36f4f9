"""The metrics of several workers as those of one."""

import json

from hypothesis import given, strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.events import ExchangeRecord
from gateway.telemetry.merging import (
    GAUGES,
    Family,
    combined,
    counted,
    exposed,
    read,
    values_of,
)
from gateway.telemetry.metrics import Metrics

LABELS = st.sampled_from([(("client", "a"),), (("client", "b"),)])
NUMBERS = st.integers(0, 1000).map(float)
COUNTS = st.dictionaries(LABELS, NUMBERS, max_size=2)


def counts(values, name="gateway_x"):
    series = {(f"{name}_total", labels): value for labels, value in values.items()}
    return [Family(name, "counter", "X.", series)]


def gauges(name, *values):
    return [[Family(name, "gauge", "X.", {(name, ()): value})] for value in values]


def total(snapshot, name="gateway_x"):
    return sum(value for _, value in values_of(snapshot, name))


def finished(metrics, times):
    for _ in range(times):
        record = ExchangeRecord(exchange_id="e")
        record.client, record.route, record.code = "hk", "/a", "verified"
        record.seconds = 0.02
        metrics(record)


@given(st.lists(COUNTS, max_size=4))
def test_counters_are_summed(workers):
    snapshot = combined([counts(each) for each in workers], [])
    assert total(snapshot) == sum(sum(each.values()) for each in workers)


@given(
    st.lists(
        st.tuples(st.sampled_from(["count", "die"]), st.integers(0, 2), NUMBERS),
        max_size=30,
    )
)
def test_no_counter_ever_falls_whoever_dies(steps):
    """What a worker did not tell is lost; what it told stays."""
    told, gone, before = {}, [], 0.0
    for what, worker, more in steps:
        if what == "count":
            known = total(told.get(worker, []))
            told[worker] = counts({(("client", "a"),): known + more})
        elif worker in told:
            gone = counted([gone, told.pop(worker)])
        now = total(combined([*told.values()], gone))
        assert now >= before
        before = now


def test_histograms_are_summed_bucket_by_bucket_and_survive_the_wire():
    workers = [Metrics(), Metrics()]
    for times, metrics in enumerate(workers, 1):
        finished(metrics, times)
    told = [read(json.loads(json.dumps(each.told()))) for each in workers]
    text = exposed(combined(told, [])).decode()
    one = Metrics()
    finished(one, 3)
    assert _own(text) == _own(one.expose().decode())


def _own(text):
    """Leave out what a process is, which tells the time."""
    return [line for line in text.splitlines() if "process_" not in line]


def test_each_gauge_has_a_rule():
    metrics = Metrics()
    metrics.watch(in_flight=int, waiting=int, buffered_bytes=int, connections=int)
    named = {each.name for each in read(metrics.told()) if each.kind == "gauge"}
    assert named == set(GAUGES)


def test_of_states_the_one_counts_that_somebody_has_to_act_on():
    for name, values, expected in (
        ("gateway_in_flight", (1, 2), 3),
        ("gateway_keyring_generation", (4, 5), 4),
        ("gateway_breaker_state", (0, 2, 1), 2),
        ("gateway_canary_halted", (0, 1), 1),
        ("gateway_canary_share", (0.0, 0.5), 0.5),
        ("gateway_clock_skew_seconds", (2, -3), -3),
        ("gateway_key_days_left", (10, 9.5), 9.5),
    ):
        assert total(combined(gauges(name, *values), []), name) == expected


def test_a_gauge_of_a_worker_that_died_is_over():
    one, two = gauges("gateway_in_flight", 3, 4)
    assert total(combined([one], counted([two])), "gateway_in_flight") == 3


def test_a_key_that_left_its_ring_leaves_the_metrics_of_the_dead_too():
    old, new = (("key_version", "1"),), (("key_version", "2"),)
    gone = counted([counts({old: 5.0, new: 1.0}, "gateway_key_uses")])
    living = counts({new: 2.0}, "gateway_key_uses")
    found = dict(values_of(combined([living], gone), "gateway_key_uses"))
    assert found == {new: 3.0}
    assert total(combined([], gone), "gateway_key_uses") == 6


def test_what_is_exposed_can_be_read():
    metrics = Metrics()
    finished(metrics, 1)
    text = exposed(combined([read(metrics.told())], [])).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"gateway_exchanges", "gateway_exchange_seconds"} <= names
