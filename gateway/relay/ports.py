"""What the relay needs of the world, and nothing of how it is done."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol, TypeAlias

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


class Memory(Protocol):
    """The bytes that are held for one exchange, counted with those of all others."""

    held: int

    def add(self, amount: int) -> None:
        """Count `amount` more bytes, whether or not there is room for them."""
        ...

    def keep(self, amount: int) -> None:
        """Count `amount` bytes, and no others."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether all exchanges together hold more than they may."""
        ...

    async def room(self) -> None:
        """Wait until they do not; one exchange at a time need not wait."""
        ...

    def settle(self) -> None:
        """Note that nothing more is added to what `room` was asked for."""
        ...


class Uncounted:
    """Memory that is not counted, for exchanges outside of a gateway."""

    held = 0
    is_over = False

    def add(self, amount: int) -> None:
        """Count nothing."""

    def keep(self, amount: int) -> None:
        """Count nothing."""

    async def room(self) -> None:
        """Return at once."""

    def settle(self) -> None:
        """Note nothing."""


UNCOUNTED: Final = Uncounted()


class Upstream(Protocol):
    """AlipayHK, reached somehow."""

    async def send(
        self,
        request: SignedMessage,
        *,
        timeout_s: float,
        memory: Memory,
        on_write: Callable[[], None],
    ) -> ReceivedResponse:
        """Send exactly these headers and bytes once, and wait for the whole answer.

        Args:
            request: what to send.
            timeout_s: for everything: connecting, sending, waiting, reading.
            memory: counts the answer as it comes; it has all of it at the end, and
                nothing of an answer that is not returned.
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
