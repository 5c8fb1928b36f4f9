"""Bytes on sockets, and what two strict readers see in them.

Nothing here is shared with the gateway: answers are taken apart by hand, requests by
`h11` in its server role.
"""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass

import h11

PATIENCE_S = 10
"""No case takes so long unless something hangs."""


class Line(asyncio.Protocol):
    """One end of a connection; keeps all that came, also before a reset."""

    def __init__(self):
        self.data = bytearray()
        self.ended = False
        self._news = asyncio.Event()

    @classmethod
    async def to(cls, port):
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(cls, "127.0.0.1", port)
        return line

    def connection_made(self, transport):
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.data += data
        self._news.set()

    def eof_received(self):
        self.ended = True
        self._news.set()
        return True

    def connection_lost(self, exc):
        self.ended = True
        self._news.set()

    def write(self, data):
        if not self.transport.is_closing():
            self.transport.write(data)

    async def drip(self, data):
        """Send byte by byte, each of them read before the next is sent."""
        for byte in data:
            if self.ended:
                break
            self.write(bytes([byte]))
            await turns()

    def half_close(self):
        if not self.transport.is_closing():
            self.transport.write_eof()

    def reset(self):
        reset(self.transport)

    async def until(self, condition):
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            msg = f"nothing more after {bytes(self.data[-600:])!r}"
            raise AssertionError(msg) from None

    async def until_end(self):
        await self.until(lambda: self.ended)

    async def until_answers(self, count):
        """Wait for so many whole answers, or for the end."""
        await self.until(lambda: self.ended or len(answers_in(self.data)[0]) >= count)

    def close(self):
        self.transport.abort()


async def turns(count=3):
    """Let the loop turn, so that what was sent on loopback is read."""
    for _ in range(count):
        await asyncio.sleep(0)


def reset(transport):
    """End a connection by RST."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@dataclass(frozen=True)
class Got:
    """An answer of the gateway's."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self):
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)

    @property
    def code(self):
        """Of a problem; else how AlipayHK's answer is marked."""
        if "gateway-verified" in self.headers:
            return {"true": "verified", "false": "refused"}[
                self.headers["gateway-verified"]
            ]
        return self.problem["code"]


def answers_in(data, *, bodiless=False):
    """Take whole answers off; gives them, the interim ones, and what is left."""
    answers, interim, rest = [], [], bytes(data)
    while b"\r\n\r\n" in rest:
        head, _, behind = rest.partition(b"\r\n\r\n")
        line, *fields = head.decode("ascii").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0")
        pairs = [field.split(": ", 1) for field in fields]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), "a header was repeated"
        if status == "100":
            assert not headers
            interim.append(line)
            rest = behind
            continue
        length = 0 if bodiless else int(headers["content-length"])
        if len(behind) < length:
            break
        answers.append(Got(int(status), headers, behind[:length]))
        rest = behind[length:]
    return answers, interim, rest


@dataclass(frozen=True)
class Read:
    """One request as h11 reads it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name):
        """Give the one value of a header."""
        (value,) = [v for n, v in self.headers if n.lower() == name.lower()]
        return value


class StrictReader:
    """Requests on one connection, read by h11 as a server.

    h11 reads one request and waits for its answer; what is behind it is given to a
    new reader, unless the request was to be the last on its connection.
    """

    def __init__(self):
        self.requests = []
        self.error = None
        self._start()

    def _start(self):
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 22)
        self._head, self._body, self._over = None, b"", False

    @property
    def rest(self):
        """Give what belongs to no whole request."""
        return self._h11.trailing_data[0] or (b"half a request" if self._head else b"")

    def feed(self, data):
        """Read on; gives the requests that became whole."""
        before = len(self.requests)
        try:
            self._h11.receive_data(data)
            while not self._over and self._next(self._h11.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self.error = self.error or str(error)
        return self.requests[before:]

    def _next(self, event):
        if isinstance(event, h11.Request):
            self._head = event
        elif isinstance(event, h11.Data):
            self._body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            self._take()
        else:
            return False
        return True

    def _take(self):
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._head.headers.raw_items()
        ]
        method, target = self._head.method.decode(), self._head.target.decode()
        self.requests.append(Read(method, target, tuple(headers), self._body))
        self._head, (rest, _) = None, self._h11.trailing_data
        # An offer of another protocol is declined; what is behind it is HTTP.
        if self._h11.their_state in (h11.DONE, h11.MIGHT_SWITCH_PROTOCOL):
            self._start()
            if rest:
                self._h11.receive_data(rest)
        else:
            self._over = True


def read_strictly(data):
    """Read a whole stream; gives its requests, and why it was refused, if it was."""
    reader = StrictReader()
    reader.feed(data)
    return reader.requests, reader.error
