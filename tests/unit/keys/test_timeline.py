"""A ring over time: what it knows of each key at each moment, and what it lets go of."""

import gc
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import KeyringError
from gateway.keys.backends.pem import FileKey
from gateway.keys.changes import Party
from gateway.keys.formats import fingerprint
from gateway.keys.manifest import Entry, Manifest, Share
from gateway.keys.model import KeyState, Life, Plans
from gateway.keys.schedule import FIRST_MOMENT
from gateway.keys.timeline import Timeline, info_of
from gateway.protocol import PublicKey

NOW = datetime(2026, 12, 1, 2, tzinfo=UTC)
HOUR, INSTANT = timedelta(hours=1), timedelta.resolution


class Key(FileKey):
    """A pair that a test can see go."""

    __slots__ = ("__weakref__",)


def entry(version, state, **more):
    return Entry(version=version, state=state, key=f"{version}.pem", **more)


ROTATION = (
    entry("1", "active", deactivate_at=NOW, destroy_at=NOW + HOUR),
    entry("2", "pre-active", activate_at=NOW, created=NOW - HOUR, exported=NOW),
)


@pytest.fixture
def timeline(partner_key, platform_key, other_key):
    """Give a function that makes a timeline of our entries and AlipayHK's one key."""

    def build(*partner, halted=None):
        given = zip(partner, (partner_key, other_key), strict=False)
        keys = [Key(each.version, key) for each, key in given]
        theirs = PublicKey("1", platform_key.public_key())
        manifest = Manifest(
            generation=7, partner=partner, platform=(entry("1", "active"),)
        )
        ours = [key.public for key in keys]
        return Timeline(manifest, ours, keys, [theirs], halted)

    return build


@pytest.fixture
def rotation(timeline):
    """Version 2 comes at `NOW`; version 1 is destroyed an hour later."""
    return timeline(*ROTATION)


def decrypters(ring):
    return [key.public.version for key in ring.decrypters]


# --- each moment -------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "signer", "decrypting", "due"),
    [
        (FIRST_MOMENT, "1", ["1"], NOW),
        (NOW - INSTANT, "1", ["1"], NOW),
        (NOW, "2", ["2", "1"], NOW + HOUR),
        (NOW + HOUR, "2", ["2"], None),
    ],
)
def test_a_ring_is_that_of_its_moment(rotation, now, signer, decrypting, due):
    ring = rotation.at(now)
    assert ring.signer.public.version == signer
    assert decrypters(ring) == decrypting
    assert ring.due == due
    assert ring.generation == 7


def test_a_ring_knows_the_rings_to_come(rotation):
    ring = rotation.at(FIRST_MOMENT)
    assert ring.at(NOW - INSTANT) is ring
    assert ring.at(NOW).signer.public.version == "2"
    assert ring.at(NOW).due == NOW + HOUR
    assert decrypters(ring.at(NOW + HOUR)) == ["2"]
    last = ring.at(NOW).at(NOW + HOUR)
    assert last.at(datetime.max.replace(tzinfo=UTC)) is last
    assert last.later is None


def test_the_life_of_a_key_goes_on_by_itself(rotation):
    first, second = rotation.at(NOW + HOUR).partner
    assert (first.state, second.state) == (KeyState.DESTROYED, KeyState.ACTIVE)
    assert first.life == Life(deactivated=NOW, destroyed=NOW + HOUR)
    assert second.life == Life(created=NOW - HOUR, activated=NOW)


def test_a_step_that_was_taken_is_a_fact_and_no_plan(rotation):
    first, second = rotation.at(FIRST_MOMENT).partner
    assert first.plans == Plans(deactivate_at=NOW, destroy_at=NOW + HOUR)
    assert second.plans == Plans(activate_at=NOW)
    first, second = rotation.at(NOW).partner
    assert first.plans == Plans(destroy_at=NOW + HOUR)
    assert second.plans == Plans()


def test_a_ring_knows_the_home_of_a_key(timeline):
    for key, home in (("1.pem", "file"), ("pkcs11:token=hk;object=first", "pkcs11")):
        given = Entry(version="1", state=KeyState.ACTIVE, key=key)
        assert timeline(given).at(NOW).partner[0].home == home


def test_what_is_known_without_a_key_is_what_its_entry_says():
    gone = Entry(version="1", state=KeyState.DESTROYED, fingerprint="ab" * 32)
    info = info_of(gone, Party.PLATFORM, None)
    assert (info.fingerprint, info.public, info.home) == ("ab" * 32, None, "file")


def test_a_plan_that_cannot_be_carried_out_gives_no_ring(timeline):
    with pytest.raises(KeyringError, match="only active key to sign"):
        timeline(entry("1", "active", deactivate_at=NOW)).at(NOW)


def test_a_key_that_is_not_held_signs_nothing(timeline):
    whole = timeline(entry("1", "active"))
    assert replace(whole, pairs=[None]).at(NOW).active_signer is None


# --- the key that is let go of -----------------------------------------------


def test_a_destroyed_private_key_leaves_the_process_by_itself(timeline):
    ring = timeline(*ROTATION).at(FIRST_MOMENT)
    key = weakref.ref(ring.signer)
    ring = ring.at(NOW)
    gc.collect()
    assert key() is not None
    ring = ring.at(NOW + HOUR)
    gc.collect()
    assert key() is None
    assert decrypters(ring) == ["2"]


def test_a_destroyed_key_is_known_again(rotation, partner_key):
    digest = fingerprint(partner_key.public_key())
    assert rotation.at(NOW + HOUR).partner[0].fingerprint == digest


@pytest.mark.parametrize("state", ["compromised", "destroyed"])
def test_what_is_noted_of_a_key_counts_more_than_what_lies_in_its_file(timeline, state):
    """Its file may be another one by now; it is not read for use any more."""
    noted = entry("1", state, fingerprint="a" * 64)
    assert timeline(noted).at(NOW).partner[0].fingerprint == "a" * 64


# --- canaries ----------------------------------------------------------------

SHARES = (Share(share=5, at=NOW), Share(share=100, at=NOW + HOUR))
CANARY = entry("1", "active"), entry("2", "pre-active", canary=SHARES)


@pytest.mark.parametrize(
    ("now", "share", "due"),
    [
        (NOW - INSTANT, 0, NOW),
        (NOW, 0.05, NOW + HOUR),
        (NOW + HOUR, 1, None),
    ],
)
def test_the_share_of_a_canary_grows_to_the_moment(timeline, now, share, due):
    ring = timeline(*CANARY).at(now)
    assert (ring.canary.version, ring.canary.share) == ("2", share)
    assert ring.due == due
    assert ring.signer.public.version == "1"
    assert decrypters(ring) == ["1", "2"]


def test_a_canary_that_is_activated_by_plan_is_none(timeline):
    first, second = CANARY
    later = second.model_copy(update={"activate_at": NOW})
    ring = timeline(first, later).at(NOW)
    assert ring.canary is None
    assert ring.signer.public.version == "2"


def test_a_halted_canary_signs_nothing(timeline):
    ring = timeline(*CANARY, halted="refused").at(NOW + HOUR)
    assert ring.canary.halted == "refused"
    assert ring.signer_for(0.5).public.version == "1"


def test_a_halt_holds_over_planned_steps(timeline):
    ring = timeline(*CANARY, halted="refused").at(NOW - HOUR)
    assert ring.at(NOW + HOUR).canary.halted == "refused"


@pytest.mark.parametrize("entries", [CANARY[:1], (CANARY[0], entry("2", "pre-active"))])
def test_without_a_canary_there_is_none(timeline, entries):
    assert timeline(*entries).at(NOW).canary is None


@pytest.mark.parametrize(
    "more", [{"staged": True}, {"canary": SHARES}, {}], ids=["staged", "canary", "none"]
)
def test_a_key_decrypts_early_where_it_is_staged_or_tried(timeline, more):
    ring = timeline(entry("1", "active"), entry("2", "pre-active", **more)).at(NOW)
    assert decrypters(ring) == (["1", "2"] if more else ["1"])
    assert ring.partner[1].staged is bool(more)
