"""What the simulator answers: the message, and how its bytes reach the client."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from gateway.errors import (
    ExchangeError,
    ResponseMalformed,
    ResponseTooLarge,
    UpstreamDisconnected,
    UpstreamTimeout,
)
from gateway.protocol import Headers, ReceivedResponse

MAX_BODY_BYTES: Final = 8 << 20
MAX_HEADER_BYTES: Final = 64 << 10
"""What a careful client accepts. Only `SimulatedResponse.received` applies them."""


class Delivery(Enum):
    """How an answer is delivered. `slow_s` is a setting of the server.

    * `AT_ONCE`: as it should be.
    * `SLOW`: nothing for `slow_s`, then the answer.
    * `SLOW_BODY`: the head at once, then the body, byte by byte, over `slow_s`.
    * `STALLED`: a head that promises 1 GiB, the body, then silence for `slow_s`.
    * `TRUNCATED`: a head that promises more than the body, then the end.
    * `RESET_BEFORE`: the connection is reset before the first byte.
    * `RESET_DURING`: the connection is reset in the middle of the body.
    * `NOT_HTTP`: the body without a head, then the end.
    """

    AT_ONCE = "at_once"
    SLOW = "slow"
    SLOW_BODY = "slow_body"
    STALLED = "stalled"
    TRUNCATED = "truncated"
    RESET_BEFORE = "reset_before"
    RESET_DURING = "reset_during"
    NOT_HTTP = "not_http"


_ERRORS: Final[dict[Delivery, type[ExchangeError]]] = {
    Delivery.SLOW: UpstreamTimeout,
    Delivery.SLOW_BODY: UpstreamTimeout,
    Delivery.STALLED: ResponseTooLarge,
    Delivery.TRUNCATED: UpstreamDisconnected,
    Delivery.RESET_BEFORE: UpstreamDisconnected,
    Delivery.RESET_DURING: UpstreamDisconnected,
    Delivery.NOT_HTTP: ResponseMalformed,
}


@dataclass(frozen=True, slots=True)
class SimulatedResponse:
    """An answer, and a plan for its delivery.

    Attributes:
        headers: in order, repeats included; without Content-Length, which is the
            server's to write.
    """

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    delivery: Delivery = Delivery.AT_ONCE

    def without(self, *names: str) -> "SimulatedResponse":
        """Give this answer without some headers."""
        kept = [pair for pair in self.headers if pair[0] not in names]
        return replace(self, headers=kept)

    def repeating(self, name: str) -> "SimulatedResponse":
        """Give this answer with one header twice, the same value both times."""
        repeats = [pair for pair in self.headers if pair[0] == name]
        return replace(self, headers=[*self.headers, *repeats])

    def changing(self, name: str, change: Callable[[str], str]) -> "SimulatedResponse":
        """Give this answer with one header's value changed."""
        headers = [
            (key, change(value) if key == name else value)
            for key, value in self.headers
        ]
        return replace(self, headers=headers)

    def received(self) -> ReceivedResponse:
        """Give what a careful client receives of it, without a socket.

        Raises:
            ExchangeError: the one that such a client ends with, at once: a slow
                answer is not waited for.
        """
        if error := self._error():
            msg = f"Simulated without a socket: delivery {self.delivery.value}."
            raise error(msg)
        return ReceivedResponse(self.status, self.headers, self.body)

    def _error(self) -> type[ExchangeError] | None:
        if (
            sum(len(name) + len(value) for name, value in self.headers)
            > MAX_HEADER_BYTES
        ):
            return ResponseMalformed
        if any(name == "Content-Encoding" for name, _ in self.headers):
            return ResponseMalformed
        if len(self.body) > MAX_BODY_BYTES:
            return ResponseTooLarge
        return _ERRORS.get(self.delivery)
