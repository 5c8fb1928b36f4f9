"""The homes of private keys in this process, by the scheme of the key's URI."""

import asyncio
from collections.abc import Mapping
from typing import Final

from gateway.errors import KeyringError
from gateway.keys.locations import scheme_of
from gateway.keys.ports import KeyHome, Place, PrivateKey

_TIDY_SECONDS: Final = 5.0


class Homes:
    """One home for each scheme, shared by every keyring of the process."""

    def __init__(self, homes: Mapping[str, KeyHome]) -> None:
        self._homes = homes

    def open(self, place: Place) -> PrivateKey:
        """Find a pair in the home that its URI names.

        Raises:
            KeyringError: there is no such home or pair, or the pair cannot do what
                it is for.
            KeyUnavailable: the home cannot be reached now.
        """
        scheme = scheme_of(place.key)
        home = self._homes.get(scheme)
        if home is None:
            known = ", ".join(f"{each}:" for each in self._homes)
            msg = (
                f"there is no home of keys called {scheme}: here; known are {known}. "
                f"A file of that name is file:{place.key}"
            )
            raise KeyringError(msg)
        return home.open(place)

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
