"""The keyring in use, swapped whole, and the watch over where it comes from.

A new ring is taken up only after it was read without a problem, its generation did
not fall, and it passed the self-test. Until then, and whenever that fails, the last
good ring stays in use.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from gateway.errors import KeyringError, KeyUnavailable, SetupError
from gateway.keys.keyring import Keyring

POLL_SECONDS: Final = 0.4
"""A change is taken up after two equal looks: within a second."""


class KeyringSource(Protocol):
    """Where a keyring comes from."""

    def read(self) -> Keyring:
        """Read the whole ring; may block.

        Raises:
            SetupError: it cannot be used.
        """
        ...

    def state(self) -> object:
        """Give a value, cheap to get, that changes when the ring may have; may block."""
        ...


class KeyringListener(Protocol):
    """Is told what became of each attempt to take up a ring."""

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note that a ring is in use from now on."""
        ...

    def failed(self, client: str, reason: str) -> None:
        """Note that a ring was refused and what is in use stays in use."""
        ...


class KeyStore:
    """The keyring of one client.

    Args:
        client: the client's name, for those who listen.
        source: where the ring comes from.
        accept: the self-test; raises SetupError if the ring must not be used.
        listener: is told of each success and failure.
    """

    def __init__(
        self,
        client: str,
        source: KeyringSource,
        accept: Callable[[Keyring], Awaitable[None]],
        listener: KeyringListener,
    ) -> None:
        self.client = client
        self._source = source
        self._accept = accept
        self._listener = listener
        self.ring: Keyring | None = None
        """The ring in use, if one could be loaded yet."""
        self._seen: object = None
        self.problem: str | None = "the keyring is not loaded yet"
        """Why the source's present content is not in use; None if it is."""

    @property
    def current(self) -> Keyring:
        """The ring in use. Take it once per exchange.

        Raises:
            KeyUnavailable: no ring could be loaded yet.
        """
        if self.ring is None:
            msg = f"The keyring of client {self.client} could not be loaded."
            raise KeyUnavailable(msg)
        return self.ring

    async def reload(self) -> bool:
        """Take up what the source holds now, whole, or change nothing.

        Gives whether the ring of the source is now the one in use.
        """
        self._seen = await asyncio.to_thread(self._source.state)
        try:
            ring = await asyncio.to_thread(self._source.read)
            self._check_generation(ring)
            await self._accept(ring)
        except SetupError as error:
            return self._refused(error.detail)
        except Exception as error:  # noqa: BLE001 - whatever it is, keep the last good
            return self._refused(f"a defect of the gateway ({type(error).__name__})")
        self.ring = ring
        self.problem = None
        self._listener.loaded(self.client, ring)
        return True

    async def watch(self) -> None:
        """Reload when the source has changed and come to rest. Runs until cancelled."""
        before = self._seen
        while True:
            await asyncio.sleep(POLL_SECONDS)
            now = await asyncio.to_thread(self._source.state)
            if now == before and now != self._seen:
                await self.reload()
            before = now

    def _check_generation(self, ring: Keyring) -> None:
        if self.ring is not None and ring.generation < self.ring.generation:
            msg = (
                f"generation {ring.generation} is older than {self.ring.generation}, "
                "which is in use; a change raises it, also one that goes back"
            )
            raise KeyringError(msg)

    def _refused(self, reason: str) -> bool:
        self.problem = reason
        self._listener.failed(self.client, reason)
        return False
