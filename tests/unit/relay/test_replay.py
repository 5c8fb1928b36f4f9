"""Answers that are sent a second time are found, and no honest platform is refused."""

import math
from datetime import timedelta

import pytest
from hypothesis import given, strategies as st

from gateway.errors import ResponseStale, UpstreamDisconnected
from gateway.protocol import format_time
from gateway.relay.replay import MARGIN_S, ReplayGuard
from gateway.relay.routes import Call
from tests import peer

PLAIN = Call(peer.TARGET, b"{}")
ENCRYPTED = Call(peer.TARGET, b"{}", encrypt=True)
HOUR = 3600.0


# --- the guard alone -----------------------------------------------------------


def test_nothing_is_expected_of_a_clock_that_is_not_known():
    assert ReplayGuard().earliest(10.0) is None


def test_an_answer_is_not_older_than_its_request_by_alipayhks_own_clock():
    guard = ReplayGuard()
    guard.learn(1000.0, 10.0)
    assert guard.earliest(10.0) == 1000.0 - MARGIN_S
    assert guard.earliest(70.0) == 1060.0 - MARGIN_S


def test_the_least_lead_counts():
    """One of AlipayHK's machines may be behind, and an answer may have taken long."""
    guard = ReplayGuard()
    for response_time in (1000.0, 997.0, 1200.0):
        guard.learn(response_time, 10.0)
    assert guard.earliest(10.0) == 997.0 - MARGIN_S


def test_a_lead_is_remembered_for_one_to_two_hours():
    guard = ReplayGuard()
    guard.learn(500.0, 0.0)
    for minutes in range(1, 60):
        guard.learn(1000.0 + minutes * 60, minutes * 60.0)
    guard.learn(1000.0 + HOUR, HOUR)
    assert guard.earliest(HOUR) == 500.0 + HOUR - MARGIN_S
    guard.learn(1000.0 + 2 * HOUR, 2 * HOUR)
    assert guard.earliest(2 * HOUR) == 1000.0 + 2 * HOUR - MARGIN_S


def test_a_lead_that_is_older_than_that_says_nothing():
    guard = ReplayGuard()
    guard.learn(1000.0, 0.0)
    assert guard.earliest(2 * HOUR - 1) is not None
    assert guard.earliest(2 * HOUR) is None
    guard.learn(9000.0, 2 * HOUR)
    assert guard.earliest(2 * HOUR) == 9000.0 - MARGIN_S


@pytest.mark.parametrize(
    ("sent", "admitted"), [(9.0, True), (11.0, True), (11.1, False), (600.0, False)]
)
def test_a_signature_is_admitted_again_within_about_a_second_alone(sent, admitted):
    guard = ReplayGuard()
    assert guard.admits(b"s" * 256, 9.0, 10.0)
    assert guard.admits(b"s" * 256, sent, sent + 0.1) == admitted
    assert guard.admits(b"t" * 256, sent, sent + 0.1)


def test_the_second_runs_from_the_last_of_equal_answers():
    """One of AlipayHK's machines is half a second ahead of another: busy, all pass."""
    guard = ReplayGuard()
    for number in range(15):
        assert guard.admits(b"s" * 256, 9.9 + number / 10, 10.0 + number / 10)
    assert not guard.admits(b"s" * 256, 12.5, 12.6)


def test_the_last_8192_signatures_are_remembered_and_not_over_twice_as_many():
    guard = ReplayGuard()
    names = [number.to_bytes(256) for number in range(20_000)]
    for each in names:
        assert guard.admits(each[::-1], 0.0, 0.0)
    assert all(not guard.admits(each[::-1], 5.0, 5.0) for each in names[-8192:])
    assert guard.admits(names[0][::-1], 5.0, 5.0), "it is forgotten"


TIMES = st.floats(0, 30, allow_nan=False)
EXCHANGES = st.lists(st.tuples(TIMES, TIMES, st.floats(0, 1)), min_size=1, max_size=40)
LEADS = st.lists(st.floats(-300, 300), min_size=1, max_size=1) | st.lists(
    st.floats(-2, 2), min_size=2, max_size=4
)


@given(EXCHANGES, LEADS, st.sampled_from([1e-3, 1.0]), st.floats(0, 1e6))
def test_no_honest_platform_is_refused(exchanges, leads, resolution, began):
    """Fast or slow, its clock ahead or behind, its time taken at any moment of it.

    Several machines of its differ by less than the margin, less a second. Equal seconds
    have equal signatures: the body is always the same.
    """
    guard, at, ended = ReplayGuard(), began, []
    for number, (gap, seconds, part) in enumerate(exchanges):
        at += gap
        lead = 1.7e9 + leads[number % len(leads)]
        written = math.floor((at + seconds * part + lead) / resolution) * resolution
        ended.append((at + seconds, at, written))
    for received, sent, written in sorted(ended):
        earliest = guard.earliest(sent)
        assert earliest is None or written >= earliest
        if len(leads) == 1:
            assert guard.admits(repr(written).encode().ljust(256), sent, received)
        guard.learn(written, received)


@given(st.floats(-300, 300), st.floats(0, 3), st.floats(10, 600))
def test_an_older_answer_is_refused_once_the_clock_is_known(lead, seconds, age):
    guard = ReplayGuard()
    guard.learn(math.floor(1000 + lead), 1000.0)
    guard.learn(math.floor(1000 + seconds + lead), 1000.0 + seconds)
    sent = 2000.0
    assert math.floor(sent + lead - age) < guard.earliest(sent)


# --- in an exchange --------------------------------------------------------------


def answered(scene, after_s=0.0, **how):
    """Have AlipayHK answer by a clock that is `after_s` ahead of ours."""
    scene.upstream.answer = peer.answer(
        scene.platform_key,
        time=format_time(scene.clock.moment + timedelta(seconds=after_s)),
        **how,
    )


def passes(scene, seconds):
    scene.clock._seconds += seconds
    scene.clock.moment += timedelta(seconds=seconds)


@pytest.fixture
def guard():
    return ReplayGuard()


@pytest.mark.parametrize("lead", [-290, 0, 290])
async def test_an_answer_to_an_earlier_request_is_stale(scene, guard, lead):
    answered(scene, lead)
    await scene.exchange(PLAIN, replays=guard)
    answered(scene, lead)
    kept = scene.upstream.answer
    passes(scene, 8)
    scene.upstream.answer = kept
    with pytest.raises(ResponseStale, match="earlier"):
        await scene.exchange(PLAIN, replays=guard)
    assert scene.record.clock_skew_s == lead - 8


async def test_what_was_refused_for_its_time_is_refused_for_ever(scene, guard):
    """It taught how far AlipayHK's clock may be behind: that must not let it in."""
    answered(scene)
    kept = scene.upstream.answer  # held back on the way, and never seen
    passes(scene, 8)
    answered(scene)
    await scene.exchange(PLAIN, replays=guard)
    scene.upstream.answer = kept
    for seconds in (8, 0, 0.5, 2, 60):
        passes(scene, seconds)
        with pytest.raises(ResponseStale):
            await scene.exchange(PLAIN, replays=guard)


async def test_an_answer_that_was_accepted_before_is_stale(scene, guard):
    answered(scene)
    await scene.exchange(PLAIN, replays=guard)
    passes(scene, 2)
    with pytest.raises(ResponseStale, match="accepted before"):
        await scene.exchange(PLAIN, replays=guard)


async def test_so_is_an_encrypted_one_and_nothing_is_unwrapped(scene, guard):
    scene.upstream.answer = scene.sealed()
    await scene.exchange(ENCRYPTED, replays=guard)
    passes(scene, 2)
    scene.steps.clear()
    with pytest.raises(ResponseStale, match="accepted before"):
        await scene.exchange(ENCRYPTED, replays=guard)
    assert "unwrap 1" not in scene.steps


async def test_equal_answers_of_one_second_are_as_good_as_others(scene, guard):
    answered(scene)
    for _ in range(2):
        scene.clock._seconds = 0.0
        assert (await scene.exchange(PLAIN, replays=guard)).verified


async def test_a_clock_that_goes_back_costs_one_answer(scene, guard):
    for _ in range(3):
        answered(scene, 60)
        await scene.exchange(PLAIN, replays=guard)
        passes(scene, 10)
    answered(scene, 0)
    with pytest.raises(ResponseStale):
        await scene.exchange(PLAIN, replays=guard)
    for _ in range(3):
        passes(scene, 9)
        answered(scene, 0)
        assert (await scene.exchange(PLAIN, replays=guard)).verified


async def test_a_clock_of_ours_that_is_set_costs_none(scene, guard):
    for step in (0, 200, -200, 100):
        scene.clock.moment += timedelta(seconds=step)
        scene.clock._seconds += 10
        answered(scene, -step)
        assert (await scene.exchange(PLAIN, replays=guard)).verified
        scene.clock.moment -= timedelta(seconds=step)
        scene.clock.moment += timedelta(seconds=10)


async def test_a_time_beyond_the_tolerance_teaches_nothing(scene, guard):
    answered(scene)
    await scene.exchange(PLAIN, replays=guard)
    before = guard.earliest(100.0)
    passes(scene, 10)
    answered(scene, -400)
    with pytest.raises(ResponseStale, match="clock_tolerance_s"):
        await scene.exchange(PLAIN, replays=guard)
    assert guard.earliest(100.0) == before


async def test_the_answer_to_a_repeat_may_be_the_one_to_the_first_attempt(scene, guard):
    """AlipayHK acts once on a requestId: it may answer the second time as the first."""
    answered(scene)
    await scene.exchange(PLAIN, replays=guard)
    passes(scene, 60)
    answered(scene)
    kept = scene.upstream.answer

    def lost(_):
        passes(scene, 6)
        return UpstreamDisconnected("cut")

    scene.upstream.answer = [lost, kept]
    answer = await scene.exchange(PLAIN, replays=guard, repeats=1, repeats_unknown=True)
    assert answer.verified
