"""What workers told, as one gateway tells it, while they come and go."""

import pytest

from gateway.cli.worker import _defect
from gateway.telemetry.answers import MANY, AnswerWatch
from gateway.telemetry.merging import read, values_of
from gateway.telemetry.metrics import Metrics
from gateway.workers.standing import Standing, Told

EMPTY = {"time": "t", "counted_since": "t", "clients": []}


def told(refused=0, reasons=(), warnings=(), in_flight=0, answers=()):
    metrics = Metrics()
    metrics.watch(in_flight=lambda: in_flight)
    for _ in range(refused):
        metrics.connection_refused()
    texts = {"reasons": [*reasons], "warnings": [*warnings]}
    texts["answers"] = {"hk": answers} if answers else {}
    return Told({"metrics": metrics.told(), "keys": EMPTY, **texts})


def one(standing, name, own=()):
    ((_, value),) = values_of(standing.metrics(own), name)
    return value


@pytest.fixture
def watch():
    watch = AnswerWatch(lambda *_, **__: None, lambda *_: None, lambda: 0.0)
    watch.use({"hk": 300.0})
    return watch


@pytest.fixture
def standing(watch):
    standing = Standing(2, watch)
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


def test_a_worker_that_never_told_leaves_nothing(watch):
    standing = Standing(2, watch)
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


def test_answers_of_all_workers_count_together(standing, watch):
    """Twenty in a row of the whole gateway are as many in half of each of two."""
    for worker in (1, 2):
        standing.told(worker, told(answers=[3, 0, 0, ""]))
    for half in range(1, MANY // 2 + 1):
        assert watch.warnings() == watch.reasons() == []
        for worker in (1, 2):
            standing.told(worker, told(answers=[3, half, half, "response_stale"]))
    (warning,) = watch.warnings()
    assert "hk: " in warning
    assert "response_stale" in warning
    assert len(watch.reasons()) == 1
    standing.died(2)
    standing.told(2, told(answers=[0, 1, 1, "response_stale"]))  # a new one
    assert len(watch.warnings()) == 1
    standing.told(1, told(answers=[4, half, half, "response_stale"]))
    assert watch.warnings() == watch.reasons() == []


def test_what_the_whole_process_takes_is_that_of_all_and_the_supervisors(standing):
    own = read(Metrics().told())
    alone = {each.name: each for each in own}
    for name, least in (
        ("process_resident_memory_bytes", 2.5),
        ("process_cpu_seconds", 2.5),
    ):
        ((_, value),) = values_of(own, name)
        assert one(standing, name, own) > least * value
    assert "process_open_fds" in alone
    for name in ("open_fds", "max_fds"):
        ((_, value),) = values_of(own, f"process_{name}")
        assert one(standing, f"process_{name}", own) == pytest.approx(value, abs=8)
    names = {each.name for each in standing.metrics(own)}
    assert {
        "gateway_worker_cpu_seconds",
        "gateway_worker_resident_memory_bytes",
        "gateway_worker_open_fds",
    } <= names


def test_a_defect_is_named_by_its_place_and_never_by_its_text():
    with pytest.raises(KeyError) as caught:
        {}["a secret"]
    told = _defect(ExceptionGroup("", [caught.value]))
    assert told.startswith("internal error (KeyError at test_standing.py:")
