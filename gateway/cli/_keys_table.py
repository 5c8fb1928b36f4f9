"""The keys of a ring as lines of text and as JSON."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from gateway.cli._live import LiveKey, LiveUsage
from gateway.cli._ring import Held
from gateway.keys.inventory import (
    Cryptoperiod,
    as_text,
    facts_of,
    share_of,
    signs,
    whole_days,
)
from gateway.keys.keyring import Keyring
from gateway.keys.model import KeyInfo, KeyState
from gateway.keys.timeline import info_of

_HEAD: Final = ("SECTION", "VERSION", "STATE", "FOR", "FINGERPRINT", "DAYS")
_AT_REST: Final = ("BITS", "BACKEND", "ACTIVATED")
_LIVE: Final = ("USED", "LAST USED")
_DIGITS: Final = 16
_DATE: Final = 10

_STEPS: Final = {
    "activate_at": "activated",
    "deactivate_at": "deactivated",
    "destroy_at": "destroyed",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A key with all that is told of it.

    Attributes:
        share: the part of the exchanges that it signs as the canary, if it does.
        left: how long it may still sign, where that is known.
        used: what it did, where a running gateway told.
    """

    held: Held
    info: KeyInfo
    share: float | None
    left: timedelta | None
    used: LiveKey | None

    @classmethod
    def of(
        cls,
        held: Held,
        ring: Keyring | None,
        period: Cryptoperiod,
        now: datetime,
        live: Iterable[LiveKey],
    ) -> "Row":
        """Put together what is known of a key.

        Args:
            held: the key's entry, as it is by now.
            ring: the ring it is in, if the gateway would take it up.
            period: how long it may sign.
            now: the present moment.
            live: the keys of a running gateway.
        """
        info = info_of(held.entry, held.party, held.public)
        share = share_of(ring, held.party, info) if ring else None
        left = period.left(info, now) if signs(info, share) else None
        found = (each for each in live if _is_same(each, held, info))
        return cls(held, info, share, left, next(found, None))

    def facts(self) -> dict[str, object]:
        """Give all of it as JSON may hold it."""
        usage = LiveUsage.model_fields
        used = (
            self.used.model_dump(mode="json", include=set(usage)) if self.used else {}
        )
        return {
            **facts_of(self.held.party, self.info, self.share, self.left),
            **dict.fromkeys(usage),
            **used,
            "file": self.held.entry.key,
            "problem": self.held.problem,
        }

    def cells(self, *, live: bool) -> tuple[str, ...]:
        """Give it as the cells of a line."""
        return (
            str(self.held.party),
            self.info.version,
            self._state(),
            ",".join(self.held.uses),
            (self.info.fingerprint or "-")[:_DIGITS],
            "-" if self.left is None else str(whole_days(self.left)),
            *(self._usage() if live else self._at_rest()),
        )

    def _state(self) -> str:
        if self.share is not None:
            return f"canary {self.share * 100:g}%"
        early = self.info.staged and self.info.state is KeyState.PRE_ACTIVE
        return "staged" if early else str(self.info.state)

    def _at_rest(self) -> tuple[str, ...]:
        key, activated = self.info.public, as_text(self.info.life.activated)
        return (
            str(key.rsa.key_size) if key else "-",
            "-" if self.info.state is KeyState.DESTROYED else self.info.home,
            (activated or "-")[:_DATE],
        )

    def _usage(self) -> tuple[str, ...]:
        if self.used is None:
            return "-", "-"
        return str(self.used.used), as_text(self.used.last_used) or "-"


def table(rows: Iterable[Row], *, live: bool) -> str:
    """Give keys as lines under a head, in at most 100 columns for short versions."""
    head = (*_HEAD, *(_LIVE if live else _AT_REST))
    return _aligned([head, *(row.cells(live=live) for row in rows)])


def plans(rows: Iterable[Row]) -> Iterator[str]:
    """Give a line for each step that is planned."""
    for row in rows:
        for name, moment in asdict(row.info.plans).items():
            if moment is not None:
                which = f"{row.held.party} version {row.info.version}"
                yield f"{which} is to be {_STEPS[name]} at {as_text(moment)}"


def _is_same(live: LiveKey, held: Held, info: KeyInfo) -> bool:
    """Tell whether a running gateway means this key: a version may be another there."""
    same = (live.section, live.version) == (held.party, info.version)
    marks = {live.fingerprint, info.fingerprint} - {None}
    return same and sorted(live.uses) == sorted(held.uses) and len(marks) <= 1


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
