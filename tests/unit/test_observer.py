"""Exchanges of a turn are noted together, each for itself."""

import asyncio
import io
import json

import pytest

from gateway.audit.trail import NoAudit
from gateway.events import ExchangeRecord
from gateway.observer import Telemetry


class Broken(NoAudit):
    """An audit log with a defect that one exchange meets."""

    def exchange(self, record):
        if record.exchange_id == "b":
            raise LookupError(record.exchange_id)


def ended(name):
    record = ExchangeRecord(name)
    record.client, record.route = "hk", "/a"
    record.code, record.outcome, record.status = "overloaded", "not_sent", 503
    return record


@pytest.fixture
async def telemetry():
    return Telemetry(io.StringIO(), io.StringIO())


def lines(telemetry):
    text = telemetry._exchanges._lines._stream.getvalue()
    return [json.loads(line)["exchange_id"] for line in text.splitlines()]


async def test_exchanges_are_noted_in_the_next_turn_or_when_asked_for(telemetry):
    telemetry(ended("a"))
    telemetry(ended("b"))
    assert lines(telemetry) == []
    await asyncio.sleep(0)
    assert lines(telemetry) == ["a", "b"]
    telemetry(ended("c"))
    telemetry.flush()
    assert lines(telemetry) == ["a", "b", "c"]
    await asyncio.sleep(0)
    assert lines(telemetry) == ["a", "b", "c"]


async def test_a_defect_with_one_exchange_costs_no_other_its_line(telemetry):
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    telemetry.audit = Broken()
    for name in "abc":
        telemetry(ended(name))
    await asyncio.sleep(0)
    assert lines(telemetry) == ["a", "b", "c"]
    counted = (
        'gateway_exchanges_total{caller="",client="hk",code="overloaded",route="/a"} 3'
    )
    assert counted in telemetry.metrics.expose().decode()
    assert [repr(error) for error in told] == ["LookupError('b')"]
