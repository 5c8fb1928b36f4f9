"""Connections that a full listener closes, told of together."""

import asyncio

import pytest

from gateway.telemetry import crowding
from gateway.telemetry.crowding import FullListener


@pytest.fixture
def told():
    return []


@pytest.fixture
async def full(told):
    def event(name, **fields):
        told.append((name, fields["listener"], fields["closed"]))

    return FullListener("admin", lambda: told.append("one"), event)


async def test_each_is_counted_and_the_first_is_told_at_once(full, told):
    full()
    assert told == ["one", ("connections_full", "admin", 1)]
    full()
    full()
    assert told[2:] == ["one", "one"]


async def test_those_behind_the_first_are_told_together(full, told, monkeypatch):
    monkeypatch.setattr(crowding, "_QUIET_S", 0.01)
    for _ in range(6):
        full()
    async with asyncio.timeout(5):
        while told[-1] == "one":  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    assert told[-1] == ("connections_full", "admin", 5)
    async with asyncio.timeout(5):
        while full._is_quiet:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    full()  # and after a while in which there was none, the next is told at once
    assert told[-1] == ("connections_full", "admin", 1)
