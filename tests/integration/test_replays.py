"""Answers that are sent a second time, and honest platforms, on real sockets."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests import peer
from tests.integration.conftest import change
from tests.integration.wallet import HONG_KONG

ENCRYPT = [("Gateway-Encrypt", "true")]


def when(seconds=0.0, resolution="seconds"):
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.astimezone(HONG_KONG).isoformat(timespec=resolution)


@pytest.mark.parametrize("headers", [[], ENCRYPT], ids=["plain", "encrypted"])
async def test_an_answer_that_was_accepted_is_refused_a_second_later(house, headers):
    wallet, kept = house.wallet, []

    def answer(request):
        make = wallet.encrypted if headers else wallet.signed
        kept.append(make(request, peer.SUCCESS))
        return kept[0]

    wallet.answer = answer
    assert (await house.caller.post(headers=headers)).status == 200
    await asyncio.sleep(1.2)  # the rule's own second
    got = await house.caller.post(headers=headers)
    assert (got.code, got.problem["outcome"]) == ("response_stale", "answered")
    assert "before" in got.problem["detail"]
    assert peer.SUCCESS not in got.body
    assert house.exchanges[-1]["code"] == "response_stale"


async def test_an_answer_that_was_kept_back_is_refused_to_a_later_request(house):
    """Nobody has seen it: its time alone gives it away."""
    assert (await house.caller.post()).status == 200
    wallet = house.wallet
    wallet.answer = lambda r: wallet.signed(r, peer.SUCCESS, time=when(-30))
    got = await house.caller.post()
    assert (got.code, got.problem["outcome"]) == ("response_stale", "answered")
    assert "earlier" in got.problem["detail"]


async def test_what_was_learned_of_a_clock_outlives_a_reload(house):
    assert (await house.caller.post()).status == 200
    await change(house, lambda settings: settings["routes"][0].update(timeout_s=9))
    wallet = house.wallet
    wallet.answer = lambda r: wallet.signed(r, peer.SUCCESS, time=when(-30))
    assert (await house.caller.post()).code == "response_stale"


@pytest.mark.parametrize("skew", [-290, -3, 0, 3, 290])
@pytest.mark.parametrize("resolution", ["seconds", "milliseconds"])
async def test_a_platform_whose_clock_is_off_is_believed(house, skew, resolution):
    wallet = house.wallet
    wallet.answer = lambda r: wallet.signed(
        r, peer.SUCCESS, time=when(skew, resolution)
    )
    for _ in range(5):
        got = await asyncio.gather(*(house.caller.post() for _ in range(8)))
        assert {each.header("Gateway-Verified") for each in got} == {"true"}


@pytest.mark.parametrize("at_the_end", [False, True], ids=["begun", "ended"])
async def test_a_platform_that_is_slow_now_and_then_is_believed(house, at_the_end):
    """Be its time that of the beginning or of the end of its work."""
    wallet, turns = house.wallet, iter(range(100))

    async def answer(request):
        begun = when()
        if next(turns) % 4 == 3:
            await asyncio.sleep(2.5)
        return wallet.signed(
            request, peer.SUCCESS, time=when() if at_the_end else begun
        )

    wallet.answer = answer
    for _ in range(2):
        got = await asyncio.gather(*(house.caller.post() for _ in range(8)))
        assert {each.header("Gateway-Verified") for each in got} == {"true"}


@pytest.mark.parametrize("status", [201, 302, 404, 500])
@pytest.mark.parametrize("headers", [[], ENCRYPT], ids=["plain", "encrypted"])
async def test_a_success_is_believed_under_a_status_of_success_alone(
    house, headers, status
):
    make = house.wallet.encrypted if headers else house.wallet.signed
    house.wallet.answer = lambda r: make(r, peer.SUCCESS, status=status)
    got = await house.caller.post(headers=headers)
    if status == 201:
        assert (got.status, got.body) == (201, peer.SUCCESS)
    else:
        assert (got.code, got.problem["outcome"]) == ("response_malformed", "answered")
        assert f"HTTP {status}" in got.problem["detail"]


@pytest.mark.parametrize("body", [b"", b"[]", b"OK", b"\xff"])
async def test_a_verified_plain_answer_is_a_json_object(house, body):
    house.wallet.answer = lambda r: house.wallet.signed(r, body)
    got = await house.caller.post()
    assert (got.code, got.problem["outcome"]) == ("response_malformed", "answered")
