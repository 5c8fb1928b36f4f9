"""Delivery: signs a request and sends it, again only where that is safe.

* Nothing was sent: it may be tried again, with a new time and a new signature.
* The outcome is unknown: only where the route says that AlipayHK acts once on the
  same requestId, and with the identical body.

All attempts share one deadline, the shorter of the route's and the caller's own, and
the client's `retries`; so does the repeat of a canary that was refused, see
`gateway.relay.trial`. What the caller is told in the end: `gateway.relay.outcome`.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from gateway.errors import ExchangeError, Overloaded
from gateway.events import ExchangeRecord
from gateway.keys.ports import PrivateKey
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
from gateway.relay.outcome import Attempts
from gateway.relay.ports import Clock, Entropy
from gateway.relay.routes import Call, Route

_PAUSE_S: Final = 0.1
"""The longest first pause; each further one may be twice as long."""


class Delivery:
    """Sends an exchange's request. All of its attempts share one deadline.

    Args:
        clock: the deadline runs from now on.
        entropy: makes pauses random.
        route: where to.
        call: has the caller's deadline.
        record: notes the attempts.
        attempts: is told which of them were written, and how the last one failed.

    Attributes:
        started_at: the second of the stopwatch before which no attempt began.
        received_at: that at which the last answer was whole.
    """

    def __init__(
        self,
        clock: Clock,
        entropy: Entropy,
        route: Route,
        call: Call,
        record: ExchangeRecord,
        *,
        attempts: Attempts,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self.route = route
        self._patience = call.deadline
        self.memory = call.memory
        self.record = record
        self.attempts = attempts
        self.started_at = self.received_at = clock.monotonic()
        self._deadline = self.started_at + route.timeout_s
        if call.deadline is not None:
            self._deadline = min(self._deadline, call.deadline)
        self._begun = False
        self._repeats = 0

    async def __call__(
        self, signer: PrivateKey, draft: Draft
    ) -> tuple[SignedMessage, ReceivedResponse]:
        """Deliver a draft and give the answer, unverified, with the request it is to.

        Args:
            signer: signs each attempt.
            draft: what is signed, but for its time: each attempt has its own.

        Raises:
            ExchangeError: there is no whole answer. It says how the last attempt
                ended, not yet how the exchange did.
        """
        attempts = self.attempts
        while True:
            if self._begun:
                draft = replace(draft, time=self._time())
            self._begun = True
            written = attempts.written
            try:
                signature = await signer.sign(signature_base(draft))
                request = self._signed(draft, signer, signature)
                return request, await self._send(request)
            except ExchangeError as error:
                sent = attempts.written > written
                if sent:
                    attempts.last = error
                pause = self._pause()
                if not self._may_repeat(error, pause, sent=sent):
                    raise
            await self._clock.sleep(pause)
            self._repeats += 1

    def _may_repeat(self, error: ExchangeError, pause: float, *, sent: bool) -> bool:
        """Return whether there may be another attempt after this pause."""
        return (
            self._repeats < self.route.client.repeats
            and self.route.may_repeat(error, sent=sent)
            and self._clock.monotonic() + pause < self._deadline
        )

    def _signed(
        self, draft: Draft, signer: PrivateKey, signature: bytes
    ) -> SignedMessage:
        version = self.record.key_version = signer.public.version
        named = version if self.route.client.send_key_version else None
        return attach_signature(draft, signature, key_version=named)

    async def _send(self, request: SignedMessage) -> ReceivedResponse:
        client, record = self.route.client, self.record
        started = self._clock.monotonic()
        if started >= self._deadline:
            msg = f"The deadline passed before anything was sent. {self._whose()}"
            raise Overloaded(msg)
        breaker = client.breaker
        with breaker.attempt(self._patience) if breaker else nullcontext():
            record.attempts += 1
            try:
                received = await client.upstream.send(
                    request,
                    timeout_s=self._deadline - started,
                    memory=self.memory,
                    on_write=self.attempts.wrote,
                )
            except ExchangeError as error:
                if error.at_deadline:
                    error.detail = f"{error.detail} {self._whose()}"
                raise
            finally:
                self.received_at = self._clock.monotonic()
                spent = self.received_at - started
                record.upstream_seconds = (record.upstream_seconds or 0.0) + spent
        tracer_id = read_tracer_id(received.headers)
        if tracer_id != record.tracer_id:  # of an attempt before, if there was one
            record.tracer_id = tracer_id
        if (date := read_date(received.headers)) is not None:
            record.date_skew_s = (date - self._clock.now()).total_seconds()
        return received

    def _whose(self) -> str:
        """Say whose the deadline is, and what it left for the exchange."""
        seconds = f"{max(self._deadline - self.started_at, 0.0):.1f} s"
        if self._deadline == self._patience:
            return (
                "The deadline is the caller's own (Gateway-Timeout), which left "
                f"{seconds}."
            )
        return f"The deadline is the route's (routes[].timeout_s), {seconds}."

    def _time(self) -> str:
        return format_time(self._clock.now(), self.route.client.zone)

    def _pause(self) -> float:
        """Return a random pause: callers that failed together come back apart."""
        return _PAUSE_S * 2.0**self._repeats * self._entropy(1)[0] / 255
