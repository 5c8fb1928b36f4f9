"""What a caller is told of an exchange of several attempts, whatever became of each.

A row is an exchange: what each attempt met, and what is told. "not sent" comes in every
form there is, and each of them must end alike.
"""

import asyncio
import itertools
from contextlib import suppress

import pytest

from gateway.errors import (
    ExchangeError,
    InternalError,
    KeyUnavailable,
    Outcome,
    Overloaded,
    ResponseMalformed,
    UpstreamDisconnected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.protocol import ReceivedResponse
from gateway.relay.breaker import Breaker, BreakerSettings
from gateway.relay.canary import CanaryWatch
from gateway.relay.outcome import Answer, Attempts
from gateway.relay.routes import Call
from tests import peer

REFUSAL = b'{"resultInfo":{"resultCode":"INVALID_SIGNATURE","resultStatus":"F"}}'
REFUSED = ReceivedResponse(200, [("Client-Id", peer.CLIENT_ID)], REFUSAL)
CALL = Call(peer.TARGET, b"{}")


def before_second_signature(scene, act):
    """Have something happen there, whichever key it is made with."""
    count = itertools.count(1)

    def watched(sign):
        async def signing(base):
            if next(count) == 2:
                act()
            return await sign(base)

        return signing

    for key in (scene.rings.ring.signer, scene.rings.ring.canary.key):
        key.sign = watched(key.sign)


def no_connection(scene, _):
    scene.upstream.answer.append(UpstreamUnavailable("nobody there"))


def no_time(scene, _):
    def pass_by():
        scene.clock._seconds += 10

    before_second_signature(scene, pass_by)


def no_key(scene, _):
    def fail():
        raise KeyUnavailable("its token is gone")

    before_second_signature(scene, fail)


def open_breaker(scene, breaker):
    def find_nobody():
        with suppress(UpstreamUnavailable), breaker.attempt():
            raise UpstreamUnavailable("nobody there")

    before_second_signature(scene, find_nobody)


NOT_SENT = [no_connection, no_time, no_key, open_breaker]


async def ended(scene, *, repeats=0, breaker=None):
    """Give how an exchange ended: its error, or what its answer is."""
    try:
        answer = await scene.exchange(
            CALL,
            repeats=repeats,
            repeats_unknown=True,
            canary=CanaryWatch(),
            breaker=breaker,
        )
    except ExchangeError as error:
        return f"{error.code} {error.outcome}"
    return "verified" if answer.verified else "refused"


@pytest.mark.parametrize("trouble", NOT_SENT)
async def test_a_refused_canary_whose_repeat_is_not_sent_ends_in_the_refusal(
    scene, trouble
):
    """AlipayHK saw it: `not_sent` would be a lie, and the refusal is the truth."""
    scene.try_version(1.0)
    breaker = Breaker(BreakerSettings(1, 10), scene.clock.monotonic)
    scene.upstream.answer = [REFUSED]
    trouble(scene, breaker)
    assert await ended(scene, breaker=breaker) == "refused"
    assert scene.attempts.written == 1


@pytest.mark.parametrize("trouble", NOT_SENT)
async def test_a_lost_attempt_whose_repeat_is_not_sent_stays_unknown(scene, trouble):
    scene.try_version(1.0)
    breaker = Breaker(BreakerSettings(1, 10), scene.clock.monotonic)
    scene.upstream.answer = [UpstreamDisconnected("cut")]
    trouble(scene, breaker)
    told = await ended(scene, repeats=1, breaker=breaker)
    assert told == "upstream_disconnected unknown"
    assert scene.attempts.written == 1


CUT, LATE = UpstreamDisconnected("cut"), UpstreamTimeout("late")
NOBODY = UpstreamUnavailable("nobody there")
ROWS = {
    "nothing": ([NOBODY], "upstream_unavailable not_sent"),
    "nothing, twice": ([NOBODY, NOBODY], "upstream_unavailable not_sent"),
    "cut": ([CUT], "upstream_disconnected unknown"),
    "cut, nothing": ([CUT, NOBODY], "upstream_disconnected unknown"),
    "cut, late": ([CUT, LATE], "upstream_timeout unknown"),
    "nothing, cut, nothing": ([NOBODY, CUT, NOBODY], "upstream_disconnected unknown"),
    "cut, garbled": ([CUT, ResponseMalformed("x")], "response_malformed answered"),
    "cut, good": ([CUT, peer.answer], "verified"),
    "refused, cut": ([REFUSED, CUT], "upstream_disconnected unknown"),
    "refused, cut, nothing": ([REFUSED, CUT, NOBODY], "upstream_disconnected unknown"),
    "refused, nothing, nothing": ([REFUSED, NOBODY, NOBODY], "refused"),
    "refused, nothing, cut": ([REFUSED, NOBODY, CUT], "upstream_disconnected unknown"),
    "refused, garbled": (
        [REFUSED, ResponseMalformed("x")],
        "response_malformed answered",
    ),
    "refused, refused": ([REFUSED, REFUSED], "refused"),
    "refused, good": ([REFUSED, peer.answer], "verified"),
    "cut, refused, nothing": ([CUT, REFUSED, NOBODY], "refused"),
    "cut, refused, cut": ([CUT, REFUSED, CUT], "upstream_disconnected unknown"),
}


@pytest.mark.parametrize(("steps", "told"), ROWS.values(), ids=ROWS.keys())
async def test_the_last_attempt_that_went_out_says_how_the_exchange_ended(
    scene, steps, told
):
    scene.try_version(1.0)
    scene.upstream.answer = [
        step(scene.platform_key) if step is peer.answer else step for step in steps
    ]
    repeats = len(steps) - 1 - (REFUSED in steps)
    assert await ended(scene, repeats=repeats) == told
    assert scene.upstream.answer == []
    assert scene.attempts.written == len(steps) - steps.count(NOBODY)
    assert scene.attempts.last is None


async def test_what_was_written_is_not_repeated_whatever_its_error_says(scene):
    """A client that is wrong about what it sent must not make a payment twice."""

    def mistaken(_):
        scene.attempts.wrote()
        raise UpstreamUnavailable("nobody there")

    scene.upstream.answer = [mistaken]
    with pytest.raises(InternalError) as caught:
        await scene.exchange(CALL, repeats=3)
    assert caught.value.outcome is Outcome.UNKNOWN
    assert len(scene.upstream.sent) == 1


CAUSES = [
    Overloaded("x"),
    KeyUnavailable("x"),
    TypeError("x"),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda each: type(each).__name__)
def test_whatever_ends_an_exchange_is_not_sent_until_a_byte_went_out(cause):
    attempts = Attempts()
    before = attempts.told(cause)
    assert before.outcome is Outcome.NOT_SENT
    assert before is cause or before.code == "internal_error"
    attempts.wrote()
    after = attempts.told(cause)
    assert (after.code, after.outcome) == ("internal_error", Outcome.UNKNOWN)


def test_an_error_that_is_true_is_told_as_it_is():
    attempts = Attempts()
    attempts.wrote()
    for error in (CUT, LATE, ResponseMalformed("x")):
        assert attempts.told(error) is error


def test_what_was_settled_is_not_kept():
    attempts = Attempts()
    attempts.wrote()
    attempts.last = answer = Answer(200, [], b"{}")
    assert attempts.settle(NOBODY) is answer
    assert attempts.last is None
