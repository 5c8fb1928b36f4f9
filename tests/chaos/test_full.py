"""Every bound reached at once, as the defaults have them: what the process needs then."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest

from tests import peer
from tests.chaos.conftest import SLOW_PATH, answer_for, body_for, settings_for
from tests.integration.pki import LOCALHOST, Authority, trusting
from tests.integration.test_callers import TOKEN, entry
from tests.integration.wallet import Wallet, _read

MIB = 1 << 20
MEMORY_MIB = 1536
"""docs/operations.md says so."""

# The defaults of docs/operations.md.
CONNECTIONS = 2048
CONCURRENT = 512
BUFFERED = 256 * MIB
BODY = MIB
ANSWER = 8 * MIB
HEAD = 16384

DEAF = 8
"""Callers who do not read their answer: a fourth of the bodies' memory."""

HEADS = CONNECTIONS * (HEAD + 4096)
WITH_BODIES = (BUFFERED - DEAF * ANSWER - HEADS) * 3 // 7 // BODY
"""Encrypted exchanges whose requests, with the ciphertext at 4/3, hold what is left."""

DEAF_PATH, PATIENT_S = SLOW_PATH, 300


class Stuck(Wallet):
    """Answers the deaf; of others it reads no body, and begins answers that never end."""

    def __init__(self, *args):
        super().__init__(*args)
        self.begin = asyncio.Event()

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        if DEAF_PATH.encode() in head:
            request = await _read(Again(head, reader), 0)
            name = json.loads(request.body)["requestId"]
            size = ANSWER - len(answer_for(name))
            reply = self.signed(request, answer_for(name, size))
            reply.headers.append(("Connection", "close"))
            writer.write(reply.wire())
            writer.close()
            return
        await self.begin.wait()
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % ANSWER)
        writer.write(b"y" * MIB)


class Again:
    """A reader whose head was read already."""

    def __init__(self, head, reader):
        self._head = head
        self.readexactly = reader.readexactly

    async def readuntil(self, _):
        return self._head


class Crowd:
    """Callers whose connections stay open."""

    def __init__(self, caller):
        self._caller = caller
        self.writers = []

    async def _connect(self):
        """Connect with so small a buffer that the system takes no answer by itself."""
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", self._caller.port))
        tls = self._caller.tls
        _, writer = await asyncio.open_connection(
            sock=small, ssl=tls, server_hostname="localhost" if tls else None
        )
        writer.transport.pause_reading()
        self.writers.append(writer)
        return writer

    async def call(self, body, *headers, target=peer.TARGET):
        writer = await self._connect()
        head = [
            f"POST {target} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {TOKEN}",
            *headers,
            f"Content-Length: {len(body)}",
        ]
        head.append(filler(HEAD - 100 - len("\r\n".join(head))))
        writer.write("\r\n".join([*head, "", ""]).encode() + body)

    async def half_a_head(self):
        writer = await self._connect()
        writer.write(b"POST / HTTP/1.1\r\n" + filler(HEAD - 100).encode())


def filler(size):
    """Give headers of about so many bytes, many and small, which take most room."""
    each = size // 100
    return "\r\n".join(f"X{n}: ".ljust(each - 2, "x") for n in range(100))


@asynccontextmanager
async def stuck(platform_key, partner_key):
    wallet = Stuck(platform_key, partner_key.public_key())
    async with wallet.listening():
        try:
            yield wallet
        finally:
            for writer in wallet.writers:
                if not writer.is_closing():
                    writer.transport.abort()


def settings(port, tls):
    made = settings_for(
        port, idle_timeout_s=PATIENT_S, write_timeout_s=PATIENT_S, **tls
    )
    made["callers"] = [entry()]
    made["routes"] = [
        {"path": path, "client": "hk", "timeout_s": PATIENT_S}
        for path in (peer.TARGET, DEAF_PATH)
    ]
    return made


async def level(served, name, least):
    """Wait until a gauge has come so far."""
    async with asyncio.timeout(60):
        while (now := await served.metric(f"gateway_{name}")) < least:
            await asyncio.sleep(0.2)
    return now


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_every_bound_reached_at_once_takes_no_more_memory_than_stated(
    served, platform_key, partner_key, tmp_path, kind
):
    tls, trusts = {}, None
    if kind == "tls":
        authority = Authority(tmp_path)
        authority.issue("gateway", *LOCALHOST)
        pair = {"certificate": "gateway.crt", "private_key": "gateway.key"}
        tls, trusts = {"tls": pair}, trusting(authority)
    async with stuck(platform_key, partner_key) as wallet:
        served.configure(settings(wallet.port, tls))
        await served.start()
        rest = served.memory()
        crowd = Crowd(served.caller.known_by(tls=trusts))
        for number in range(DEAF):
            await crowd.call(body_for(f"deaf{number}"), target=DEAF_PATH)
        await level(served, "buffered_bytes", DEAF * ANSWER)
        for number in range(WITH_BODIES):
            body = body_for(f"full{number}", BODY - 100)
            await crowd.call(body, "Gateway-Encrypt: true")
        held = DEAF * ANSWER + WITH_BODIES * (BODY - 100) * 7 // 3
        await level(served, "buffered_bytes", held)
        for number in range(CONCURRENT - WITH_BODIES):
            await crowd.call(body_for(f"small{number}"))
        await level(served, "in_flight", CONCURRENT)
        while len(crowd.writers) < CONNECTIONS:
            await crowd.half_a_head()
        await level(served, "connections", CONNECTIONS)
        wallet.begin.set()
        await level(served, "buffered_bytes", BUFFERED)
        await asyncio.sleep(3)
        peak = served.memory("VmHWM")
        print(
            f"{kind}: {rest:.0f} MiB at rest, {peak:.0f} MiB with every bound reached"
        )
        for writer in crowd.writers:
            writer.transport.abort()
    assert peak <= MEMORY_MIB
