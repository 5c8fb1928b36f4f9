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
from gateway.telemetry.lines import Lines, line_of, text_of

_UNKNOWN: Final[dict[str, Any]] = {
    "time": "",
    "event": "exchange",
    **{
        each.name: "" if each.default is MISSING else each.default
        for each in fields(ExchangeRecord)
        if each.default is not None
    },
}
"""The line of an exchange that nothing is known of: what each line has, in its order.
What else there is to tell follows as it became known."""

_ROUNDED: Final = ("seconds", "upstream_seconds", "clock_skew_s", "date_skew_s")
_WHOLE: Final = 1.5 * 2**52
"""Added to a number and taken away again, it leaves a whole one, as floats of this size
have no fractions: 60 ns for each number of a line, where `round` takes 230."""

Now = Callable[[], datetime]


class ExchangeLog:
    """One line per exchange, with the names of the metrics. An `Observer`."""

    def __init__(
        self, stream: TextIO, now: Now, on_dropped: Callable[[], None] = lambda: None
    ) -> None:
        self._now = now
        self._lines = Lines(stream, now, on_dropped)

    def __call__(self, record: ExchangeRecord) -> None:
        """Write the line of a finished exchange, without what does not apply."""
        self.write([exchange_line(record, text_of(self._now()))])

    def write(self, lines: Iterable[bytes]) -> None:
        """Write these, of `exchange_line`, as many at once as a pipe takes whole."""
        self._lines.put(lines)


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
            digest=ring.digest,
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


def exchange_line(record: ExchangeRecord, time: str) -> bytes:
    """Give the line of a finished exchange, without what does not apply.

    Args:
        record: what is known of it.
        time: the present moment, by `text_of`.
    """
    fields = _UNKNOWN | vars(record)
    fields["time"] = time
    if None in fields.values():
        fields = {name: each for name, each in fields.items() if each is not None}
    for name in _ROUNDED:
        if name in fields:  # to the microsecond
            fields[name] = (fields[name] * 1e6 + _WHOLE - _WHOLE) / 1e6
    return line_of(fields)


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
