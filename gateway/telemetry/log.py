"""Log lines: one JSON object each, never a body, key, signature or credential.

Exchanges go to standard output, one line each; what happens to the gateway itself
goes to standard error.
"""

from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, fields
from datetime import datetime
from typing import Any, Final, TextIO

from gateway.events import CanaryHalt, ExchangeRecord
from gateway.keys.keyring import Keyring
from gateway.telemetry.lines import Lines

_FIELDS: Final = {
    each.name: None if each.default is MISSING else each.default
    for each in fields(ExchangeRecord)
}
"""In the order of the line."""

_ROUNDED: Final = frozenset(
    {"seconds", "upstream_seconds", "clock_skew_s", "date_skew_s"}
)

Now = Callable[[], datetime]


class ExchangeLog:
    """One line per exchange, with the names of the metrics. An `Observer`."""

    def __init__(
        self, stream: TextIO, now: Now, on_dropped: Callable[[], None] = lambda: None
    ) -> None:
        self._lines = Lines(stream, now, on_dropped)

    def __call__(self, record: ExchangeRecord) -> None:
        """Write the line of a finished exchange, without what does not apply."""
        self.tell([record])

    def tell(self, records: Iterable[ExchangeRecord]) -> None:
        """Write the lines of exchanges that have finished just now."""
        self._lines.write_all("exchange", map(_fields_of, records))


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
            **canary_of(ring),
        )

    def canary_halted(self, client: str, halt: CanaryHalt) -> None:
        """Note that the earlier version signs everything from now on, and why."""
        self.event(
            "canary_halted",
            client=client,
            **asdict(halt),
            consequence=f"version {halt.other_version} signs every exchange",
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


def _fields_of(record: ExchangeRecord) -> dict[str, object]:
    known: dict[str, Any] = {**_FIELDS, **vars(record)}
    for name in _ROUNDED:
        if known[name] is not None:
            known[name] = round(known[name], 6)
    return {name: value for name, value in known.items() if value is not None}


def canary_of(ring: Keyring) -> dict[str, object]:
    """Give what there is to tell of a ring's canary; nothing where it has none."""
    canary = ring.canary
    if canary is None:
        return {}
    share = 0.0 if canary.halted else canary.share
    fields = {"canary": canary.version, "canary_share": share}
    return fields | ({"canary_halted": canary.halted} if canary.halted else {})


def _version(ring: Keyring) -> str | None:
    return ring.active_signer.public.version if ring.active_signer else None
