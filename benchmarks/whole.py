"""What an exchange costs beside its cryptography, and beside its sockets.

    python -m benchmarks.whole [--encrypted] [--rounds 15]

The gateway's own listener, relay, client and telemetry run in this process, for 32
callers; transports in memory take the place of sockets. Once with the cryptography and
once with keys that do nothing: the difference to the floor is what the code loses by
running beside it, to the processor's caches. What `make bench` measures on top of this
is sockets, the kernel and the loop.
"""

import argparse
import asyncio
import gc
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

import uvloop

from benchmarks.floor import Floor
from benchmarks.sample import CLIENT_ID, KIB, TARGET, Canned, Keys, request_body
from benchmarks.stages import Rings, ring_of
from gateway.access.admission import Admission, Limits, Quota
from gateway.access.callers import Callers
from gateway.access.policy import Mode, Policy
from gateway.cli.serve import collect_seldom
from gateway.edge.connection import Server
from gateway.edge.inbound import Inbound, Service
from gateway.edge.outbound import Outbound
from gateway.edge.request import Bounds
from gateway.edge.upstream import HttpUpstream
from gateway.keys.backends.pem import FileKey
from gateway.observer import Telemetry
from gateway.plant import CLOCK, ENTROPY
from gateway.protocol import PublicKey
from gateway.relay.breaker import Breaker, BreakerSettings
from gateway.relay.exchange import Relay
from gateway.relay.lots import Lots
from gateway.relay.routes import Client, Route, Routes

CALLERS = 32
EXCHANGES = 3_000


class Transport:
    """A transport in memory: what is written is given to a function."""

    def __init__(self) -> None:
        self.on_write: Callable[[bytes], None] = lambda _: None
        self._ends = socket.socketpair()

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._ends[0] if name == "socket" else None

    def write(self, data: bytes) -> None:
        self.on_write(data)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


@dataclass
class Dial:
    """Makes connections to an AlipayHK in memory, which has one answer."""

    answer: Canned
    host: str = "127.0.0.1:8089"

    async def __call__(self) -> Outbound:
        loop = asyncio.get_running_loop()
        connection, transport = Outbound(), Transport()
        transport.on_write = lambda _: loop.call_soon(
            connection.data_received, bytes(self.answer)
        )
        connection.connection_made(transport)
        return connection


class NoRsa:
    """A public key that checks nothing. For this measurement alone."""

    key_size = 2048

    def verify(self, *_: object) -> None: ...


class NoKey:
    """A private key that gives the same signature whatever it is to sign."""

    def __init__(self, key: FileKey, signature: bytes) -> None:
        self.public = key.public
        self._signature = signature

    async def sign(self, base: bytes) -> bytes:  # noqa: ARG002 - the port's
        return self._signature


class Whole:
    """A gateway without sockets.

    Args:
        keys: of both parties.
        log: takes the lines.
        encrypted: whether exchanges are.
        cryptography: whether keys do their work.
    """

    def __init__(
        self, keys: Keys, log: TextIO, *, encrypted: bool, cryptography: bool
    ) -> None:
        partner: FileKey | NoKey = FileKey("1", keys.partner)
        platform = PublicKey("1", keys.platform.public_key())
        if not cryptography:
            partner, platform = NoKey(partner, bytes(256)), PublicKey("1", NoRsa())
        memory = Quota(1 << 30)
        upstream = HttpUpstream(
            Dial(Canned(keys, KIB, encrypted=encrypted)),
            max_response_bytes=1 << 20,
        )
        breaker = Breaker(BreakerSettings(), CLOCK.monotonic)
        rings = Rings(ring_of(partner, platform))
        client = Client("hk", CLIENT_ID, rings, upstream, breaker=breaker)
        policy = Policy(
            Routes([Route(TARGET, client)]),
            Callers([]),
            {},
            mode=Mode.ENFORCE,
            monotonic=CLOCK.monotonic,
        )
        bounds = Bounds(1 << 14, 1 << 20, 10.0, 10.0)
        inbound = Inbound(
            Service(policy, Relay(CLOCK, ENTROPY, Lots(bytes(32))), bounds),
            Admission(Limits(512)),
            memory,
            observer=Telemetry(log, log),
            clock=CLOCK,
            entropy=ENTROPY,
        )
        self._server = Server(inbound.handle, inbound.refuse, max_connections=CALLERS)
        body = request_body(KIB)
        self._request = (
            f"POST {TARGET} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            + ("Gateway-Encrypt: true\r\n" if encrypted else "")
            + "\r\n"
        ).encode() + body
        self._loop = asyncio.get_running_loop()
        self._left = 0
        self._done = asyncio.Event()
        self._callers = [self._caller() for _ in range(CALLERS)]
        self.seconds: list[float] = []

    def _caller(self) -> Callable[[], None]:
        """Connect somebody who asks again as soon as there is an answer."""
        connection, transport = self._server(), Transport()

        def ask() -> None:
            self._loop.call_soon(connection.data_received, self._request)

        def on_answer(data: bytes) -> None:
            if not data.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(data.decode("latin-1"))
            self._left -= 1
            if self._left > 0:
                ask()
            elif self._left == 0:
                self._done.set()

        transport.on_write = on_answer
        connection.connection_made(transport)
        return ask

    async def measure(self) -> None:
        """Measure the processor time of one exchange."""
        self._left = EXCHANGES
        self._done.clear()
        started = time.process_time()
        for ask in self._callers:
            ask()
        await self._done.wait()
        self.seconds.append((time.process_time() - started) / EXCHANGES)
        await asyncio.sleep(0.01)  # the other callers' last answers


async def measure(options: argparse.Namespace) -> None:
    keys = Keys.new()
    floor = Floor(keys, KIB, encrypted=options.encrypted)
    floors: list[float] = []
    with tempfile.TemporaryFile("w") as log:
        whole = Whole(keys, log, encrypted=options.encrypted, cryptography=True)
        bare = (
            None
            if options.encrypted  # nothing stands in for AES
            else Whole(keys, log, encrypted=False, cryptography=False)
        )
        collect_seldom()
        for _ in range(options.rounds):
            floors.append(floor.seconds())
            await whole.measure()
            if bare is not None:
                await bare.measure()
    gc.unfreeze()
    price, all_of_it = statistics.median(floors), statistics.median(whole.seconds)
    rows = {"floor: the cryptography alone": price}
    if bare is not None:
        rest = statistics.median(bare.seconds)
        rows["all else, without cryptography"] = rest
        rows["lost by running beside it"] = all_of_it - price - rest
    rows["all of it, without sockets"] = all_of_it
    kind = "encrypted" if options.encrypted else "plain"
    print(f"{datetime.now(UTC):%F}, {kind}, {CALLERS} callers, {os.uname().machine}")
    print(f"{'':38}{'µs':>9}{'/ floor':>10}")
    for name, seconds in rows.items():
        print(f"{name:38}{seconds * 1e6:9.1f}{seconds / price:10.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
