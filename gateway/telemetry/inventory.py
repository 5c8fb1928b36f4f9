"""Every key of every client: what it is, what it did, and how long it may go on.

It hears of rings and exchanges, and works all else out when it is asked; `watch`
asks now and then by itself, so that a gateway that runs for months tells in time.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from gateway.keys.changes import Party
from gateway.keys.inventory import (
    Cryptoperiod,
    as_text,
    facts_of,
    keys_of,
    share_of,
    signs,
    whole_days,
)
from gateway.keys.keyring import Keyring
from gateway.keys.model import KeyInfo, Use
from gateway.telemetry.key_metrics import KeyFigures
from gateway.telemetry.usage import KeyUsage, Usage

LOOKS_EVERY_S: Final = 3600.0
"""Between two looks for keys whose period ends: it is counted in days."""


@dataclass(frozen=True, slots=True)
class _Key:
    """A key of a client, as it is at one moment."""

    client: str
    party: Party
    info: KeyInfo
    share: float | None
    left: timedelta | None
    used: Mapping[Use, Usage]

    @property
    def times(self) -> int:
        """How often it was used."""
        return sum(usage.times for usage in self.used.values())

    @property
    def last(self) -> datetime | None:
        """When it was used last."""
        return max(
            (each.last for each in self.used.values() if each.last), default=None
        )


class _End(NamedTuple):
    """A key whose period is over or soon will be."""

    client: str
    version: str
    fingerprint: str | None
    past: bool


class Inventory:
    """The keys of the rings in use. A `KeyringListener`.

    Args:
        now: gives the present moment, aware.
        tell: takes an event's name and its fields.

    Attributes:
        usage: counts what exchanges use of them.
    """

    def __init__(self, now: Callable[[], datetime], tell: Callable[..., None]) -> None:
        self._now = now
        self._tell = tell
        self.usage = KeyUsage(now, tell)
        self._since = now()
        self._periods: Mapping[str, Cryptoperiod] = {}
        self._rings: dict[str, Keyring] = {}
        self._told: frozenset[_End] = frozenset()

    def use(self, periods: Mapping[str, Cryptoperiod]) -> None:
        """Take these cryptoperiods, by client, from now on; forget other clients."""
        self._periods = periods
        for client in self._rings.keys() - periods.keys():
            del self._rings[client]
            self.usage.forget(client)
        self.look()

    def loaded(self, client: str, ring: Keyring) -> None:
        """Note a keyring that is in use from now on."""
        self._rings[client] = ring
        self.usage.loaded(client, ring)
        self.look()

    def page(self) -> dict[str, object]:
        """Give all of it as JSON may hold it; docs/operations.md has the form."""
        return {
            "time": as_text(self._now()),
            "counted_since": as_text(self._since),
            "clients": [self._client(name) for name in self._periods],
        }

    def figures(self) -> list[KeyFigures]:
        """Give what metrics tell, once for each version: a split one has two keys."""
        found: dict[tuple[str, Party, str], KeyFigures] = {}
        for key in self._keys():
            label = key.client, key.party, key.info.version
            before = found.get(label, KeyFigures(key.client, key.party, label[2]))
            found[label] = before.and_of(key.times, key.last, key.left)
        return list(found.values())

    def warnings(self) -> list[str]:
        """Give what an operator must know, for readiness."""
        return [self._warning(key, left) for key, left in self._ending()]

    def look(self) -> None:
        """Tell of each key that has come near its end, or past it, since the last look."""
        ends: set[_End] = set()
        for key, left in self._ending():
            info = key.info
            end = _End(key.client, info.version, info.fingerprint, _is_past(left))
            ends.add(end)
            if end in self._told:
                continue
            if end.past:
                self._note("key_past_end", key, left)
            else:
                self._note("key_near_end", key, left)
        self._told = frozenset(ends)

    async def watch(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look every hour. Runs until cancelled."""
        while True:
            await sleep(LOOKS_EVERY_S)
            self.look()

    def _client(self, name: str) -> dict[str, object]:
        ring, period = self._rings.get(name), self._periods[name]
        return {
            "client": name,
            "generation": ring.generation if ring else None,
            "digest": ring.digest if ring else None,
            "cryptoperiod_days": period.days,
            "cryptoperiod_warning_days": period.warning_days,
            "keys": [_facts(key) for key in self._keys_of(name)],
        }

    def _keys(self) -> Iterator[_Key]:
        for client in self._periods:
            yield from self._keys_of(client)

    def _keys_of(self, client: str) -> Iterator[_Key]:
        ring, now, period = self._rings.get(client), self._now(), self._periods[client]
        if ring is None:
            return
        for party, info in keys_of(ring):
            share = share_of(ring, party, info)
            left = period.left(info, now) if signs(info, share) else None
            used = self.usage.of(client, party, info)
            yield _Key(client, party, info, share, left, used)

    def _ending(self) -> Iterator[tuple[_Key, timedelta]]:
        for key in self._keys():
            near = self._periods[key.client].is_near
            if key.left is not None and near(key.left):
                yield key, key.left

    def _warning(self, key: _Key, left: timedelta) -> str:
        days, period = whole_days(left), self._periods[key.client].days
        how = f"has {days} of the {period} days of its cryptoperiod left"
        if _is_past(left):
            how = f"is past the {period} days of its cryptoperiod by {-days}"
        version = key.info.version
        return f"{key.client}: partner version {version} signs and {how}; rotate it"

    def _note(self, event: str, key: _Key, left: timedelta) -> None:
        self._tell(
            event,
            client=key.client,
            key_version=key.info.version,
            fingerprint=key.info.fingerprint,
            days_left=whole_days(left),
        )


def _is_past(left: timedelta) -> bool:
    return left <= timedelta(0)


def _facts(key: _Key) -> dict[str, object]:
    seen = key.used.get(Use.VERIFY)
    firsts = [usage.first for usage in key.used.values() if usage.first]
    return {
        **facts_of(key.party, key.info, key.share, key.left),
        "used": key.times,
        "operations": {str(use): usage.times for use, usage in key.used.items()},
        "first_used": as_text(min(firsts, default=None)),
        "last_used": as_text(key.last),
        "first_seen": as_text(seen.first) if seen else None,
    }
