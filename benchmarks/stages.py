"""What each part of an exchange costs, in one process and without sockets.

    python -m benchmarks.stages [--size 1024] [--encrypted] [--rounds 9]

Each line is the median of several rounds, in processor time; the rounds of all lines
take turns with the floor's, so that a machine that slows down slows all alike. The
lines of a group overlap: those that are indented are parts of the one above them.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TextIO

from benchmarks.floor import Floor
from benchmarks.sample import CLIENT_ID, KIB, TARGET, Keys, answer, request_body
from gateway.access.admission import Account, Admission, Limits, Quota
from gateway.events import ExchangeRecord
from gateway.keys.backends.pem import FileKey
from gateway.keys.keyring import Keyring
from gateway.keys.model import PARTNER_USES, PLATFORM_USES, KeyInfo, KeyState
from gateway.observer import Telemetry
from gateway.plant import CLOCK, ENTROPY
from gateway.protocol import (
    Freshness,
    PublicKey,
    ReceivedResponse,
    SignatureField,
    SignedMessage,
    attach_signature,
    check_request_body,
    draft_request,
    encrypt,
    format_time,
    parse_time,
    read_result,
    sign,
    signature_base,
    verify_response,
)
from gateway.protocol.incoming import (
    CRITICAL_HEADERS,
    read_date,
    read_tracer_id,
    single,
)
from gateway.protocol.outgoing import check_target
from gateway.protocol.signature import base_of, matches
from gateway.relay.breaker import Breaker, BreakerSettings
from gateway.relay.exchange import Relay
from gateway.relay.lots import Lots
from gateway.relay.outcome import Attempts
from gateway.relay.ports import Memory
from gateway.relay.replay import ReplayGuard
from gateway.relay.routes import Call, Client, Route

_ROUND_S = 0.04


@dataclass
class Canned:
    """AlipayHK in memory, with one answer. Implements the relay's `Upstream`."""

    received: ReceivedResponse

    async def send(
        self,
        request: SignedMessage,
        *,
        timeout_s: float,  # noqa: ARG002 - the port's
        memory: Memory,  # noqa: ARG002
        on_write: Callable[[], None],  # noqa: ARG002
    ) -> ReceivedResponse:
        _ = request.headers  # an upstream writes them
        return self.received


class Repeated(ReplayGuard):
    """Admits the one answer again and again, for this measurement alone."""

    def earliest(self, sent: float) -> None:
        super().earliest(sent)

    def admits(self, signature: bytes, sent: float, received: float) -> bool:
        super().admits(signature, sent, received)
        return True


@dataclass
class Rings:
    """A keyring that stays. Implements the relay's `Keyrings`."""

    current: Keyring


@dataclass
class Stage:
    name: str
    run: Callable[[], object] | Callable[[], Awaitable[object]]
    awaited: bool = False
    seconds: list[float] = field(default_factory=list)

    async def measure(self) -> None:
        count, until = 0, time.perf_counter() + _ROUND_S
        started = time.process_time()
        while time.perf_counter() < until:
            for _ in range(10):
                if self.awaited:
                    await self.run()
                else:
                    self.run()
            count += 10
        self.seconds.append((time.process_time() - started) / count)


def stages(keys: Keys, size: int, log: TextIO, *, encrypted: bool) -> list[Stage]:
    """Give the stages of one kind of exchange, in the order it takes them."""
    partner = FileKey("1", keys.partner)
    platform = PublicKey("1", keys.platform.public_key())
    ring = ring_of(partner, platform)
    body = request_body(size)
    sealed = answer(keys, size, encrypted=encrypted)
    received = ReceivedResponse(200, sealed.headers, sealed.body)
    breaker = Breaker(BreakerSettings(), CLOCK.monotonic)
    upstream = Canned(received)
    client = Client(
        "hk", CLIENT_ID, Rings(ring), upstream, breaker=breaker, replays=Repeated()
    )
    route = Route(TARGET, client)
    relay = Relay(CLOCK, ENTROPY, Lots(bytes(32)))
    call = Call(TARGET, body, encrypted)
    now = CLOCK.now()

    def prepare():
        return draft_request(
            target=TARGET, client_id=CLIENT_ID, time=format_time(CLOCK.now()), body=body
        )

    plain = prepare()
    draft = encrypt(plain, os.urandom(32), platform) if encrypted else plain
    base = signature_base(draft)
    signature = sign(keys.partner, base)
    sent = attach_signature(draft, signature, key_version="1")
    checked = base_of("POST", TARGET, CLIENT_ID, sealed.draft.time, sealed.body)
    signature_text = sealed.signature.format()
    fresh = Freshness(now, timedelta(seconds=300))

    def verify():
        return verify_response(
            received, request=sent, keys=ring.verifiers, freshness=fresh
        )

    async def opened():
        return await ring.decrypt(verify())

    async def exchange():
        await relay.exchange(route, call, ExchangeRecord("0" * 32), Attempts())

    telemetry = Telemetry(log, log)
    record = ExchangeRecord("0" * 32)
    series = telemetry.metrics.series_of(record)
    return [
        Stage("relay with an upstream in memory", exchange, awaited=True),
        Stage("  check the request's body (JSON)", lambda: check_request_body(body)),
        Stage("  check the target", lambda: check_target(TARGET)),
        Stage("  prepare: time and draft", prepare),
        *(
            [Stage("  encrypt and wrap", lambda: encrypt(plain, bytes(32), platform))]
            if encrypted
            else []
        ),
        Stage("  signature base", lambda: signature_base(draft)),
        Stage("  sign", lambda: sign(keys.partner, base)),
        Stage(
            "  attach the signature",
            lambda: attach_signature(draft, signature, key_version="1"),
        ),
        Stage("  the request's headers", lambda: sent.headers),
        Stage("  breaker", lambda: _enter(breaker.attempt())),
        Stage("  trace id and Date", lambda: _traces(received)),
        Stage("  verify, with all its checks", verify),
        Stage(
            "    the RSA operation",
            lambda: matches(platform, sealed.signature.signature, checked),
        ),
        Stage(
            "    the Signature header, parsed",
            lambda: SignatureField.parse(signature_text),
        ),
        Stage("    five headers, each once", lambda: _singles(received)),
        Stage("    Response-Time", lambda: parse_time(sealed.draft.time)),
        *(
            [Stage("  verify, unwrap and decrypt", opened, awaited=True)]
            if encrypted
            else [Stage("  the result's code (JSON)", lambda: read_result(sealed.body))]
        ),
        Stage("log line and metrics", lambda: _noted(telemetry, _finished(record))),
        Stage("  log line", lambda: telemetry._exchanges(record)),
        Stage("  metrics", lambda: telemetry.metrics.count(record, series)),
        Stage("  clock watch", lambda: telemetry.clocks(record)),
        Stage("admission, one place", _admitted(Admission(Limits(512)))),
        Stage("memory, one account", _counted(Quota(1 << 30))),
    ]


def ring_of(partner: FileKey, platform: PublicKey) -> Keyring:
    ours = KeyInfo("1", KeyState.ACTIVE, PARTNER_USES, None, partner.public)
    theirs = KeyInfo("1", KeyState.ACTIVE, PLATFORM_USES, None, platform)
    return Keyring.of(1, [(ours, partner)], [theirs])


def _finished(record: ExchangeRecord) -> ExchangeRecord:
    """Fill in what an exchange that went well leaves behind."""
    record.client, record.route, record.code = "hk", TARGET, "verified"
    record.status, record.attempts = 200, 1
    record.seconds, record.upstream_seconds = 0.001234567, 0.000567891
    record.key_version = record.verified_by = "1"
    record.clock_skew_s, record.result_code = -0.123456, "SUCCESS"
    record.request_bytes = record.response_bytes = KIB
    return record


def _noted(telemetry: Telemetry, record: ExchangeRecord) -> None:
    telemetry(record)
    telemetry.flush()


def _enter(context) -> None:
    with context:
        pass


def _traces(received: ReceivedResponse) -> None:
    read_tracer_id(received.headers)
    read_date(received.headers)


def _singles(received: ReceivedResponse) -> None:
    for name in CRITICAL_HEADERS:
        single(received.headers, name)


def _admitted(admission: Admission) -> Callable[[], None]:
    return lambda: admission.leave(admission.enter_now("", "hk"))


def _counted(quota: Quota) -> Callable[[], None]:
    def one() -> None:
        account = Account(quota)
        account.add(KIB)
        account.keep(0)

    return one


async def measure(options: argparse.Namespace) -> None:
    keys = Keys.new()
    floor = Stage("floor", Floor(keys, options.size, encrypted=options.encrypted).once)
    with tempfile.TemporaryFile("w") as log:
        every = [floor, *stages(keys, options.size, log, encrypted=options.encrypted)]
        for _ in range(options.rounds):
            for stage in every:
                await stage.measure()
    price = statistics.median(floor.seconds)
    kind = "encrypted" if options.encrypted else "plain"
    print(f"{datetime.now(UTC):%F}, {kind}, bodies of {options.size} bytes")
    print(f"{'':38}{'µs':>9}{'/ floor':>10}")
    for stage in every:
        median = statistics.median(stage.seconds)
        print(f"{stage.name:38}{median * 1e6:9.1f}{median / price:10.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=KIB)
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
