"""Bounds that hold while callers and answers push against all of them."""

import asyncio
import json
import socket

import pytest

from tests import peer
from tests.integration.caller import read_answer
from tests.integration.test_callers import holding


def body_of(size):
    """Give a JSON object of exactly so many bytes."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


def post(body, *headers):
    lines = [f"POST {peer.TARGET} HTTP/1.1", "Host: g", *headers]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + body


def answer_of(house, size):
    """Let the wallet give signed answers of exactly so many bytes."""
    text = json.loads(peer.SUCCESS) | {"x": ""}
    body = json.dumps(text | {"x": "x" * (size - len(json.dumps(text)))}).encode()
    assert len(body) == size
    return lambda request: house.wallet.signed(request, body)


# --- heads ----------------------------------------------------------------------


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 400)])
async def test_a_head_is_as_large_as_it_may_be_and_no_larger(run_house, more, status):
    async with run_house(inbound={"max_header_bytes": 1024}) as house:
        known = [("Host", "g"), ("Content-Length", str(len(peer.REQUEST_BODY)))]
        used = sum(len(name) + len(value) + 4 for name, value in known)
        line = len(f"POST {peer.TARGET} HTTP/1.1\r\n")
        room = 1024 - line - used - len("X-Fill: \r\n\r\n")
        got = await house.caller.raw(
            post(peer.REQUEST_BODY, "X-Fill: " + "x" * (room + more))
        )
        assert got.status == status
        if more:
            assert got.code == "invalid_request"
            assert "inbound.max_header_bytes" in got.problem["detail"]
            assert house.wallet.arrived == []


FIELDS = "".join(f"X{n}: {'x' * 1000}\r\n" for n in range(20)).encode()


@pytest.mark.parametrize(
    "before",
    [
        f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\n".encode(),
        f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\n"
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n".encode(),
    ],
    ids=["head", "trailer"],
)
async def test_headers_without_end_are_refused_and_not_collected(house, before):
    reader, writer = await house.caller.connect()
    writer.write(before)
    await asyncio.sleep(0.1)  # what comes in one read with the body is not counted
    writer.write(FIELDS[: 16384 - 100])
    with pytest.raises(TimeoutError):  # it may be a head yet
        await asyncio.wait_for(reader.read(1), 0.2)
    writer.write(FIELDS[16384 - 100 : 16384 + 100])
    async with asyncio.timeout(5):  # idle_timeout_s is 75
        assert (await read_answer(reader)).code == "invalid_request"
    writer.close()
    assert house.wallet.arrived == []


async def test_of_requests_behind_the_present_one_few_are_read(run_house):
    """Each in a read of its own, so that it is not the size of a read that counts."""
    async with run_house() as house:
        answering = await holding(house)
        reader, writer = await house.caller.connect()
        transport = writer.transport
        transport.set_write_buffer_limits(0)
        whole = post(body_of(1 << 19))
        for _ in range(40):
            writer.write(whole)
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        await asyncio.sleep(0.3)
        assert transport.get_write_buffer_size() > 10 * len(whole), "it was read"
        answering.set()
        for _ in range(40):
            assert (await read_answer(reader)).status == 200
        writer.close()


async def test_a_head_that_comes_drop_by_drop_is_given_up(run_house):
    """Each drop is in time, and the whole is not."""
    async with run_house(inbound={"head_timeout_s": 0.3}) as house:
        reader, writer = await house.caller.connect()

        async def drip():
            for byte in post(b"{}", "X: " + "x" * 1000):
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.ensure_future(drip())
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        dripping.cancel()
        writer.close()


async def test_a_body_that_comes_drop_by_drop_is_given_up(run_house):
    async with run_house(inbound={"body_timeout_s": 0.3}) as house:
        reader, writer = await house.caller.connect()
        whole = post(body_of(1000))

        async def drip():
            writer.write(whole[:-990])
            for byte in whole[-990:]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.ensure_future(drip())
        async with asyncio.timeout(5):
            got = await read_answer(reader)
        dripping.cancel()
        writer.close()
        assert (got.status, got.code) == (400, "invalid_request")
        assert house.wallet.arrived == []


# --- connections ----------------------------------------------------------------


async def test_an_idle_connection_is_closed_and_one_at_work_is_not(run_house):
    bounds = {"idle_timeout_s": 0.3, "head_timeout_s": 0.3}
    async with run_house(inbound=bounds) as house:
        answering = await holding(house)
        reader, writer = await house.caller.connect()
        idle_reader, idle_writer = await house.caller.connect()
        writer.write(post(peer.REQUEST_BODY))
        assert await idle_reader.read() == b""
        answering.set()
        assert (await read_answer(reader)).status == 200
        assert await reader.read() == b""
        for each in (writer, idle_writer):
            each.close()


async def test_a_connection_beyond_those_at_work_is_closed_and_counted(run_house):
    async with run_house(inbound={"max_connections": 2}) as house:
        answering = await holding(house)
        kept = [await house.caller.connect() for _ in range(2)]
        for _, writer in kept:
            writer.write(post(peer.REQUEST_BODY))
        await house.seen(lambda: len(house.wallet.arrived) == 2, "not under way")
        reader, writer = await house.caller.connect()
        writer.write(post(peer.REQUEST_BODY))
        answer = await asyncio.gather(reader.read(), return_exceptions=True)
        assert answer == [b""] or isinstance(answer[0], ConnectionError)
        writer.close()
        assert await house.metric("gateway_connections_refused_total") == 1
        answering.set()
        for open_reader, _ in kept:  # those who were first are served
            assert (await read_answer(open_reader)).status == 200
        kept[0][1].close()
        await house.seen_metric("gateway_connections", 1)
        assert (await house.caller.post()).status == 200
        kept[1][1].close()
        assert house.events("loop_error") == []


async def silent_on(caller, count, data=b""):
    """Open connections, one behind the other, that send no more than this."""
    silent = []
    for _ in range(count):
        silent.append(await caller.connect())
        silent[-1][1].write(data)
    return silent


async def closed(reader):
    """Wait until a connection is closed or reset, with nothing on it before."""
    async with asyncio.timeout(5):
        (got,) = await asyncio.gather(reader.read(), return_exceptions=True)
    return got == b"" or isinstance(got, ConnectionError)


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nX: "], ids=len)
async def test_silent_connections_do_not_keep_probes_out(house, sent):
    """64 of them were enough, for 75 s; off loopback a stranger could open them."""
    silent = await silent_on(house.admin, 64, sent)
    try:
        for _ in range(3):
            async with asyncio.timeout(2):
                assert (await house.admin_get("/livez")).status == 200
        assert await closed(silent[0][0])  # the one that came first
        async with asyncio.timeout(5):
            while not (events := house.events("connections_full")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert [each["listener"] for each in events] == ["admin"]
        assert await house.metric("gateway_connections_refused_total") >= 1
    finally:
        for _, writer in silent:
            writer.close()
    assert house.events("loop_error") == []


async def test_silent_connections_do_not_keep_callers_out(run_house):
    async with run_house(inbound={"max_connections": 8}) as house:
        answering = await holding(house)
        busy_reader, busy = await house.caller.connect()
        busy.write(post(peer.REQUEST_BODY))
        await house.seen(lambda: house.wallet.arrived, "not under way")
        silent = await silent_on(house.caller, 40)
        reader, writer = await house.caller.connect()
        writer.write(post(peer.REQUEST_BODY))
        await house.seen(lambda: len(house.wallet.arrived) == 2, "kept out")
        answering.set()
        for each in (busy_reader, reader):  # what is under way is never cut off
            assert (await read_answer(each)).status == 200
        assert await house.metric("gateway_connections_refused_total") == 34
        (event,) = house.events("connections_full")
        assert (event["listener"], event["closed"]) == ("inbound", 1)
        for each in (busy, writer, *(each for _, each in silent)):
            each.close()
        assert house.events("loop_error") == []


async def test_who_was_never_heard_gives_way_before_the_longest_idle(run_house):
    async def ask(reader, writer):
        writer.write(post(peer.REQUEST_BODY))
        assert (await read_answer(reader)).status == 200

    async with run_house(inbound={"max_connections": 3}) as house:
        first, second, silent = [await house.caller.connect() for _ in range(3)]
        await ask(*second)  # so it is idle for longer than the first
        await ask(*first)
        third = await house.caller.connect()
        await ask(*third)
        assert await closed(silent[0])
        fourth = await house.caller.connect()
        await ask(*fourth)
        assert await closed(second[0])
        for each in (first, third, fourth):
            await ask(*each)
        for each in (first, second, third, fourth, silent):
            each[1].close()


async def test_the_bound_of_the_first_head_is_none_of_the_next(run_house):
    async with run_house(inbound={"head_timeout_s": 0.3}) as house:
        reader, writer = await house.caller.connect()
        silent, silent_writer = await house.caller.connect()
        for _ in range(2):
            writer.write(post(peer.REQUEST_BODY))
            assert (await read_answer(reader)).status == 200
            assert await closed(silent)  # so the bound is over
        for each in (writer, silent_writer):
            each.close()


# --- places ---------------------------------------------------------------------


async def test_who_finds_no_place_waits_its_turn(run_house):
    limits = {"max_concurrent": 1, "queue_timeout_s": 30}
    async with run_house(inbound=limits) as house, asyncio.TaskGroup() as tasks:
        answering = await holding(house)
        first = tasks.create_task(house.caller.post())
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        second = tasks.create_task(house.caller.post())
        await house.seen_metric("gateway_waiting", 1)
        assert len(house.wallet.arrived) == 1
        answering.set()
        assert [(await each).status for each in (first, second)] == [200, 200]
        assert await house.metric("gateway_waiting") == 0


@pytest.mark.parametrize(
    ("queue_s", "headers"), [(0.1, []), (30, [("Gateway-Timeout", "0.1")])]
)
async def test_who_waits_too_long_is_told_and_nothing_is_sent(
    run_house, queue_s, headers
):
    limits = {"max_concurrent": 1, "queue_timeout_s": queue_s}
    async with run_house(inbound=limits) as house, asyncio.TaskGroup() as tasks:
        answering = await holding(house)
        first = tasks.create_task(house.caller.post())
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        got = await house.caller.post(headers=headers)
        answering.set()
        assert (got.status, got.code) == (503, "overloaded")
        assert got.problem["outcome"] == "not_sent"
        assert (await first).status == 200
        assert len(house.wallet.arrived) == 1


async def test_who_waits_and_hangs_up_takes_nothing_with_it(run_house):
    limits = {"max_concurrent": 1, "queue_timeout_s": 30}
    async with run_house(inbound=limits) as house, asyncio.TaskGroup() as tasks:
        answering = await holding(house)
        first = tasks.create_task(house.caller.post())
        await house.seen(lambda: house.wallet.arrived, "nothing arrived")
        _, writer = await house.caller.connect()
        writer.write(post(peer.REQUEST_BODY))
        await house.seen_metric("gateway_waiting", 1)
        writer.transport.abort()
        answering.set()
        assert (await first).status == 200
        await house.seen(lambda: len(house.exchanges) == 2, "one is lost")
        assert await house.metric("gateway_in_flight") == 0
        assert await house.metric("gateway_buffered_bytes") == 0
        assert (await house.caller.post()).status == 200


# --- memory ---------------------------------------------------------------------

MOST = 100_000
TIGHT = {"max_body_bytes": MOST, "max_buffered_bytes": 1}
SMALL = {"max_response_bytes": MOST}
"""Room for one exchange: both bodies, and 84 KiB for the heads."""


async def test_bodies_beyond_the_memory_are_overloaded_and_the_rest_goes_on(run_house):
    async with (
        run_house(inbound=TIGHT, client=SMALL) as house,
        asyncio.TaskGroup() as tasks,
    ):
        answering = await holding(house)
        held = [tasks.create_task(house.caller.post(body_of(MOST))) for _ in range(2)]
        await house.seen(lambda: len(house.wallet.arrived) == 2, "nothing arrived")
        counted = await house.metric("gateway_buffered_bytes")
        assert 2 * MOST < counted < 2 * MOST + 8192
        got = await house.caller.post(body_of(MOST))
        assert (got.status, got.code) == (503, "overloaded")
        assert got.problem["outcome"] == "not_sent"
        assert "inbound.max_buffered_bytes" in got.problem["detail"]
        answering.set()
        assert [(await each).status for each in held] == [200, 200]
        assert len(house.wallet.arrived) == 2
        assert await house.metric("gateway_buffered_bytes") == 0
        assert (await house.caller.post(body_of(MOST))).status == 200


async def test_answers_find_room_where_requests_hold_all_of_it(run_house):
    """An answer cannot be refused: its exchange was carried out."""
    async with (
        run_house(inbound=TIGHT, client=SMALL) as house,
        asyncio.TaskGroup() as tasks,
    ):
        house.wallet.answer = answer_of(house, MOST)
        many = [tasks.create_task(house.caller.post(body_of(MOST))) for _ in range(20)]
        answers = [await each for each in many]
        ended = {each.status for each in answers}
        assert ended <= {200, 503}
        assert 200 in ended
        assert len(house.wallet.arrived) == [e.status for e in answers].count(200)
        assert await house.metric("gateway_buffered_bytes") == 0


async def test_a_chunked_answer_that_is_too_large_is_told_so_where_memory_is_tight(
    run_house,
):
    async with run_house(
        inbound=TIGHT, client={"max_response_bytes": 2 * MOST}
    ) as house:

        def answer(request):
            reply = answer_of(house, 500_000)(request)
            reply.headers.append(("Transfer-Encoding", "chunked"))
            reply.body = b"7a120\r\n" + reply.body + b"\r\n0\r\n\r\n"
            return reply

        house.wallet.answer = answer
        got = await house.caller.post()
        assert (got.status, got.code) == (502, "response_too_large")
        assert await house.metric("gateway_buffered_bytes") == 0


# --- callers that do not read ------------------------------------------------------


async def deaf(house, size):
    """Call, and read nothing of an answer that fits into no buffer on the way."""
    house.wallet.answer = answer_of(house, size)
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    caller.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(caller, ("127.0.0.1", house.caller.port))
    await loop.sock_sendall(caller, post(peer.REQUEST_BODY))
    return caller


async def test_a_caller_that_does_not_read_is_cut_off_and_holds_no_place(run_house):
    limits = {"write_timeout_s": 1, "max_concurrent": 1}
    size = 8 << 20
    async with run_house(inbound=limits) as house:
        caller = await deaf(house, size)
        with caller:
            await house.seen_metric("gateway_buffered_bytes", size, within=4096)
            assert await house.metric("gateway_in_flight") == 0
            house.wallet.answer = house.wallet.success
            assert (await house.caller.post()).status == 200
            await house.seen(lambda: len(house.exchanges) == 2, "it was not cut off")
        line = house.exchanges[1]
        assert (line["code"], line["delivered"]) == ("verified", False)
        # AlipayHK's time and ours, but not the second that the caller had.
        assert line["seconds"] - line["upstream_seconds"] < 1
        assert house.exchanges[0]["delivered"] is True
        series = (
            f'gateway_answers_undelivered_total{{client="hk",route="{peer.TARGET}"}}'
        )
        assert await house.metric(series) == 1
        assert await house.metric("gateway_buffered_bytes") == 0


async def test_an_answer_that_the_end_cuts_off_was_not_delivered(run_house):
    size = 8 << 20
    async with run_house(route={"timeout_s": 3}) as house:
        with await deaf(house, size):
            await house.seen_metric("gateway_buffered_bytes", size, within=4096)
            house.gateway.stop()
            house.gateway.stop()
            await house.seen(lambda: house.exchanges, "no line for it")
        (line,) = house.exchanges
        assert (line["code"], line["delivered"]) == ("verified", False)
        assert house.events("cut_off")[0]["requests"] == 1
