"""The keys of every client over the months, by a clock of the tests' own."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.events import ExchangeRecord
from gateway.keys.inventory import Cryptoperiod
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.model import (
    PARTNER_USES,
    PLATFORM_USES,
    KeyInfo,
    KeyState,
    Life,
    Use,
)
from gateway.telemetry.inventory import LOOKS_EVERY_S, Inventory

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
OURS = KeyInfo(
    "1", KeyState.ACTIVE, PARTNER_USES, "ours", None, life=Life(activated=START)
)
NEXT = replace(OURS, version="2", fingerprint="next")
THEIRS = KeyInfo("7", KeyState.ACTIVE, PLATFORM_USES, "theirs", None)


def ring(*partner, generation=1, canary=None):
    pairs = [(info, None) for info in partner]
    return Keyring.of(generation, pairs, [THEIRS], canary=canary)


class Months:
    """An inventory of the client hk, and the clock that it goes by."""

    def __init__(self):
        self.now = START
        self.events = []
        self.inventory = Inventory(lambda: self.now, self.tell)
        self.inventory.loaded("hk", ring(OURS))
        self.inventory.use({"hk": Cryptoperiod()})

    def tell(self, event, **fields):
        self.events.append((event, fields["key_version"], fields.get("days_left")))

    def until(self, day):
        """Look each day until this one."""
        while self.now < START + DAY * day:
            self.now += DAY
            self.inventory.look()

    @property
    def keys(self):
        (client,) = self.inventory.page()["clients"]
        return client["keys"]


@pytest.fixture
def months():
    return Months()


# --- near the end ------------------------------------------------------------


def test_the_end_is_told_once_from_30_days_before_and_once_when_it_is_there(months):
    months.until(334)
    assert (months.events, months.inventory.warnings()) == ([], [])
    months.until(400)
    assert months.events == [("key_near_end", "1", 30), ("key_past_end", "1", 0)]


def test_the_warning_says_how_many_days_are_left(months):
    months.until(335)
    assert months.inventory.warnings() == [
        (
            "hk: partner version 1 signs and has 30 of the 365 days of its cryptoperiod "
            "left; rotate it"
        )
    ]
    months.until(370)
    assert months.inventory.warnings() == [
        (
            "hk: partner version 1 signs and is past the 365 days of its cryptoperiod "
            "by 5; rotate it"
        )
    ]


def test_a_warning_needs_no_look(months):
    months.now += DAY * 364
    assert "has 1 of the 365 days" in months.inventory.warnings()[0]


def test_a_rotation_ends_the_warning(months):
    months.until(340)
    before = replace(OURS, state=KeyState.DEACTIVATED)
    after = replace(NEXT, life=Life(activated=months.now))
    months.inventory.loaded("hk", ring(before, after, generation=2))
    assert months.inventory.warnings() == []
    months.until(340 + 334)
    assert len(months.events) == 1
    months.until(340 + 335)
    assert months.events[1:] == [("key_near_end", "2", 30)]


def test_a_key_that_is_near_its_end_when_it_is_loaded_is_told_at_once(months):
    old = replace(OURS, life=Life(activated=START - DAY * 400))
    months.inventory.loaded("hk", ring(old))
    assert months.events == [("key_past_end", "1", -35)]


def test_a_reload_of_the_same_ring_tells_nothing_again(months):
    months.until(340)
    for generation in range(2, 5):
        months.inventory.loaded("hk", ring(OURS, generation=generation))
        months.inventory.use({"hk": Cryptoperiod()})
    assert len(months.events) == 1


def test_another_period_of_a_reload_counts_from_then_on(months):
    months.inventory.use({"hk": Cryptoperiod(days=20)})
    assert months.events == [("key_near_end", "1", 20)]
    months.inventory.use({"hk": Cryptoperiod(days=1000, warning_days=1)})
    months.until(998)
    assert months.inventory.warnings() == []


def test_keys_that_sign_nothing_are_not_told(months):
    partner = [
        replace(OURS, state=KeyState.DEACTIVATED),
        replace(NEXT, state=KeyState.PRE_ACTIVE),
    ]
    months.inventory.loaded("hk", ring(*partner))
    months.until(400)
    assert months.events == []
    assert [key["days_left"] for key in months.keys] == [None, None, None]


def test_a_canary_has_a_period_too(months, partner_public):
    class Pair:
        public = replace(partner_public, version="2")

    made = Life(created=START - DAY * 340)
    coming = replace(NEXT, state=KeyState.PRE_ACTIVE, staged=True, life=made)
    canary = Canary(Pair(), 0.25)
    months.inventory.loaded("hk", ring(OURS, coming, canary=canary))
    assert months.events == [("key_near_end", "2", 25)]
    assert [key["canary_percent"] for key in months.keys] == [None, 25, None]


async def test_it_looks_every_hour_by_itself(months):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        months.now += DAY * 340
        if len(slept) > 1:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await months.inventory.watch(sleep)
    assert slept == [LOOKS_EVERY_S] * 2
    assert months.events == [("key_near_end", "1", 25)]


# --- the page ----------------------------------------------------------------


def test_the_page_has_what_keys_did(months):
    record = ExchangeRecord(
        "e", client="hk", key_version="1", attempts=1, verified_by="7"
    )
    months.inventory.usage(record)
    months.now += DAY
    months.inventory.usage(replace(record, encrypted_to="7", verified_by=None))
    page = months.inventory.page()
    assert json.loads(json.dumps(page)) == page
    assert page["time"] == "2026-01-02T00:00:00Z"
    assert page["counted_since"] == "2026-01-01T00:00:00Z"
    ours, theirs = months.keys
    used = ("used", "operations", "first_used", "last_used", "first_seen")
    first, last = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    assert [ours[name] for name in used] == [2, {"sign": 2}, first, last, None]
    assert [theirs[name] for name in used] == [
        2,
        {"verify": 1, "encrypt": 1},
        first,
        last,
        first,
    ]


def test_a_client_without_a_ring_is_there_without_keys(months):
    periods = {"hk": Cryptoperiod(), "mo": Cryptoperiod(100, 7)}
    months.inventory.use(periods)
    assert months.inventory.page()["clients"][1] == {
        "client": "mo",
        "generation": None,
        "digest": None,
        "cryptoperiod_days": 100,
        "cryptoperiod_warning_days": 7,
        "keys": [],
    }


def test_a_client_that_is_gone_is_forgotten(months):
    months.inventory.usage(ExchangeRecord("e", client="hk", key_version="1"))
    months.inventory.use({"mo": Cryptoperiod()})
    assert months.inventory.figures() == []
    months.inventory.loaded("hk", ring(OURS))
    months.inventory.use({"hk": Cryptoperiod()})
    assert months.keys[0]["used"] == 0


def test_a_split_version_is_one_in_the_metrics(months):
    sign = replace(OURS, uses=frozenset({Use.SIGN}))
    decrypt = replace(
        OURS, uses=frozenset({Use.DECRYPT}), fingerprint="second", life=Life()
    )
    months.inventory.loaded("hk", ring(sign, decrypt))
    months.inventory.usage(
        ExchangeRecord("e", client="hk", key_version="1", decrypted_by="1")
    )
    ours, theirs = months.inventory.figures()
    assert ours == ("hk", "partner", "1", 2, START, DAY * 365)
    assert theirs == ("hk", "platform", "7", 0, None, None)
