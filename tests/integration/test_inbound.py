"""What the inbound listener refuses, in bytes, and what is never sent because of it."""

import asyncio

import pytest

from tests import peer
from tests.integration.caller import read_answer

TARGET = peer.TARGET
BODY = b'{"a":1}'
HEADERS = ("Host: g", "Connection: close", f"Content-Length: {len(BODY)}")


def request(
    line=f"POST {TARGET} HTTP/1.1",
    headers=HEADERS,
    body=BODY,
):
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1") + body


def with_headers(*more):
    return request(
        headers=("Host: g", "Connection: close", f"Content-Length: {len(BODY)}", *more)
    )


def with_body(body):
    return request(
        headers=("Host: g", "Connection: close", f"Content-Length: {len(body)}"),
        body=body,
    )


INVALID = {
    "no version": request(f"POST {TARGET}"),
    "another version": request(f"POST {TARGET} HTTP/2.0"),
    "an absolute target": request(f"POST http://evil{TARGET} HTTP/1.1"),
    "an authority": request("POST evil:443 HTTP/1.1"),
    "an asterisk": request("POST * HTTP/1.1"),
    "a relative target": request(f"POST {TARGET[1:]} HTTP/1.1"),
    "a target of another host": request(f"POST //evil{TARGET} HTTP/1.1"),
    "a fragment": request(f"POST {TARGET}#x HTTP/1.1"),
    "an empty query": request(f"POST {TARGET}? HTTP/1.1"),
    "a raw byte in the query": request(f"POST {TARGET}?\xe9 HTTP/1.1"),
    "a broken escape": request(f"POST {TARGET}?%zz HTTP/1.1"),
    "a quote in the query": request(f'POST {TARGET}?a="b" HTTP/1.1'),
    "a backslash": request(f"POST {TARGET}\\ HTTP/1.1"),
    "no Host": request(headers=("Connection: close", f"Content-Length: {len(BODY)}")),
    "two Hosts": with_headers("Host: evil"),
    "two lengths": with_headers("Content-Length: 1"),
    "one length twice": with_headers(f"Content-Length: {len(BODY)}"),
    "a length and chunks": with_headers("Transfer-Encoding: chunked"),
    "a negative length": request(headers=("Host: g", "Content-Length: -1")),
    "a length with a sign": request(headers=("Host: g", "Content-Length: +7")),
    "a length in hex": request(headers=("Host: g", "Content-Length: 0x7")),
    "an unknown coding": request(headers=("Host: g", "Transfer-Encoding: gzip")),
    "chunks in HTTP/1.0": request(
        f"POST {TARGET} HTTP/1.0",
        headers=("Host: g", "Transfer-Encoding: chunked"),
        body=b"2\r\n{}\r\n0\r\n\r\n",
    ),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a binary protocol": b"\x00\x01\x02\r\n\r\n",
    "two codings": request(headers=("Host: g", "Transfer-Encoding: gzip, chunked")),
    "chunked twice": request(
        headers=("Host: g", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked")
    ),
    "a bad chunk size": request(
        headers=("Host: g", "Connection: close", "Transfer-Encoding: chunked"),
        body=b"zz\r\n{}\r\n0\r\n\r\n",
    ),
    "a space before a colon": with_headers("X : y"),
    "a folded header": with_headers("X: a\r\n b"),
    "a NUL in a header": with_headers("X: a\0b"),
    "a bare LF": request().replace(b"\r\nHost", b"\nHost"),
    "a header of 20 KiB": with_headers("X: " + "x" * 20480),
    "129 headers": with_headers(*(f"X{n}: y" for n in range(200))),
    "a compressed body": with_headers("Content-Encoding: gzip"),
    "an expectation": with_headers("Expect: coffee"),
    "an unknown wish": with_headers("Gateway-Encrypt: maybe"),
    "two wishes": with_headers("Gateway-Encrypt: true", "Gateway-Encrypt: false"),
    "two clients": with_headers("Gateway-Client: hk", "Gateway-Client: hk"),
    "a reserved header": with_headers("Gateway-Verified: true"),
    "no body": with_body(b""),
    "text": with_body(b"hello"),
    "a list": with_body(b"[1]"),
    "a string": with_body(b'"a"'),
    "a number": with_body(b"1"),
    "null": with_body(b"null"),
    "two objects": with_body(b"{}{}"),
    "a trailing comma": with_body(b'{"a":1,}'),
    "a comment": with_body(b'{"a":1}// x'),
    "NaN": with_body(b'{"a":NaN}'),
    "Infinity": with_body(b'{"a":-Infinity}'),
    "a byte order mark": with_body(b'\xef\xbb\xbf{"a":1}'),
    "UTF-16": with_body('{"a":1}'.encode("utf-16")),
    "Latin-1": with_body('{"a":"é"}'.encode("latin-1")),
    "a control character": with_body(b'{"a":"\n"}'),
    "a NUL": with_body(b'{"a":1}\0'),
    "nesting without end": with_body(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "the legacy envelope": with_body(
        b'{"request":{"head":{"version":"1.0"},"body":{}},"signature":"x"}'
    ),
}


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID.keys())
async def test_an_invalid_request_is_a_problem_and_nothing_is_sent(house, data):
    got = await house.caller.raw(data)
    assert (got.status, got.code) == (400, "invalid_request")
    assert got.problem["outcome"] == "not_sent"
    assert got.problem["status"] == 400
    assert got.header("Gateway-Exchange-Id") == got.problem["exchange_id"]
    assert house.wallet.arrived == []
    assert house.exchanges[-1]["code"] == "invalid_request"


@pytest.mark.parametrize("size", [8190, 20480])
async def test_too_long_a_target_is_414(house, size):
    """And its code is that of any request that is not as it must be."""
    got = await house.caller.raw(request(f"POST /{'x' * size} HTTP/1.1"))
    assert (got.status, got.code) == (414, "invalid_request")
    assert got.problem["status"] == 414
    assert got.problem["outcome"] == "not_sent"
    assert "8190 bytes" in got.problem["detail"]
    assert house.exchanges[-1]["status"] == 414


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"G\0T / HTTP/1.1\r\n\r\n", "begins with no method"),
        (b"POST /\x01 HTTP/1.1\r\n\r\n", "target"),
        (b"POST / HTTP/1.1\r\nX : y\r\n\r\n", "a header's name"),
        (b"POST / HTTP/3.0\r\n\r\n", "version of HTTP"),
        (with_headers("Content-Length: 1"), "Content-Length is there twice"),
        (with_headers("Content-Encoding: gzip"), "The header Content-Encoding"),
        (with_headers("Gateway-Clinet: hk"), "The header Gateway-Clinet is not known"),
    ],
    ids=["method", "target", "header", "version", "length", "encoding", "unknown"],
)
async def test_what_is_wrong_is_named_in_words(house, data, words):
    detail = (await house.caller.raw(data)).problem["detail"]
    assert words in detail
    assert "Parser" not in detail
    assert "Error" not in detail


async def test_a_connect_that_names_nothing_is_answered_and_ends_the_connection(house):
    got = await house.caller.raw(b"CONNECT \r\n\r\n")
    assert (got.status, got.code) == (400, "invalid_request")
    assert got.problem["outcome"] == "not_sent"
    assert house.wallet.arrived == []


async def test_the_legacy_envelope_is_called_by_its_name(house):
    got = await house.caller.raw(INVALID["the legacy envelope"])
    assert "legacy" in got.problem["detail"]


@pytest.mark.parametrize(
    "method",
    ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "POSTS", "COFFEE"],
)
async def test_only_post_is_allowed(house, method):
    target = TARGET + "?a=b"
    got = await house.caller.raw(
        f"{method} {target} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".encode()
    )
    assert (got.status, got.code) == (405, "method_not_allowed")
    assert got.header("Allow") == "POST"


async def test_another_method_for_an_unknown_path_is_an_unknown_route(house):
    got = await house.caller.raw(b"GET /nowhere HTTP/1.1\r\nHost: g\r\n\r\n")
    assert (got.status, got.code) == (404, "unknown_route")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/api",
        TARGET + "/",
        TARGET.upper(),
        "/api/open/alipay/v1/content/../content/synchronize",
        "/api/open/alipay/v1/content/./synchronize",
        "/api//open/alipay/v1/content/synchronize",
        TARGET.replace("content", "%63ontent"),
        TARGET.replace("/v1/", "%2Fv1%2F"),
        TARGET + ";x=1",
        "/api/open/alipay/v1/merchant/order/sync",
    ],
)
async def test_a_path_that_is_not_configured_is_unknown(house, target):
    got = await house.caller.post(target=target)
    assert (got.status, got.code) == (404, "unknown_route")
    assert got.problem["outcome"] == "not_sent"
    assert house.wallet.arrived == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(run_house, chunked):
    async with run_house(inbound={"max_body_bytes": 100}) as house:
        fits = await house.caller.post(b'{"a":"' + b"x" * 92 + b'"}')
        too_large = b'{"a":"' + b"x" * 93 + b'"}'
        if chunked:
            got = await house.caller.raw(
                f"POST {TARGET} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"
                f"{len(too_large):x}\r\n".encode()
                + too_large
                + b"\r\n0\r\n\r\n"
            )
        else:
            got = await house.caller.post(too_large)
    assert fits.status == 200
    assert (got.status, got.code) == (413, "request_too_large")
    assert got.problem["outcome"] == "not_sent"
    assert len(house.wallet.arrived) == 1


async def test_a_body_that_never_ends_is_given_up(run_house):
    async with run_house(inbound={"body_timeout_s": 0.2}) as house:
        got = await house.caller.raw(
            f"POST {TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
    assert (got.status, got.code) == (400, "invalid_request")
    assert house.wallet.arrived == []


async def test_a_caller_that_hangs_up_in_its_body_sends_nothing(house):
    _, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    writer.write(
        f"POST {TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n{{".encode()
    )
    await writer.drain()
    writer.close()
    await house.seen(lambda: house.exchanges, "no line for the lost request")
    assert house.exchanges[0]["code"] == "invalid_request"
    assert house.wallet.arrived == []


async def test_more_exchanges_than_the_limit_are_refused_as_overloaded(run_house):
    async with run_house(inbound={"max_concurrent": 1}) as house:
        waiting = asyncio.Event()

        async def wait(arrived):
            await waiting.wait()
            return house.wallet.success(arrived)

        house.wallet.answer = wait
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(house.caller.post())
            await house.seen(lambda: house.wallet.arrived, "the first did not arrive")
            second = await house.caller.post()
            waiting.set()
        assert first.result().status == 200
        assert (second.status, second.code) == (503, "overloaded")
        assert second.problem["outcome"] == "not_sent"


@pytest.mark.parametrize(
    ("encryption", "wish", "code"),
    [
        ("required", "false", "encryption_required"),
        ("off", "true", "encryption_unavailable"),
    ],
)
async def test_a_wish_that_the_route_denies_is_refused(
    run_house, encryption, wish, code
):
    async with run_house(route={"encryption": encryption}) as house:
        got = await house.caller.post(headers=[("Gateway-Encrypt", wish)])
    assert (got.status, got.code) == (400, code)
    assert house.wallet.arrived == []


@pytest.mark.parametrize(
    ("encryption", "headers", "encrypted"),
    [
        ("required", [], True),
        ("required", [("Gateway-Encrypt", "true")], True),
        ("off", [], False),
        ("off", [("Gateway-Encrypt", "false")], False),
        ("optional", [], False),
        ("optional", [("Gateway-Encrypt", "true")], True),
        ("optional", [("gateway-encrypt", "True")], True),
    ],
)
async def test_the_route_and_the_wish_decide_on_encryption(
    run_house, encryption, headers, encrypted
):
    async with run_house(route={"encryption": encryption}) as house:
        house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
        got = await house.caller.post(headers=headers)
    assert got.body == peer.SUCCESS
    assert (house.wallet.arrived[0].header("Encrypt") is not None) is encrypted


async def test_requests_on_one_connection_are_answered_in_order(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    bodies = [b'{"n":%d}' % n for n in range(3)]
    for body in bodies:
        writer.write(
            f"POST {TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
    house.wallet.answer = lambda r: house.wallet.signed(r, r.body)
    assert [(await read_answer(reader)).body for _ in bodies] == bodies
    writer.close()


async def test_a_refused_request_ends_its_connection_so_that_no_byte_is_read_twice(
    house,
):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    smuggled = request()
    writer.write(with_headers("Transfer-Encoding: chunked") + smuggled)
    assert (await read_answer(reader)).code == "invalid_request"
    assert await reader.read() == b""
    assert house.wallet.arrived == []
    writer.close()


async def test_a_connection_that_never_sends_a_whole_head_is_closed(run_house):
    async with run_house(inbound={"idle_timeout_s": 0.2}) as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
        writer.write(f"POST {TARGET} HTTP/1.1\r\nHost: g\r\nX-Slow: ".encode())
        assert await reader.read() == b""
        writer.close()


# --- bodies that take their time ----------------------------------------------


async def begin(house, body, sent):
    """Begin a request and send so much of its body, once the gateway reads it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    writer.write(
        f"POST {TARGET} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n"
        f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body[:sent])
    return reader, writer


async def test_a_body_that_is_still_arriving_takes_no_exchange_from_others(run_house):
    async with run_house(inbound={"max_concurrent": 1}) as house:
        slow = [await begin(house, BODY, 3) for _ in range(3)]
        assert await house.metric("gateway_in_flight") == 0
        assert (await house.caller.post()).status == 200
        for reader, writer in slow:
            writer.write(BODY[3:])
            assert (await read_answer(reader)).status == 200
            writer.close()


async def test_a_body_that_arrives_when_all_exchanges_are_taken_is_overloaded(
    run_house,
):
    async with run_house(inbound={"max_concurrent": 1}) as house:
        answering = asyncio.Event()

        async def answer(arrived):
            await answering.wait()
            return house.wallet.success(arrived)

        house.wallet.answer = answer
        reader, writer = await begin(house, BODY, 3)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(house.caller.post())
            await house.seen(lambda: house.wallet.arrived, "nothing arrived")
            writer.write(BODY[3:])
            got = await read_answer(reader)
            answering.set()
        writer.close()
    assert (got.status, got.code) == (503, "overloaded")
    assert got.problem["outcome"] == "not_sent"
    assert len(house.wallet.arrived) == 1


async def test_bodies_that_are_still_arriving_hold_no_more_memory_than_exchanges(
    run_house,
):
    """There is room for one exchange here: 400 kB for bodies, 84 KiB for heads."""
    most = 200_000
    body = b'{"a":"' + b"x" * (most - 8) + b'"}'
    limits = {"max_body_bytes": most, "max_buffered_bytes": 1}
    async with run_house(inbound=limits, client={"max_response_bytes": most}) as house:
        slow = [await begin(house, body, 180_000) for _ in range(3)]
        answers = [asyncio.ensure_future(read_answer(reader)) for reader, _ in slow]
        (refused,), waiting = await asyncio.wait(
            answers, return_when=asyncio.FIRST_COMPLETED
        )
        got = refused.result()
        assert (got.status, got.code) == (503, "overloaded")
        assert got.problem["outcome"] == "not_sent"
        await house.seen_metric("gateway_buffered_bytes", 360_000, within=8192)
        for each in waiting:
            slow[answers.index(each)][1].write(body[180_000:])
            assert (await each).status == 200
        assert (await house.caller.post(body)).status == 200
        await house.seen_metric("gateway_buffered_bytes", 0)
        for _, writer in slow:
            writer.close()


async def test_a_body_that_is_arriving_when_the_gateway_drains_is_waited_for(house):
    reader, writer = await begin(house, BODY, 3)
    house.gateway.stop()
    await house.seen(lambda: house.events("draining"), "no draining")
    writer.write(BODY[3:])
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_a_body_that_does_not_arrive_while_the_gateway_drains_is_refused(
    house, monkeypatch
):
    """It is told that nothing was sent; a rolling restart is no defect."""
    monkeypatch.setattr("gateway.works._MARGIN_S", 0.2)
    reader, writer = await begin(house, BODY, 3)
    house.gateway.stop()
    answer = await read_answer(reader)
    assert (answer.status, answer.code) == (503, "overloaded")
    assert answer.problem["outcome"] == "not_sent"
    assert [line["code"] for line in house.exchanges] == ["overloaded"]
    writer.close()


# --- callers that close their half --------------------------------------------


async def post_and_close_half(house, data):
    """Send it, close our half, and wait until the gateway has seen that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    writer.write(data)
    writer.write_eof()
    await house.admin_get("/livez")
    return reader, writer


async def ends(reader):
    """Tell whether the gateway ends the connection by itself, and soon."""
    async with asyncio.timeout(5):
        return await reader.read() == b""


KEPT = request(headers=("Host: g", f"Content-Length: {len(BODY)}"))


async def test_a_caller_that_closes_its_half_gets_its_answer(house):
    answering = asyncio.Event()

    async def answer(arrived):
        await answering.wait()
        return house.wallet.success(arrived)

    house.wallet.answer = answer
    reader, writer = await post_and_close_half(house, KEPT)
    await house.seen(lambda: house.wallet.arrived, "nothing arrived")
    answering.set()
    assert (await read_answer(reader)).body == peer.SUCCESS
    assert await ends(reader)
    assert house.exchanges[-1]["code"] == "verified"
    writer.close()


async def test_each_of_several_requests_before_a_closed_half_is_answered(house):
    house.wallet.answer = lambda r: house.wallet.signed(r, r.body)
    bodies = [b'{"n":%d}' % n for n in range(3)]
    data = b"".join(
        request(headers=("Host: g", f"Content-Length: {len(body)}"), body=body)
        for body in bodies
    )
    reader, writer = await post_and_close_half(house, data)
    assert [(await read_answer(reader)).body for _ in bodies] == bodies
    assert await ends(reader)
    writer.close()


async def test_a_half_that_is_closed_within_a_body_ends_the_request_at_once(house):
    head = f"POST {TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n{{"
    reader, writer = await post_and_close_half(house, head.encode())
    async with asyncio.timeout(5):
        assert (await read_answer(reader)).code == "invalid_request"
    assert await ends(reader)
    assert house.wallet.arrived == []
    writer.close()


@pytest.mark.parametrize("data", [b"", b"POST / HTTP/1.1\r\nHost"])
async def test_a_half_that_is_closed_before_a_whole_head_ends_the_connection(
    house, data
):
    reader, writer = await post_and_close_half(house, data)
    assert await ends(reader)
    assert house.exchanges == []
    writer.close()


async def test_a_half_that_is_closed_after_an_answer_ends_the_connection(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    writer.write(KEPT)
    assert (await read_answer(reader)).status == 200
    writer.write_eof()
    assert await ends(reader)
    writer.close()


async def test_spaces_in_a_request_line_are_one_and_nothing_of_them_goes_on(house):
    """RFC 9112, 3 lets a recipient read it so; llhttp does, and hides it."""
    got = await house.caller.raw(request(f"POST   {TARGET}?a=b  HTTP/1.1"))
    assert got.status == 200
    assert house.wallet.arrived[0].target == TARGET + "?a=b"
