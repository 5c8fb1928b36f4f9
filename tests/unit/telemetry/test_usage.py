"""How often each key was used: by its uses, over reloads, and for keys of rings alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.events import ExchangeRecord
from gateway.keys.changes import Party
from gateway.keys.keyring import Keyring
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyInfo, KeyState, Use
from gateway.telemetry.usage import KeyUsage

START = datetime(2026, 11, 23, 6, tzinfo=UTC)
OURS = KeyInfo("1", KeyState.ACTIVE, PARTNER_USES, "ours", None)
THEIRS = KeyInfo("7", KeyState.ACTIVE, PLATFORM_USES, "theirs", None)
WHOLE = {
    "key_version": "1",
    "attempts": 2,
    "verified_by": "7",
    "encrypted_to": "7",
    "decrypted_by": "1",
}


def ring(*partner, platform=(THEIRS,), generation=1):
    return Keyring.of(generation, [(info, None) for info in partner], platform)


class Counted:
    """The counts of the client hk, with a clock that goes on by a second each look."""

    def __init__(self):
        self.events = []
        self.moment = START
        self.usage = KeyUsage(self.now, self.tell)
        self.usage.loaded("hk", ring(OURS))

    def now(self):
        self.moment += timedelta(seconds=1)
        return self.moment

    def tell(self, event, **fields):
        self.events.append((event, fields["key_version"]))

    def exchange(self, client="hk", **fields):
        self.usage(ExchangeRecord("e", client=client, **fields))

    def times(self, party=Party.PARTNER, info=OURS):
        used = self.usage.of("hk", party, info)
        return {str(use): usage.times for use, usage in used.items()}


@pytest.fixture
def counted():
    return Counted()


def test_an_exchange_counts_for_each_key_what_it_did(counted):
    counted.exchange(**WHOLE)
    assert counted.times() == {"sign": 2, "decrypt": 1}
    assert counted.times(Party.PLATFORM, THEIRS) == {"encrypt": 1, "verify": 1}


def test_a_repeated_canary_counts_for_both_versions(counted):
    tried = replace(OURS, version="2", state=KeyState.PRE_ACTIVE, fingerprint="new")
    counted.usage.loaded("hk", ring(OURS, tried))
    counted.exchange(key_version="1", canary="2", attempts=3, canary_attempts=1)
    assert counted.times() == {"sign": 2}
    assert counted.times(info=tried) == {"sign": 1}


def test_what_did_nothing_is_not_listed(counted):
    counted.exchange()
    assert counted.times() == {}
    counted.exchange(key_version="1")
    assert counted.times() == {"sign": 1}


def test_the_first_use_stays_and_the_last_moves_on(counted):
    for _ in range(3):
        counted.exchange(key_version="1", attempts=1)
    (usage,) = counted.usage.of("hk", Party.PARTNER, OURS).values()
    assert usage.first == START + timedelta(seconds=1)
    assert usage.last == START + timedelta(seconds=3)


def test_a_first_use_is_told_once(counted):
    for _ in range(3):
        counted.exchange(**WHOLE)
    counted.usage.loaded("hk", ring(OURS, generation=2))
    counted.exchange(**WHOLE)
    assert counted.events == [
        ("partner_key_first_used", "1"),
        ("platform_key_first_seen", "7"),
    ]


def test_counts_last_over_a_reload_whatever_becomes_of_the_key(counted):
    counted.exchange(**WHOLE)
    gone = replace(OURS, state=KeyState.DESTROYED, fingerprint=None)
    for info in (replace(OURS, state=KeyState.DEACTIVATED), gone, OURS):
        counted.usage.loaded("hk", ring(info))
        assert counted.times(info=info) == {"sign": 2, "decrypt": 1}


def test_a_version_that_becomes_another_key_begins_anew(counted):
    counted.exchange(**WHOLE)
    counted.usage.loaded("hk", ring(replace(OURS, fingerprint=None)))
    other = replace(OURS, fingerprint="other")
    counted.usage.loaded("hk", ring(other))
    assert counted.times(info=other) == {}
    counted.exchange(key_version="1", attempts=1)
    assert counted.events.count(("partner_key_first_used", "1")) == 2


def test_a_key_that_becomes_known_keeps_its_counts(counted):
    counted.usage.loaded("hk", ring(replace(OURS, version="2", fingerprint=None)))
    counted.exchange(key_version="2", attempts=1)
    known = replace(OURS, version="2")
    counted.usage.loaded("hk", ring(known))
    assert counted.times(info=known) == {"sign": 1}


def test_where_pairs_are_split_each_has_its_own_counts(counted):
    sign = replace(OURS, uses=frozenset({Use.SIGN}))
    decrypt = replace(OURS, uses=frozenset({Use.DECRYPT}), fingerprint="second")
    counted.usage.loaded("hk", ring(sign, decrypt))
    counted.exchange(**WHOLE)
    assert counted.times(info=sign) == {"sign": 2}
    assert counted.times(info=decrypt) == {"decrypt": 1}


def test_only_keys_of_rings_are_kept(counted):
    for number in range(100):
        counted.exchange(key_version=f"x{number}", verified_by=f"x{number}")
        counted.exchange(client=f"c{number}", **WHOLE)
    counted.exchange(**WHOLE)
    assert len(counted.usage._usages) == 4
    counted.usage.loaded("hk", ring(replace(OURS, version="2"), platform=()))
    assert {which.version for which in counted.usage._usages} == {"2"}
    counted.usage.forget("hk")
    assert counted.usage._usages == {}
    assert counted.times() == {}
