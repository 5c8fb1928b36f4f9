"""A client's way back from a canary: watched here, told, and kept beside its ring.

This process goes back at once, by its own memory. The mark in the ring's folder comes
after, in a thread: it is for the other processes on that folder, and for a restart.
"""

import asyncio
from typing import Protocol

from gateway.events import CanaryHalt
from gateway.keys.backends.file import KeyringFolder
from gateway.keys.backends.halts import Halt
from gateway.keys.keyring import Keyring
from gateway.relay.canary import CanaryWatch


class CanaryListener(Protocol):
    """Is told how canaries fare."""

    def canary_judged(self, client: str, key_version: str, *, failed: bool) -> None:
        """Note an exchange that tells of a canary, or of the version beside it."""
        ...

    def canary_halted(self, client: str, halt: CanaryHalt) -> None:
        """Note that the earlier version signs everything from now on, and why."""
        ...

    def canary_halt_not_kept(self, client: str, reason: str) -> None:
        """Note that only this process knows of it."""
        ...


class WayBack:
    """Outlives a plant: a reload takes it over with the client's keyring.

    Args:
        client: the client's name.
        folder: its keyring's.
        listener: is told how the canary fares.
    """

    def __init__(
        self, client: str, folder: KeyringFolder, listener: CanaryListener
    ) -> None:
        self.watch = CanaryWatch(self._judged, self._halted)
        self._client = client
        self._folder = folder
        self._listener = listener

    def reason(self, ring: Keyring) -> str | None:
        """Give why the ring's canary signs nothing more; None while it may."""
        halt = self.watch.halt_of(ring)
        return halt.reason if halt is not None else None

    def _judged(self, key_version: str, failed: bool) -> None:  # noqa: FBT001
        self._listener.canary_judged(self._client, key_version, failed=failed)

    def _halted(self, halt: CanaryHalt) -> None:
        self._listener.canary_halted(self._client, halt)
        mark = Halt(halt.generation, halt.key_version, halt.reason)
        written = asyncio.get_running_loop().run_in_executor(
            None, self._folder.halt, mark
        )
        written.add_done_callback(self._kept)

    def _kept(self, written: "asyncio.Future[None]") -> None:
        if not written.cancelled() and (error := written.exception()) is not None:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self._listener.canary_halt_not_kept(self._client, reason)
