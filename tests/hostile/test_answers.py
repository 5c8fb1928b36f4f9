"""Malformed answers on raw sockets: the right bytes pass, or a problem, always."""

import pytest

from gateway.edge.problems import STATUS as CONTRACT
from tests import peer
from tests.hostile.answer_corpus import (
    BODY,
    CASES,
    CHUNKED,
    CHUNKS,
    LENGTH,
    OUTCOME,
    STATUS,
)
from tests.hostile.conftest import post, still_serves
from tests.hostile.platform_socket import Platform, Script, message, signed_headers
from tests.hostile.wire import Line, answers_in, turns
from tests.integration.conftest import running

on_house = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"client": {"max_response_bytes": 8192}}
GOOD = post(peer.REQUEST_BODY, "Connection: close")
FRAMES = {
    "length": lambda headers: message([*headers, LENGTH], BODY),
    "chunks": lambda headers: message([*headers, CHUNKED], CHUNKS),
    "end": lambda headers: message(headers, BODY),
}


async def exchange(house):
    """Make one exchange on a connection of its own; gives the one answer."""
    line = await Line.to(house.caller.port)
    line.write(GOOD)
    await line.until_end()
    (answer,), _, rest = answers_in(line.data)
    line.close()
    assert rest == b""
    return answer


def judge(answer, code):
    assert answer.code == code
    assert answer.status == STATUS.get(code, 502)
    if code == "verified":
        assert answer.body == BODY
    else:
        assert answer.problem["outcome"] == OUTCOME.get(code, "answered")
        assert b"SUCCESS" not in answer.body


ENDLESS = {n: case for n, case in CASES.items() if case.code == "upstream_timeout"}
ENDING = {name: case for name, case in CASES.items() if name not in ENDLESS}


@on_house
@pytest.mark.parametrize("case", ENDING.values(), ids=ENDING.keys())
async def test_an_answer_passes_whole_and_verified_or_is_a_problem(
    house, case, platform_key
):
    house.wallet.answer = lambda _: case.write(signed_headers(platform_key, BODY))
    judge(await exchange(house), case.code)
    assert len(house.wallet.requests) == 1, "sent again"
    assert house.events("loop_error") == []
    await recovers(house)


@pytest.mark.parametrize("case", ENDLESS.values(), ids=ENDLESS.keys())
async def test_an_answer_that_never_ends_is_given_up(hostile_house, case, platform_key):
    async with Platform(platform_key).listening() as platform:
        house = hostile_house(platform, route={"timeout_s": 0.2})
        platform.answer = lambda _: case.write(signed_headers(platform_key, BODY))
        async with running(house):
            judge(await exchange(house), "upstream_timeout")
            assert len(platform.requests) == 1, "sent again"


async def recovers(house):
    """The next exchange is its own: nothing of the case is left on a connection."""
    house.wallet.answer = house.wallet.success
    house.wallet.forget()
    await still_serves(house)


@on_house
@pytest.mark.parametrize(
    ("frame", "end"),
    [("length", "close"), ("length", "reset"), ("chunks", "close"), ("end", "close")],
)
async def test_an_answer_that_is_cut_at_any_byte_is_never_a_success(
    house, frame, end, platform_key
):
    whole = FRAMES[frame](signed_headers(platform_key, BODY))
    codes = set()
    for offset in range(len(whole)):
        house.wallet.forget()
        house.wallet.answer = lambda _, cut=whole[:offset]: Script((cut,), end)
        answer = await exchange(house)
        assert answer.code in CONTRACT, offset
        assert answer.status == 502
        assert answer.problem["outcome"] in ("unknown", "answered")
        assert b"SUCCESS" not in answer.body
        assert len(house.wallet.requests) == 1, "sent again"
        codes.add(answer.code)
    assert "upstream_disconnected" in codes
    assert house.events("loop_error") == []
    await recovers(house)


@on_house
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
async def test_an_answer_that_comes_byte_by_byte_is_the_same(
    house, frame, platform_key
):
    whole = frame(signed_headers(platform_key, BODY))
    pieces = tuple(bytes([byte]) for byte in whole)
    house.wallet.answer = lambda _: Script(pieces, "close")
    judge(await exchange(house), "verified")


@on_house
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "apart"])
@pytest.mark.parametrize("what", ["answer", "garbage", "a byte"])
async def test_bytes_behind_an_answer_are_nobodys_answer(
    house, what, apart, platform_key
):
    """A second answer, signed and fresh, is not given to the next exchange."""
    stray = b'{"resultInfo":{"resultCode":"STRAY","resultStatus":"S"}}'
    length = ("Content-Length", str(len(stray)))

    def answer(_):
        good = message([*signed_headers(platform_key, BODY), LENGTH], BODY)
        behind = {
            "answer": message([*signed_headers(platform_key, stray), length], stray),
            "garbage": b"\0\1\2\3",
            "a byte": b"H",
        }[what]
        return Script((good, behind) if apart else (good + behind,))

    house.wallet.answer = answer
    for _ in range(3):
        house.wallet.forget()
        got = await exchange(house)
        await turns(12)
        assert got.code in ("verified", "response_malformed")
        assert b"STRAY" not in got.body
        assert len(house.wallet.requests) == 1
    await recovers(house)


@on_house
@pytest.mark.parametrize("garbage", [False, True], ids=["an answer", "garbage"])
async def test_an_answer_before_the_request_is_not_said_to_be_sent_unless_it_was(
    house, garbage, platform_key
):
    """A platform that speaks first: either it was not asked, or the answer holds."""
    early = message([*signed_headers(platform_key, BODY), LENGTH], BODY)
    house.wallet.greeting = b"\0\1\2\3" if garbage else early
    house.wallet.answer = lambda _: Script((), "open")
    house.wallet.hang_up()
    await turns(6)
    house.wallet.forget()
    for _ in range(10):
        before = len(house.wallet.requests)
        answer = await exchange(house)
        asked = len(house.wallet.requests) - before
        if answer.code == "upstream_unavailable":
            assert (answer.problem["outcome"], asked) == ("not_sent", 0)
        elif answer.code == "verified":
            assert (answer.body, garbage) == (BODY, False)
        else:
            assert answer.code in ("response_malformed", "upstream_disconnected")
            assert answer.problem["outcome"] in ("unknown", "answered")
    house.wallet.greeting = b""
    house.wallet.hang_up()
    await turns(6)
    await recovers(house)


def test_there_are_as_many_cases_as_the_threat_model_says():
    assert len(CASES) >= 60
