"""A ring over time: what it knows of each key, and of the steps to come."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.keys.changes import Party
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState, Life, Plans
from gateway.keys.timeline import Timeline, info_of

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
SOON = NOW + timedelta(hours=1)


class Token:
    """A pair that says where it lives."""

    home = "pkcs11"

    def __init__(self, public):
        self.public = public


@pytest.fixture
def timeline(partner_public):
    """A pair in a token, made an hour ago and planned to be taken in use."""
    entry = Entry(
        version="1",
        state=KeyState.PRE_ACTIVE,
        key="pkcs11:token=hk;object=first",
        created=NOW - timedelta(hours=1),
        exported=NOW,
        activate_at=SOON,
    )
    manifest = Manifest(generation=1, partner=(entry,), platform=())
    return Timeline(manifest, [partner_public], [Token(partner_public)], [])


def test_a_ring_knows_the_life_the_plans_and_the_home_of_a_key(timeline):
    (info,) = timeline.at(NOW).partner
    assert info.life == Life(created=NOW - timedelta(hours=1))
    assert info.plans == Plans(activate_at=SOON)
    assert info.home == "pkcs11"


def test_a_step_that_was_taken_is_a_fact_and_no_plan(timeline):
    (info,) = timeline.at(SOON).partner
    assert info.life.activated == SOON
    assert info.plans == Plans()


def test_what_is_known_without_a_key_is_what_its_entry_says():
    entry = Entry(version="1", state=KeyState.DESTROYED, fingerprint="ab" * 32)
    info = info_of(entry, Party.PLATFORM, None)
    assert (info.fingerprint, info.public, info.home) == ("ab" * 32, None, "file")
