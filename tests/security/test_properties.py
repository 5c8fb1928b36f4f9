"""The properties P1 to P13 that a gateway in this place is held to, one test each.

Each is a short test of the heart of it, on the real thing; the docstring cites where
the rest is. docs/promises.md has the table.
"""

import asyncio
import base64
import gzip
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from math import sqrt

import pytest
import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import config
from gateway.access.callers import Caller, Callers, Credentials
from gateway.access.tokens import hash_token, new_token
from gateway.audit.seal import Seal, private_pem
from gateway.audit.segments import lines_of, opened
from gateway.audit.verification import Place, verify
from gateway.errors import ExchangeError, Unauthenticated
from gateway.hardening import check_libraries
from gateway.plant import ENTROPY
from gateway.protocol import (
    ReceivedResponse,
    VerifiedResponse,
    verify_response,
)
from gateway.trees import DocumentError
from tests import peer
from tests.integration.caller import Caller as Service
from tests.integration.conftest import House, write_config, write_private, write_ring
from tests.integration.test_secrets import key_material
from tests.integration.wallet import Reply, Wallet
from tests.security.test_peers_mistakes import peer_value

ENCRYPT = [("Gateway-Encrypt", "true")]
CANARY = "canary-c41e9d"


def judge(received, public, request=None):
    return verify_response(
        received,
        request=request or peer.sent_request(),
        keys=[public],
        freshness=peer.FRESH,
    )


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_p1_no_unverified_success_reaches_a_caller(
    encrypted, platform_key, platform_public, partner_key
):
    """Each byte of the signed body, and of each header the signature rests on, changed.

    Further: `tests/unit/protocol/test_verdicts.py`, all cells of the table;
    `tests/property/test_protocol_properties.py`, random changes;
    `tests/integration/test_untrusted_answers.py`, through the gateway.
    """
    request = peer.sent_encrypted_request(platform_public) if encrypted else None
    answer = peer.answer(platform_key)
    if encrypted:
        answer = peer.sealed_answer(platform_key, partner_key.public_key())
    assert isinstance(judge(answer, platform_public, request), VerifiedResponse)
    tried = 0
    for at in range(len(answer.body)):
        body = bytearray(answer.body)
        body[at] ^= 1
        changed = ReceivedResponse(200, answer.headers, bytes(body))
        with pytest.raises(ExchangeError):
            judge(changed, platform_public, request)
        tried += 1
    for name in ("Client-Id", "Response-Time", "Signature"):
        value = dict(answer.headers)[name]
        start = value.rfind("=") + 1 if name == "Signature" else 0
        for at in range(start, len(value)):
            text = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
            headers = peer.with_header(answer.headers, name, text)
            with pytest.raises(ExchangeError):
                judge(
                    ReceivedResponse(200, headers, answer.body),
                    platform_public,
                    request,
                )
            tried += 1
    assert tried > 400


async def test_p2_no_secret_leaves_the_process(
    tmp_path, partner_key, platform_key, other_key
):
    """A whole `gateway serve`, from its start to its end: all that it says is read.

    Further: `tests/integration/test_secrets.py`, every kind of failure, every library's
    log; `tests/unit/test_hardening.py`, no core file.
    """
    wallet = Wallet(platform_key, partner_key.public_key())
    token = new_token(ENTROPY)
    async with wallet.listening():
        house = House(tmp_path, wallet)
        write_ring(house.ring, partner_key, platform_key)
        write_config(house)
        add_caller(house.file, token)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "-c", str(house.file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        first = await listening(process.stderr)
        inbound, admin = (
            Service(int(first[name].rpartition(":")[2]))
            for name in ("inbound", "admin")
        )
        shown = [json.dumps(first)]
        body = b'{"requestId":"%s"}' % CANARY.encode()
        given = [("Authorization", f"Bearer {token}"), ("Cookie", CANARY)]
        success = b'{"a":"%s"}' % CANARY.encode()
        wallet.answer = lambda r: wallet.encrypted(r, success)
        assert (await inbound.post(body, headers=[*given, *ENCRYPT])).body == success
        wallet.answer = lambda r: wallet.signed(r, success, key=other_key)
        shown.append(str(await inbound.post(body, headers=given)))
        given[0] = ("Authorization", f"Bearer {CANARY}{token}")
        shown.append(str(await inbound.post(body, headers=given)))
        shown += [
            str(await admin.raw(f"GET /{page} HTTP/1.0\r\n\r\n".encode()))
            for page in ("metrics", "readyz", "livez")
        ]
        write_private(house.ring / "partner-1.pem", other_key)
        process.terminate()
        out, err = await process.communicate()
    text = "\n".join([*shown, out.decode(), err.decode()])
    assert '"code": "verified"' in text or '"code":"verified"' in text
    assert CANARY not in text
    secrets = [token, *secrets_of(wallet.arrived[0], platform_key)]
    for secret in (*secrets, *key_material(partner_key, platform_key, other_key)):
        assert secret not in text


def add_caller(file, token):
    settings = yaml.safe_load(file.read_text())
    digest = hash_token(token).hex()
    settings["callers"] = [{"name": "s", "token_sha256": digest, "clients": ["hk"]}]
    file.write_text(yaml.safe_dump(settings))


def secrets_of(sent, platform_key):
    """Give the content key of a request, in two spellings, and of its signature most."""
    wrapped = peer_value(sent.header("Encrypt"))
    content_key = platform_key.decrypt(wrapped, padding.PKCS1v15())
    yield content_key.hex()
    yield base64.b64encode(content_key).decode()
    yield sent.header("Signature")[-80:-20]


async def listening(stream):
    while True:
        line = json.loads(await stream.readline())
        if line["event"] == "listening":
            return line


async def test_p3_request_smuggling_is_impossible(house):
    """One answer, an ended connection, and nothing sent, whatever hides behind it.

    Further: `tests/integration/test_inbound.py`, every form, and `tests/fuzz`,
    request heads that nobody wrote.
    """
    hidden = f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{{}}"
    post = f"POST {peer.TARGET} HTTP/1.1\r\nHost: g"
    chunked = "Transfer-Encoding: chunked"
    for head, status in (
        (f"{post}\r\nContent-Length: {len(hidden)}\r\n{chunked}", 400),
        (f"{post}\r\nContent-Length: 5\r\nContent-Length: 0", 400),
        (f"{post}\r\nContent-Length: 0\r\nTransfer-Encoding: identity", 400),
        (f"{post}\r\n{chunked}\r\n{chunked}", 400),
        (f"{post}\r\nTransfer-Encoding: xchunked", 400),
        (f"{post}\r\nTransfer-Encoding : chunked", 400),
        (f"{post}\r\nContent-Length: +0", 400),
        (f"{post}\r\nContent-Length: 0\r\nX: a\n b", 400),
        (f"{post}\r\nUpgrade: websocket\r\nConnection: upgrade", 400),
        (f"{post}\r\nUpgrade: h2c\r\nConnection: upgrade", 400),
        (f"{post}\r\nUpgrade: tcp\r\nConnection: upgrade\r\nContent-Length: 0", 400),
        ("CONNECT g:80 HTTP/1.1\r\nHost: g", 404),
    ):
        for between in ("", "0\r\n\r\n"):
            data = f"{head}\r\n\r\n{between}{hidden}".encode()
            text = await all_answers(house.caller.port, data)
            assert text.count(b"HTTP/1.") == 1, head
            assert text[8:].startswith(f" {status} ".encode())
    assert house.wallet.arrived == []


async def all_answers(port, data):
    """Send this, and read until the gateway ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(5):
        text = await reader.read()
    writer.close()
    return text


async def test_p4_there_is_no_decryption_oracle(house, partner_key):
    """An unverified answer is not decrypted, and a verified one fails in one way.

    Further: `tests/security/test_decryption_errors.py`, every cause byte for byte and
    step by step; `make timing`, in time; `tests/vectors/test_wycheproof.py`.
    """
    check_libraries()
    problems = set()
    for content_key in (bytes(16), bytes(15), bytes(32), bytes(245)):
        header = peer.encrypt_header(peer.wrap(partner_key.public_key(), content_key))
        for signed in (True, False):

            def answer(request, header=header, signed=signed):
                reply = house.wallet.signed(request, peer.seal(peer.SUCCESS))
                reply.headers.append(("Encrypt", header))
                reply.body = reply.body if signed else peer.seal(peer.FAILURE)
                return reply

            house.wallet.answer = answer
            given = [("Gateway-Exchange-Id", "one"), *ENCRYPT]
            problems.add((signed, (await house.caller.post(headers=given)).body))
    codes = {signed: json.loads(body)["code"] for signed, body in problems}
    assert codes == {True: "decryption_failed", False: "signature_invalid"}
    assert len(problems) == 2


def test_p5_signatures_are_exact(platform_key, platform_public):
    """One signature verifies; what is equal to it but for its form does not.

    Further: `tests/vectors/test_wycheproof.py`, `tests/vectors/test_vendor.py`,
    `tests/unit/protocol/test_signature.py`.
    """
    numbers = platform_key.private_numbers()
    modulus = numbers.public_numbers.n
    base = peer.signature_base(time=peer.TIME, body=peer.SUCCESS)
    right = peer.rsa256(platform_key, base)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(base)
    value = digest.finalize()
    null = bytes.fromhex("3031300d060960864801650304020105000420") + value
    bare = bytes.fromhex("302f300b0609608648016503040201" + "0420") + value

    def raw(block):
        number = pow(int.from_bytes(block), numbers.d, modulus)
        return number.to_bytes(256)

    def padded(info, filler=b"\xff", start=b"\x00\x01"):
        return start + filler * (256 - 3 - len(info)) + b"\x00" + info

    assert raw(padded(null)) == right
    short = padded(null)[: 10 + 2] + b"\x00" + null
    wrong = [
        raw(padded(bare)),
        raw(padded(null, b"\xfe")),
        raw(padded(null, start=b"\x00\x02")),
        raw(short + bytes(256 - len(short))),
        raw(padded(null[:-32] + value[:-1] + b"\x00")),
        b"\x00" + right,
        right + b"\x00",
        right[:-1],
        bytes(256),
        b"\x00" * 255 + b"\x01",
        (modulus - int.from_bytes(right)).to_bytes(256),
        (modulus).to_bytes(256),
        (int.from_bytes(right) + modulus).to_bytes(257),
    ]
    answer = peer.answer(platform_key)
    for signature in [right, *wrong]:
        headers = peer.with_header(
            answer.headers, "Signature", peer.signature_header(signature)
        )
        received = ReceivedResponse(200, headers, answer.body)
        if signature == right:
            assert isinstance(judge(received, platform_public), VerifiedResponse)
            continue
        with pytest.raises(ExchangeError):
            judge(received, platform_public)


async def test_p6_the_destination_is_fixed(run_house, monkeypatch):
    """No proxy, redirect or target of a caller's leads elsewhere.

    Further: `tests/integration/test_inbound.py`, targets;
    `tests/security/test_peers_mistakes.py`, Host headers and private addresses.
    """
    stray = []

    async def note(reader, writer):
        stray.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.sockets[0].getsockname()[1]}"
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, url)
        async with run_house() as house:
            assert (await house.caller.post()).status == 200
            for status in (301, 302, 303, 307, 308):
                headers = [("Location", f"{url}/a")]
                house.wallet.answer = lambda _, s=status, h=headers: Reply(s, h)
                assert (await house.caller.post()).code == "signature_missing"
            sent = len(house.wallet.arrived)
            path = peer.TARGET
            for target in (
                f"{url}{path}",
                f"//127.0.0.1{path}",
                f"@127.0.0.1{path}",
                f"{path}/../x",
                f"{path}%2F..%2Fx",
                f"/x/..{path}",
                f"{path}/",
                f"{path};a",
            ):
                got = await house.caller.post(target=target)
                assert got.code in ("invalid_request", "unknown_route")
    assert sent == 6
    assert len(house.wallet.arrived) == sent
    assert stray == []


async def test_p7_memory_and_time_are_bounded(run_house):
    """What is over a bound is refused before it is held; nothing is decompressed.

    Further: `tests/integration/test_inbound.py`, bodies that never end and slow
    callers; `tests/integration/test_untrusted_answers.py`, answers without end.
    """
    inbound = {"max_body_bytes": 4096, "body_timeout_s": 0.2}
    client = {"max_response_bytes": 4096}
    async with run_house(
        inbound=inbound, client=client, route={"timeout_s": 1}
    ) as house:
        head = f"POST {peer.TARGET} HTTP/1.1\r\nHost: g\r\n"
        got = await house.caller.raw(f"{head}Content-Length: 5000\r\n\r\n".encode())
        assert got.code == "request_too_large"
        chunk = b"1388\r\n" + b"x" * 5000
        got = await house.caller.raw(
            f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk
        )
        assert got.code == "request_too_large"
        got = await house.caller.raw(f"{head}Content-Length: 10\r\n\r\n{{".encode())
        assert got.code == "invalid_request"
        bomb = gzip.compress(bytes(1 << 24))[:4000]
        coding = [("Content-Encoding", "gzip")]
        got = await house.caller.post(bomb, headers=coding)
        assert got.code == "invalid_request"
        assert house.wallet.arrived == []
        house.wallet.answer = lambda _: Reply(200, coding, bomb)
        assert (await house.caller.post()).code == "response_malformed"
        house.wallet.answer = lambda r: house.wallet.signed(r, b"x" * 5000)
        assert (await house.caller.post()).code == "response_too_large"
        house.wallet.answer = lambda _: asyncio.sleep(30)
        assert (await house.caller.post()).code == "upstream_timeout"


async def test_p8_a_rotation_loses_no_request(house, other_key):
    """Our key changes and changes back under load; every exchange is verified.

    Further: `tests/integration/test_rotation.py`, half-written folders and swapped
    links; `tests/unit/keys/test_folder.py`, a change that is killed.
    """
    write_private(house.ring / "partner-2.pem", other_key)
    got = []
    ended = asyncio.Event()

    async def call():
        while not ended.is_set():
            got.append(await house.caller.post(headers=ENCRYPT))

    house.wallet.answer = lambda r: house.wallet.signed(r, peer.FAILURE)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(call())
        for generation in (2, 3):
            states = (
                ("deactivated", "active")
                if generation == 2
                else ("active", "deactivated")
            )
            manifest = house.ring / "keyring.yaml"
            text = (
                f"generation: {generation}\npartner:\n"
                f"  - {{version: '1', state: {states[0]}, key: partner-1.pem}}\n"
                f"  - {{version: '2', state: {states[1]}, key: partner-2.pem}}\n"
                "platform:\n  - {version: '1', state: active, key: platform-1.pem}\n"
            )
            new = house.folder / "new.yaml"
            new.write_text(text)
            new.replace(manifest)
            await house.seen(
                lambda g=generation: any(
                    each["generation"] == g for each in house.events("keyring_loaded")
                ),
                "not taken up",
            )
        ended.set()
    assert len(got) > 20
    assert {(each.status, each.header("Gateway-Verified")) for each in got} == {
        (200, "true")
    }
    public = {
        "1": house.wallet.partner_public,
        "2": other_key.public_key(),
    }
    seen = Counter()
    for request in house.wallet.arrived:
        header = request.header("Signature")
        version = header.split("keyVersion=")[1][0]
        base = peer.signature_base(
            time=request.header("Request-Time"), body=request.body
        )
        public[version].verify(
            peer_value(header), base, padding.PKCS1v15(), hashes.SHA256()
        )
        seen[version] += 1
    assert set(seen) == {"1", "2"}


async def test_p9_each_exchange_leaves_exactly_one_line(house):
    """No exchange without its line, and no line twice: of the log that is not chained.

    Its lines have to be kept where this process cannot change them.
    """
    for number in range(12):
        headers = [("Gateway-Exchange-Id", f"e{number}")]
        body = peer.REQUEST_BODY if number % 3 else b"none"
        await house.caller.post(body, headers=headers)
    ids = [line["exchange_id"] for line in house.exchanges]
    assert ids == [f"e{number}" for number in range(12)]


async def test_p9_the_audit_log_cannot_be_altered_unseen(run_house, tmp_path):
    """What a real gateway wrote, with every byte and every line altered in turn.

    Further: `tests/unit/audit/test_verification.py`, which line is named, and random
    changes; `tests/unit/audit/test_file.py`, writers that are killed.
    """
    key = tmp_path / "audit.pem"
    seal = Seal(Ed25519PrivateKey.generate())
    key.touch(mode=0o600)
    key.write_bytes(private_pem(seal._key))
    section = {"file": "audit.jsonl", "key": "audit.pem", "exchanges": True}
    async with run_house(audit=section) as house:
        for _ in range(3):
            await house.caller.post(headers=ENCRYPT)
    with opened(tmp_path / "audit.jsonl") as (segments, data):
        lines = [line for _, line in lines_of(segments)]
    head = seal.public.read_head(data).link
    whole = b"".join(lines)
    assert all(what in whole for what in (b"started", b"exchange", b"stopped"))

    def is_whole(changed):
        placed = [(Place("a", n), line) for n, line in enumerate(changed, 1)]
        return verify(placed, head, seal.public).fault is None

    assert is_whole(lines)
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert not is_whole(changed.splitlines(keepends=True))
        assert not is_whole(whole[:at].splitlines(keepends=True))
    for at in range(len(lines)):
        assert not is_whole(lines[:at] + lines[at + 1 :])
        for to in range(len(lines)):
            assert not is_whole([*lines[:to], lines[at], *lines[to:]])
            moved = lines[:at] + lines[at + 1 :]
            moved.insert(to, lines[at])
            assert to == at or not is_whole(moved)


async def test_p10_randomness_is_fresh_for_each_request(house, platform_key):
    """No content key twice; no bias that a million bytes show; none after a fork.

    Further: `tests/security/test_peers_mistakes.py`, where it comes from.
    """
    await asyncio.gather(*(house.caller.post(headers=ENCRYPT) for _ in range(40)))
    keys = {
        platform_key.decrypt(peer_value(each.header("Encrypt")), padding.PKCS1v15())
        for each in house.wallet.arrived
    }
    assert len(keys) == 40
    assert {len(key) for key in keys} == {32}
    drawn = [ENTROPY(32) for _ in range(1 << 15)]
    assert len({*drawn}) == len(drawn)
    # Of 8-byte parts a birthday would need 2^32 draws: any equal pair is a defect.
    assert len({key[:8] for key in drawn}) == len(drawn)
    counts = Counter(b"".join(drawn))
    expected = (1 << 20) / 256
    squares = sum((counts[byte] - expected) ** 2 / expected for byte in range(256))
    # 255 degrees of freedom: mean 255, deviation sqrt(510); six of them is 1 in 10^8.
    assert abs(squares - 255) < 6 * sqrt(510)


def test_p10_a_fork_shares_no_randomness():
    code = (
        "import os\n"
        "from gateway.plant import ENTROPY\n"
        "ENTROPY(32)\n"
        "reading, writing = os.pipe()\n"
        "for _ in range(16):\n"
        "    if os.fork() == 0:\n"
        "        os.write(writing, ENTROPY(32).hex().encode() + b'\\n')\n"
        "        os._exit(0)\n"
        "for _ in range(16):\n"
        "    os.wait()\n"
        "os.write(writing, ENTROPY(32).hex().encode() + b'\\n')\n"
        "print(os.read(reading, 65536).decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    drawn = done.stdout.split()
    assert len(drawn) == len({*drawn}) == 17


def test_p11_tokens_are_found_by_their_hash_and_kept_as_nothing_else(tmp_path):
    """Of what is shown, nothing but its SHA-256 is compared with anything kept.

    Further: `tests/unit/access/test_callers.py`.
    """
    tokens = [new_token(ENTROPY) for _ in range(6)]
    looked_up = []

    class Kept(bytes):
        """A hash in the table, which notes what it is compared with."""

        __slots__ = ()
        __hash__ = bytes.__hash__

        def __eq__(self, other):
            looked_up.append(other)
            return bytes.__eq__(self, other)

    known = Callers(
        Caller(f"c{n}", (Kept(hash_token(tokens[n])), Kept(hash_token(tokens[n + 3]))))
        for n in range(3)
    )
    for shown in (*tokens, "x" * 49):
        looked_up.clear()
        credentials = Credentials((f"Bearer {shown}",))
        if shown in tokens:
            assert known.identify(credentials).name == f"c{tokens.index(shown) % 3}"
        else:
            with pytest.raises(Unauthenticated):
                known.identify(credentials)
        found = [hash_token(shown)] if shown in tokens else []
        assert looked_up == found
    assert not any(token in repr((known, credentials)) for token in tokens)
    file = tmp_path / "config.yaml"
    file.write_text(
        f"callers:\n  - {{name: a, token_sha256: {tokens[0]}, clients: [a]}}"
    )
    with pytest.raises(DocumentError) as caught:
        config.load(file, {})
    assert "must be the SHA-256 of a token" in str(caught.value)
    assert tokens[0] not in str(caught.value)


async def test_p12_a_skewed_clock_is_seen_before_it_hurts(house):
    """The metric has the skew while answers are still accepted, and after.

    Further: `tests/unit/protocol/test_timestamps.py`, to the second, on a set clock;
    `tests/unit/telemetry/test_clocks.py`.
    """
    for skew, accepted in ((-250, True), (250, True), (-310, False), (310, False)):
        moment = datetime.now(UTC) + timedelta(seconds=skew)
        time = moment.isoformat(timespec="seconds")
        house.wallet.answer = lambda r, t=time: house.wallet.signed(
            r, peer.SUCCESS, time=t
        )
        got = await house.caller.post()
        assert (got.status == 200) is accepted
        assert accepted or got.code == "response_stale"
        seen = await house.metric('gateway_clock_skew_seconds{client="hk"}')
        assert abs(seen - skew) < 5


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda ring: (ring / "partner-1.pem").chmod(0o640),
            "others may read or write it",
        ),
        (
            lambda ring: (ring / "partner-1.pem").chmod(0o602),
            "others may read or write it",
        ),
        (lambda ring: (ring / "platform-1.pem").chmod(0o666), "others may write to it"),
        (lambda ring: (ring / "keyring.yaml").chmod(0o646), "others may write to it"),
        (lambda ring: ring.chmod(0o777), "others may write to its folder"),
    ],
)
async def test_p13_file_permissions_are_enforced(house, spoil, reason):
    """A folder that others may read or change is not taken up; the last good one is used.

    Further: `tests/unit/keys/test_file_backend.py`, owners, links into open folders,
    and the read-only mounts of Kubernetes, which are the one exception.
    """
    spoil(house.ring)
    await house.seen(lambda: house.events("keyring_refused"), "not refused")
    assert reason in house.events("keyring_refused")[0]["reason"]
    assert (await house.caller.post()).header("Gateway-Verified") == "true"
