"""What is told of a key, and the days that it may still sign."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys.changes import Party
from gateway.keys.inventory import (
    Cryptoperiod,
    facts_of,
    keys_of,
    share_of,
    signs,
    whole_days,
)
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.model import (
    PARTNER_USES,
    PLATFORM_USES,
    KeyInfo,
    KeyState,
    Life,
    Plans,
    Use,
)

NOW = datetime(2026, 11, 23, 6, 0, 0, 987654, tzinfo=UTC)
DAY = timedelta(days=1)
ACTIVE = KeyInfo("1", KeyState.ACTIVE, PARTNER_USES, "ab" * 32, None)
COMING = KeyInfo("2", KeyState.PRE_ACTIVE, PARTNER_USES, "cd" * 32, None, staged=True)
THEIRS = KeyInfo("2", KeyState.ACTIVE, PLATFORM_USES, "ef" * 32, None)


class Pair:
    """A pair of which its public half is enough."""

    def __init__(self, public):
        self.public = public


def lived(**facts):
    return replace(ACTIVE, life=Life(**facts))


# --- the cryptoperiod --------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "days"),
    [
        ({"activated": NOW}, 365),
        ({"activated": NOW - DAY * 400}, -35),
        ({"activated": NOW, "created": NOW - DAY * 300}, 365),
        ({"created": NOW - DAY * 300}, 65),
        ({"activated": NOW + DAY}, 366),
    ],
)
def test_days_are_counted_from_the_activation_or_else_from_the_making(life, days):
    assert Cryptoperiod().left(lived(**life), NOW) == DAY * days


def test_of_a_key_whose_life_is_not_recorded_nothing_is_said():
    assert Cryptoperiod().left(ACTIVE, NOW) is None


def test_no_date_of_a_manifest_is_too_far_off():
    last = datetime.max.replace(tzinfo=UTC)
    assert Cryptoperiod(36500).left(lived(activated=last), NOW) > DAY * 36500


@pytest.mark.parametrize(
    ("left", "near"),
    [(DAY * 31, False), (DAY * 30, True), (DAY, True), (-DAY, True)],
)
def test_a_key_is_near_its_end_from_the_warning_on(left, near):
    assert Cryptoperiod().is_near(left) is near


@pytest.mark.parametrize(
    ("left", "days"),
    [(DAY * 2, 2), (DAY * 1.9, 1), (DAY * 0, 0), (-DAY / 2, -1), (-DAY * 3, -3)],
)
def test_days_are_whole_and_the_last_one_is_day_0(left, days):
    assert whole_days(left) == days


@pytest.mark.parametrize("state", list(KeyState))
@pytest.mark.parametrize("uses", [PARTNER_USES, {Use.SIGN}, {Use.DECRYPT}])
def test_only_the_active_key_for_signing_signs(state, uses):
    key = replace(ACTIVE, state=state, uses=frozenset(uses))
    assert signs(key, None) is (state is KeyState.ACTIVE and Use.SIGN in uses)


def test_a_canary_signs_before_it_is_active():
    assert signs(COMING, 0.05)


# --- a canary's share --------------------------------------------------------


def ring_with(canary):
    return Keyring.of(1, [(ACTIVE, None), (COMING, None)], [THEIRS], canary=canary)


@pytest.fixture
def pair(partner_public):
    return Pair(replace(partner_public, version="2"))


def test_a_canarys_share_is_that_of_our_version_alone(pair):
    ring = ring_with(Canary(pair, 0.05))
    shares = [share_of(ring, party, info) for party, info in keys_of(ring)]
    assert shares == [None, 0.05, None]


def test_a_pair_that_only_decrypts_is_not_the_canary_of_its_version(pair):
    ring = ring_with(Canary(pair, 0.05))
    key = replace(COMING, uses=frozenset({Use.DECRYPT}))
    assert share_of(ring, Party.PARTNER, key) is None


def test_a_canary_that_is_halted_or_has_not_begun_has_no_share(pair):
    for canary in (Canary(pair, 0.05, "refused"), Canary(pair, 0.0), None):
        assert share_of(ring_with(canary), Party.PARTNER, COMING) is None


# --- facts -------------------------------------------------------------------


def test_the_facts_of_a_key_are_json_and_hold_no_key(partner_public):
    key = replace(
        ACTIVE,
        public=partner_public,
        life=Life(created=NOW - DAY, activated=NOW),
        plans=Plans(deactivate_at=NOW + DAY),
        home="pkcs11",
    )
    facts = facts_of(Party.PARTNER, key, None, DAY * 12.5)
    assert json.loads(json.dumps(facts)) == {
        "section": "partner",
        "version": "1",
        "state": "active",
        "staged": False,
        "canary_percent": None,
        "uses": ["sign", "decrypt"],
        "bits": 2048,
        "fingerprint": "ab" * 32,
        "backend": "pkcs11",
        "created": "2026-11-22T06:00:00Z",
        "activated": "2026-11-23T06:00:00Z",
        "deactivated": None,
        "compromised": None,
        "destroyed": None,
        "activate_at": None,
        "deactivate_at": "2026-11-24T06:00:00Z",
        "destroy_at": None,
        "days_left": 12,
    }


def test_a_staged_key_and_a_canary_are_told_as_such():
    facts = facts_of(Party.PARTNER, COMING, 0.05, None)
    assert (facts["staged"], facts["canary_percent"]) == (True, 5)
    later = replace(COMING, state=KeyState.ACTIVE)
    assert facts_of(Party.PARTNER, later, None, None)["staged"] is False


def test_a_destroyed_key_lives_nowhere():
    gone = replace(ACTIVE, state=KeyState.DESTROYED)
    assert facts_of(Party.PARTNER, gone, None, None)["backend"] is None
