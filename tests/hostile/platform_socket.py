"""AlipayHK as a bare socket: keeps every byte that arrives, and answers anything."""

import asyncio
import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests import peer
from tests.hostile.wire import StrictReader, reset, turns


@dataclass(frozen=True)
class Script:
    """What is written, each piece read before the next, and how the connection ends."""

    pieces: tuple[bytes, ...]
    end: str = "open"


def signed_headers(key, body, *, target=peer.TARGET):
    """Give the headers of an answer that holds."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    signature = peer.rsa256(
        key, peer.signature_base(target=target, time=time, body=body)
    )
    return [
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Client-Id", peer.CLIENT_ID),
        ("Response-Time", time),
        ("Signature", peer.signature_header(signature)),
    ]


def check_signature(public, request):
    """Pass if a request is signed over its own target, time and body."""
    text = request.header("Signature")
    raw = base64.b64decode(unquote_to_bytes(text.rpartition("signature=")[2]))
    base = peer.signature_base(
        target=request.target, time=request.header("Request-Time"), body=request.body
    )
    public.verify(raw, base, padding.PKCS1v15(), hashes.SHA256())


def message(headers, body, *, line="HTTP/1.1 200 OK"):
    """Give an answer's bytes, framed by the headers given alone."""
    lines = [line, *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Platform:
    """Listens; `requests` are those that h11 read, whole and one by one."""

    def __init__(self, platform_key):
        self.port = 0
        self.greeting = b""
        self.answer = self.success
        self.sockets: list[Socket] = []
        self._key = platform_key

    @property
    def requests(self):
        return [request for each in self.sockets for request in each.reader.requests]

    def success(self, request):
        headers = signed_headers(self._key, peer.SUCCESS, target=request.target)
        length = [("Content-Length", str(len(peer.SUCCESS)))]
        return Script((message(headers + length, peer.SUCCESS),))

    def forget(self):
        """Begin anew with what arrived; open connections stay so."""
        self.sockets = [each for each in self.sockets if not each.closed]
        for each in self.sockets:
            each.reader.requests.clear()

    def hang_up(self):
        """End every connection, so that the next exchange makes a new one."""
        for each in self.sockets:
            each.transport.abort()

    @asynccontextmanager
    async def listening(self):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Socket(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.hang_up()


class Socket(asyncio.Protocol):
    """One connection of the gateway's."""

    def __init__(self, platform):
        self.reader = StrictReader()
        self.raw = bytearray()
        self.closed = False
        self._platform = platform
        self._answering = set()

    def connection_made(self, transport):
        self.transport = transport
        self._platform.sockets.append(self)
        transport.write(self._platform.greeting)

    def data_received(self, data):
        self.raw += data
        for request in self.reader.feed(data):
            script = self._platform.answer(request)
            task = asyncio.ensure_future(self._play(script))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    def connection_lost(self, exc):
        self.closed = True

    async def _play(self, script):
        for piece in script.pieces:
            if self.transport.is_closing():
                return
            self.transport.write(piece)
            await turns(6)
        if script.end == "close":
            self.transport.close()
        elif script.end == "reset":
            reset(self.transport)
