"""The life of keys, as steps from one manifest to the next."""

import pytest

from gateway.errors import KeyringError
from gateway.keys.changes import (
    EMPTY,
    Party,
    activate,
    add,
    deactivate,
    destroy,
    difference,
    find,
    next_version,
    section,
)
from gateway.keys.manifest import Entry, Manifest
from gateway.keys.model import KeyState, Use

PARTNER, PLATFORM = Party.PARTNER, Party.PLATFORM
PRE_ACTIVE, ACTIVE = KeyState.PRE_ACTIVE, KeyState.ACTIVE
DEACTIVATED, COMPROMISED = KeyState.DEACTIVATED, KeyState.COMPROMISED
DESTROYED = KeyState.DESTROYED


def entry(version="1", state=PRE_ACTIVE, *uses):
    key = None if state is DESTROYED else f"{version}{''.join(uses)}.pem"
    return Entry(version=version, state=state, key=key, use=uses or None)


def ring(*partner, platform=(), generation=7):
    return Manifest(generation=generation, partner=partner, platform=platform)


def states(manifest, party=PARTNER):
    return [each.state for each in section(manifest, party)]


# --- adding ------------------------------------------------------------------


def test_a_ring_begins_empty_with_the_first_generation():
    assert Manifest(generation=1, partner=(), platform=()) == EMPTY


@pytest.mark.parametrize("party", Party)
def test_a_key_is_added_at_the_end_of_its_section(party):
    after = add(add(EMPTY, party, entry("1")), party, entry("2"))
    assert [each.version for each in section(after, party)] == ["1", "2"]
    (other,) = set(Party) - {party}
    assert section(after, other) == ()


def test_adding_leaves_the_manifest_it_came_from_alone():
    before = ring(entry("1", ACTIVE))
    add(before, PARTNER, entry("2"))
    assert before == ring(entry("1", ACTIVE))


@pytest.mark.parametrize("state", sorted(set(KeyState) - {PRE_ACTIVE}))
def test_a_key_begins_as_pre_active(state):
    with pytest.raises(KeyringError, match="begins as pre-active"):
        add(EMPTY, PARTNER, entry("1", state))


@pytest.mark.parametrize("state", KeyState)
def test_a_version_is_taken_whatever_has_become_of_it(state):
    with pytest.raises(KeyringError, match=r"1 is there already .* free one is 2"):
        add(ring(entry("1", state)), PARTNER, entry("1"))


def test_a_version_may_have_one_key_for_each_use():
    before = ring(entry("1", ACTIVE, Use.SIGN))
    after = add(before, PARTNER, entry("1", PRE_ACTIVE, Use.DECRYPT))
    assert len(after.partner) == 2


def test_both_parties_may_have_the_same_version():
    after = add(ring(entry("1")), PLATFORM, entry("1"))
    assert len(after.partner) == len(after.platform) == 1


@pytest.mark.parametrize(
    ("party", "use", "may"),
    [
        (PARTNER, Use.VERIFY, "it may decrypt and sign"),
        (PARTNER, Use.ENCRYPT, "it may decrypt and sign"),
        (PLATFORM, Use.SIGN, "it may encrypt and verify"),
        (PLATFORM, Use.DECRYPT, "it may encrypt and verify"),
    ],
)
def test_a_key_is_not_added_for_a_use_its_party_has_not(party, use, may):
    with pytest.raises(KeyringError, match=f"cannot {use}; {may}"):
        add(EMPTY, party, entry("1", PRE_ACTIVE, use))


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param([], "1", id="none"),
        pytest.param(["1"], "2", id="one"),
        pytest.param(["9", "10", "2"], "11", id="by number"),
        pytest.param(["2026-11", "a"], "1", id="labels that are no numbers"),
        pytest.param(["0"], "1", id="nought"),
    ],
)
def test_the_next_version_is_the_next_whole_number(versions, expected):
    assert next_version(ring(*map(entry, versions)), PARTNER) == expected


def test_the_version_of_a_destroyed_key_is_not_given_again():
    assert next_version(ring(entry("3", DESTROYED)), PARTNER) == "4"


# --- activating --------------------------------------------------------------


def test_the_first_key_is_activated():
    assert states(activate(ring(entry("1")), PARTNER, "1")) == [ACTIVE]


@pytest.mark.parametrize("party", Party)
def test_the_active_key_is_deactivated_in_the_same_step(party):
    entries = (entry("1", ACTIVE), entry("2"))
    before = Manifest(generation=1, partner=(), platform=()).model_copy(
        update={party.value: entries}
    )
    after = activate(before, party, "2")
    assert states(after, party) == [DEACTIVATED, ACTIVE]
    assert after.generation == before.generation + 1


def test_a_deactivated_key_may_come_back():
    before = ring(entry("1", DEACTIVATED), entry("2", ACTIVE))
    assert states(activate(before, PARTNER, "1")) == [ACTIVE, DEACTIVATED]


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (ACTIVE, "nothing to do"),
        (COMPROMISED, "no step leads back; generate or import another"),
        (DESTROYED, "no step leads back; generate or import another"),
    ],
)
def test_other_keys_are_not_activated(state, advice):
    with pytest.raises(KeyringError, match=f"version 1 is {state}: .*{advice}"):
        activate(ring(entry("1", state)), PARTNER, "1")


def test_activating_leaves_keys_for_another_use_alone():
    before = ring(entry("1", ACTIVE, Use.DECRYPT), entry("2", PRE_ACTIVE, Use.SIGN))
    assert states(activate(before, PARTNER, "2")) == [ACTIVE, ACTIVE]


def test_activating_leaves_the_other_party_alone():
    before = ring(entry("1"), platform=(entry("1", ACTIVE),))
    assert states(activate(before, PARTNER, "1"), PLATFORM) == [ACTIVE]


def test_a_combined_key_takes_over_from_two():
    before = ring(
        entry("1", ACTIVE, Use.SIGN), entry("1", ACTIVE, Use.DECRYPT), entry("2")
    )
    after = activate(before, PARTNER, "2")
    assert states(after) == [DEACTIVATED, DEACTIVATED, ACTIVE]


@pytest.mark.parametrize(
    ("party", "ends", "lesser"),
    [(PARTNER, Use.SIGN, Use.DECRYPT), (PLATFORM, Use.ENCRYPT, Use.VERIFY)],
)
def test_two_keys_take_over_from_a_combined_one_in_one_order_only(party, ends, lesser):
    before = EMPTY
    for each in (
        entry("1"),
        entry("2", PRE_ACTIVE, ends),
        entry("2", PRE_ACTIVE, lesser),
    ):
        before = add(before, party, each)
    before = activate(before, party, "1")
    with pytest.raises(KeyringError, match=f"activate a key to {ends} first"):
        activate(before, party, "2", lesser)
    after = activate(activate(before, party, "2", ends), party, "2", lesser)
    assert states(after, party) == [DEACTIVATED, ACTIVE, ACTIVE]


# --- deactivating ------------------------------------------------------------


def test_the_active_key_is_deactivated_with_none_in_its_place_where_that_is_meant():
    before = ring(entry("1", ACTIVE), entry("2"))
    after = deactivate(before, PARTNER, "1", leave_none=True)
    assert states(after) == [DEACTIVATED, PRE_ACTIVE]


@pytest.mark.parametrize(
    ("party", "use"), [(PARTNER, Use.SIGN), (PLATFORM, Use.ENCRYPT)]
)
def test_the_last_active_key_does_not_go_by_accident(party, use):
    before = EMPTY.model_copy(update={party.value: (entry("1", ACTIVE), entry("2"))})
    with pytest.raises(KeyringError, match=f"the only active key to {use}"):
        deactivate(before, party, "1")


@pytest.mark.parametrize(
    ("party", "use"), [(PARTNER, Use.DECRYPT), (PLATFORM, Use.VERIFY)]
)
def test_a_key_that_only_takes_what_comes_in_may_go(party, use):
    """It goes on decrypting or verifying: nothing is left without a key."""
    before = EMPTY.model_copy(update={party.value: (entry("1", ACTIVE, use),)})
    assert states(deactivate(before, party, "1"), party) == [DEACTIVATED]


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (PRE_ACTIVE, "never in use; destroy it"),
        (DEACTIVATED, "nothing to do"),
        (COMPROMISED, "out of use already"),
        (DESTROYED, "no step leads back"),
    ],
)
def test_only_the_active_key_is_deactivated(state, advice):
    with pytest.raises(KeyringError, match=advice):
        deactivate(ring(entry("1", state)), PARTNER, "1")


# --- destroying --------------------------------------------------------------


@pytest.mark.parametrize("state", [PRE_ACTIVE, DEACTIVATED, COMPROMISED])
def test_a_destroyed_key_leaves_its_entry_and_no_file(state):
    after = destroy(ring(entry("1", state), entry("2", ACTIVE)), PARTNER, "1")
    assert after.partner == (Entry(version="1", state=DESTROYED), entry("2", ACTIVE))


def test_a_destroyed_key_keeps_what_it_was_for():
    after = destroy(ring(entry("1", DEACTIVATED, Use.SIGN)), PARTNER, "1")
    assert after.partner[0].use == (Use.SIGN,)


def test_the_active_key_is_not_destroyed():
    with pytest.raises(KeyringError, match="activate another version first"):
        destroy(ring(entry("1", ACTIVE)), PARTNER, "1")


def test_a_destroyed_key_is_not_destroyed_again():
    with pytest.raises(KeyringError, match="nothing to do"):
        destroy(ring(entry("1", DESTROYED)), PARTNER, "1")


# --- any step ----------------------------------------------------------------


@pytest.mark.parametrize("step", [activate, deactivate, destroy])
def test_a_step_with_a_version_that_is_not_there_says_what_is(step):
    before = ring(entry("1", ACTIVE, Use.SIGN), entry("1", ACTIVE, Use.DECRYPT))
    with pytest.raises(KeyringError, match=r"no partner version 2: the ring has 1$"):
        step(before, PARTNER, "2")


def test_a_step_in_an_empty_section_says_how_to_begin():
    with pytest.raises(KeyringError, match="generate or import one first"):
        activate(EMPTY, PLATFORM, "1")


def test_a_version_that_two_keys_have_is_named_with_its_use():
    before = ring(entry("1", PRE_ACTIVE, Use.SIGN), entry("1", PRE_ACTIVE, Use.DECRYPT))
    with pytest.raises(
        KeyringError, match="one key to decrypt and one to sign; say which"
    ):
        activate(before, PARTNER, "1")
    assert find(before, PARTNER, "1", Use.DECRYPT) is before.partner[1]


def test_a_use_that_no_such_key_has_is_named():
    before = ring(entry("1", PRE_ACTIVE, Use.SIGN))
    with pytest.raises(KeyringError, match="no partner version 1 to decrypt"):
        activate(before, PARTNER, "1", Use.DECRYPT)


@pytest.mark.parametrize("start", KeyState)
@pytest.mark.parametrize("step", [activate, deactivate, destroy])
def test_every_step_raises_the_generation_by_one_or_is_refused(step, start):
    before = ring(entry("1", start), generation=41)
    try:
        after = step(before, PARTNER, "1")
    except KeyringError:
        return
    assert after.generation == 42


@pytest.mark.parametrize("start", [COMPROMISED, DESTROYED])
@pytest.mark.parametrize("step", [activate, deactivate, destroy])
def test_no_step_brings_a_key_back(step, start):
    try:
        after = step(ring(entry("1", start)), PARTNER, "1")
    except KeyringError:
        return
    assert states(after) == [DESTROYED]


# --- the difference ----------------------------------------------------------


def test_the_difference_names_what_changed_and_nothing_else():
    before = ring(entry("1", ACTIVE), entry("2"), platform=(entry("1", ACTIVE),))
    after = activate(before, PARTNER, "2")
    found = [
        (each.party, each.index, each.before.state, each.after.state)
        for each in difference(before, after)
    ]
    assert found == [
        (PARTNER, 0, ACTIVE, DEACTIVATED),
        (PARTNER, 1, PRE_ACTIVE, ACTIVE),
    ]


def test_the_difference_knows_a_new_entry():
    (change,) = difference(EMPTY, add(EMPTY, PLATFORM, entry("1")))
    assert change.before is None
    assert change.after == entry("1")


def test_nothing_is_different_from_itself():
    assert difference(ring(entry()), ring(entry())) == ()
