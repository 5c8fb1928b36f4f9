"""AlipayHK over real sockets, written from the rules alone.

It shares no code with the gateway: HTTP is read and written as bytes here, and the
cryptography is `tests.peer`'s, which uses the library directly. A test gives it the
function that answers.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

from tests import peer

HONG_KONG = timezone(timedelta(hours=8))


@dataclass
class Arrived:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def header(self, name):
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass
class Reply:
    """An answer as bytes on the wire, and what becomes of the connection."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    close: bool = False

    def wire(self):
        lines = [f"HTTP/1.1 {self.status} X"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        names = {name.lower() for name, _ in self.headers}
        if not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


Answer = Callable[[Arrived], Reply | bytes | Awaitable[Reply | bytes]]


class Wallet:
    """Listens, keeps what arrived, and answers as the test says."""

    def __init__(self, platform_key, partner_public):
        self.platform_key = platform_key
        self.partner_public = partner_public
        self.arrived: list[Arrived] = []
        self.connections = 0
        self.port = 0
        self.answer: Answer = self.success
        self.close_after: int | None = None
        self.server: asyncio.Server
        self.writer: asyncio.StreamWriter | None = None
        self.writers: list[asyncio.StreamWriter] = []

    def success(self, request):
        return self.signed(request, peer.SUCCESS)

    def signed(
        self,
        request,
        body,
        *,
        time=None,
        key=None,
        version="1",
        status=200,
        client_id=None,
        target=None,
    ):
        """Sign an answer to a request."""
        time = time or datetime.now(UTC).astimezone(HONG_KONG).isoformat(
            timespec="seconds"
        )
        client_id = client_id or request.header("Client-Id")
        base = peer.signature_base(
            method=request.method,
            target=target or request.target,
            client_id=client_id,
            time=time,
            body=body,
        )
        signature = peer.rsa256(key or self.platform_key, base)
        headers = [
            ("Content-Type", "application/json; charset=UTF-8"),
            ("Client-Id", client_id),
            ("Response-Time", time),
            ("Tracer-Id", "tracer0001"),
            ("Signature", peer.signature_header(signature, version)),
        ]
        return Reply(status, headers, body)

    def encrypted(self, request, plaintext, *, version="1", **options):
        """Encrypt an answer to the partner, then sign it."""
        reply = self.signed(request, peer.seal(plaintext), **options)
        wrapped = peer.wrap(self.partner_public)
        reply.headers.append(("Encrypt", peer.encrypt_header(wrapped, version)))
        return reply

    @asynccontextmanager
    async def listening(self, ssl=None, port=0) -> AsyncIterator["Wallet"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=ssl)
        self.server = server
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    def down(self):
        """Listen no more, and cut every connection."""
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self.connections += 1
        self.writer = writer
        self.writers.append(writer)
        number = self.connections
        try:
            while (request := await _read(reader, number)) is not None:
                self.arrived.append(request)
                reply = self.answer(request)
                if isinstance(reply, Awaitable):
                    reply = await reply
                writer.write(reply if isinstance(reply, bytes) else reply.wire())
                await writer.drain()
                if isinstance(reply, bytes) or reply.close:
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()


async def _read(reader, number):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *fields = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = line.split(" ")
    headers = [tuple(text.split(": ", 1)) for text in fields]
    length = int({k.lower(): v for k, v in headers}.get("content-length", "0"))
    body = await reader.readexactly(length)
    return Arrived(method, target, headers, body, number)
