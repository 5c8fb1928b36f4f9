"""Log lines: one JSON object each, never a body, key, signature or credential.

Exchanges go to standard output, one line each; what happens to the gateway itself
goes to standard error.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Final, TextIO

from gateway.events import ExchangeRecord
from gateway.keys.keyring import Keyring
from gateway.telemetry.lines import Lines

_ROUNDED: Final = ("seconds", "upstream_seconds", "clock_skew_s", "date_skew_s")

Now = Callable[[], datetime]


class ExchangeLog:
    """One line per exchange, with the names of the metrics. An `Observer`."""

    def __init__(
        self, stream: TextIO, now: Now, on_dropped: Callable[[], None] = lambda: None
    ) -> None:
        self._lines = Lines(stream, now, on_dropped)

    def __call__(self, record: ExchangeRecord) -> None:
        """Write the line of a finished exchange, without what does not apply."""
        fields = {
            name: round(value, 6) if name in _ROUNDED else value
            for name, value in asdict(record).items()
            if value is not None
        }
        self._lines.write("exchange", fields)


class EventLog:
    """What happens to the gateway itself. A `KeyringListener`."""

    def __init__(
        self, stream: TextIO, now: Now, on_dropped: Callable[[], None] = lambda: None
    ) -> None:
        self._lines = Lines(stream, now, on_dropped)

    def event(self, name: str, **fields: object) -> None:
        """Write a line for something that happened."""
        self._lines.write(name, fields)

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note a keyring that is in use from now on."""
        self.event(
            "keyring_loaded",
            client=client,
            generation=ring.generation,
            signs=_version(ring),
            verifies=[key.version for key in ring.verifiers],
        )

    def failed(self, client: str, reason: str) -> None:
        """Note a keyring that was refused."""
        self.event(
            "keyring_refused",
            client=client,
            reason=reason,
            consequence="the last good keyring, if there is one, stays in use",
        )

    def reused(self, client: str, generation: int) -> None:
        """Note a keyring that was changed and kept its generation."""
        self.event(
            "keyring_generation_reused",
            client=client,
            generation=generation,
            consequence="it is in use; raise `generation` with each change",
        )


def _version(ring: Keyring) -> str | None:
    return ring.active_signer.public.version if ring.active_signer else None
