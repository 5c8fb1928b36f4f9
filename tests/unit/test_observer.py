"""Exchanges of a turn are noted together, each for itself."""

import asyncio
import dataclasses
import io
import json
from dataclasses import replace

import pytest

from gateway import observer
from gateway.audit.trail import NoAudit
from gateway.events import ExchangeRecord
from gateway.keys.changes import Party
from gateway.keys.keyring import Keyring
from gateway.keys.model import PARTNER_USES, KeyInfo, KeyState
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


@pytest.mark.parametrize("spoilt", ["tracer_id", "seconds"])
async def test_a_line_that_cannot_be_made_costs_no_other_its_own(telemetry, spoilt):
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    bad = ended("b")
    setattr(bad, spoilt, object())
    for record in (ended("a"), bad, ended("c")):
        telemetry(record)
    await asyncio.sleep(0)
    assert lines(telemetry) == ["a", "c"]
    assert {type(error) for error in told} == {TypeError}


# --- exchanges of a kind -----------------------------------------------------

OURS = KeyInfo("1", KeyState.ACTIVE, PARTNER_USES, "ours", None)
KINDS = {
    "caller": "shop",
    "client": "mo",
    "route": "/b",
    "code": "verified",
    "denied": "forbidden",
    "delivered": False,
    "attempts": 3,
    "key_version": "1",
    "canary": "2",
    "canary_attempts": 1,
    "verified_by": "7",
    "encrypted_to": "8",
    "decrypted_by": "1",
    "decryption_label": "9",
}


def note(telemetry, *records):
    for record in records:
        telemetry(record)
    telemetry.flush()


def signed(name="e", **facts):
    return ExchangeRecord(
        name, client="hk", route="/a", code="verified", key_version="1", **facts
    )


def used(telemetry, info=OURS):
    usages = telemetry.inventory.usage.of("hk", Party.PARTNER, info)
    return {str(use): usage.times for use, usage in usages.items()}


LOOKS = set()


class Watched(ExchangeRecord):
    """A record that notes which of its attributes are looked at."""

    def __getattribute__(self, name):
        LOOKS.add(name)
        return super().__getattribute__(name)


async def test_a_kind_is_all_that_decides_what_an_exchange_counts_for(telemetry):
    """Else what was worked out for one exchange would be wrong for another."""
    for facts in ({}, {"code": "refused"}, KINDS, {**KINDS, "canary": None}):
        record = Watched("e", **facts)
        telemetry.metrics.series_of(record)
        telemetry.inventory.usage.used_by(record)
    names = {each.name for each in dataclasses.fields(ExchangeRecord)}
    assert LOOKS & names == set(KINDS)
    told = {**KINDS, "decryption_label": True}  # that there is one, not which
    assert ExchangeRecord("e", **KINDS).kind == tuple(told.values())


async def test_exchanges_of_a_kind_count_as_each_for_itself_would(telemetry):
    records = [
        ExchangeRecord("e", **dict(list(KINDS.items())[:known]), seconds=0.1 * known)
        for known in range(len(KINDS) + 1)
    ]
    other = Telemetry(io.StringIO(), io.StringIO())
    for record in records * 3:
        other.metrics(record)
    for _ in range(3):
        note(telemetry, *records)
    assert sorted(telemetry.metrics.expose().splitlines()) == sorted(
        other.metrics.expose().splitlines()
    )


async def test_another_key_of_the_same_version_counts_from_nought(telemetry):
    telemetry.loaded("hk", Keyring.of(1, [(OURS, None)], []))
    note(telemetry, signed(), signed())
    assert used(telemetry) == {"sign": 2}
    other = replace(OURS, fingerprint="other")
    telemetry.loaded("hk", Keyring.of(2, [(other, None)], []))
    note(telemetry, signed())
    assert used(telemetry, other) == {"sign": 1}
    assert 'signatures_total{client="hk",key_version="1"} 3' in (
        telemetry.metrics.expose().decode()
    )


async def test_however_many_kinds_there_are_few_are_kept_and_all_are_counted(
    telemetry, monkeypatch
):
    monkeypatch.setattr(observer, "_MOST_KINDS", 4)
    telemetry.loaded("hk", Keyring.of(1, [(OURS, None)], []))
    for attempts in [*range(1, 12)] * 2:
        note(telemetry, signed(attempts=attempts))
        assert len(telemetry._kinds) <= 4
    assert used(telemetry) == {"sign": 2 * sum(range(1, 12))}
