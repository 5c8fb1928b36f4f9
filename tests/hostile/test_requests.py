"""Malformed and smuggling requests on raw sockets, and a second reader's view of each.

What the gateway sends on is read by `h11`, strictly; and where the gateway takes a
request that `h11` as a server would not, or would take for another, the case says why
that does no harm.
"""

import pytest

from tests import peer
from tests.hostile.conftest import post, still_serves
from tests.hostile.platform_socket import check_signature
from tests.hostile.request_corpus import (
    BODY,
    CASES,
    GOOD,
    MAX_BODY,
    STATUS,
    TARGET,
    chunked,
)
from tests.hostile.wire import Line, answers_in, read_strictly, turns

on_house = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"inbound": {"max_body_bytes": MAX_BODY}}
OURS = {
    "host",
    "accept-encoding",
    "user-agent",
    "client-id",
    "request-time",
    "content-type",
    "signature",
    "content-length",
}
"""The headers of a request to AlipayHK, each once, and no other."""
SMUGGLED = post(b'{"smuggled":1}')
DRIPPED_AT_MOST = 400
"""Bytes of a case that is sent one by one."""

ALL = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
ENDING = {
    name: case
    for name, case in CASES.items()
    if case.ends and not case.then and case.codes[-1] != "verified"
}


async def play(house, case, send):
    """Send a case and hold all that comes of it against what it says."""
    line = await Line.to(house.caller.port)
    await send(line)
    if case.then == "half-close once answered":
        await line.until_answers(len(case.codes))
        line.half_close()
    elif case.then == "half-close":
        line.half_close()
    elif case.then == "reset":
        await turns(6)
        line.reset()
    if case.ends:
        await line.until_end()
    else:
        await line.until_answers(len(case.codes))
    judge(house, case, line.data)
    if case.ends:
        line.close()
        await still_serves(house)
    else:
        await still_serves(house, line)


def judge(house, case, data):
    answers, interim, rest = answers_in(data)
    assert [answer.code for answer in answers] == list(case.codes)
    assert rest == b""
    assert len(interim) == case.continues
    for answer in answers:
        last = answer is answers[-1] and case.status
        assert answer.status == (last or STATUS[answer.code])
        if answer.code != "verified":
            assert answer.problem["outcome"] == "not_sent"
            assert (
                answer.problem["exchange_id"] == answer.headers["gateway-exchange-id"]
            )
    check_arrived(house, case.sent)
    assert house.events("loop_error") == []


def check_arrived(house, sent):
    """Hold what h11 read off AlipayHK's sockets against what was meant."""
    arrived = house.wallet.requests
    assert [(each.target, each.body) for each in arrived] == list(sent)
    for each in arrived:
        names = [name.lower() for name, _ in each.headers]
        assert set(names) == OURS
        assert len(names) == len(OURS)
        assert each.method == "POST"
        assert each.header("Host") == f"localhost:{house.wallet.port}"
        assert each.header("Content-Length") == str(len(each.body))
        assert each.header("Client-Id") == peer.CLIENT_ID
        assert each.header("Content-Type") == "application/json; charset=UTF-8"
        check_signature(house.partner_public, each)
    for socket in house.wallet.sockets:
        assert (socket.reader.error, socket.reader.rest) == (None, b"")
        assert b"canary" not in socket.raw.lower()


@on_house
@ALL
async def test_a_case_ends_as_it_says_and_the_gateway_serves_on(house, case):
    async def at_once(line):
        line.write(case.data)

    await play(house, case, at_once)


@on_house
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name)
        for name, case in CASES.items()
        if len(case.data) <= DRIPPED_AT_MOST and case.apart != "-"
    ],
)
async def test_a_case_ends_the_same_if_it_comes_byte_by_byte(house, case):
    await play(house, case.in_many_reads(), lambda line: line.drip(case.data))


@on_house
@pytest.mark.parametrize("case", ENDING.values(), ids=ENDING.keys())
async def test_nothing_behind_a_refused_request_is_processed(house, case):
    async def with_more(line):
        line.write(case.data + SMUGGLED * 3)

    await play(house, case, with_more)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name) for name, case in CASES.items() if case.sent],
)
def test_a_second_reader_takes_it_for_the_same_or_the_case_says_why_not(case):
    """Only where requests are taken: what is refused can be misread by nobody."""
    requests, error = read_strictly(case.data)
    read = [(each.target, each.body) for each in requests[: len(case.sent)]]
    same = read == list(case.sent) and (error is None or len(case.codes) > len(read))
    assert same != bool(case.differs), (read, error)


@on_house
@pytest.mark.parametrize("offset", range(1, len(GOOD)))
async def test_a_request_in_two_pieces_is_one_request(house, offset):
    line = await Line.to(house.caller.port)
    line.write(GOOD[:offset])
    await turns()
    line.write(GOOD[offset:])
    await line.until_answers(1)
    (answer,), _, rest = answers_in(line.data)
    line.close()
    assert (answer.code, rest) == ("verified", b"")
    check_arrived(house, [(TARGET, BODY)])


@on_house
async def test_a_trailer_never_becomes_a_header_of_the_next_request(house):
    """Some readers would make it one, so chunks end their connection."""
    line = await Line.to(house.caller.port)
    line.write(CASES["chunks: a trailer that names a wish"].data)
    await line.until_answers(1)
    line.write(SMUGGLED)
    await line.until_end()
    assert [each.code for each in answers_in(line.data)[0]] == ["verified"]
    line.close()
    check_arrived(house, [(TARGET, BODY)])


@on_house
async def test_a_chunk_that_comes_late_and_malformed_is_refused_at_once(house):
    """And not when the body's deadline is over, which is later than any patience."""
    line = await Line.to(house.caller.port)
    line.write(chunked(b""))
    await turns()
    line.write(b"zz\r\n")
    await line.until_end()
    (answer,), _, _ = answers_in(line.data)
    line.close()
    assert answer.code == "invalid_request"


def test_there_are_as_many_cases_as_the_threat_model_says():
    assert len(CASES) >= 120
    assert len({(each.data, each.then) for each in CASES.values()}) == len(CASES)
