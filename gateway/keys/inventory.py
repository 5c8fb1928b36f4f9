"""What is told of a key to those who look after it: facts and days, never the key."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import floor
from typing import Final

from gateway.keys.changes import Party
from gateway.keys.keyring import Keyring
from gateway.keys.manifest import format_moment
from gateway.keys.model import KeyInfo, KeyState, Use

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Cryptoperiod:
    """How long a key of ours may sign, and how many days before its end that is told.

    NIST SP 800-57 Part 1 Rev. 5, 5.3.6: one to three years at most for a private
    signature key (originator-usage period). It begins as the key is activated.
    """

    days: int = 365
    warning_days: int = 30

    def left(self, key: KeyInfo, now: datetime) -> timedelta | None:
        """Give how long a key may still sign; negative once it may not.

        None where neither its activation nor its making is recorded.
        """
        began = key.life.activated or key.life.created
        return timedelta(days=self.days) - (now - began) if began else None

    def is_near(self, left: timedelta) -> bool:
        """Tell whether so little is left that somebody must be told."""
        return left <= timedelta(days=self.warning_days)


def keys_of(ring: Keyring) -> Iterator[tuple[Party, KeyInfo]]:
    """Give every key of a ring and whose it is, ours first."""
    for party, infos in (
        (Party.PARTNER, ring.partner),
        (Party.PLATFORM, ring.platform),
    ):
        for info in infos:
            yield party, info


def share_of(ring: Keyring, party: Party, key: KeyInfo) -> float | None:
    """Give the part of the exchanges that a key signs as the canary; else None."""
    canary = ring.canary
    if canary is None or canary.halted is not None or not canary.share:
        return None
    is_it = party is Party.PARTNER and key.version == canary.version
    return canary.share if is_it and Use.SIGN in key.uses else None


def signs(key: KeyInfo, share: float | None) -> bool:
    """Tell whether a key makes signatures: only those have a period to keep."""
    return share is not None or (key.state is KeyState.ACTIVE and Use.SIGN in key.uses)


def whole_days(left: timedelta) -> int:
    """Give the whole days of a time that is left; -1 from the moment it is over."""
    return floor(left / _DAY)


def facts_of(
    party: Party, key: KeyInfo, share: float | None, left: timedelta | None
) -> dict[str, object]:
    """Give what is told of a key, as JSON may hold it; docs/operations.md has the form.

    Args:
        party: whose it is.
        key: what is known of it.
        share: the part of the exchanges that it signs as the canary, if it does.
        left: how long it may still sign, where that is known.
    """
    bits = key.public.rsa.key_size if key.public else None
    gone = key.state is KeyState.DESTROYED
    return {
        "section": str(party),
        "version": key.version,
        "state": str(key.state),
        "staged": key.staged and key.state is KeyState.PRE_ACTIVE,
        "canary_percent": None if share is None else round(share * 100, 6),
        "uses": [str(use) for use in Use if use in key.uses],
        "bits": bits,
        "fingerprint": key.fingerprint,
        "backend": None if gone else key.home,
        **{name: as_text(at) for name, at in asdict(key.life).items()},
        **{name: as_text(at) for name, at in asdict(key.plans).items()},
        "days_left": None if left is None else whole_days(left),
    }


def as_text(moment: datetime | None) -> str | None:
    """Give a moment to the second, in UTC, where there is one."""
    return format_moment(moment.replace(microsecond=0)) if moment else None
