"""Clocks that drift apart: seen, exported and warned of before answers are refused."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gateway.telemetry import answers
from gateway.telemetry.answers import MANY
from tests import peer
from tests.integration.conftest import change

SKEW = 'gateway_clock_skew_seconds{client="hk"}'
DATE_SKEW = 'gateway_clock_date_skew_seconds{client="hk"}'


def moved(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def at(house, seconds):
    """Let the wallet's clock be so far from ours."""
    house.wallet.answer = lambda request: house.wallet.signed(
        request, peer.SUCCESS, time=moved(seconds).isoformat(timespec="seconds")
    )


def refusing_at(house, seconds):
    """Let the wallet refuse without a signature, its Date so far from ours."""

    def answer(request):
        reply = house.wallet.signed(request, peer.FAILURE)
        reply.headers = [
            ("Content-Type", "application/json"),
            ("Date", format_datetime(moved(seconds), usegmt=True)),
        ]
        return reply

    house.wallet.answer = answer


async def warned(house):
    return b"AlipayHK's clock is" in (await house.admin_get("/readyz")).body


@pytest.mark.parametrize("sign", [1, -1])
async def test_a_skew_is_warned_of_at_half_the_tolerance_and_until_it_is_a_quarter(
    run_house, sign
):
    async with run_house(client={"clock_tolerance_s": 100}) as house:
        for skew, warns in ((40, False), (60, True), (40, True), (10, False)):
            at(house, sign * skew)
            # Where that clock went back, one answer is refused, and its equals with it:
            # those of the same second.
            async with asyncio.timeout(10):
                while (await house.caller.post()).status != 200:
                    pass
            assert await house.metric(SKEW) == pytest.approx(sign * skew, abs=5)
            assert await warned(house) is warns
        (began,) = house.events("clock_skewed")
        (ended,) = house.events("clock_in_step")
        assert began["client"] == ended["client"] == "hk"
        assert began["clock_tolerance_s"] == 100
        assert began["skew_s"] == pytest.approx(sign * 60, abs=5)
        assert (await house.admin_get("/readyz")).status == 200


async def test_a_skew_beyond_the_tolerance_is_refused_and_measured(run_house):
    async with run_house(client={"clock_tolerance_s": 100}) as house:
        at(house, -150)
        got = await house.caller.post()
        assert (got.status, got.code) == (502, "response_stale")
        assert got.problem["outcome"] == "answered"
        assert await house.metric(SKEW) == pytest.approx(-150, abs=5)
        assert await warned(house)
        assert house.exchanges[0]["clock_skew_s"] == pytest.approx(-150, abs=5)


async def test_the_date_of_an_unsigned_answer_is_good_enough_to_warn(run_house):
    async with run_house(client={"clock_tolerance_s": 100}) as house:
        refusing_at(house, 70)
        assert (await house.caller.post()).header("Gateway-Verified") == "false"
        assert await house.metric(DATE_SKEW) == pytest.approx(70, abs=5)
        assert await house.metric(SKEW) is None
        assert await warned(house)
        skew = house.exchanges[0]["date_skew_s"]
        assert skew == pytest.approx(70, abs=5)
        assert skew == round(skew, 6)
        refusing_at(house, 0)
        await house.caller.post()
        assert not await warned(house)
        assert len(house.events("clock_in_step")) == 1


async def test_a_signed_time_counts_more_than_a_date(run_house):
    async with run_house(client={"clock_tolerance_s": 100}) as house:

        def answer(request):
            reply = house.wallet.success(request)
            date = format_datetime(moved(90), usegmt=True)
            reply.headers.append(("Date", date))
            return reply

        house.wallet.answer = answer
        await house.caller.post()
        assert await house.metric(DATE_SKEW) == pytest.approx(90, abs=5)
        assert not await warned(house)


@pytest.mark.parametrize(
    "date", ["", "yesterday", "0", "Mon, 99 Nov 2026 00:00:00 GMT"]
)
async def test_a_date_that_is_none_is_passed_over(house, date):
    def answer(request):
        reply = house.wallet.success(request)
        reply.headers.append(("Date", date))
        return reply

    house.wallet.answer = answer
    assert (await house.caller.post()).status == 200
    assert await house.metric(DATE_SKEW) is None


async def test_a_warning_goes_by_the_tolerance_of_a_reload(run_house):
    async with run_house(client={"clock_tolerance_s": 100}) as house:
        at(house, 60)
        await house.caller.post()
        assert await warned(house)

        def widen(settings):
            settings["clients"][0]["clock_tolerance_s"] = 1000

        await change(house, widen)
        await house.caller.post()
        assert not await warned(house)


# --- no answer is of use -----------------------------------------------------


async def readiness(house):
    got = await house.admin_get("/readyz")
    return got.status, json.loads(got.body)


ROW = 'gateway_unverified_answers_in_a_row{client="hk"}'


async def test_a_clock_that_makes_every_answer_useless_makes_it_not_ready_for_a_while(
    run_house, monkeypatch
):
    monkeypatch.setattr(answers, "NOT_READY_S", 0.5)
    async with run_house(client={"clock_tolerance_s": 100}) as house:
        at(house, -150)
        for number in range(1, MANY + 1):
            assert (await readiness(house))[0] == 200
            assert (await house.caller.post()).code == "response_stale"
            assert await house.metric(ROW) == number
        status, page = await readiness(house)
        assert status == 503
        (reason,) = page["reasons"]
        assert "hk: no answer is of use, for its time" in reason
        (event,) = house.events("clock_unusable")
        assert (event["client"], event["level"]) == ("hk", "error")
        await ready_again(house)  # by itself: nobody may send before
        await house.caller.post()
        assert (await readiness(house))[0] == 503
        await ready_again(house)
        at(house, 0)
        assert (await house.caller.post()).status == 200
        assert (await readiness(house))[0] == 200
        assert len(house.events("clock_unusable")) == 1
        assert len(house.events("clock_usable")) == 1
        assert await house.metric(ROW) == 0


async def ready_again(house):
    async with asyncio.timeout(20):
        while (await readiness(house))[0] != 200:  # noqa: ASYNC110 - a page
            await asyncio.sleep(0.02)


def unsigned(house, code):
    """Let the wallet refuse each request without a signature."""

    def answer(request):
        body = json.dumps(
            {"resultInfo": {"resultStatus": "F", "resultCode": code}}
        ).encode()
        reply = house.wallet.signed(request, body)
        reply.headers = [("Content-Type", "application/json")]
        return reply

    house.wallet.answer = answer


def forged(house, _):
    house.wallet.answer = lambda request: house.wallet.signed(
        request, peer.SUCCESS, target="/elsewhere"
    )


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [(unsigned, "refused (INVALID_SIGNATURE)"), (forged, "signature_invalid")],
)
async def test_where_nothing_is_verified_any_more_it_is_told_with_its_cause_and_its_end(
    house, spoil, cause
):
    assert (await house.caller.post()).status == 200
    spoil(house, "INVALID_SIGNATURE")
    for _ in range(MANY):
        assert (await readiness(house))[1]["warnings"] == []
        await house.caller.post()
    (event,) = house.events("nothing_verified")
    assert (event["client"], event["cause"], event["answers"]) == ("hk", cause, MANY)
    assert event["level"] == "error"
    status, page = await readiness(house)
    assert status == 200  # another instance would do no better
    (warning,) = page["warnings"]
    assert warning.startswith("hk: AlipayHK answers, and none")
    assert cause in warning
    assert await house.metric(ROW) == MANY
    house.wallet.answer = house.wallet.success
    assert (await house.caller.post()).status == 200
    assert len(house.events("verified_again")) == 1
    assert (await readiness(house))[1]["warnings"] == []
    assert await house.metric(ROW) == 0
