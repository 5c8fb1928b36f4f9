"""The homes of private keys in this process, by the scheme of the key's URI."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.errors import KeyringError
from gateway.keys.locations import scheme_of
from gateway.keys.ports import KeyHome, KeyMaker, Place, PrivateKey

_TIDY_SECONDS: Final = 5.0


class Homes:
    """One home for each scheme, shared by every keyring of the process.

    Args:
        homes: the homes.
        allowed: schemes of those that keys may live in; None for all.
    """

    def __init__(
        self, homes: Mapping[str, KeyHome], allowed: Collection[str] | None = None
    ) -> None:
        self._homes = homes
        self._allowed = homes.keys() if allowed is None else allowed

    def only(self, allowed: Collection[str]) -> "Homes":
        """Return the same homes for keyrings whose keys may live in some of them."""
        return Homes(self._homes, allowed)

    def open(self, place: Place) -> PrivateKey:
        """Find a pair in the home that its URI names.

        Raises:
            KeyringError: there is no such home or pair, keys may not live there, or
                the pair cannot do what it is for.
            KeyUnavailable: the home cannot be reached now.
        """
        return self._home(place).open(place)

    def generate(self, place: Place, bits: int) -> RSAPublicKey:
        """Make a pair in the home that its URI names, and return its public half.

        Raises:
            KeyringError: the home makes none, has one of that name, or keys may not
                live there.
            KeyUnavailable: the home cannot be reached now.
        """
        home = self._home(place)
        if not isinstance(home, KeyMaker):
            msg = (
                f"no pair can be made at a {scheme_of(place.key)}: location; name a "
                "token by its pkcs11: URI"
            )
            raise KeyringError(msg)
        return home.generate(place, bits)

    def check_allowed(self, key: str) -> None:
        """Check that keys may live where a key's URI, or a file's name, says.

        Raises:
            KeyringError: they may not.
        """
        if (scheme := scheme_of(key)) not in self._allowed:
            allowed = " and ".join(f"{each}:" for each in self._allowed)
            rule = f"allows only {allowed}" if allowed else "cannot be read"
            msg = (
                f"no private key may be at a {scheme}: location: keys.homes of the "
                f"configuration {rule}"
            )
            raise KeyringError(msg)

    def _home(self, place: Place) -> KeyHome:
        scheme = scheme_of(place.key)
        home = self._homes.get(scheme)
        if home is None:
            known = ", ".join(f"{each}:" for each in self._homes)
            msg = (
                f"there is no home of keys called {scheme}: here; known are {known}. "
                f"A file of that name is file:{place.key}"
            )
            raise KeyringError(msg)
        self.check_allowed(place.key)
        return home

    async def watch(self) -> None:
        """Let go of what no key needs any more. Runs until cancelled."""
        while True:
            await asyncio.sleep(_TIDY_SECONDS)
            for home in self._homes.values():
                await asyncio.to_thread(home.tidy)

    def close(self) -> None:
        """Let go of everything: no key of these homes works after it."""
        for home in self._homes.values():
            home.close()
