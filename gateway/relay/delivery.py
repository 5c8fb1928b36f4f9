"""Delivery: signs a request and sends it, again only where that is safe.

* Nothing was sent: it may be tried again, with a new time and a new signature.
* The outcome is unknown: only where the route says that AlipayHK acts once on the
  same requestId, and with the identical body.

All attempts share one deadline, the shorter of the route's and the caller's own.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from gateway.errors import ExchangeError, Outcome, Overloaded
from gateway.events import ExchangeRecord
from gateway.keys.keyring import Keyring
from gateway.protocol import (
    Draft,
    ReceivedResponse,
    SignedMessage,
    attach_signature,
    format_time,
    read_date,
    read_tracer_id,
    signature_base,
)
from gateway.relay.ports import Clock, Entropy
from gateway.relay.routes import Call, Client, Route

_PAUSE_S: Final = 0.1
"""The longest first pause; each further one may be twice as long."""


class Delivery:
    """Sends a draft and gives the answer, unverified, with the request it is to."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy

    async def __call__(
        self,
        route: Route,
        ring: Keyring,
        draft: Draft,
        call: Call,
        record: ExchangeRecord,
    ) -> tuple[SignedMessage, ReceivedResponse]:
        """Deliver a draft.

        Args:
            route: where to.
            ring: whose active key signs.
            draft: what is signed, but for its time: each attempt has its own.
            call: has the caller's deadline.
            record: counts the attempts.

        Raises:
            ExchangeError: there is no whole answer. Once an attempt's outcome was
                unknown, so is that of the exchange.
        """
        deadline = self._clock.monotonic() + route.timeout_s
        if call.deadline is not None:
            deadline = min(deadline, call.deadline)
        unsettled: ExchangeError | None = None
        repeat = 0
        while True:
            if repeat:
                draft = replace(draft, time=self._time(route.client))
            try:
                request = await self._sign(route.client, ring, draft, record)
                return request, await self._send(route, request, deadline, call, record)
            except ExchangeError as error:
                if error.outcome is Outcome.UNKNOWN:
                    unsettled = unsettled or error
                pause = self._pause(repeat)
                if (
                    repeat == route.client.repeats
                    or not route.may_repeat(error)
                    or self._clock.monotonic() + pause >= deadline
                ):
                    answered = error.outcome is Outcome.ANSWERED
                    raise (error if answered else unsettled or error) from error
            await self._clock.sleep(pause)
            repeat += 1

    async def _sign(
        self, client: Client, ring: Keyring, draft: Draft, record: ExchangeRecord
    ) -> SignedMessage:
        signer = ring.signer
        signature = await signer.sign(signature_base(draft))
        record.key_version = signer.public.version
        version = signer.public.version if client.send_key_version else None
        return attach_signature(draft, signature, key_version=version)

    async def _send(
        self,
        route: Route,
        request: SignedMessage,
        deadline: float,
        call: Call,
        record: ExchangeRecord,
    ) -> ReceivedResponse:
        started = self._clock.monotonic()
        if started >= deadline:
            msg = "The caller's deadline passed before anything was sent."
            raise Overloaded(msg)
        breaker = route.client.breaker
        with breaker.attempt(call.deadline) if breaker else nullcontext():
            record.attempts += 1
            try:
                received = await route.client.upstream.send(
                    request, timeout_s=deadline - started
                )
            finally:
                spent = self._clock.monotonic() - started
                record.upstream_seconds = (record.upstream_seconds or 0.0) + spent
        record.tracer_id = read_tracer_id(received.headers)
        if (date := read_date(received.headers)) is not None:
            record.date_skew_s = (date - self._clock.now()).total_seconds()
        return received

    def _time(self, client: Client) -> str:
        return format_time(self._clock.now(), client.zone)

    def _pause(self, repeat: int) -> float:
        """Give a random pause: callers that failed together come back apart."""
        return _PAUSE_S * 2.0**repeat * self._entropy(1)[0] / 255
