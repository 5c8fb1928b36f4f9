"""Which key may do what: the five rules, and what no ring may be made of."""

import copy
import dataclasses
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import KeyringError, KeyUnavailable, KeyVersionUnknown, Outcome
from gateway.keys.keyring import Canary, Keyring
from gateway.keys.model import (
    HELD,
    PARTNER_USES,
    PLATFORM_USES,
    PROCESSES,
    KeyInfo,
    KeyState,
    Use,
)
from gateway.protocol import PublicKey
from gateway.relay.lots import Lots


@dataclass(frozen=True)
class Pair:
    """A pair of which a ring needs no more than its public half."""

    public: PublicKey


@pytest.fixture
def public(platform_key):
    """Give a function that makes a public key of a version: which key matters not."""
    return lambda version: PublicKey(version, platform_key.public_key())


@pytest.fixture
def ours(public):
    """Give a function that makes a pair of ours, with a fingerprint of its own."""

    def pair(version, state="active", uses=PARTNER_USES, *, mark=None, held=True):
        key = public(version) if held else None
        info = info_of(version, state, uses, mark or f"ours {version} {uses}", key)
        return info, Pair(key) if key else None

    return pair


@pytest.fixture
def theirs(public):
    """Give a function that makes a key of AlipayHK's."""

    def key(version, state="active", uses=PLATFORM_USES, *, mark=None, held=True):
        key = public(version) if held else None
        return info_of(version, state, uses, mark or f"theirs {version} {uses}", key)

    return key


def info_of(version, state, uses, mark, key):
    return KeyInfo(
        version, KeyState(state), frozenset(uses), mark if key else None, key
    )


def versions(keys):
    return [key.version for key in keys]


# --- the five rules, state by state ------------------------------------------

TABLE = {
    "pre-active": "",
    "active": "sign decrypt verify encrypt",
    "deactivated": "decrypt verify",
    "compromised": "",
    "destroyed": "",
}
by_state = pytest.mark.parametrize(("state", "may"), TABLE.items(), ids=TABLE.keys())


def done_by(ring):
    """Give what the keys of a ring do."""
    does = {
        "sign": ring.active_signer,
        "decrypt": ring.decrypters,
        "verify": ring.verifiers,
        "encrypt": ring.active_recipient,
    }
    return [use for use, keys in does.items() if keys]


def test_the_table_has_every_state():
    assert list(TABLE) == [str(state) for state in KeyState]


@by_state
def test_a_state_says_what_a_key_does(ours, theirs, state, may):
    ring = Keyring.of(1, [ours("1", state)], [theirs("7", state)])
    assert done_by(ring) == may.split()
    assert {key.public.version for key in ring.decrypters} <= {"1"}
    assert {key.version for key in ring.verifiers} <= {"7"}


@by_state
@pytest.mark.parametrize("use", ["sign", "decrypt", "verify", "encrypt"])
def test_a_key_kept_for_one_use_has_no_other(ours, theirs, use, state, may):
    uses = {Use(use)}
    partner = [ours("1", state, uses)] if uses <= PARTNER_USES else []
    platform = [theirs("1", state, uses)] if uses <= PLATFORM_USES else []
    ring = Keyring.of(1, partner, platform)
    assert done_by(ring) == [each for each in may.split() if each == use]


@by_state
@pytest.mark.parametrize("version", ["1", None])
def test_only_a_pair_that_decrypts_may_unwrap(ours, version, state, may):
    ring = Keyring.of(1, [ours("1", state)], [])
    if "decrypt" in may:
        assert [key.public.version for key in ring.unwrappers(version)] == ["1"]
    else:
        with pytest.raises(KeyVersionUnknown):
            ring.unwrappers(version)


def test_the_words_of_the_model_are_the_contracts():
    assert {str(state) for state in PROCESSES} == {"active", "deactivated"}
    assert {str(state) for state in HELD} == {"pre-active", "active", "deactivated"}
    assert {str(use) for use in PARTNER_USES} == {"sign", "decrypt"}
    assert {str(use) for use in PLATFORM_USES} == {"verify", "encrypt"}


# --- several versions --------------------------------------------------------


def test_the_active_key_comes_first_wherever_it_stands(ours, theirs):
    states = {"1": "deactivated", "2": "active", "3": "deactivated", "4": "pre-active"}
    ring = Keyring.of(
        5,
        [ours(version, state) for version, state in states.items()],
        [theirs(version, state) for version, state in states.items()],
    )
    assert ring.generation == 5
    assert ring.signer.public.version == "2"
    assert ring.recipient.version == "2"
    assert versions(ring.verifiers) == ["2", "1", "3"]
    assert [key.public.version for key in ring.unwrappers(None)] == ["2", "1", "3"]
    assert [info.version for info in ring.partner] == list(states)
    assert [info.version for info in ring.platform] == list(states)


def test_a_named_version_unwraps_first_and_is_compared_as_text(ours):
    ring = Keyring.of(1, [ours("1"), ours("01", "deactivated")], [])
    assert [key.public.version for key in ring.unwrappers("01")] == ["01", "1"]
    assert [key.public.version for key in ring.unwrappers("1")] == ["1", "01"]
    for unknown in ("001", "", "2", "one"):
        found = [key.public.version for key in ring.unwrappers(unknown)]
        assert found == ["1", "01"]


def test_no_more_than_eight_keys_are_tried_and_the_named_one_is_among_them(ours):
    others = [ours(f"{n}", "deactivated", {Use.DECRYPT}) for n in range(2, 12)]
    ring = Keyring.of(1, [ours("1"), *others], [])
    assert len(ring.decrypters) == 11
    assert [key.public.version for key in ring.unwrappers(None)] == [
        f"{n}" for n in range(1, 9)
    ]
    assert [key.public.version for key in ring.unwrappers("11")] == [
        "11",
        *(f"{n}" for n in range(1, 8)),
    ]


def test_separate_pairs_may_share_a_version(ours, theirs):
    ring = Keyring.of(
        1,
        [ours("1", uses={Use.SIGN}), ours("1", "deactivated", {Use.DECRYPT})],
        [theirs("1", "deactivated", {Use.VERIFY}), theirs("1", uses={Use.ENCRYPT})],
    )
    assert ring.signer is not ring.unwrappers("1")[0]
    assert versions(ring.verifiers) == ["1"]
    assert ring.recipient is not ring.verifiers[0]


def test_ours_and_theirs_may_share_a_version(ours, theirs):
    ring = Keyring.of(1, [ours("1")], [theirs("1")])
    assert ring.signer.public.version == ring.recipient.version == "1"


# --- staged keys -------------------------------------------------------------


def staged(given):
    """Give the same key or pair, staged."""
    if isinstance(given, KeyInfo):
        return dataclasses.replace(given, staged=True)
    info, pair = given
    return dataclasses.replace(info, staged=True), pair


def test_a_staged_key_takes_what_comes_in_and_nothing_else(ours, theirs):
    ring = Keyring.of(
        1, [staged(ours("1", "pre-active"))], [staged(theirs("7", "pre-active"))]
    )
    assert done_by(ring) == ["decrypt", "verify"]


@pytest.mark.parametrize("state", ["compromised", "destroyed"])
def test_a_key_that_was_given_up_is_not_staged_whatever_is_said(ours, theirs, state):
    ring = Keyring.of(1, [staged(ours("1", state))], [staged(theirs("7", state))])
    assert done_by(ring) == []


def test_the_key_in_use_comes_before_the_one_to_come_and_the_one_that_was(ours, theirs):
    """Where no version is named, most messages are of the first, fewest of the last."""
    states = {"1": "deactivated", "2": "pre-active", "3": "active", "4": "pre-active"}
    partner = [ours(version, state) for version, state in states.items()]
    platform = [theirs(version, state) for version, state in states.items()]
    partner[1], platform[1] = staged(partner[1]), staged(platform[1])
    ring = Keyring.of(1, partner, platform)
    for version in (None, "3", "4"):
        found = [key.public.version for key in ring.unwrappers(version)]
        assert found == ["3", "2", "1"]
    assert versions(ring.verifiers) == ["3", "2", "1"]


# --- canaries ----------------------------------------------------------------

IDS = [f"exchange-{number}" for number in range(4000)]


@pytest.fixture
def tried(ours):
    """Give a function that makes a ring with version 2 as the canary."""

    def build(share, halted=None):
        partner = [ours("1"), staged(ours("2", "pre-active"))]
        canary = Canary(partner[1][1], share, halted)
        return Keyring.of(1, partner, [], canary=canary)

    return build


LOTS = Lots(bytes(32))


def signed_by(ring, lots=LOTS):
    return [ring.signer_for(lots(each)).public.version for each in IDS]


def test_without_a_canary_the_active_key_signs_everything(ours):
    assert set(signed_by(Keyring.of(1, [ours("1")], []))) == {"1"}


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.95])
def test_a_canary_signs_its_share(tried, share):
    signed = signed_by(tried(share)).count("2") / len(IDS)
    assert abs(signed - share) < 5 * (share * (1 - share) / len(IDS)) ** 0.5


@pytest.mark.parametrize(("share", "version"), [(0, "1"), (1, "2")])
def test_a_share_of_nothing_is_nothing_and_of_all_is_all(tried, share, version):
    assert set(signed_by(tried(share))) == {version}


def test_the_same_exchange_is_always_signed_by_the_same_key(tried):
    assert signed_by(tried(0.5)) == signed_by(tried(0.5))


def test_an_exchange_that_a_canary_signs_it_signs_at_any_greater_share(tried):
    small, large = signed_by(tried(0.05)), signed_by(tried(0.25))
    pairs = set(zip(small, large, strict=True))
    assert pairs == {("1", "1"), ("1", "2"), ("2", "2")}


@pytest.mark.parametrize("share", [0.5, 1])
def test_a_halted_canary_signs_nothing(tried, share):
    assert set(signed_by(tried(share, "refused"))) == {"1"}


def test_a_canary_shows_its_version_and_no_key(tried):
    canary = tried(0.5).canary
    assert canary.version == "2"
    assert "key" not in repr(canary)


def test_a_canary_does_not_stand_in_for_a_missing_signer(ours):
    info, pair = staged(ours("2", "pre-active"))
    ring = Keyring.of(1, [(info, pair)], [], canary=Canary(pair, 0.5))
    assert ring.missing(encrypting=False)[0] == "a partner key that is active to sign"
    for each in IDS[:50]:
        lot = LOTS(each)
        if ring.canary.takes(lot):
            assert ring.signer_for(lot) is pair
        else:
            with pytest.raises(KeyUnavailable):
                ring.signer_for(lot)


# --- moments -----------------------------------------------------------------


def test_a_ring_without_plans_is_that_of_every_moment(ours):
    ring = Keyring.of(1, [ours("1")], [])
    assert ring.at(datetime.max.replace(tzinfo=UTC)) is ring


def test_a_ring_becomes_another_when_that_is_due():
    due, asked = datetime(2026, 12, 1, tzinfo=UTC), []
    ring = Keyring.of(1, [], [], due=due, later=lambda now: asked.append(now) or "next")
    assert ring.at(due - timedelta.resolution) is ring
    assert asked == []
    assert ring.at(due) == "next"
    assert asked == [due]


# --- what is missing ---------------------------------------------------------


def test_without_an_active_pair_nothing_is_signed_and_the_text_says_why(ours):
    ring = Keyring.of(1, [ours("1", "deactivated")], [])
    with pytest.raises(KeyUnavailable, match="active for signing") as caught:
        _ = ring.signer
    assert caught.value.outcome is Outcome.NOT_SENT


def test_without_an_active_key_of_theirs_nothing_is_encrypted(theirs):
    ring = Keyring.of(1, [], [theirs("1", "deactivated")])
    with pytest.raises(KeyUnavailable, match="active for encryption") as caught:
        _ = ring.recipient
    assert caught.value.outcome is Outcome.NOT_SENT


def test_an_empty_ring_is_a_ring_that_does_nothing():
    ring = Keyring.of(1, [], [])
    assert (ring.verifiers, ring.decrypters) == ((), ())
    with pytest.raises(KeyVersionUnknown):
        ring.unwrappers(None)


def test_a_key_that_is_not_held_does_nothing_even_if_it_is_active(ours, theirs):
    ring = Keyring.of(1, [ours("1", held=False)], [theirs("1", held=False)])
    assert ring.active_signer is None
    assert ring.active_recipient is None
    assert ring.verifiers == ring.decrypters == ()


# --- what is refused ---------------------------------------------------------


def refusal(partner, platform):
    with pytest.raises(KeyringError) as caught:
        Keyring.of(1, partner, platform)
    return caught.value.detail


def test_two_active_keys_for_one_use_are_refused(ours, theirs):
    assert refusal([ours("1"), ours("2")], []) == (
        "partner: versions 1 and 2 are both active for use sign"
    )
    assert refusal([ours("1"), ours("2", uses={Use.DECRYPT})], []) == (
        "partner: versions 1 and 2 are both active for use decrypt"
    )
    assert refusal([], [theirs("1"), theirs("2", uses={Use.ENCRYPT})]) == (
        "platform: versions 1 and 2 are both active for use encrypt"
    )
    assert refusal([], [theirs("1"), theirs("2", uses={Use.VERIFY})]) == (
        "platform: versions 1 and 2 are both active for use verify"
    )


def test_two_active_keys_for_different_uses_are_no_conflict(ours):
    ring = Keyring.of(
        1, [ours("1", uses={Use.SIGN}), ours("2", uses={Use.DECRYPT})], []
    )
    assert ring.signer.public.version == "1"
    assert ring.unwrappers(None)[0].public.version == "2"


@pytest.mark.parametrize("state", [str(state) for state in KeyState])
def test_a_version_stands_once_for_a_use_whatever_its_state(ours, theirs, state):
    again = {"mark": "another", "held": state in HELD}
    assert refusal([ours("1"), ours("1", state, {Use.SIGN}, **again)], []) == (
        "partner: version 1 stands twice for use sign"
    )
    assert refusal([], [theirs("1"), theirs("1", state, {Use.ENCRYPT}, **again)]) == (
        "platform: version 1 stands twice for use encrypt"
    )


def test_one_key_under_two_versions_is_a_rotation_to_itself(ours, theirs):
    assert refusal([ours("1", "deactivated", mark="x"), ours("2", mark="x")], []) == (
        "versions 1 and 2 are the same key"
    )
    assert refusal(
        [], [theirs("1", mark="x"), theirs("2", "pre-active", mark="x")]
    ) == ("versions 1 and 2 are the same key")


@pytest.mark.parametrize("state", ["compromised", "destroyed"])
def test_a_key_that_was_given_up_does_not_return_by_its_fingerprint(
    ours, theirs, state
):
    gone, _ = ours("1", state, held=False)
    known = dataclasses.replace(gone, fingerprint="x")
    assert refusal([(known, None), ours("2", mark="x")], []) == (
        "versions 1 and 2 are the same key"
    )
    gone = dataclasses.replace(theirs("1", state, held=False), fingerprint="x")
    assert refusal([], [gone, theirs("2", mark="x")]) == (
        "versions 1 and 2 are the same key"
    )


def test_a_key_that_is_not_held_does_not_end_the_search(ours, theirs):
    gone = ours("0", "destroyed", held=False)
    partner = [gone, ours("1", "deactivated", mark="x"), ours("2", mark="x")]
    assert refusal(partner, []) == "versions 1 and 2 are the same key"


def test_one_key_for_two_uses_is_one_entry_not_two(ours):
    pairs = [ours("1", uses={use}, mark="x") for use in (Use.SIGN, Use.DECRYPT)]
    assert refusal(pairs, []) == "versions 1 and 1 are the same key"


@pytest.mark.parametrize("partner_uses", [PARTNER_USES, {Use.SIGN}, {Use.DECRYPT}])
@pytest.mark.parametrize("platform_uses", [PLATFORM_USES, {Use.VERIFY}, {Use.ENCRYPT}])
def test_our_own_key_in_place_of_alipayhks_is_told_as_such(
    ours, theirs, partner_uses, platform_uses
):
    partner = [ours("1", uses=partner_uses, mark="x")]
    assert refusal(partner, [theirs("7", uses=platform_uses, mark="x")]) == (
        "versions 1 and 7 are the same key; our own public key stands where "
        "AlipayHK's belongs"
    )


def test_keys_that_are_not_held_are_not_taken_for_one_another(ours, theirs):
    gone = ("destroyed", PARTNER_USES)
    partner = [ours("1", *gone, held=False), ours("2", *gone, held=False), ours("3")]
    ring = Keyring.of(1, partner, [theirs("1", "destroyed", held=False)])
    assert [info.version for info in ring.partner] == ["1", "2", "3"]


# --- a ring as a value -------------------------------------------------------


def test_a_ring_cannot_be_changed(ours):
    ring = Keyring.of(1, [ours("1")], [])
    with pytest.raises(dataclasses.FrozenInstanceError):
        ring.generation = 2
    assert isinstance(ring.verifiers, tuple)
    assert isinstance(ring.decrypters, tuple)


def test_a_ring_may_be_built_of_iterators(ours, theirs):
    ring = Keyring.of(1, iter([ours("1")]), iter([theirs("1")]))
    assert ring.signer.public.version == ring.recipient.version == "1"
    assert len(ring.partner) == len(ring.platform) == 1


def test_a_rings_text_shows_versions_and_states_alone(ours, theirs):
    text = repr(Keyring.of(1, [ours("1")], [theirs("7", "deactivated")]))
    assert "version='1'" in text
    assert "'deactivated'" in text
    assert "Pair(" not in text
    assert "RSAPublicKey object" not in text


def test_an_info_is_a_value_that_can_be_copied(theirs):
    info = theirs("1", held=False)
    assert copy.copy(info) == pickle.loads(pickle.dumps(info)) == info


def test_an_empty_ring_lacks_everything_that_exchanges_need():
    ring = Keyring.of(1, [], [])
    assert ring.missing() == [
        "a partner key that is active to sign",
        "a platform key that may verify",
        "a partner key that may decrypt",
        "a platform key that is active to encrypt",
    ]
    assert ring.missing(encrypting=False) == ring.missing()[:2]
