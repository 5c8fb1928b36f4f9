"""Delivery: what is tried again, with what bytes, how often, and until when."""

import gc
import sys
from datetime import timedelta

import pytest

from gateway.errors import (
    KeyUnavailable,
    Outcome,
    Overloaded,
    ResponseMalformed,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.events import ExchangeRecord
from gateway.relay.breaker import Breaker, BreakerSettings
from gateway.relay.routes import Call
from tests import peer
from tests.unit.relay.conftest import header

PLAIN = Call(peer.TARGET, b'{"a":1}')
ENCRYPTED = Call(peer.TARGET, b'{"a":1}', encrypt=True)
NOT_SENT = UpstreamUnavailable("nobody there")
CUT = UpstreamDisconnected("cut")
LATE = UpstreamTimeout("late")


def good(scene):
    return peer.answer(scene.platform_key)


async def test_what_was_not_sent_is_tried_again_with_a_new_time_and_signature(scene):
    def nobody_there(_):
        scene.clock.moment += timedelta(seconds=2)
        return NOT_SENT

    scene.upstream.answer = [nobody_there, good(scene)]
    await scene.exchange(PLAIN, repeats=1)
    first, second = scene.upstream.sent
    assert header(first, "Request-Time") != header(second, "Request-Time")
    assert header(first, "Signature") != header(second, "Signature")
    assert first.body == second.body == PLAIN.body
    assert scene.record.attempts == 2
    assert scene.record.upstream_seconds == 0.5


@pytest.mark.parametrize("error", [CUT, LATE], ids=repr)
@pytest.mark.parametrize("call", [PLAIN, ENCRYPTED], ids=["plain", "encrypted"])
async def test_an_unknown_outcome_is_never_tried_again_by_itself(scene, error, call):
    scene.upstream.answer = error
    with pytest.raises(type(error)):
        await scene.exchange(call, repeats=5)
    assert len(scene.upstream.sent) == 1


@pytest.mark.parametrize("repeats", [0, 2])
@pytest.mark.parametrize("kind", [UpstreamDisconnected, UpstreamUnavailable])
async def test_an_exchange_that_failed_keeps_no_body(scene, kind, repeats):
    """Not even until garbage is looked for, which is seldom."""
    body = b'{"a":"%s"}' % (b"x" * 1000)
    before = sys.getrefcount(body)

    async def fail():
        def answer(_):
            raise kind("gone")

        scene.upstream.answer = answer
        with pytest.raises(kind):
            await scene.exchange(
                Call(peer.TARGET, body), repeats=repeats, repeats_unknown=True
            )

    gc.collect()
    gc.disable()
    try:
        await fail()
        scene.upstream.sent.clear()
        assert sys.getrefcount(body) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [CUT, LATE], ids=repr)
async def test_where_the_route_says_so_it_is_with_the_identical_body(scene, error):
    """Also where it is encrypted: AlipayHK sees the same ciphertext twice."""
    scene.upstream.answer = [error, error, scene.sealed()]
    answer = await scene.exchange(ENCRYPTED, repeats=2, repeats_unknown=True)
    assert answer.body == peer.SUCCESS
    first, second, third = scene.upstream.sent
    assert first.body == second.body == third.body
    assert header(first, "Encrypt") == header(third, "Encrypt")


AFTERWARDS = {
    "not sent": (NOT_SENT, CUT),
    "no key any more": (KeyUnavailable("gone"), CUT),
    "unknown again": (LATE, None),
    "answered, not trusted": (ResponseMalformed("x"), None),
}


@pytest.mark.parametrize(("then", "told"), AFTERWARDS.values(), ids=AFTERWARDS.keys())
async def test_once_an_outcome_was_unknown_it_is_never_told_as_not_sent(
    scene, then, told
):
    """AlipayHK may have acted on the first: "safe to send again" would be a lie."""
    scene.upstream.answer = [CUT, then]
    with pytest.raises(type(told or then)) as caught:
        await scene.exchange(PLAIN, repeats=1, repeats_unknown=True)
    assert caught.value is (told or then)
    assert caught.value.outcome is not Outcome.NOT_SENT
    assert len(scene.upstream.sent) == 2


@pytest.mark.parametrize("repeats", [0, 1, 3])
async def test_it_is_tried_again_so_often_and_no_more(scene, repeats):
    scene.upstream.answer = NOT_SENT
    with pytest.raises(UpstreamUnavailable):
        await scene.exchange(PLAIN, repeats=repeats)
    assert len(scene.upstream.sent) == scene.record.attempts == repeats + 1
    assert len(scene.clock.slept) == repeats


async def test_pauses_are_random_and_may_grow(scene):
    scene.upstream.answer = NOT_SENT
    given = iter([255, 0, 255, 9])
    scene.entropy = lambda size: bytes([next(given)] * size)
    with pytest.raises(UpstreamUnavailable):
        await scene.exchange(PLAIN, repeats=3)
    assert scene.clock.slept == [0.1, 0.0, pytest.approx(0.4)]


async def test_all_attempts_share_the_routes_deadline(scene):
    def slow(_):
        scene.clock.monotonic()
        scene.clock._seconds += 3
        return NOT_SENT

    scene.upstream.answer = slow
    with pytest.raises(UpstreamUnavailable):
        await scene.exchange(PLAIN, repeats=9)
    assert len(scene.upstream.timeouts) == 2
    assert scene.upstream.timeouts[1] < scene.upstream.timeouts[0] - 3


async def test_the_callers_own_deadline_counts_where_it_is_shorter(scene):
    await scene.exchange(Call(peer.TARGET, b"{}", deadline=3.0))
    assert scene.upstream.timeouts == [2.5]


async def test_it_never_is_longer_than_the_routes(scene):
    await scene.exchange(Call(peer.TARGET, b"{}", deadline=300.0))
    assert scene.upstream.timeouts == [7.25]


async def test_a_deadline_that_has_passed_already_sends_nothing(scene):
    with pytest.raises(Overloaded) as caught:
        await scene.exchange(Call(peer.TARGET, b"{}", deadline=0.2))
    assert caught.value.outcome is Outcome.NOT_SENT
    assert "the caller's own (Gateway-Timeout), which left 0.0 s" in caught.value.detail
    assert scene.upstream.sent == []
    assert scene.record.attempts == 0


@pytest.mark.parametrize(
    ("deadline", "words"),
    [
        (3.04, "The deadline is the caller's own (Gateway-Timeout), which left 2.8 s."),
        (300.0, "The deadline is the route's (routes[].timeout_s), 7.5 s."),
        (None, "The deadline is the route's (routes[].timeout_s), 7.5 s."),
    ],
)
@pytest.mark.parametrize("kind", [UpstreamTimeout, UpstreamUnavailable])
async def test_whose_deadline_it_was_is_told_in_rounded_seconds(
    scene, deadline, words, kind
):
    scene.upstream.answer = kind("Not in time.", at_deadline=True)
    with pytest.raises(kind) as caught:
        await scene.exchange(Call(peer.TARGET, b"{}", deadline=deadline))
    assert caught.value.detail == f"Not in time. {words}"


async def test_an_open_breaker_ends_it_at_once(scene):
    scene.upstream.answer = NOT_SENT
    breaker = Breaker(BreakerSettings(2, 10), scene.clock.monotonic)
    with pytest.raises(UpstreamUnavailable, match="in a row"):
        await scene.exchange(PLAIN, repeats=9, breaker=breaker)
    assert len(scene.upstream.sent) == scene.record.attempts == 2


async def test_what_an_open_breaker_stops_is_no_attempt_and_waited_for_nobody(scene):
    """Else thousands of nothings would hide how slow AlipayHK was before it fell."""
    scene.upstream.answer = NOT_SENT
    breaker = Breaker(BreakerSettings(1, 10), scene.clock.monotonic)
    with pytest.raises(UpstreamUnavailable):
        await scene.exchange(PLAIN, breaker=breaker)
    scene.record = ExchangeRecord("2")
    with pytest.raises(UpstreamUnavailable, match="in a row"):
        await scene.exchange(PLAIN, breaker=breaker)
    assert scene.record.attempts == 0
    assert scene.record.upstream_seconds is None


async def test_the_breaker_is_not_told_of_what_alipayhk_refuses(scene):
    breaker = Breaker(BreakerSettings(1, 10), scene.clock.monotonic)
    scene.upstream.answer = peer.answer(scene.platform_key, peer.FAILURE)
    for _ in range(3):
        await scene.exchange(PLAIN, breaker=breaker)
    assert len(scene.upstream.sent) == 3
