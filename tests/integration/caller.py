"""A service that calls the gateway, byte by byte."""

import asyncio
import json
from dataclasses import dataclass

from tests import peer


@dataclass
class Got:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def problem(self):
        assert self.header("Content-Type") == "application/problem+json"
        return json.loads(self.body)

    @property
    def code(self):
        return self.problem["code"]


class Caller:
    """Sends to one gateway, on a connection of its own each time.

    `tls` is what it trusts and shows of itself; `token` goes into each POST.
    """

    def __init__(self, port, *, tls=None, token=None):
        self.port = port
        self.tls = tls
        self.token = token

    def known_by(self, token=None, tls=None):
        """Give a caller of the same gateway with other credentials."""
        return Caller(self.port, tls=tls or self.tls, token=token)

    async def connect(self):
        """Open a connection."""
        name = "localhost" if self.tls else None
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls, server_hostname=name
        )

    async def post(self, body=peer.REQUEST_BODY, *, target=peer.TARGET, headers=()):
        if self.token is not None:
            headers = [*headers, ("Authorization", f"Bearer {self.token}")]
        lines = [
            f"POST {target} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in headers),
        ]
        return await self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    async def raw(self, data):
        """Send bytes as they are and read the one answer that is expected."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await read_answer(reader)
        finally:
            writer.close()


async def read_answer(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")[:-2]
    headers = [tuple(text.split(": ", 1)) for text in fields]
    by_name = {name.lower(): value for name, value in headers}
    assert len(by_name) == len(headers), "a header was repeated"
    body = await reader.readexactly(int(by_name["content-length"]))
    return Got(int(line.split(" ")[1]), headers, body)
