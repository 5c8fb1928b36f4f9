"""A flood is told by a timer of the loop, also when nothing more comes."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gateway.telemetry import floods
from gateway.telemetry.floods import Flood


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(floods, "EVERY", timedelta(milliseconds=30))
    monkeypatch.setattr(floods, "SINGLY", 2)


def now():
    return datetime.now(UTC)


async def test_what_has_no_line_of_its_own_is_told_at_the_end_of_the_interval(quick):
    told: asyncio.Queue = asyncio.Queue()
    flood = Flood(told.put_nowait, now)
    for interval in range(2):
        assert [flood.takes("192.0.2.1:1", "a") for _ in range(5)] == [
            *[False] * 2,
            *[True] * 3,
        ], interval
        async with asyncio.timeout(10):
            tally = await told.get()
        assert (tally.kind, tally.count) == (("a",), 3)


async def test_the_end_tells_the_rest(quick):
    told = []
    flood = Flood(told.append, now)
    flood.end()
    for _ in range(3):
        flood.takes(None, "a")
    flood.end()
    flood.end()
    assert [each.count for each in told] == [1]
