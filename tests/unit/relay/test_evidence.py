"""The evidence against a canary: quick where its key is not known, and hardly ever wrong.

What is simulated is simulated with a fixed seed. Bounds are those of the module's
text: n failures of both, or n exchanges of the canary, over what suffices.
"""

import random

import pytest
from hypothesis import given, strategies as st

from gateway.relay.evidence import BY_PAIRS, BY_SHARES, Evidence

SHARES = [0.005, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0]


def meet(evidence, chance, share, canary_fails, other_fails=0.0):
    """Carry out one exchange as the relay does; gives whether it was the canary's."""
    if chance.random() >= share:
        evidence.judge_other(share, failed=chance.random() < other_fails)
        return False
    failed = chance.random() < canary_fails
    repeat_failed = failed and chance.random() < other_fails
    if failed:
        evidence.judge_other(share, failed=repeat_failed)
    evidence.judge_canary(share, failed=failed, alone=not repeat_failed)
    return True


def canaries_until_halted(share, canary_fails, other_fails=0.0, *, seed=1, most=10_000):
    """Give how many of its exchanges a canary had when it was over; None if it lived."""
    evidence, chance, met = Evidence(), random.Random(seed), 0
    while met < most:
        met += meet(evidence, chance, share, canary_fails, other_fails)
        if evidence.suffices:
            return met
    return None


@pytest.mark.parametrize("share", SHARES)
def test_a_key_that_alipayhk_does_not_know_is_over_within_50_exchanges(share):
    for seed in range(20):
        assert canaries_until_halted(share, 1.0, seed=seed) <= 30


def test_the_smaller_the_share_the_sooner_it_is_over():
    found = [canaries_until_halted(share, 1.0) for share in SHARES]
    assert found == [5, 6, 12, 22, 30, 30, 30, 30]


@pytest.mark.parametrize("share", SHARES)
def test_it_is_so_though_everything_was_well_for_long(share):
    evidence, chance, met = Evidence(), random.Random(3), 0
    for _ in range(20_000):
        meet(evidence, chance, share, 0.0)
    while not evidence.suffices:
        met += meet(evidence, chance, share, 1.0)
    assert met <= 35


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("fails", [0.001, 0.02, 0.3, 0.5, 0.9, 1.0])
def test_versions_that_fail_alike_stay(share, fails):
    assert canaries_until_halted(share, fails, fails) is None


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_key_that_half_of_alipayhk_knows_is_over_too(share):
    assert canaries_until_halted(share, 0.5) <= 250


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_a_key_that_fails_seldom_but_alone_is_over_in_the_end(share):
    assert canaries_until_halted(share, 0.02) <= 1500


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_an_outage_of_all_is_no_reason_and_no_credit(share):
    evidence, chance = Evidence(), random.Random(5)
    for _ in range(2000):
        meet(evidence, chance, share, 1.0, 1.0)
        assert not evidence.suffices
    met = 0
    while not evidence.suffices:
        met += meet(evidence, chance, share, 1.0)
    assert met <= 35


def test_failures_at_the_edge_of_an_outage_are_no_reason():
    """Refused before its end, repeated after it: the other failed meanwhile, too."""
    evidence = Evidence()
    for _ in range(200):
        evidence.judge_other(0.5, failed=False)
        evidence.judge_canary(0.5, failed=True, alone=False)
    assert not evidence.suffices


def test_without_anything_to_compare_with_all_failing_is_no_reason():
    evidence = Evidence()
    for _ in range(1000):
        evidence.judge_canary(1.0, failed=True, alone=True)
    assert not evidence.suffices


def test_one_message_that_is_always_refused_and_sent_again_and_again_is_no_reason():
    """Its exchange id, and so its version, may be the same each time."""
    evidence = Evidence()
    for _ in range(1000):
        evidence.judge_other(0.05, failed=True)
        evidence.judge_canary(0.05, failed=True, alone=False)
    assert not evidence.suffices


@pytest.mark.parametrize("share", [0.005, 0.05, 0.5])
def test_the_rate_of_false_alarms_by_shares_is_below_its_bound(share):
    """With a threshold of 1000, so that there are any: in n failures, below n / 1000."""
    failures, runs, chance = 50, 4000, random.Random(7)
    alarms = 0
    for _ in range(runs):
        evidence, highest = Evidence(), 0.0
        for _ in range(failures):
            meet_failure(evidence, chance, share)
            highest = max(highest, evidence.by_shares)
        alarms += highest >= 1000
    assert 0 < alarms / runs < failures / 1000


def meet_failure(evidence, chance, share):
    """Let one exchange fail, whosever it is; a repeat would be well."""
    if chance.random() < share:
        evidence.judge_canary(share, failed=True, alone=True)
    else:
        evidence.judge_other(share, failed=True)


@pytest.mark.parametrize("fails", [0.3, 0.5, 0.7])
def test_the_rate_of_false_alarms_by_pairs_is_below_its_bound(fails):
    """With a threshold of 1000: in n exchanges of the canary, below n / 1000."""
    exchanges, runs, chance = 50, 4000, random.Random(11)
    alarms = 0
    for _ in range(runs):
        evidence, highest = Evidence(), 0.0
        for _ in range(exchanges):
            meet(evidence, chance, 1.0, fails, fails)
            highest = max(highest, evidence.by_pairs)
        alarms += highest >= 1000
    assert alarms / runs < exchanges / 1000


SHARE = st.floats(0.001, 1.0)
CHANCE = st.floats(0.0, 1.0)


@given(SHARE, CHANCE)
def test_no_number_is_expected_to_grow_while_both_fail_alike(share, fails):
    """The step that both tests rest on, worked out instead of drawn."""
    weights = {"shares": 0.0, "pairs": 0.0}
    canary_alone = fails * (1 - fails)
    cases = [
        (share * (1 - fails), {"failed": False, "alone": True}, None),
        (share * canary_alone, {"failed": True, "alone": True}, False),
        (share * fails * fails, {"failed": True, "alone": False}, True),
    ]
    for chance, verdict, repeat in cases:
        evidence = Evidence()
        if repeat is not None:
            evidence.judge_other(share, failed=repeat)
        evidence.judge_canary(share, **verdict)
        weights["shares"] += chance * evidence.by_shares
        weights["pairs"] += chance * evidence.by_pairs
    for failed, chance in ((True, fails), (False, 1 - fails)):
        evidence = Evidence()
        evidence.judge_other(share, failed=failed)
        weights["shares"] += (1 - share) * chance * evidence.by_shares
        weights["pairs"] += (1 - share) * chance * evidence.by_pairs
    assert weights["shares"] <= 1 + 1e-9
    assert weights["pairs"] <= 1 + 1e-9


STEPS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=200)


@given(SHARE, STEPS)
def test_a_success_of_the_canary_is_never_the_last_straw(share, steps):
    evidence = Evidence()
    for by_canary, failed, alone in steps:
        before = evidence.suffices
        if by_canary:
            evidence.judge_canary(share, failed=failed, alone=alone)
        else:
            evidence.judge_other(share, failed=failed)
        if not failed or not by_canary:
            assert evidence.suffices <= before
    assert evidence.canary.exchanges + evidence.other.exchanges == len(steps)
    assert evidence.by_shares < BY_SHARES * 20
    assert evidence.by_pairs < BY_PAIRS * 2**200
