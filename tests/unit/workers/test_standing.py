"""What workers told, as one gateway tells it, while they come and go."""

import pytest

from gateway.cli.worker import _defect
from gateway.telemetry.merging import read, values_of
from gateway.telemetry.metrics import Metrics
from gateway.workers.standing import Standing, Told

EMPTY = {"time": "t", "counted_since": "t", "clients": []}


def told(refused=0, reasons=(), warnings=(), in_flight=0):
    metrics = Metrics()
    metrics.watch(in_flight=lambda: in_flight)
    for _ in range(refused):
        metrics.connection_refused()
    texts = {"reasons": [*reasons], "warnings": [*warnings]}
    return Told({"metrics": metrics.told(), "keys": EMPTY, **texts})


def one(standing, name, own=()):
    ((_, value),) = values_of(standing.metrics(own), name)
    return value


@pytest.fixture
def standing():
    standing = Standing(2)
    standing.told(1, told(refused=3, in_flight=1))
    standing.told(2, told(refused=4, in_flight=2))
    return standing


def test_counters_stay_and_levels_go_with_a_worker(standing):
    assert one(standing, "gateway_connections_refused") == 7
    assert (one(standing, "gateway_in_flight"), standing.in_flight()) == (3, 3)
    assert standing.died(2).in_flight == 2
    assert one(standing, "gateway_connections_refused") == 7
    assert (one(standing, "gateway_in_flight"), standing.in_flight()) == (1, 1)
    assert one(standing, "gateway_workers") == 1
    standing.told(2, told())
    standing.told(1, told(refused=5))
    assert one(standing, "gateway_connections_refused") == 9
    assert one(standing, "gateway_workers") == 2


def test_a_worker_that_never_told_leaves_nothing():
    standing = Standing(2)
    assert standing.died(1) is None
    assert one(standing, "gateway_workers") == 0
    assert standing.keys(EMPTY) == EMPTY


def test_what_the_supervisor_counts_is_counted(standing):
    metrics = Metrics()
    metrics.connection_refused()
    own = read(metrics.told())
    assert one(standing, "gateway_connections_refused", own) == 8


def test_it_is_ready_if_one_serves_and_none_has_a_reason(standing):
    assert standing.reasons() == []
    standing.died(1)
    assert standing.reasons() == []
    (warning,) = standing.warnings()
    assert warning.startswith("worker 1: it ended")
    standing.died(2)
    assert standing.reasons() == ["no worker serves at the moment"]


def test_a_reason_of_one_is_a_reason(standing):
    standing.told(2, told(reasons=["hk: no key"], warnings=["slow"]))
    assert standing.reasons() == ["worker 2: hk: no key"]
    assert standing.warnings() == ["worker 2: slow"]
    standing.told(1, told(reasons=["hk: no key"]))
    assert standing.reasons() == ["hk: no key"]


def test_a_defect_is_named_by_its_place_and_never_by_its_text():
    with pytest.raises(KeyError) as caught:
        {}["a secret"]
    told = _defect(ExceptionGroup("", [caught.value]))
    assert told.startswith("internal error (KeyError at test_standing.py:")
