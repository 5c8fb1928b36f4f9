"""What the relay needs of the world, and nothing of how it is done."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeAlias

from gateway.keys.keyring import Keyring
from gateway.protocol import ReceivedResponse, SignedMessage

Entropy: TypeAlias = Callable[[int], bytes]
"""Gives that many fresh random bytes from the operating system."""


class Clock(Protocol):
    """Time, as an argument."""

    def now(self) -> datetime:
        """Give the present moment, aware."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never go back, for measuring."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        ...


class Upstream(Protocol):
    """AlipayHK, reached somehow."""

    async def send(
        self,
        request: SignedMessage,
        *,
        timeout_s: float,
        on_write: Callable[[], None],
    ) -> ReceivedResponse:
        """Send exactly these headers and bytes once, and wait for the whole answer.

        Args:
            request: what to send.
            timeout_s: for everything: connecting, sending, waiting, reading.
            on_write: is called once, just before the first byte goes out. Where it
                was not called, AlipayHK never saw the request, however this ended.

        Raises:
            UpstreamUnavailable: no byte was sent.
            UpstreamTimeout: sent, and no whole answer in time.
            UpstreamDisconnected: sent, and the connection ended first.
            ResponseMalformed: the answer is not HTTP as we accept it.
            ResponseTooLarge: the answer is over the limit.
        """
        ...


class Keyrings(Protocol):
    """The keyring in use."""

    @property
    def current(self) -> Keyring:
        """Give the ring; an exchange takes it once.

        Raises:
            KeyUnavailable: none could be loaded.
        """
        ...
