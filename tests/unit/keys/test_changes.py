"""The life of keys, as steps from one manifest to the next."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import KeyringError
from gateway.keys.changes import (
    EMPTY,
    Party,
    activate,
    add,
    compromise,
    dated,
    deactivate,
    destroy,
    difference,
    find,
    mark_exported,
    next_version,
    roll_back,
    section,
    stage,
    start_canary,
)
from gateway.keys.manifest import Entry, Manifest, Share
from gateway.keys.model import KeyState, Use

PARTNER, PLATFORM = Party.PARTNER, Party.PLATFORM
PRE_ACTIVE, ACTIVE = KeyState.PRE_ACTIVE, KeyState.ACTIVE
DEACTIVATED, COMPROMISED = KeyState.DEACTIVATED, KeyState.COMPROMISED
DESTROYED = KeyState.DESTROYED


def entry(version="1", state=PRE_ACTIVE, *uses):
    key = None if state is DESTROYED else f"{version}{''.join(uses)}.pem"
    return Entry(version=version, state=state, key=key, use=uses or None)


NOW = datetime(2026, 12, 1, 2, tzinfo=UTC)
THEN, SOON = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


def having(each, **facts):
    return each.model_copy(update=facts)


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


# --- staging -----------------------------------------------------------------


@pytest.mark.parametrize("party", Party)
def test_a_key_is_staged_and_stays_pre_active(party):
    before = add(EMPTY, party, entry("1"))
    after = stage(before, party, "1")
    (staged,) = section(after, party)
    assert (staged.state, staged.staged) == (PRE_ACTIVE, True)
    assert staged.processes_early
    assert after.generation == before.generation + 1


@pytest.mark.parametrize("state", sorted(set(KeyState) - {PRE_ACTIVE}))
def test_only_a_pre_active_key_is_staged(state):
    with pytest.raises(KeyringError, match=f"is {state}; only a pre-active key is st"):
        stage(ring(entry("1", state)), PARTNER, "1")


@pytest.mark.parametrize(
    ("party", "use"), [(PARTNER, Use.SIGN), (PLATFORM, Use.ENCRYPT)]
)
def test_a_key_for_what_begins_with_being_active_is_not_staged(party, use):
    before = add(EMPTY, party, entry("1", PRE_ACTIVE, use))
    with pytest.raises(KeyringError, match="neither decrypts nor verifies"):
        stage(before, party, "1")


@pytest.mark.parametrize("step", [activate, compromise, destroy])
def test_a_key_that_moves_on_is_staged_no_more(step):
    before = stage(ring(entry("1")), PARTNER, "1")
    assert not step(before, PARTNER, "1").partner[0].processes_early


# --- canaries ----------------------------------------------------------------

FIVE = Share(share=5, at=NOW)
TWO = (PARTNER, "2", None)


def canary(*partner, which=TWO):
    return start_canary(ring(*partner), which, [FIVE])


def test_a_canary_is_a_pre_active_key_with_shares():
    after = canary(entry("1", ACTIVE), entry("2"))
    assert after.partner == (entry("1", ACTIVE), having(entry("2"), canary=(FIVE,)))
    assert after.partner[1].processes_early
    assert after.generation == 8


def test_a_canary_is_given_another_share():
    quarter = Share(share=25, at=SOON)
    before = canary(entry("1", ACTIVE), entry("2"))
    after = start_canary(before, TWO, [FIVE, quarter])
    assert after.partner[1].canary == (FIVE, quarter)


@pytest.mark.parametrize("state", sorted(set(KeyState) - {PRE_ACTIVE, DEACTIVATED}))
def test_a_canary_begins_as_pre_active_or_deactivated(state):
    with pytest.raises(KeyringError, match=f"is {state}; a canary begins as"):
        canary(entry("1", ACTIVE), entry("2", state))


def test_a_key_that_was_active_may_be_a_canary_and_is_kept_then():
    """The way back to it may be as gradual as the way on was."""
    old = having(entry("2", DEACTIVATED), destroy_at=SOON)
    after = canary(entry("1", ACTIVE), old)
    assert after.partner[1] == having(old, canary=(FIVE,), destroy_at=None)
    assert activate(after, PARTNER, "2").partner[1].canary == ()


def test_a_pre_active_canary_goes_when_it_was_to_go():
    new = having(entry("2"), destroy_at=SOON)
    assert canary(entry("1", ACTIVE), new).partner[1].destroy_at == SOON


def test_a_key_that_is_to_be_activated_anyway_is_no_canary():
    planned = having(entry("2"), activate_at=SOON)
    with pytest.raises(
        KeyringError, match=r"is to be activated at .* whatever becomes"
    ):
        canary(entry("1", ACTIVE), planned)


def test_a_canary_leaves_someone_to_sign_the_rest():
    with pytest.raises(KeyringError, match=r"nothing else signs.*activate 2 without"):
        canary(entry("1", DEACTIVATED), entry("2"))


def test_there_is_one_canary_at_a_time():
    tried = having(entry("3"), canary=(FIVE,))
    with pytest.raises(KeyringError, match="version 3 is a canary already"):
        canary(entry("1", ACTIVE), entry("2"), tried)


def test_a_key_that_does_not_sign_is_no_canary():
    with pytest.raises(KeyringError, match="partner version 2 does not sign"):
        canary(entry("1", ACTIVE), entry("2", PRE_ACTIVE, Use.DECRYPT))
    theirs = ring(platform=(entry("2"),))
    with pytest.raises(KeyringError, match="platform version 2 does not sign"):
        start_canary(theirs, (PLATFORM, "2", None), [FIVE])


@pytest.mark.parametrize("step", [activate, compromise, destroy])
def test_a_canary_that_moves_on_is_none(step):
    before = canary(entry("1", ACTIVE), entry("2"))
    assert step(before, PARTNER, "2").partner[1].canary == ()


# --- what AlipayHK was given -------------------------------------------------


def test_a_pair_that_was_never_given_out_is_neither_activated_nor_tried():
    before = ring(entry("1", ACTIVE), having(entry("2"), created=THEN))
    with pytest.raises(KeyringError, match=r"never given out.*`gateway keys public 2`"):
        activate(before, PARTNER, "2")
    with pytest.raises(KeyringError, match="never given out"):
        start_canary(before, TWO, [FIVE])
    given = mark_exported(before, TWO, NOW)
    assert given.partner[1].exported == NOW
    assert given.generation == before.generation + 1
    assert states(activate(given, PARTNER, "2")) == [DEACTIVATED, ACTIVE]


def test_alipayhks_key_needs_no_giving_out():
    before = ring(platform=(having(entry("1"), created=THEN),))
    assert states(activate(before, PLATFORM, "1"), PLATFORM) == [ACTIVE]


# --- compromise --------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(set(KeyState) - {COMPROMISED}))
def test_a_key_is_compromised_from_anywhere(state):
    """Even where it is the last one: what it signs is not to be believed."""
    after = compromise(ring(entry("1", state)), PARTNER, "1")
    assert states(after) == [COMPROMISED]
    assert after.generation == 8


def test_a_compromised_key_keeps_the_name_of_its_file_and_loses_its_plans():
    plans = {"deactivate_at": SOON, "destroy_at": SOON}
    before = ring(having(entry("1", ACTIVE), **plans), entry("2"))
    assert compromise(before, PARTNER, "1").partner[0] == entry("1", COMPROMISED)


def test_a_key_is_not_compromised_twice():
    with pytest.raises(KeyringError, match="nothing to do"):
        compromise(ring(entry("1", COMPROMISED)), PARTNER, "1")


@pytest.mark.parametrize("step", [compromise, destroy])
def test_a_key_stays_where_the_one_to_replace_it_does_not_come(step):
    """Else its planned end, alone, would keep the ring from being taken."""
    leaving = having(entry("1", ACTIVE), deactivate_at=SOON, destroy_at=SOON)
    other = having(entry("0", DEACTIVATED), destroy_at=SOON)
    coming = having(entry("2"), activate_at=SOON)
    after = step(ring(other, leaving, coming), PARTNER, "2")
    assert after.partner[:2] == (other, entry("1", ACTIVE))
    assert after.generation == 8


@pytest.mark.parametrize("plans", [{}, {"activate_at": NOW}])
def test_a_planned_end_stays_where_it_belongs_to_no_other_plan(plans):
    leaving = having(entry("1", ACTIVE), deactivate_at=SOON)
    after = compromise(ring(leaving, having(entry("2"), **plans)), PARTNER, "2")
    assert after.partner[0] == leaving


# --- the end of an overlap ---------------------------------------------------


def test_a_key_is_not_destroyed_before_the_end_of_its_overlap_by_accident():
    kept = having(entry("1", DEACTIVATED), destroy_at=SOON)
    with pytest.raises(KeyringError, match="is kept until 2026-12-01T03:00:00Z"):
        destroy(ring(kept), PARTNER, "1")
    after = destroy(ring(kept), PARTNER, "1", early=True)
    assert after.partner == (entry("1", DESTROYED),)


def test_a_destroyed_key_keeps_its_fingerprint():
    known = having(entry("1", DEACTIVATED), fingerprint="0" * 64)
    assert destroy(ring(known), PARTNER, "1").partner[0].fingerprint == "0" * 64


# --- dates -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "start", "fact"),
    [
        (activate, PRE_ACTIVE, "activated"),
        (activate, DEACTIVATED, "activated"),
        (destroy, DEACTIVATED, "destroyed"),
        (compromise, ACTIVE, "compromised"),
    ],
)
def test_a_step_is_noted_with_its_time(step, start, fact):
    before = ring(entry("1", start), entry("2", PRE_ACTIVE))
    after = dated(before, step(before, PARTNER, "1"), NOW)
    assert after == step(
        ring(having(before.partner[0], **{fact: NOW}), entry("2")), PARTNER, "1"
    )
    assert after.generation == 8


def test_the_key_that_made_way_is_noted_too():
    before = ring(entry("1", ACTIVE), entry("2"))
    first, second = dated(before, activate(before, PARTNER, "2"), NOW).partner
    assert (first.deactivated, second.activated) == (NOW, NOW)


@pytest.mark.parametrize(
    ("state", "facts"),
    [(PRE_ACTIVE, {"created": NOW}), (ACTIVE, {"created": NOW, "activated": NOW})],
)
def test_a_new_key_is_noted_as_created(state, facts):
    after = dated(EMPTY, ring(entry("1", state)), NOW)
    assert after == ring(having(entry("1", state), **facts))


def test_a_change_of_no_state_is_not_noted():
    before = ring(entry("1"))
    after = stage(before, PARTNER, "1")
    assert dated(before, after, NOW) == after


def test_what_returned_to_pre_active_has_no_time_of_it():
    before, after = ring(entry("1", ACTIVE)), ring(entry("1"))
    assert dated(before, after, NOW) == after


def test_a_key_of_a_time_without_dates_is_compromised_after_it_was_destroyed():
    """An entry that names no file must say that it was destroyed."""
    before = ring(entry("1", DESTROYED))
    (after,) = dated(before, compromise(before, PARTNER, "1"), NOW).partner
    assert (after.destroyed, after.compromised) == (NOW, NOW)
    known = ring(having(entry("1", DESTROYED), destroyed=THEN))
    (after,) = dated(known, compromise(known, PARTNER, "1"), NOW).partner
    assert (after.destroyed, after.compromised) == (THEN, NOW)


# --- the way back ------------------------------------------------------------


def back(manifest, earlier):
    return roll_back(manifest, earlier, NOW)


def test_every_key_gets_the_state_it_had():
    earlier = ring(entry("1", ACTIVE), entry("2", DEACTIVATED))
    after = activate(earlier, PARTNER, "2")
    assert back(after, earlier) == earlier.model_copy(update={"generation": 9})


def test_a_key_that_came_since_is_out_of_use():
    earlier = ring(entry("1", ACTIVE))
    added = add(earlier, PARTNER, entry("2"))
    activated = activate(added, PARTNER, "2")
    assert states(back(activated, earlier)) == [ACTIVE, DEACTIVATED]
    staged = back(stage(added, PARTNER, "2"), earlier)
    assert staged.partner == added.partner


def test_a_key_that_was_not_in_use_then_still_decrypts_once_it_was():
    earlier = ring(entry("1", ACTIVE), entry("2"))
    after = back(activate(earlier, PARTNER, "2"), earlier)
    assert states(after) == [ACTIVE, DEACTIVATED]


@pytest.mark.parametrize("gone", [COMPROMISED, DESTROYED])
@pytest.mark.parametrize("held", [PRE_ACTIVE, ACTIVE, DEACTIVATED])
def test_what_is_past_return_does_not_return(gone, held):
    earlier = ring(entry("1", held), entry("2", ACTIVE, Use.DECRYPT))
    now = ring(entry("1", gone), entry("2", DEACTIVATED, Use.DECRYPT))
    assert states(back(now, earlier)) == [gone, ACTIVE]


def test_what_was_given_up_then_is_left_as_it_is_now():
    earlier = ring(entry("1", COMPROMISED), entry("2", ACTIVE, Use.DECRYPT))
    now = ring(entry("1", ACTIVE), entry("2", DEACTIVATED, Use.DECRYPT))
    assert states(back(now, earlier)) == [ACTIVE, ACTIVE]


def test_plans_return_that_are_still_to_come():
    """One that has passed would be taken at once, for nobody to expect."""
    both = {"deactivate_at": NOW, "destroy_at": SOON}
    earlier = ring(having(entry("1", ACTIVE), **both), having(entry("2"), staged=True))
    now = ring(entry("1", DEACTIVATED), entry("2", ACTIVE))
    first, second = back(now, earlier).partner
    assert first == having(entry("1", ACTIVE), destroy_at=SOON)
    assert second == entry("2", DEACTIVATED)


@pytest.mark.parametrize(
    ("party", "use"), [(PARTNER, Use.SIGN), (PLATFORM, Use.ENCRYPT)]
)
def test_the_way_back_is_closed_where_nothing_would_be_active(party, use):
    earlier = EMPTY.model_copy(
        update={party.value: (entry("1", ACTIVE), entry("2", PRE_ACTIVE))}
    )
    now = compromise(activate(earlier, party, "2"), party, "1")
    with pytest.raises(KeyringError, match=f"of the {party} would be active to {use}"):
        back(now, earlier)


def test_where_nothing_was_active_nothing_is_lost():
    earlier = ring(entry("1"), entry("2"))
    assert states(back(stage(earlier, PARTNER, "1"), earlier)) == [PRE_ACTIVE] * 2


def test_a_way_back_that_leads_nowhere_is_refused():
    with pytest.raises(KeyringError, match="nothing would change"):
        back(ring(entry("1"), generation=9), ring(entry("1")))


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
