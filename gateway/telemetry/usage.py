"""How often each key was used, and when: since the gateway started, over all reloads.

Only keys of the rings in use are counted, so what is kept is as bounded as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, TypeAlias

from gateway.events import ExchangeRecord
from gateway.keys.changes import Party
from gateway.keys.inventory import keys_of
from gateway.keys.keyring import Keyring
from gateway.keys.model import KeyInfo, Use


class Which(NamedTuple):
    """One use of a key version: where pairs are split, a version has two keys."""

    client: str
    party: Party
    version: str
    use: Use


@dataclass(slots=True)
class Usage:
    """How a key was used in one way."""

    fingerprint: str | None
    times: int = 0
    first: datetime | None = None
    last: datetime | None = None


Used: TypeAlias = list[tuple[Which, Usage, int]]
"""What exchanges of one kind use, each with how often."""


class KeyUsage:
    """Counts what each key did. An `Observer`.

    Args:
        now: gives the present moment, aware.
        tell: takes an event's name and its fields: a key's first use.
    """

    def __init__(self, now: Callable[[], datetime], tell: Callable[..., None]) -> None:
        self._now = now
        self._tell = tell
        self._usages: dict[Which, Usage] = {}

    def __call__(self, record: ExchangeRecord) -> None:
        """Count what a finished exchange used."""
        self.count(self.used_by(record), self._now())

    def used_by(self, record: ExchangeRecord) -> Used:
        """Give what exchanges of this one's kind use, until a ring is loaded next."""
        return [
            (which, usage, times)
            for which, times in _used(record)
            if (usage := self._usages.get(which)) is not None
        ]

    def count(self, used: Used, now: datetime) -> None:
        """Count an exchange that has ended now.

        Args:
            used: what its kind uses.
            now: the present moment.
        """
        for which, usage, times in used:
            usage.times += times
            usage.last = now
            if usage.first is None:
                self._begin(which, usage, now)

    def loaded(self, client: str, ring: Keyring) -> None:
        """Count the keys of this ring from now on, and forget those it has no more."""
        known = {
            which: self._kept(which, info)
            for party, info in keys_of(ring)
            for use in info.uses
            for which in [Which(client, party, info.version, use)]
        }
        self.forget(client)
        self._usages |= known

    def forget(self, client: str) -> None:
        """Forget the keys of a client."""
        self._usages = {
            which: usage
            for which, usage in self._usages.items()
            if which.client != client
        }

    def of(self, client: str, party: Party, key: KeyInfo) -> dict[Use, Usage]:
        """Give how a key was used, by its uses, without those that never were."""
        return {
            use: usage
            for use in Use
            if use in key.uses
            and (usage := self._usages.get(Which(client, party, key.version, use)))
            and usage.times
        }

    def _kept(self, which: Which, info: KeyInfo) -> Usage:
        """Give the counts of a key, which begin anew if its version is another key."""
        before = self._usages.get(which)
        if before is None:
            return Usage(info.fingerprint)
        known = info.fingerprint or before.fingerprint
        if before.fingerprint not in (None, known):
            return Usage(known)
        before.fingerprint = known
        return before

    def _begin(self, which: Which, usage: Usage, now: datetime) -> None:
        usage.first = now
        if which.use is Use.SIGN:
            self._note("partner_key_first_used", which, usage)
        elif which.use is Use.VERIFY:
            self._note("platform_key_first_seen", which, usage)

    def _note(self, event: str, which: Which, usage: Usage) -> None:
        self._tell(
            event,
            client=which.client,
            key_version=which.version,
            fingerprint=usage.fingerprint,
        )


def _used(record: ExchangeRecord) -> Iterator[tuple[Which, int]]:
    """Give what an exchange used, each with how often."""
    for version, times in record.signatures.items():
        yield Which(record.client, Party.PARTNER, version, Use.SIGN), times
    for party, used, use in (
        (Party.PLATFORM, record.encrypted_to, Use.ENCRYPT),
        (Party.PLATFORM, record.verified_by, Use.VERIFY),
        (Party.PARTNER, record.decrypted_by, Use.DECRYPT),
    ):
        if used is not None:
            yield Which(record.client, party, used, use), 1
