"""The main job on real sockets: what AlipayHK gets, and what the service gets."""

import asyncio
import base64
import re
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests import peer
from tests.integration.caller import read_answer
from tests.integration.conftest import point_at
from tests.integration.wallet import Arrived, Reply

AWKWARD = {
    "duplicate keys": b'{"a":1,"a":2}',
    "a float that is whole": b'{"price":1.0,"big":1e400,"huge":' + b"9" * 5000 + b"}",
    "line ends of another world": b'{\r\n  "a": 1\r\n}\r\n',
    "escapes": rb'{"a":"\u00e9\/\ud83d\ude00\ud800 \"x\""}',
    "text that is not ASCII": '{"標題":"香港迪士尼樂園 😀"}'.encode(),
    "white space around it": b' \t\n{"a" : [ 1 ,2 ] }\n\n ',
    "an empty object": b"{}",
    "JSON inside a string": rb'{"contentInfo":"{\"title\":\"A\"}"}',
}


def unquoted(text):
    return base64.b64decode(unquote_to_bytes(text), validate=True)


def verify_by_hand(arrived, public_key):
    """Check the request's signature as AlipayHK would, without our code."""
    found = re.fullmatch(
        r"algorithm=RSA256,keyVersion=(\w+),signature=([A-Za-z0-9%]+)",
        arrived.header("Signature"),
    )
    assert found, arrived.header("Signature")
    base = peer.signature_base(
        target=arrived.target,
        client_id=arrived.header("Client-Id"),
        time=arrived.header("Request-Time"),
        body=arrived.body,
    )
    public_key.verify(unquoted(found[2]), base, padding.PKCS1v15(), hashes.SHA256())
    return found[1]


def decrypt_by_hand(arrived, private_key):
    found = re.fullmatch(
        r"algorithm=RSA_AES,keyVersion=(\w+),symmetricKey=([A-Za-z0-9%]+)",
        arrived.header("Encrypt"),
    )
    assert found, arrived.header("Encrypt")
    key = private_key.decrypt(unquoted(found[2]), padding.PKCS1v15())
    assert len(key) == 32
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()
    padded = decryptor.update(base64.b64decode(arrived.body, validate=True))
    return padded[: -padded[-1]]


async def test_a_plain_exchange_goes_out_signed_and_comes_back_verified(
    house, partner_key
):
    got = await house.caller.post()
    (arrived,) = house.wallet.arrived
    assert verify_by_hand(arrived, partner_key.public_key()) == "1"
    assert arrived.body == peer.REQUEST_BODY
    assert got.status == 200
    assert got.body == peer.SUCCESS
    assert got.header("Gateway-Verified") == "true"
    assert got.header("Content-Type") == "application/json; charset=UTF-8"
    assert got.header("Tracer-Id") == "tracer0001"
    assert got.header("Response-Time")


async def test_an_encrypted_exchange_goes_out_encrypted_and_comes_back_plain(
    house, partner_key, platform_key
):
    house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
    got = await house.caller.post(headers=[("Gateway-Encrypt", "true")])
    (arrived,) = house.wallet.arrived
    assert verify_by_hand(arrived, partner_key.public_key()) == "1"
    assert decrypt_by_hand(arrived, platform_key) == peer.REQUEST_BODY
    assert got.body == peer.SUCCESS
    assert got.header("Gateway-Verified") == "true"
    assert got.header("Encrypt") is None


@pytest.mark.parametrize("body", AWKWARD.values(), ids=AWKWARD.keys())
@pytest.mark.parametrize("encrypt", ["false", "true"])
async def test_bodies_are_passed_on_byte_for_byte(
    house, partner_key, platform_key, body, encrypt
):
    if encrypt == "true":
        house.wallet.answer = lambda r: house.wallet.encrypted(r, body)
    else:
        house.wallet.answer = lambda r: house.wallet.signed(r, body)
    got = await house.caller.post(body, headers=[("Gateway-Encrypt", encrypt)])
    (arrived,) = house.wallet.arrived
    verify_by_hand(arrived, partner_key.public_key())
    sent = decrypt_by_hand(arrived, platform_key) if encrypt == "true" else arrived.body
    assert sent == body
    assert got.body == body


async def test_the_request_carries_exactly_the_protocols_headers(house):
    await house.caller.post()
    (arrived,) = house.wallet.arrived
    assert sorted(name.lower() for name, _ in arrived.headers) == [
        "accept-encoding",
        "client-id",
        "content-length",
        "content-type",
        "host",
        "request-time",
        "signature",
        "user-agent",
    ]
    assert arrived.header("Client-Id") == peer.CLIENT_ID
    assert arrived.header("Content-Type") == "application/json; charset=UTF-8"
    assert arrived.header("Host") == f"localhost:{house.wallet.port}"
    time = arrived.header("Request-Time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00", time)
    assert abs((datetime.fromisoformat(time) - datetime.now(UTC)).total_seconds()) < 30


async def test_nothing_of_the_callers_headers_reaches_alipayhk(house):
    hostile = [
        ("Client-Id", "EVIL"),
        ("Request-Time", "2001-01-01T00:00:00Z"),
        ("Signature", "algorithm=RSA256,keyVersion=9,signature=x"),
        ("Encrypt", "algorithm=RSA_AES,keyVersion=9,symmetricKey=x"),
        ("Cookie", "canary=1"),
        ("Authorization", "Bearer canary"),
        ("Proxy-Authorization", "Basic canary"),
        ("Keep-Alive", "canary"),
        ("TE", "trailers"),
        ("X-Forwarded-For", "canary"),
        ("X-Anything", "canary"),
    ]
    got = await house.caller.post(headers=hostile)
    (arrived,) = house.wallet.arrived
    assert got.status == 200
    assert "canary" not in str(arrived.headers)
    assert "EVIL" not in str(arrived.headers)
    assert arrived.header("Client-Id") == peer.CLIENT_ID


@pytest.mark.parametrize(
    "query", ["?a=b", "?a=b&c=%E9%A6%99", "?x=1+2&y=a/b?c", "?%2F"]
)
async def test_the_query_string_is_kept_and_signed(house, partner_key, query):
    got = await house.caller.post(target=peer.TARGET + query)
    (arrived,) = house.wallet.arrived
    assert arrived.target == peer.TARGET + query
    verify_by_hand(arrived, partner_key.public_key())
    assert got.header("Gateway-Verified") == "true"


async def test_connections_to_alipayhk_are_kept_and_used_again(house):
    for _ in range(5):
        await house.caller.post()
    assert house.wallet.connections == 1


async def test_a_connection_that_closed_while_idle_costs_no_exchange(house):
    def answer_and_close(request):
        reply = house.wallet.success(request)
        reply.close = True
        return reply

    house.wallet.answer = answer_and_close
    statuses = [(await house.caller.post()).status for _ in range(5)]
    assert statuses == [200] * 5
    assert len(house.wallet.arrived) == 5


async def test_cookies_of_alipayhk_are_neither_kept_nor_passed_on(house):
    def with_cookie(request):
        reply = house.wallet.success(request)
        reply.headers.append(("Set-Cookie", "canary=1"))
        return reply

    house.wallet.answer = with_cookie
    first, _ = await house.caller.post(), await house.caller.post()
    assert first.header("Set-Cookie") is None
    assert house.wallet.arrived[1].header("Cookie") is None


@pytest.mark.parametrize("verified", [True, False])
async def test_an_answer_without_a_content_type_is_passed_on_without_one(
    house, verified
):
    def untyped(request):
        if not verified:
            return Reply(200, [], peer.FAILURE)
        reply = house.wallet.success(request)
        reply.headers = peer.with_header(reply.headers, "Content-Type")
        return reply

    house.wallet.answer = untyped
    got = await house.caller.post()
    assert got.header("Gateway-Verified") == str(verified).lower()
    assert got.header("Content-Type") is None


async def test_alipayhks_own_status_is_passed_on_when_it_is_verified(house):
    house.wallet.answer = lambda r: house.wallet.signed(r, peer.FAILURE, status=500)
    got = await house.caller.post()
    assert (got.status, got.body) == (500, peer.FAILURE)
    assert got.header("Gateway-Verified") == "true"


async def test_a_valid_exchange_id_is_kept_and_another_is_replaced(house):
    mine = await house.caller.post(headers=[("Gateway-Exchange-Id", "order-42.a_b")])
    assert mine.header("Gateway-Exchange-Id") == "order-42.a_b"
    bad = await house.caller.post(headers=[("Gateway-Exchange-Id", "no spaces please")])
    assert re.fullmatch("[0-9a-f]{32}", bad.header("Gateway-Exchange-Id"))
    long = await house.caller.post(headers=[("Gateway-Exchange-Id", "x" * 65)])
    assert re.fullmatch("[0-9a-f]{32}", long.header("Gateway-Exchange-Id"))
    assert [line["exchange_id"] for line in house.exchanges] == [
        got.header("Gateway-Exchange-Id") for got in (mine, bad, long)
    ]


async def test_a_chunked_request_is_sent_on_with_its_length(house):
    got = await house.caller.raw(
        f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
        '3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'.encode()
    )
    assert got.status == 200
    assert house.wallet.arrived[0].body == b'{"a":1}'


async def test_expect_100_continue_is_answered_before_the_body(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.caller.port)
    writer.write(
        f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n"
        "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode()
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await read_answer(reader)).status == 200
    writer.close()


async def test_where_clients_share_a_route_the_caller_picks_one(run_house):
    async with run_house() as house:
        settings = yaml.safe_load(house.file.read_text())
    first = settings["clients"][0]
    second = {**first, "name": "hk-2", "client_id": "OTHER"}
    routes = [{"path": peer.TARGET, "client": name} for name in ("hk", "hk-2")]
    async with run_house(routes=routes, more_clients=[second]) as house:
        await house.caller.post(headers=[("Gateway-Client", "hk-2")])
        nobody = await house.caller.post(headers=[("Gateway-Client", "nobody")])
        unnamed = await house.caller.post()
    assert [each.header("Client-Id") for each in house.wallet.arrived] == ["OTHER"]
    assert (nobody.status, nobody.code) == (404, "unknown_route")
    assert (unnamed.status, unnamed.code) == (400, "invalid_request")


@pytest.mark.parametrize("delay_s", [0, 0.05])
async def test_an_answer_that_nobody_asked_for_is_never_given_to_the_next(
    house, delay_s
):
    """Bytes on an idle connection spoil it: the next exchange takes another."""

    async def answer_twice(reader, writer):
        nonlocal connections
        connections += 1
        length = 0
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            arrived = Arrived(
                "POST", peer.TARGET, [("Client-Id", peer.CLIENT_ID)], body, connections
            )
            writer.write(house.wallet.signed(arrived, body).wire())
            await writer.drain()
            taken.append(body)
            await asyncio.sleep(delay_s)  # the connection is back in the pool by then
            writer.write(house.wallet.signed(arrived, b'{"stray":1}').wire())
            await writer.drain()
            strayed.set()

    connections, taken, strayed = 0, [], asyncio.Event()
    server = await asyncio.start_server(answer_twice, "127.0.0.1", 0)
    async with server:
        await point_at(house, server)
        for number in range(4):
            body = b'{"n":%d}' % number
            got = await house.caller.post(body)
            assert (got.body, taken[-1]) == (body, body), "another's answer"
            await strayed.wait()
            strayed.clear()
            await asyncio.sleep(0.05)  # the stray bytes are read by the gateway
    assert connections == len(taken) == 4
