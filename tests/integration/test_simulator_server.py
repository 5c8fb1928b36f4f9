"""The simulator on real sockets: each fault does on the wire what its row says.

The client is bytes over asyncio's streams, and its cryptography is `tests.peer`'s.
"""

import asyncio
import base64
import gzip
import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import unquote

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from gateway.errors import SetupError
from gateway.keys import formats
from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.faults import FAULTS
from gateway.simulator.server import running
from tests import peer

SLOW_S = 0.3
OF_THE_SERVER = {"Server", "Date", "Content-Length", "Connection"}
SUCCESS = {
    "resultInfo": {
        "resultCode": "SUCCESS",
        "resultStatus": "S",
        "resultMessage": "Success",
    }
}
BODY = json.dumps(
    {"requestId": "1", "contentId": "C001", "contentType": "SKU", "contentStatus": 1}
).encode()


@dataclass
class Seen:
    """What came back on one connection, and how it ended: eof or reset."""

    keys: "Keys"
    data: bytes = b""
    end: str = ""
    times: list[float] = field(default_factory=list)

    @property
    def head(self):
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")

    @property
    def body(self):
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def status(self):
        return int(self.head[0].split(" ")[1])

    @property
    def headers(self):
        return [tuple(line.split(": ", 1)) for line in self.head[1:]]

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    def one(self, name):
        (value,) = self.all(name)
        return value

    @property
    def whole(self):
        return int(self.one("Content-Length")) == len(self.body)

    def holds(
        self, key=None, *, target=peer.TARGET, client_id=peer.CLIENT_ID, body=None
    ):
        base = peer.signature_base(
            target=target,
            client_id=client_id,
            time=self.one("Response-Time"),
            body=self.body if body is None else body,
        )
        key = key or self.keys.platform.public_key()
        try:
            signature = value_of(self.all("Signature")[0], "signature")
            key.verify(signature, base, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def opened(self, key=None):
        """Decrypt the body. Raises ValueError if it does not open."""
        wrapped = value_of(self.all("Encrypt")[0], "symmetricKey")
        content_key = (key or self.keys.partner).decrypt(wrapped, padding.PKCS1v15())
        return json.loads(peer.unseal(self.body, content_key))

    def opens(self, key=None):
        try:
            return self.opened(key) == SUCCESS
        except ValueError:
            return False

    @property
    def hours_ahead(self):
        time = datetime.fromisoformat(self.one("Response-Time"))
        return (time - peer.NOW) / timedelta(hours=1)


def value_of(header, name):
    pairs = dict(pair.strip().split("=", 1) for pair in header.split(","))
    return base64.b64decode(unquote(pairs[name]), validate=True)


@dataclass
class Keys:
    partner: object
    platform: object


class Client:
    """Sends signed requests to a running simulator, and reads whatever comes."""

    def __init__(self, simulator, where, keys):
        self.simulator = simulator
        self.where = where
        self.keys = keys

    async def post(self, name="none", *, encrypted=False):
        """Send a right request that asks for a fault by its query."""
        target = f"{peer.TARGET}?simulate={name}"
        encrypt, body = None, BODY
        if encrypted:
            wrapped = peer.wrap(self.keys.platform.public_key())
            encrypt, body = peer.encrypt_header(wrapped), peer.seal(BODY)
        request = peer.call(self.keys.partner, body, target=target, encrypt=encrypt)
        return await self.send(wire(request))

    async def send(self, data, address=None):
        reader, writer = await asyncio.open_connection(*(address or self.where.listen))
        seen = Seen(self.keys)
        started = asyncio.get_running_loop().time()
        try:
            writer.write(data)
            while chunk := await reader.read(1 << 20):
                seen.data += chunk
                seen.times.append(asyncio.get_running_loop().time() - started)
            seen.end = "eof"
        except ConnectionResetError:
            seen.end = "reset"
        finally:
            writer.close()
        return seen

    async def control(self, method, path, body=b""):
        head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        return await self.send(data, self.where.control)


def wire(request, *more):
    lines = [
        f"{request.method} {request.target} HTTP/1.1",
        "Host: alipayhk",
        "Connection: close",
        f"Content-Length: {len(request.body)}",
        *(f"{name}: {value}" for name, value in (*request.headers, *more)),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


@pytest.fixture
def keys(partner_key, platform_key):
    return Keys(partner_key, platform_key)


@pytest.fixture
def simulator(keys):
    return AlipayHK(
        keys={"1": keys.platform},
        active="1",
        partners={peer.CLIENT_ID: {"1": keys.partner.public_key()}},
        clock=lambda: peer.NOW,
        entropy=os.urandom,
    )


@pytest.fixture
async def client(simulator, keys):
    async with running(simulator, slow_s=SLOW_S) as where:
        yield Client(simulator, where, keys)


# --- each fault on the wire --------------------------------------------------

TARGETS = {name: f"{peer.TARGET}?simulate={name}" for name in FAULTS}


def signed(seen, name):
    return seen.status == 200 and seen.whole and seen.holds(target=TARGETS[name])


def is_plain(code, status):
    def check(seen, name):
        assert signed(seen, name)
        assert not seen.all("Encrypt")
        info = json.loads(seen.body)["resultInfo"]
        assert (info["resultCode"], info["resultStatus"]) == (code, status)

    return check


def is_unsigned(code, status):
    def check(seen, name):
        assert seen.status == 200
        assert not seen.all("Signature") + seen.all("Response-Time")
        info = json.loads(seen.body)["resultInfo"]
        assert (info["resultCode"], info["resultStatus"]) == (code, status)

    return check


def has(header, value):
    def check(seen, name):
        assert value in seen.one(header)
        assert signed(seen, name)

    return check


def lacks(header):
    def check(seen, _name):
        assert not seen.all(header)
        assert len(seen.all("Signature") + seen.all("Response-Time")) >= 1

    return check


def repeats(header):
    def check(seen, _name):
        first, second = seen.all(header)
        assert first == second

    return check


def is_off_by(hours):
    def check(seen, name):
        assert seen.hours_ahead == hours
        assert signed(seen, name)

    return check


def is_sealed_wrongly(seen, name):
    assert signed(seen, name)
    assert not seen.opens()


def is_for_alipayhk_itself(seen, name):
    is_sealed_wrongly(seen, name)
    assert seen.opens(seen.keys.platform)


def bad_signature(seen, name):
    assert not signed(seen, name)
    assert len(value_of(seen.one("Signature"), "signature")) == 256


def altered_body(seen, name):
    assert not signed(seen, name)
    assert seen.holds(target=TARGETS[name], body=seen.body[:-1])


def other_target(seen, name):
    assert seen.holds(target=f"{TARGETS[name]}/other")


def empty_signature(seen, _name):
    assert seen.one("Signature") == ""
    assert seen.one("Response-Time")


def empty_signature_value(seen, _name):
    assert seen.one("Signature") == "algorithm=RSA256,keyVersion=1,signature="


def reordered_signature(seen, name):
    assert seen.one("Signature").endswith(", keyVersion=1, algorithm=rsa256")
    assert signed(seen, name)


def time_in_milliseconds(seen, name):
    assert seen.one("Response-Time") == f"{peer.NOW.timestamp() * 1000:.0f}"
    assert signed(seen, name)


def lower_case_headers(seen, name):
    ours = [key for key, _ in seen.headers if key not in OF_THE_SERVER]
    assert ours == [
        "client-id",
        "content-type",
        "response-time",
        "signature",
        "tracer-id",
    ]
    assert json.loads(seen.body) == SUCCESS


def other_client_id(seen, name):
    theirs = seen.one("Client-Id")
    assert theirs != peer.CLIENT_ID
    assert seen.holds(target=TARGETS[name], client_id=theirs)


def not_json(seen, name):
    assert signed(seen, name)
    with pytest.raises(ValueError):
        json.loads(seen.body)


def not_json_unsigned(seen, _name):
    assert not seen.all("Signature") + seen.all("Response-Time")
    with pytest.raises(ValueError):
        json.loads(seen.body)


def http_error(seen, _name):
    assert seen.status == 502
    assert seen.one("Content-Type").startswith("text/html")
    assert not seen.all("Signature") + seen.all("Response-Time")


def redirect(seen, _name):
    assert (seen.status, seen.one("Location")) == (307, "/redirected")
    assert not seen.all("Signature")


def is_compressed(seen, name):
    assert seen.one("Content-Encoding") == "gzip"
    assert json.loads(gzip.decompress(seen.body)) == SUCCESS
    assert seen.holds(target=TARGETS[name], body=gzip.decompress(seen.body))


def huge(seen, name):
    assert len(seen.body) > 8 << 20
    assert signed(seen, name)


def huge_headers(seen, _name):
    assert sum(map(len, seen.head)) > 1 << 20


def slow(seen, name):
    assert seen.times[0] > SLOW_S * 0.9
    assert signed(seen, name)


def slow_body(seen, name):
    assert len(seen.times) > 5
    assert seen.times[-1] > SLOW_S * 0.9
    assert signed(seen, name)


def huge_declared(seen, _name):
    assert seen.one("Content-Length") == f"{1 << 30}"
    assert json.loads(seen.body) == SUCCESS
    assert seen.times[-1] < SLOW_S
    assert seen.end == "eof"


def truncated(seen, _name):
    assert json.loads(seen.body) == SUCCESS
    assert int(seen.one("Content-Length")) > len(seen.body)
    assert seen.end == "eof"


def reset_before(seen, _name):
    assert (seen.data, seen.end) == (b"", "reset")


def reset_during(seen, _name):
    assert seen.end == "reset"
    if seen.data:  # a reset may overtake what was sent before it
        assert int(seen.one("Content-Length")) > len(seen.body)


def bad_http(seen, _name):
    assert not seen.data.startswith(b"HTTP/")
    assert seen.data
    assert seen.end == "eof"


CHECKS = {
    "none": is_plain("SUCCESS", "S"),
    "content_risky": is_plain("CONTENT_RISKY", "F"),
    "unknown_exception": is_plain("UNKNOWN_EXCEPTION", "F"),
    "param_illegal": is_plain("PARAM_ILLEGAL", "F"),
    "bad_signature": bad_signature,
    "altered_body": altered_body,
    "other_target": other_target,
    "empty_signature": empty_signature,
    "empty_signature_value": empty_signature_value,
    "unknown_key_version": has("Signature", ",keyVersion=unknown,"),
    "no_key_version": has("Signature", ",keyVersion=,"),
    "reordered_signature": reordered_signature,
    "no_signature": is_unsigned("SUCCESS", "S"),
    "unsigned_refusal": is_unsigned("INVALID_SIGNATURE", "F"),
    "unsigned_unknown": is_unsigned("UNKNOWN_EXCEPTION", "U"),
    "signature_without_time": lacks("Response-Time"),
    "time_without_signature": lacks("Signature"),
    "clock_ahead": is_off_by(1),
    "clock_behind": is_off_by(-1),
    "time_in_milliseconds": time_in_milliseconds,
    "lower_case_headers": lower_case_headers,
    "other_client_id": other_client_id,
    "missing_client_id": lacks("Client-Id"),
    "repeated_signature": repeats("Signature"),
    "repeated_response_time": repeats("Response-Time"),
    "repeated_client_id": repeats("Client-Id"),
    "repeated_encrypt": repeats("Encrypt"),
    "plain_answer": is_plain("SUCCESS", "S"),
    "encrypted_refused_plainly": is_plain("PARAM_ILLEGAL", "F"),
    "wrong_content_key": is_sealed_wrongly,
    "wrong_recipient": is_for_alipayhk_itself,
    "unknown_encrypt_version": has("Encrypt", ",keyVersion=unknown,"),
    "bad_padding": is_sealed_wrongly,
    "not_json": not_json,
    "not_json_unsigned": not_json_unsigned,
    "http_error": http_error,
    "redirect": redirect,
    "gzip": is_compressed,
    "huge": huge,
    "huge_headers": huge_headers,
    "slow": slow,
    "slow_body": slow_body,
    "huge_declared": huge_declared,
    "truncated": truncated,
    "reset_before": reset_before,
    "reset_during": reset_during,
    "bad_http": bad_http,
}

# Of these, an encrypted request's answer is told apart from a plain one's.
ALWAYS_PLAIN = {
    "unsigned_refusal",
    "unsigned_unknown",
    "plain_answer",
    "encrypted_refused_plainly",
    "not_json_unsigned",
    "http_error",
    "redirect",
}


def test_every_fault_has_a_check():
    assert set(CHECKS) == set(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_does_on_the_wire_what_its_row_says(client, name):
    seen = await client.post(name)

    CHECKS[name](seen, name)
    (record,) = client.simulator.records
    assert (record.fault, record.target) == (name, TARGETS[name])


@pytest.mark.parametrize("name", sorted(ALWAYS_PLAIN))
async def test_a_fault_that_is_always_plain_is_so_to_an_encrypted_request(client, name):
    seen = await client.post(name, encrypted=True)

    CHECKS[name](seen, name)
    assert client.simulator.records[0].encrypted


async def test_an_encrypted_request_gets_an_encrypted_answer(client):
    seen = await client.post(encrypted=True)

    assert signed(seen, "none")
    assert seen.opened() == SUCCESS


# --- the server --------------------------------------------------------------


async def test_a_request_is_shown_exactly_as_it_arrived(simulator, keys):
    exchanges = []
    target = "/a%2Fb//c%20?q=%E9%A6%99+%2B&simulate=bad_signature"
    body = gzip.compress(b"{}", mtime=0)
    request = peer.call(keys.partner, body, target=target)
    more = [("x-Twice", "1"), ("X-TWICE", "2"), ("Content-Encoding", "gzip")]

    async with running(simulator, on_exchange=exchanges.append) as where:
        await Client(simulator, where, keys).send(wire(request, *more))

    (exchange,) = exchanges
    assert exchange.request.method == "POST"
    assert exchange.request.target == target
    assert exchange.request.body == body
    assert list(exchange.request.headers) == [
        ("Host", "alipayhk"),
        ("Connection", "close"),
        ("Content-Length", str(len(body))),
        *request.headers,
        *more,
    ]
    assert exchange.record.signed, "the signature holds over these bytes"
    assert exchange.response.status == 200


async def test_an_exchange_is_shown_before_its_answer_is_delivered(simulator, keys):
    shown = asyncio.Event()

    async with running(
        simulator, slow_s=3600, on_exchange=lambda _: shown.set()
    ) as where:
        client = Client(simulator, where, keys)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(client.post("slow"))
            async with asyncio.timeout(5):
                await shown.wait()
            waiting.cancel()


@pytest.mark.parametrize("name", ["slow", "slow_body", "huge_declared"])
async def test_it_ends_at_once_while_an_answer_is_under_way(simulator, keys, name):
    arrived = asyncio.Event()

    async with asyncio.TaskGroup() as tasks:
        async with running(
            simulator, slow_s=3600, on_exchange=lambda _: arrived.set()
        ) as where:
            pending = tasks.create_task(Client(simulator, where, keys).post(name))
            async with asyncio.timeout(5):
                await arrived.wait()
        async with asyncio.timeout(5):
            seen = await pending

    assert seen.end in ("eof", "reset")


async def test_one_connection_carries_several_requests(client, keys):
    request = peer.call(keys.partner, BODY)
    data = wire(request).replace(b"Connection: close", b"Connection: keep-alive")

    reader, writer = await asyncio.open_connection(*client.where.listen)
    for _ in range(2):
        writer.write(data)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        assert json.loads(await reader.readexactly(int(length))) == SUCCESS
    writer.close()


async def test_a_chunked_body_is_put_together(client, keys):
    request = peer.call(keys.partner, BODY)
    head = wire(request).partition(b"\r\n\r\n")[0]
    head = head.replace(
        b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked"
    )
    half = len(BODY) // 2
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:half], BODY[half:], b"")
    )

    seen = await client.send(head + b"\r\n\r\n" + chunks)

    assert seen.holds()


async def test_what_is_not_http_gets_no_answer_of_alipayhks(client):
    seen = await client.send(b"not http\r\n\r\n")

    assert seen.status == 400
    assert not client.simulator.records


async def test_a_request_without_signature_is_refused_unsigned(client):
    seen = await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert seen.status == 200
    assert json.loads(seen.body)["result"]["resultStatus"] == "F"
    assert not seen.all("Signature") + seen.all("Response-Time")


async def test_every_answer_says_that_it_is_not_for_production(client):
    for name in ("none", "truncated"):
        assert "not for production" in (await client.post(name)).one("Server")


@asynccontextmanager
async def taken_address():
    server = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


@pytest.mark.parametrize("listener", ["listen", "control"])
async def test_an_address_in_use_is_an_error_of_one_line(simulator, listener):
    async with taken_address() as address:
        with pytest.raises(SetupError) as caught:
            async with running(simulator, **{listener: address}):
                pass

    assert caught.value.detail == (
        f"127.0.0.1:{address[1]}: Address already in use. "
        "Choose another address to listen on."
    )


async def test_a_name_that_does_not_resolve_is_an_error_of_one_line(simulator):
    with pytest.raises(SetupError, match=r"^host\.invalid:0: .+\. Choose another"):
        async with running(simulator, listen=("host.invalid", 0)):
            pass


# --- the control listener ----------------------------------------------------


async def test_the_control_listener_explains_itself(client):
    seen = await client.control("GET", "/")

    assert b"Not for production" in seen.body
    for path in ("/faults", "/fault", "/exchanges", "/livez", "/partners/"):
        assert path.encode() in seen.body


async def test_it_is_alive(client):
    assert (await client.control("GET", "/livez")).status == 200


async def test_it_lists_every_fault(client):
    rows = json.loads((await client.control("GET", "/faults")).body)

    assert [row["name"] for row in rows] == list(FAULTS)
    by_name = {row["name"]: row for row in rows}
    assert by_name["plain_answer"]["expect"] == "verified"
    assert by_name["plain_answer"]["expect_encrypted"] == "encryption_downgraded"
    assert by_name["bad_signature"]["expect_encrypted"] == "signature_invalid"


async def test_an_order_counts_down(client, keys):
    request = wire(peer.call(keys.partner, BODY))

    ordered = await client.control("PUT", "/fault", b'{"name":"http_error","count":2}')
    statuses = [(await client.send(request)).status for _ in range(3)]

    assert json.loads(ordered.body) == {"name": "http_error", "count": 2}
    assert statuses == [502, 502, 200]
    left = json.loads((await client.control("GET", "/fault")).body)
    assert left == {"name": "none", "count": None}


async def test_an_order_without_count_stands_until_it_is_cleared(client, keys):
    request = wire(peer.call(keys.partner, BODY))

    await client.control("PUT", "/fault", b'{"name":"http_error"}')
    before = [(await client.send(request)).status for _ in range(3)]
    cleared = await client.control("DELETE", "/fault")

    assert before == [502, 502, 502]
    assert cleared.status == 204
    assert (await client.send(request)).status == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "the body must be"),
        (b"[]", "the body must be"),
        (b'"slow"', "the body must be"),
        (b"{}", "the body must be"),
        (b'{"name":"slow","count":0}', "count must be"),
        (b'{"name":"slow","count":true}', "count must be"),
        (b'{"name":"slow","count":"1"}', "count must be"),
        (b'{"name":"slov"}', "did you mean slow?"),
    ],
)
async def test_an_order_that_cannot_be_read_changes_nothing(client, body, text):
    await client.control("PUT", "/fault", b'{"name":"gzip"}')

    seen = await client.control("PUT", "/fault", body)

    assert seen.status == 400
    assert text in seen.body.decode()
    assert client.simulator.standing.fault.name == "gzip"


async def test_it_tells_what_arrived_without_content(client):
    await client.post("content_risky", encrypted=True)

    seen = await client.control("GET", "/exchanges")

    (row,) = json.loads(seen.body)
    assert row["target"] == TARGETS["content_risky"]
    assert (row["client_id"], row["key_version"]) == (peer.CLIENT_ID, "1")
    assert (row["encrypted"], row["result"], row["status"]) == (
        True,
        "CONTENT_RISKY",
        "F",
    )
    assert b"C001" not in seen.body
    assert b"signature" not in seen.body


async def test_a_redirect_that_is_followed_is_recorded(client, keys):
    await client.send(wire(peer.call(keys.partner, BODY, target="/redirected")))

    rows = json.loads((await client.control("GET", "/exchanges")).body)
    assert [row["target"] for row in rows] == ["/redirected"]


@pytest.mark.parametrize("form", [formats.public_pem, formats.public_base64])
async def test_a_further_public_key_can_be_registered(client, other_key, form):
    request = wire(peer.call(other_key, BODY, version="2"))
    refused = await client.send(request)

    path = f"/partners/{peer.CLIENT_ID}/2"
    done = await client.control("PUT", path, form(other_key.public_key()).encode())
    accepted = await client.send(request)

    assert json.loads(refused.body)["resultInfo"]["resultCode"] == "KEY_NOT_FOUND"
    assert done.status == 204
    assert accepted.holds()


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/partners/X/1", b"no key", "base64"),
        ("/partners/X/a,b", b"", "a key version is"),
        ("/partners/a%20b/1", b"", "a Client-Id is"),
    ],
)
async def test_what_cannot_be_registered_is_named(client, path, body, text):
    seen = await client.control("PUT", path, body)

    assert seen.status == 400
    assert text in seen.body.decode()


async def test_a_public_key_that_is_forgotten_is_refused_unsigned(client, keys):
    request = wire(peer.call(keys.partner, BODY))
    assert (await client.send(request)).holds()

    done = await client.control("DELETE", f"/partners/{peer.CLIENT_ID}/1")
    refused = await client.send(request)

    assert done.status == 204
    assert json.loads(refused.body)["resultInfo"]["resultCode"] == "KEY_NOT_FOUND"
    assert not any(line.lower().startswith("signature:") for line in refused.head)


async def test_it_rotates_its_own_key_in_two_steps(client, keys):
    """AlipayHK gives its new public key out first, and signs with it later."""
    request = wire(peer.call(keys.partner, BODY))

    announced = await client.control("PUT", "/keys/2")
    before = await client.send(request)
    activated = await client.control("PUT", "/keys/2/active")
    after = await client.send(request)

    public = formats.read_public_key(announced.body)
    assert before.holds()
    assert activated.status == 204
    assert not after.holds()
    assert after.holds(public)
    listed = json.loads((await client.control("GET", "/keys")).body)
    assert listed == {
        "active": "2",
        "held": {"alipayhk": ["1", "2"], peer.CLIENT_ID: ["1"]},
    }


@pytest.mark.parametrize(
    ("path", "text"),
    [("/keys/a,b", "a key version is"), ("/keys/9/active", "there is no pair 9")],
)
async def test_a_rotation_that_cannot_be_is_named(client, path, text):
    seen = await client.control("PUT", path)

    assert seen.status == 400
    assert text in seen.body.decode()
