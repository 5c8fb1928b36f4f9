"""Steps to come: what a manifest becomes by itself, and when."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from gateway.errors import KeyringError
from gateway.keys import schedule
from gateway.keys.changes import (
    EMPTY,
    Party,
    activate,
    compromise,
    difference,
    section,
)
from gateway.keys.manifest import Entry, Manifest, Share
from gateway.keys.model import KeyState, Use

PARTNER, PLATFORM = Party.PARTNER, Party.PLATFORM
PRE_ACTIVE, ACTIVE = KeyState.PRE_ACTIVE, KeyState.ACTIVE
DEACTIVATED, COMPROMISED = KeyState.DEACTIVATED, KeyState.COMPROMISED
DESTROYED = KeyState.DESTROYED

NOW = datetime(2026, 12, 1, 2, tzinfo=UTC)
HOUR, INSTANT = timedelta(hours=1), timedelta.resolution
END = datetime.max.replace(tzinfo=UTC)


def entry(version="1", state=PRE_ACTIVE, *uses, **more):
    key = None if state is DESTROYED else f"{version}.pem"
    return Entry(version=version, state=state, key=key, use=uses or None, **more)


def ring(*partner, platform=(), generation=7):
    return Manifest(generation=generation, partner=partner, platform=platform)


def states(manifest, now=schedule.FIRST_MOMENT, party=PARTNER):
    return [each.state for each in section(schedule.at(manifest, now), party)]


def plan(manifest, version, moment, overlap=None, party=PARTNER):
    return schedule.plan_activation(manifest, (party, version, None), moment, overlap)


ROTATION = ring(
    entry("1", ACTIVE, deactivate_at=NOW, destroy_at=NOW + HOUR),
    entry("2", activate_at=NOW),
)

# --- to the moment -----------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (schedule.FIRST_MOMENT, [ACTIVE, PRE_ACTIVE]),
        (NOW - INSTANT, [ACTIVE, PRE_ACTIVE]),
        (NOW, [DEACTIVATED, ACTIVE]),
        (NOW + HOUR - INSTANT, [DEACTIVATED, ACTIVE]),
        (NOW + HOUR, [DESTROYED, ACTIVE]),
        (END, [DESTROYED, ACTIVE]),
    ],
)
def test_a_step_is_taken_at_its_moment_and_not_before(now, expected):
    assert states(ROTATION, now) == expected


@pytest.mark.parametrize("zone", [-12, 0, 8, 14])
def test_a_moment_is_the_same_in_every_zone(zone):
    east = timedelta(hours=zone)
    local = (NOW + east).isoformat().replace("+00:00", f"{zone:+03}:00")
    before = ring(entry("1", ACTIVE), entry("2", activate_at=local))
    assert states(before, NOW - INSTANT) == [ACTIVE, PRE_ACTIVE]
    assert states(before, NOW) == [DEACTIVATED, ACTIVE]


def test_a_taken_step_is_noted_as_of_its_moment_whenever_it_is_looked_at():
    first, second = schedule.at(ROTATION, END).partner
    assert (first.deactivated, first.destroyed) == (NOW, NOW + HOUR)
    assert second.activated == NOW
    assert first.key is None
    assert not any((first.deactivate_at, first.destroy_at, second.activate_at))


def test_the_generation_is_that_of_the_manifest_that_planned():
    assert schedule.at(ROTATION, END).generation == ROTATION.generation


@pytest.mark.parametrize("first", [NOW - INSTANT, NOW, NOW + INSTANT])
def test_it_does_not_matter_how_often_one_looks(first):
    assert schedule.at(schedule.at(ROTATION, first), END) == schedule.at(ROTATION, END)


def test_without_plans_nothing_happens():
    before = ring(entry("1", ACTIVE), platform=(entry("1"),))
    assert schedule.at(before, END) == before
    assert schedule.moments(before) == []


def test_the_platforms_keys_change_by_themselves_too():
    before = ring(platform=(entry("7", ACTIVE), entry("8", activate_at=NOW)))
    assert states(before, NOW, PLATFORM) == [DEACTIVATED, ACTIVE]


def test_a_pair_for_one_use_is_told_from_its_twin():
    split = [
        entry("2", PRE_ACTIVE, use, activate_at=NOW) for use in ("sign", "decrypt")
    ]
    assert states(ring(*split[:1], entry("2", PRE_ACTIVE, "decrypt")), NOW) == [
        ACTIVE,
        PRE_ACTIVE,
    ]
    assert states(ring(*split), NOW) == [ACTIVE, ACTIVE]


# --- the order ---------------------------------------------------------------


def test_at_one_moment_the_key_to_come_comes_first():
    """Else there would be no other active key when the first is to go."""
    before = ring(entry("1", ACTIVE, deactivate_at=NOW), entry("2", activate_at=NOW))
    schedule.check(before)
    assert states(before, NOW) == [DEACTIVATED, ACTIVE]


def test_at_one_moment_a_key_may_go_all_the_way():
    plans = {"activate_at": NOW, "deactivate_at": NOW, "destroy_at": NOW}
    before = ring(entry("1", PRE_ACTIVE, Use.DECRYPT, **plans))
    assert states(before, NOW) == [DESTROYED]


def test_of_two_keys_that_come_at_one_moment_the_later_entry_stays():
    before = ring(
        entry("1", ACTIVE), entry("2", activate_at=NOW), entry("3", activate_at=NOW)
    )
    assert states(before, NOW) == [DEACTIVATED, DEACTIVATED, ACTIVE]


def test_a_key_may_have_its_whole_life_planned():
    life = {
        "activate_at": NOW,
        "deactivate_at": NOW + HOUR,
        "destroy_at": NOW + 2 * HOUR,
    }
    before = ring(
        entry("1", ACTIVE), entry("2", **life), entry("3", activate_at=NOW + HOUR)
    )
    assert states(before, NOW) == [DEACTIVATED, ACTIVE, PRE_ACTIVE]
    assert states(before, NOW + HOUR) == [DEACTIVATED, DEACTIVATED, ACTIVE]
    assert states(before, NOW + 2 * HOUR) == [DEACTIVATED, DESTROYED, ACTIVE]


# --- plans that lost their sense ---------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        entry("2", DEACTIVATED, deactivate_at=NOW),
        entry("2", PRE_ACTIVE, deactivate_at=NOW),
        entry("2", ACTIVE, Use.DECRYPT, destroy_at=NOW),
    ],
)
def test_a_step_that_lost_its_sense_is_dropped(given):
    (after,) = schedule.at(ring(given), NOW).partner
    assert after.state is given.state
    assert (after.deactivate_at, after.destroy_at) == (None, None)


def test_a_key_that_is_destroyed_before_is_not_activated():
    given = entry("2", activate_at=NOW, destroy_at=NOW - INSTANT)
    assert states(ring(given), NOW) == [DESTROYED]


def test_a_canary_is_not_planned_to_be_activated_whatever_becomes_of_it():
    share = (Share(share=5, at=NOW),)
    before = ring(entry("1", ACTIVE), entry("2", canary=share))
    with pytest.raises(KeyringError, match="would activate it though it was halted"):
        plan(before, "2", NOW + HOUR)


# --- every moment ------------------------------------------------------------


def test_the_moments_are_those_of_every_plan_and_share_in_order():
    shares = (Share(share=25, at=NOW + HOUR), Share(share=5, at=NOW - HOUR))
    before = ring(
        entry("1", ACTIVE, deactivate_at=NOW),
        entry("2", canary=shares),
        entry("3", activate_at=NOW),
        platform=(entry("1", DEACTIVATED, destroy_at=NOW + 2 * HOUR),),
    )
    expected = [NOW - HOUR, NOW, NOW + HOUR, NOW + 2 * HOUR]
    assert schedule.moments(before) == expected


@pytest.mark.parametrize(
    ("now", "share"),
    [
        (schedule.FIRST_MOMENT, 0),
        (NOW - INSTANT, 0),
        (NOW, 0.05),
        (NOW + HOUR - INSTANT, 0.05),
        (NOW + HOUR, 1),
        (END, 1),
    ],
)
def test_a_canarys_share_grows_at_its_moments(now, share):
    steps = (Share(share=100, at=NOW + HOUR), Share(share=5, at=NOW))
    assert schedule.share_at(entry("2", canary=steps), now) == share


def test_a_key_that_is_no_canary_has_no_share():
    assert schedule.share_at(entry("2"), END) == 0


# --- plans that cannot be carried out ----------------------------------------


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (ring(entry("1", ACTIVE, deactivate_at=NOW)), "only active key to sign"),
        (
            ring(platform=(entry("1", ACTIVE, deactivate_at=NOW),)),
            "only active key to encrypt",
        ),
        (
            ring(entry("1", ACTIVE), entry("2", created=NOW, activate_at=NOW)),
            "never given out",
        ),
        (
            ring(
                entry("1", ACTIVE), entry("2", PRE_ACTIVE, "decrypt", activate_at=NOW)
            ),
            "activate a key to sign first",
        ),
        (
            ring(
                entry("1", ACTIVE, deactivate_at=NOW + HOUR),
                entry("2", activate_at=NOW - HOUR, deactivate_at=NOW),
            ),
            "version 2 is the only active key to sign",
        ),
    ],
)
def test_a_plan_that_could_not_be_carried_out_is_told_with_its_moment(before, reason):
    with pytest.raises(
        KeyringError, match=rf"planned for 2026-12-01T02:00:00Z: .*{reason}"
    ):
        schedule.check(before)


def test_a_good_plan_passes():
    schedule.check(ROTATION)
    schedule.check(EMPTY)


def test_two_canaries_are_refused():
    share = (Share(share=5, at=NOW),)
    before = ring(
        entry("1", ACTIVE), entry("2", canary=share), entry("3", canary=share)
    )
    with pytest.raises(KeyringError, match="versions 2 and 3 are both canaries"):
        schedule.check(before)


def test_a_plan_for_every_day_of_two_years_is_checked_in_no_time(monkeypatch):
    """Each step is taken once, not once for every moment after it."""
    taken, real = [], schedule._carried_out
    monkeypatch.setattr(
        schedule, "_carried_out", lambda *each: taken.append(1) or real(*each)
    )
    days = [
        entry(str(day), activate_at=NOW + timedelta(days=day)) for day in range(2, 732)
    ]
    schedule.check(ring(entry("1", ACTIVE), *days))
    assert len(taken) == len(days)


# --- planning ----------------------------------------------------------------


def test_an_activation_is_planned_with_the_end_of_the_key_before():
    before = ring(entry("0", DEACTIVATED), entry("1", ACTIVE), entry("2"))
    after = plan(before, "2", NOW, HOUR)
    assert after.partner == (entry("0", DEACTIVATED), *ROTATION.partner)
    assert after.generation == before.generation + 1


def test_without_an_overlap_the_key_before_is_kept():
    after = plan(ring(entry("1", ACTIVE), entry("2")), "2", NOW)
    assert states(after, END) == [DEACTIVATED, ACTIVE]


@pytest.mark.parametrize("later", [NOW - INSTANT, NOW + INSTANT])
def test_an_activation_that_is_planned_anew_takes_its_overlap_along(later):
    before = plan(ring(entry("1", ACTIVE), entry("2")), "2", NOW, HOUR)
    assert plan(before, "2", later, HOUR) == plan(
        ring(entry("1", ACTIVE), entry("2"), generation=8), "2", later, HOUR
    )


def test_each_of_several_activations_ends_the_key_that_is_active_then():
    three = ring(entry("1", ACTIVE), entry("2"), entry("3"))
    after = plan(plan(three, "2", NOW, HOUR), "3", NOW + 3 * HOUR, HOUR)
    schedule.check(after)
    for hours, expected in enumerate(
        [
            [DEACTIVATED, ACTIVE, PRE_ACTIVE],
            [DESTROYED, ACTIVE, PRE_ACTIVE],
            [DESTROYED, ACTIVE, PRE_ACTIVE],
            [DESTROYED, DEACTIVATED, ACTIVE],
            [DESTROYED, DESTROYED, ACTIVE],
        ]
    ):
        assert states(after, NOW + hours * HOUR) == expected


def test_a_key_that_returns_by_plan_is_not_destroyed_meanwhile():
    before = ring(entry("1", DEACTIVATED, destroy_at=NOW - HOUR), entry("2", ACTIVE))
    assert states(plan(before, "1", NOW), END) == [ACTIVE, DEACTIVATED]


def test_an_activation_that_must_not_be_taken_is_not_planned():
    before = ring(entry("1", ACTIVE), entry("2", COMPROMISED))
    with pytest.raises(KeyringError, match="no step leads back"):
        plan(before, "2", NOW)
    with pytest.raises(KeyringError, match="nothing to do"):
        plan(before, "1", NOW)


def test_a_planned_activation_is_no_obstacle_to_giving_the_key_up():
    before = plan(ring(entry("1", ACTIVE), entry("2")), "2", NOW, HOUR)
    after = compromise(before, PARTNER, "2")
    schedule.check(after)
    assert states(after, END) == [ACTIVE, COMPROMISED]


def test_the_last_year_has_no_room_for_an_overlap():
    before = ring(entry("1", ACTIVE), entry("2"))
    with pytest.raises(KeyringError, match=r"9999-12-31T23:59:59\.999999Z is too late"):
        plan(before, "2", END, HOUR)
    assert states(plan(before, "2", END), END) == [DEACTIVATED, ACTIVE]
    with pytest.raises(KeyringError, match="too late for an overlap"):
        schedule.keep_for(before, activate(before, PARTNER, "2"), END, HOUR)


def test_moments_are_written_into_one_entry():
    before = ring(entry("1", ACTIVE), entry("2", ACTIVE))
    after = schedule.plan(before, (PARTNER, "2", None), deactivate_at=NOW)
    assert after == ring(
        entry("1", ACTIVE), entry("2", ACTIVE, deactivate_at=NOW), generation=8
    )


def test_a_destruction_is_planned():
    before = ring(entry("1", DEACTIVATED), entry("2", ACTIVE))
    after = schedule.plan_destruction(before, (PARTNER, "1", None), NOW)
    assert states(after, NOW - INSTANT) == [DEACTIVATED, ACTIVE]
    assert states(after, NOW) == [DESTROYED, ACTIVE]


def test_a_key_that_would_be_in_use_then_is_not_planned_to_be_destroyed():
    before = ring(entry("1", ACTIVE))
    with pytest.raises(KeyringError, match="1 is active and would not be destroyed at"):
        schedule.plan_destruction(before, (PARTNER, "1", None), NOW)


@pytest.mark.parametrize("party", Party)
def test_the_key_that_a_step_took_out_of_use_is_kept_for_an_overlap(party):
    entries = (entry("0", DEACTIVATED), entry("1", ACTIVE), entry("2"))
    before = EMPTY.model_copy(update={party.value: entries})
    after = activate(before, party, "2")
    kept = partial(schedule.keep_for, before, after, NOW)
    ends = [each.destroy_at for each in section(kept(HOUR), party)]
    assert ends == [None, NOW + HOUR, None]
    (change,) = difference(after, kept(HOUR))
    assert change.after.state is DEACTIVATED
    assert kept(HOUR).generation == after.generation
